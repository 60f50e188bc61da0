"""Owners, control groups, scratch folders, the spec, the choice, and the errors of each kind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import bubblewrap_command, cgroups
from sandbox.base import ImageProblem, Sandbox, SandboxUnavailable
from sandbox.bubblewrap import open_bubblewrap
from sandbox.choose import available, choose, open_sandbox
from sandbox.leftovers import sweep
from sandbox.owner import is_gone, owner
from sandbox.policy import GIB, Limits, SandboxSpec
from sandbox.scratch import scratch_folder
from tests.sandbox.kinds import SPEC, need

ROOT = Path(__file__).resolve().parents[2]


def _owner_of_a_dead_process() -> str:
    script = "from sandbox.owner import owner; print(owner())"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_owners() -> None:
    assert not is_gone(owner())
    assert is_gone(_owner_of_a_dead_process())
    pid, ticks, place = owner().split("-")
    assert is_gone(f"{pid}-{int(ticks) - 1}-{place}"), "the pid was used again"
    assert not is_gone(f"1-1-{'0' * 12}"), "of another machine: unknown"
    assert not is_gone("nonsense")


def test_scratch_folders() -> None:
    mine = scratch_folder("work")
    dead = mine.with_name(f"patchwright-work-{_owner_of_a_dead_process()}-abc")
    (dead / "sub").mkdir(parents=True)
    (dead / "sub" / "file").touch()
    (dead / "sub").chmod(0o500)
    link = mine.with_name(dead.name + "link")
    link.symlink_to(mine)
    try:
        assert str(dead) in {one.name for one in sweep()}
        assert mine.is_dir()
        assert not dead.exists()
    finally:
        mine.rmdir()
        link.unlink()


def test_a_control_group_of_version_2(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "patchwright"):
        folder.mkdir(exist_ok=True)
        (folder / "cgroup.procs").touch()
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    group = cgroups.make_group(Limits(memory=GIB, cpus=1.5, processes=99), root=tmp_path)
    assert group is not None
    (folder,) = group.folders
    assert (folder / "pids.max").read_text() == "99"
    assert (folder / "cpu.max").read_text() == "150000 100000"
    assert int((folder / "memory.max").read_text()) == Limits(memory=GIB).total_memory
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    (folder / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert group.oom_kills() == 2


def test_where_no_control_group_can_be_made(tmp_path: Path) -> None:
    assert cgroups.make_group(Limits(), root=tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="control groups of version 1 belong to root")
def test_a_dead_owners_group_is_pruned_with_what_runs_in_it() -> None:
    if not Path("/sys/fs/cgroup/pids/cgroup.procs").exists():
        pytest.skip("no control groups of version 1")
    name = f"{_owner_of_a_dead_process()}-00000000"
    folder = Path("/sys/fs/cgroup/pids/patchwright") / name
    folder.mkdir(parents=True)
    sleeper = subprocess.Popen(["sleep", "4410"])
    (folder / "cgroup.procs").write_text(str(sleeper.pid))
    assert str(folder) in {one.name for one in sweep()}
    assert not folder.exists()
    assert sleeper.wait(5) == -9


@pytest.mark.parametrize("workdir", ["relative", "/", "/usr/x", "/proc/x", "/a/../etc", "/a//b", "/a/"])
def test_a_workdir_that_can_not_be(workdir: str) -> None:
    with pytest.raises(ValueError, match="workdir"):
        SandboxSpec(workdir=workdir)


async def test_choices() -> None:
    assert [await choose(kind) for kind in ("docker", "bubblewrap", "none")] == ["docker", "bubblewrap", "none"]
    with pytest.raises(SandboxUnavailable, match="no sandbox of kind 'x'"):
        await choose("x")
    facts = {fact.kind: fact for fact in available()}
    usable = [kind for kind in ("docker", "bubblewrap") if facts[kind].usable]
    if usable:
        assert await choose("auto") == usable[0]
    for fact in facts.values():
        assert fact.usable or fact.todo


async def test_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    with pytest.raises(SandboxUnavailable, match="DOCKER_HOST"):
        await open_sandbox("docker", SPEC)
    assert not available()[0].usable


async def test_no_sandbox_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DOCKER_HOST", "CONTAINER_HOST"):
        monkeypatch.setenv(name, "unix:///nonexistent/engine.sock")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match="by name: `--sandbox none`"):
        await open_sandbox("auto", SPEC)


@pytest.mark.docker
async def test_an_image_that_is_not_there() -> None:
    need("docker")
    with pytest.raises(ImageProblem, match="agent sandbox build"):
        await open_sandbox("docker", SandboxSpec(image="patchwright/no-such-image:1"))


@pytest.mark.bubblewrap
async def test_a_tree_that_is_none(tmp_path: Path) -> None:
    need("bubblewrap")
    with pytest.raises(ImageProblem, match="agent sandbox build"):
        await open_sandbox("bubblewrap", SandboxSpec(image=str(tmp_path)))


@pytest.mark.bubblewrap
async def test_the_hosts_programs_as_an_image() -> None:
    need("bubblewrap")
    box: Sandbox = await open_sandbox("bubblewrap", SandboxSpec(image="host"))
    result = await box.run("id -un; ls -A /etc /var /home /root 2>&1; touch /usr/x")
    assert result.output.startswith(b"agent\n")
    assert b"shadow" not in result.output
    assert result.exit_code != 0
    await box.close()


@pytest.mark.bubblewrap
async def test_the_hosts_private_keys_are_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates stand in for keys, for those are there on every machine and readable."""
    need("bubblewrap")
    shown = Path("/etc/ssl/certs")
    if not shown.is_dir() or shown.resolve() != shown:
        pytest.skip("this machine has no certificates in /etc/ssl/certs")
    look = "ls -A /etc/ssl/certs | wc -l; touch /etc/ssl/certs/x 2>&1 | grep -o Read-only"
    monkeypatch.setattr(bubblewrap_command, "HOST_KEYS", ("ssl/certs", "ssl/no-such-folder"))
    async with await open_bubblewrap(SandboxSpec(image="host")) as box:
        assert (await box.run(look)).output.split() == [b"0", b"Read-only"]


