"""The base image, made for real from this machine's mirror, killed half-way, and used."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.sandbox import sandbox
from sandbox.images import base_tree, find_base_tree, find_bwrap
from sandbox.images.cache import cache_dir

pytestmark = pytest.mark.slow

INSIDE = """
set -e
test "$(id -un) $(id -u)" = "agent 1000"
python -c 'import ssl, sqlite3, ctypes, lzma, bz2, readline, zoneinfo; zoneinfo.ZoneInfo("Europe/Paris")'
python3 -m pytest --version
printf 'def test_it(tmp_path):\\n    assert tmp_path.is_dir()\\n' > test_it.py
python3 -m pytest -q -p no:cacheprovider test_it.py
python3 -m venv venv && venv/bin/pip --version
git init -q r && cd r && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && git log --oneline
rg --version; echo x | awk '{print $1}'; which make patch ps xz perl; sh -c 'echo sh'
test "$(dpkg --audit)" = "" && dpkg -s git | grep -q '^Status: install ok installed'
echo fine
"""


def in_bubblewrap(tree: Path, script: str) -> subprocess.CompletedProcess[str]:
    bwrap = find_bwrap()
    if bwrap is None:
        pytest.skip("no bubblewrap")
    where = ["--ro-bind", str(tree), "/", "--proc", "/proc", "--dev", "/dev"]
    for folder in ("/tmp", "/home/agent", "/workspace"):
        where += ["--tmpfs", folder]
    env = ["--clearenv", "--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin", "--setenv", "HOME", "/home/agent"]
    who = ["--unshare-all", "--uid", "1000", "--gid", "1000", "--die-with-parent", "--chdir", "/workspace"]
    command = [str(bwrap), *who, *where, *env, "bash", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def need_mirror() -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("no apt on this machine: the base image is made from its mirror")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.heavy
@pytest.mark.timeout(900)  # writes a gigabyte; some disks take their time
def test_a_killed_build_is_made_good_by_the_next_and_the_tree_runs(cache: Path) -> None:
    need_mirror()
    program = "from sandbox.images import base_tree; print(base_tree())"
    with subprocess.Popen([sys.executable, "-c", program], process_group=0) as killed:
        wait_for(lambda: list(cache.glob("images/.unfinished-*/tree/usr/bin/*")))
        os.killpg(killed.pid, signal.SIGKILL)
    assert find_base_tree() is None and not list(cache.glob("images/*.tar"))

    tree = base_tree()
    assert sorted(path.suffix for path in (cache / "images").glob("base-*")) == ["", ".json", ".tar"]
    assert not list(cache.glob("images/.unfinished-*"))
    seen = in_bubblewrap(tree, INSIDE)
    assert seen.returncode == 0 and seen.stdout.endswith("fine\n"), seen.stdout + seen.stderr
    assert_trimmed(tree)
    assert_another_cache_takes_the_tar(next(cache.glob("images/*.tar")), cache.parent / "other")


def wait_for(condition: object, seconds: float = 120.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the build never began to unpack"
        time.sleep(0.05)


def assert_trimmed(tree: Path) -> None:
    files = [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) < 300 << 20
    assert not [path for path in files if path.stat().st_mode & 0o6000], "set-uid programs"
    assert not [path for path in files if not path.stat().st_mode & 0o004], "files that only root may read"
    documents = [path for path in files if path.is_relative_to(tree / "usr/share/doc")]
    assert documents and {path.name for path in documents} == {"copyright"}
    assert not list((tree / "var/lib/apt/lists").glob("*_*")) and not list(tree.rglob("*.deb"))
    assert list(tree.glob("usr/lib/python3*/__pycache__/os.*.pyc"))
    bundle = (tree / "etc/ssl/certs/ca-certificates.crt").read_text()
    assert bundle.count("BEGIN CERTIFICATE") > 50


def assert_another_cache_takes_the_tar(tar: Path, other: Path) -> None:
    """What a machine without a mirror does."""
    arguments = ["build", "--kind", "bubblewrap", "--from", str(tar), "--json"]
    done = CliRunner().invoke(sandbox, arguments, env={"PATCHWRIGHT_CACHE": str(other)})
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert Path(made["tar"]).is_relative_to(other) and Path(made["bubblewrap"], "usr/bin/python3").exists()


def test_two_processes_unpack_one_tree() -> None:
    """Over the machine's own cache: the second waits for the first, and both get the same folder."""
    need_mirror()
    program = "from sandbox.images import base_tree; print(base_tree())"
    env = {**os.environ, "PATCHWRIGHT_CACHE": str(cache_dir())}
    both = [subprocess.Popen([sys.executable, "-c", program], stdout=-1, text=True, env=env) for _ in range(2)]
    found = {process.communicate(timeout=280)[0].strip() for process in both}
    assert len(found) == 1 and Path(found.pop(), "usr/bin/git").exists()
    assert [process.returncode for process in both] == [0, 0]


def test_no_space_is_told_with_what_to_do(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.touch()
    done = CliRunner().invoke(sandbox, ["build"], env={"PATCHWRIGHT_CACHE": str(blocker / "cache")})
    assert done.exit_code == 1 and "PATCHWRIGHT_CACHE" in done.output


def test_a_file_that_is_no_image_is_refused(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"not a tar")
    for name, words in (("x.tar", "reading"), ("missing.tar", "is no file")):
        done = CliRunner().invoke(sandbox, ["build", "--from", str(tmp_path / name), "--json"])
        assert done.exit_code == 1 and words in json.loads(done.stdout)["error"]


def test_an_unknown_package_is_named(cache: Path) -> None:
    need_mirror()
    done = CliRunner().invoke(sandbox, ["build", "--packages", "no-such-package-anywhere"])
    assert done.exit_code == 1 and "no-such-package-anywhere" in done.output and "Try: " in done.output


def test_an_empty_cache_lists_nothing(cache: Path) -> None:
    done = CliRunner().invoke(sandbox, ["list", "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["cache"] == []
    assert not cache.exists()
