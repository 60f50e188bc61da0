"""Root folders for bubblewrap that can't run the guest by themselves."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.base import ImageProblem, SandboxDied
from sandbox.bubblewrap import open_bubblewrap
from sandbox.bubblewrap_layers import LayersUnavailable
from sandbox.guest_python import BROUGHT_DIR, OURS
from sandbox.images import base_tree
from tests.sandbox import no_python
from tests.sandbox.kinds import SPEC, need

pytestmark = [pytest.mark.bubblewrap, pytest.mark.heavy]
VERSION = f"git --version; PATH=$PATH:{OURS} git --version"


@pytest.fixture(autouse=True)
def needs_bubblewrap() -> None:
    need("bubblewrap")


def tree_without(folder: Path, what: str) -> str:
    """The base tree with these files removed."""
    subprocess.run(["cp", "-al", base_tree(), folder / "tree"], check=True)
    subprocess.run(["/bin/sh", "-c", f"cd {folder}/tree && rm -rf {what}"], check=True)
    return str(folder / "tree")


def tree_of_busybox(folder: Path) -> str:
    programs = folder / "tree/usr/bin"
    programs.mkdir(parents=True)
    (folder / "tree/bin").symlink_to("usr/bin")
    for name in ("busybox", "sh", "ls", "cat", "touch", "env"):
        (programs / name).write_bytes(no_python.busybox().read_bytes())
        (programs / name).chmod(0o755)
    return str(folder / "tree")


@pytest.mark.parametrize("layers", [True, False])
async def test_a_tree_of_busybox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: bool) -> None:
    def none(paths: object) -> None:
        raise LayersUnavailable("not in this test")

    if not layers:
        monkeypatch.setattr("sandbox.bubblewrap.keeper_for", none)
    spec = replace(SPEC, image=tree_of_busybox(tmp_path))
    async with await open_bubblewrap(spec) as box:
        assert (box.facts["shell"], box.facts["snapshots"] == "layers") == ("/bin/sh", layers)
        assert (await box.run(f"ls; touch {BROUGHT_DIR}/x 2>&1")).output.endswith(b"Read-only file system\n")
        assert b"LD_" not in (await box.run("env")).output
        await box.write("f", b"text")
        name = await box.snapshot()
        fork = await box.fork(name)
        assert (await fork.run("cat f; git")).output.startswith(b"text")
        await fork.close()


@pytest.mark.parametrize("what", ["usr/bin/git", "usr/lib/python3*/ctypes", "usr/lib/*/libexpat.so.1*"])
async def test_a_tree_that_lacks_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    image = tree_without(tmp_path, what)
    for _ in range(2):
        async with await open_bubblewrap(replace(SPEC, image=image)) as box:
            lines = (await box.run(VERSION)).output.decode().splitlines()
            assert [("git version" in line) for line in lines] == ["git" not in what, True]

    def nowhere() -> None:
        raise ImageProblem("no base image, and no mirror to make one from")

    monkeypatch.setattr("sandbox.guest_python.bundle", nowhere)
    monkeypatch.setattr("sandbox.guest_python._failed_until", [0.0])
    monkeypatch.setattr("sandbox.bubblewrap._needs_ours", set())
    if what.endswith("git"):
        async with await open_bubblewrap(replace(SPEC, image=image)) as box:
            assert (await box.run(VERSION)).exit_code == 127
    else:
        with pytest.raises(SandboxDied, match="its last words"):
            await open_bubblewrap(replace(SPEC, image=image))