async def test_a_folder_of_the_callers_stays(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    box = await open_sandbox("none", SandboxSpec(folder=str(tmp_path)))
    assert box.workdir == str(tmp_path)
    async with await box.fork() as fork:  # type: ignore[attr-defined]
        assert fork.workdir != box.workdir
        assert await fork.read("f") == b"x"
    await box.close()
    assert (tmp_path / "f").exists()


ORDINARY = """import asyncio, os
from sandbox.bubblewrap import open_bubblewrap
from sandbox.base import CommandEnd
from sandbox.policy import Limits, SandboxSpec, MIB
async def main():
    assert os.getuid() != 0
    limits = Limits(memory=200 * MIB, processes=60, workdir_bytes=50 * MIB)
    async with await open_bubblewrap(SandboxSpec(image="host", limits=limits)) as box:
        assert (await box.run("id -u")).output == b"1000\\n"
        script = "import time; x = []\\nwhile 1: x.append(b'x' * (10 << 20)); time.sleep(.01)"
        hog = await box.run(["python3", "-c", script])
        assert (hog.end, hog.exit_code) == (CommandEnd.MEMORY, 137), hog
        bomb = await box.run("f() { f | f & }; f; sleep 100", timeout=3)
        assert (await box.run("echo alive")).output == b"alive\\n"
        fill = await box.run("head -c 60M /dev/zero >fill")
        assert b"No space left" in fill.output
        assert (await box.run("echo x >/etc/passwd")).exit_code != 0
        print("done")
asyncio.run(main())
"""


@pytest.mark.bubblewrap
@pytest.mark.skipif(os.getuid() != 0, reason="the rest of the suite runs as an ordinary user here already")
def test_bubblewrap_as_an_ordinary_user() -> None:
    """No control group there: the guest itself watches memory and processes."""
    need("bubblewrap")
    python = "/usr/bin/python3"
    if not shutil.which("setpriv") or not Path(python).exists() or _version(python) < (3, 11):
        pytest.skip("needs setpriv and a /usr/bin/python3 of 3.11 or newer that other users can start")
    command = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", python, "-c", ORDINARY]
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"}
    done = subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, check=False, timeout=120)
    if "No module named 'sandbox'" in done.stderr:
        pytest.skip("other users can't read this checkout")
    assert done.stdout == "done\n", done.stderr


def _version(python: str) -> tuple[int, ...]:
    done = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, check=True)
    return tuple(int(part) for part in done.stdout.split())


@pytest.mark.docker
def test_several_processes_prune_at_once() -> None:
    need("docker")
    from concurrent.futures import ThreadPoolExecutor

    from sandbox import docker_engine
    from sandbox.policy import BASE_IMAGE

    client = docker_engine.connect()
    gone = "999999999-1-" + owner().rpartition("-")[2]
    labels = {docker_engine.LABEL: "test", docker_engine.OWNER_LABEL: gone}
    made = [client.containers.create(BASE_IMAGE, "true", network_mode="none", labels=labels) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: docker_engine.prune(), range(6)))
    left = {container.id for container in client.containers.list(all=True, ignore_removed=True)}
    client.close()
    assert not left & {container.id for container in made}
