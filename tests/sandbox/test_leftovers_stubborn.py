"""Leftovers that resist, and engines that fail: everything else goes all the same, and what stays is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from cli.main import cli
from sandbox.base import SandboxUnavailable
from sandbox.docker_engine import ABANDONED, connect, is_stale
from sandbox.images.cache import images_dir
from sandbox.leftovers import sweep
from sandbox.owner import boot_time
from tests.sandbox.test_leftovers import GONE, place

ROOT = Path(__file__).parents[2]
__all__ = ["place"]
UNREADABLE = """import os, sys
from pathlib import Path
from sandbox.images.cache import remove_tree
top = Path(sys.argv[1])
(top / "half/work/work").mkdir(parents=True)
(top / "half/work/work").chmod(0)
remove_tree(top / "half")
print(os.getuid(), os.listdir(top))
"""


class Broken(BaseHTTPRequestHandler):
    """An engine that answers, and can't list what it has."""

    def do_GET(self) -> None:
        fine = self.path.endswith(("/_ping", "/version"))
        body = b'{"ApiVersion": "1.41"}' if fine else b'{"message": "the layer store is gone"}'
        self.send_response(200 if fine else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def broken(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    server = HTTPServer(("127.0.0.1", 0), Broken)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
    yield place
    server.shutdown()
    server.server_close()
    thread.join()


def deep(folder: Path, levels: int = 1500) -> None:
    folder.mkdir(parents=True)
    at = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


def test_a_half_made_image_goes_however_deep_its_build_made_it(place: Path) -> None:
    left = images_dir() / ".unfinished-x-abc"
    deep(left / "upper")
    assert str(left) in {one.name for one in sweep()} and not left.exists()


def test_an_engine_that_fails_keeps_nothing_else(broken: Path) -> None:
    dead = broken / f"patchwright-work-{GONE}-abc"
    dead.mkdir()
    done = CliRunner().invoke(cli, ["sandbox", "prune", "--json"])
    said = json.loads(done.stdout)
    assert not dead.exists() and str(dead) in {one["name"] for one in said["removed"]}
    assert "the layer store is gone" in said["problems"][0] + done.stderr and done.exit_code == 1


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="becomes an ordinary user")
def test_a_half_made_image_goes_though_its_user_may_not_read_it() -> None:
    """An overlay's own folder is closed even to the one who mounted it; only a build that ends by itself opens it."""
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 54321, 54321)
        command = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "/usr/bin/python3"]
        env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [*command, "-c", UNREADABLE, folder], cwd="/", env=env, capture_output=True, text=True, check=False
        )
        if "No module named 'sandbox'" in done.stderr or "cannot import name 'StrEnum'" in done.stderr:
            pytest.skip("other users can't read this checkout, or their Python is older than 3.11")
        assert done.stdout == "54321 []\n", done.stderr


def test_a_context_that_is_gone_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after Docker Desktop was removed."""
    (tmp_path / "config.json").write_text('{"currentContext": "desktop-linux"}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    with pytest.raises(SandboxUnavailable, match="context"):
        connect()


def container(status: str, seconds_ago: float) -> SimpleNamespace:
    """What an engine says of a container whose owner can't be known here."""
    when = time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime(time.time() - seconds_ago))
    ended = when if status == "exited" else "0001-01-01T00:00:00Z"
    return SimpleNamespace(labels={}, status=status, attrs={"State": {"FinishedAt": ended}, "Created": when})


@pytest.mark.parametrize("zone", ["Australia/Sydney", "Europe/Berlin", "America/St_Johns", "UTC"])
@pytest.mark.parametrize("status", ["exited", "created"])
def test_only_what_ended_or_was_made_long_ago_is_abandoned(
    zone: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Summer time, which two of these zones have at any time of the year, makes nothing older."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert [is_stale(container(status, age)) for age in (5, ABANDONED + 60)] == [False, True]
        assert not is_stale(container("running", 2 * ABANDONED))
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_a_reboot_left_goes(place: Path) -> None:
    """Its owner is of another boot, whose pids say nothing now; nothing of this machine has lived since before it."""
    names = {which: place / f"patchwright-work-77-88-{'0' * 12}-{which}" for which in ("before", "since")}
    for folder in names.values():
        folder.mkdir()
    (place / "patchwright-work-of-somebody").mkdir()
    for folder in (names["before"], place / "patchwright-work-of-somebody"):
        os.utime(folder, (boot_time() - 90_000,) * 2)
    assert {one.name for one in sweep() if one.what == "folders"} == {str(names["before"])}
    assert names["since"].exists() and (place / "patchwright-work-of-somebody").exists()
