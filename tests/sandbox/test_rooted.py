"""Root folders come from images and builds: what lies in them never makes us read the host's files for them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sandbox.bubblewrap_command import Inside, command_line
from sandbox.images import read_environment
from sandbox.images.setup_context import ENVIRONMENT_FILE
from sandbox.policy import Network, SandboxSpec
from sandbox.rooted import find_file, read_file

SECRET = "a-key-of-the-host"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Files that nobody inside may see, under names that we read in a root folder."""
    host = tmp_path / "host"
    host.mkdir()
    for name in ("passwd", "group", "id_rsa"):
        (host / name).write_text(f"{SECRET}\n")
    (host / "environment.json").write_text(json.dumps({"env": {"API_KEY": SECRET}}))
    return host


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "opt").mkdir()
    return root


def given(root: Path, network: Network) -> bytes:
    """All that a sandbox with this root folder is started with: its arguments and the files that are handed to it."""
    fds: list[int] = []
    try:
        command_line(Inside(Path("/bin/bwrap"), SandboxSpec(network=network), root, None, 12345, None), fds)
        return b"".join(os.pread(fd, 1 << 20, 0) for fd in fds)
    finally:
        for fd in fds:
            os.close(fd)


def test_links_lead_where_they_lead_inside(root: Path, host: Path) -> None:
    (root / "usr/bin/file").write_text("inside")
    links = {"bin": "usr/bin", "absolute": "/bin/file", "up": "../../../../usr/bin/file", "outside": str(host)}
    for name, leads in links.items():
        (root / name).symlink_to(leads)
    (root / "loop").symlink_to("loop")
    for name in ("/bin/file", "/absolute", "/up", "/../../bin/../bin/file"):
        assert read_file(root, name, 100) == b"inside", name
    assert read_file(root, "/bin/file", 3) == b"ins"
    assert [find_file(root, name) for name in ("/outside/id_rsa", "/loop", "/usr/bin", "/none")] == [None] * 4


@pytest.mark.parametrize("at", [ENVIRONMENT_FILE, os.path.dirname(ENVIRONMENT_FILE)])
def test_variables_are_never_read_from_a_file_of_the_host(root: Path, host: Path, at: str) -> None:
    """The last step of a build writes that file; whatever else the build ran may have put a link there."""
    link = root / at.lstrip("/")
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(host / "environment.json" if at == ENVIRONMENT_FILE else host)
    assert read_environment(root) == {}


@pytest.mark.parametrize("network", [Network.NONE, Network.FULL])
def test_an_etc_that_is_a_link_shows_nothing_of_the_host(root: Path, host: Path, network: Network) -> None:
    (root / "etc").symlink_to(host)
    assert SECRET.encode() not in given(root, network) and b"id_rsa" not in given(root, network)


@pytest.mark.parametrize("name", ["passwd", "group"])
def test_accounts_are_never_read_from_a_file_of_the_host(root: Path, host: Path, name: str) -> None:
    (root / "etc").mkdir()
    (root / "etc" / name).symlink_to(host / "id_rsa")
    assert SECRET.encode() not in given(root, Network.NONE)
