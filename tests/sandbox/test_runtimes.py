"""Other OCI runtimes: what gVisor holds of the contract, and how an engine that lacks a runtime says so."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from sandbox.base import CommandEnd, SandboxDied, SandboxUnavailable
from sandbox.choose import open_sandbox
from sandbox.docker_engine import Engine, connect, look
from sandbox.docker_runtime import check_runtime, has_own_kernel, settings
from sandbox.machine import GuestSandbox
from tests.sandbox.kinds import REQUIRED, SPEC, need, opener

DOCKER = Engine("Docker", "20.10.24", False, True, 2.0, 8 << 30, "runc", ("runc", "runsc"))
PODMAN = replace(DOCKER, name="Podman", version="4.3.1")


def _need_runsc() -> None:
    need("docker")
    client = connect()
    known = look(client).runtimes
    client.close()
    if "runsc" in known:
        return
    why = f"the Docker engine has no runtime `runsc`, only {', '.join(known)}: scripts/docker-engine.sh start runsc"
    pytest.fail(why) if "runsc" in REQUIRED else pytest.skip(why)


@pytest.fixture
async def gvisor() -> AsyncIterator[GuestSandbox]:
    _need_runsc()
    async with await opener("docker")(replace(SPEC, runtime="runsc")) as sandbox:
        yield sandbox


async def python(box: GuestSandbox, script: str) -> str:
    return (await box.run(["python3", "-c", script], timeout=60)).output.decode()


# ---------------------------------------------------------------- gVisor


@pytest.mark.runsc
async def test_it_is_another_kernel(gvisor: GuestSandbox) -> None:
    version = await python(gvisor, "print(open('/proc/version').read())")
    with open("/proc/version") as file:
        assert version.split()[2] != file.read().split()[2] == os.uname().release
    assert gvisor.facts["done"]["seccomp"] is True
    async with await opener("docker")(SPEC) as plain:
        assert (await python(plain, "import os; print(os.uname().release)")).strip() == os.uname().release


@pytest.mark.runsc
async def test_commands_and_sessions(gvisor: GuestSandbox) -> None:
    result = await gvisor.run("cd /tmp; export NAME='a b'; echo out; echo err >&2; exit 3", keep_session=True)
    assert (result.exit_code, result.output, result.cwd) == (3, b"out\nerr\n", "/tmp")
    assert (await gvisor.run('pwd; echo "$NAME"', keep_session=True)).output == b"/tmp\na b\n"
    assert (await gvisor.run(["cat"], stdin=b"\0\xff")).output == b"\0\xff"
    assert (await gvisor.run(["no-such-program"])).exit_code == 127
    late = await gvisor.run("trap '' TERM; sleep 60", timeout=1)
    assert (late.end, late.exit_code) == (CommandEnd.TIMEOUT, 124)
    many = await gvisor.run(["python3", "-c", "print('x' * 5_000_000)"], max_output=1000)
    assert many.total_bytes == 5_000_001
    assert len(many.output) < 2000
    repository = "git init -q r && cd r && echo a >f && git add f && git -c user.name=a -c user.email=a@b commit -qm m"
    assert (await gvisor.run(f"{repository} && git log --format=%s")).output == b"m\n"


@pytest.mark.runsc
async def test_files_snapshots_and_forks(gvisor: GuestSandbox) -> None:
    await gvisor.write("deep/data", bytes(range(256)) * 5000, mode=0o750)
    assert await gvisor.read("deep/data", offset=255, limit=2) == b"\xff\0"
    assert (await gvisor.stat("deep/data")).mode == 0o750
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("unpacked")
        member.size = 2
        tar.addfile(member, io.BytesIO(b"hi"))
    await gvisor.unpack(packed.getvalue())
    name = await gvisor.snapshot()
    await gvisor.write("unpacked", b"changed")
    fork = await gvisor.fork(name)
    try:
        assert await fork.read("unpacked") == b"hi"
        version = (await fork.run(["cat", "/proc/version"])).output.decode()
        assert os.uname().release not in version, "a fork has the runtime of what it came from"
    finally:
        await fork.close()


@pytest.mark.runsc
async def test_nothing_gets_out_of_it(gvisor: GuestSandbox) -> None:
    script = """import os, socket
print(os.getuid(), os.getgid())
for path in ("/etc/passwd", "/usr/bin/new", "/new"):
    try: open(path, "a"); print("written", path)
    except OSError: pass
for address in (("1.1.1.1", 53), ("169.254.169.254", 80)):
    try: socket.create_connection(address, timeout=3); print("connected", address)
    except OSError: pass
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["CapEff"], 16), int(status["CapBnd"], 16))"""
    assert await python(gvisor, script) == "1000 1000\n0 0\n"
    fill = await gvisor.run(f"head -c {SPEC.limits.tmp_bytes + (8 << 20)} /dev/zero >/tmp/fill")
    assert b"No space left" in fill.output


@pytest.mark.runsc
async def test_a_fork_bomb_and_a_hog_end_there(gvisor: GuestSandbox) -> None:
    hog = "import time\nx = []\nwhile 1: x.append(b'x' * (4 << 20)); time.sleep(.02)"
    result = await gvisor.run(["python3", "-c", hog], timeout=100)
    assert (result.end, result.exit_code) == (CommandEnd.MEMORY, 137)
    try:
        await gvisor.run("f() { f | f & }; f; sleep 30", timeout=3)
        assert (await gvisor.run("echo alive")).output == b"alive\n"
    except SandboxDied:  # the bomb reaches the bound on gVisor's own threads, and gVisor gives up
        async with await opener("docker")(gvisor.spec) as other:
            assert (await other.run("echo alive")).output == b"alive\n"


# ---------------------------------------------------------------- engines without it


@pytest.mark.parametrize("runtime", [None, "runc", "runsc", "io.containerd.kata.v2"])
def test_runtimes_that_docker_can_give(runtime: str | None) -> None:
    check_runtime(DOCKER, runtime)


def test_a_runtime_that_docker_lacks() -> None:
    with pytest.raises(SandboxUnavailable, match=r"no runtime 'kata-runtime'; it knows: runc, runsc\. Install Kata"):
        check_runtime(DOCKER, "kata-runtime")


def test_podman_gives_its_own_runtime_or_says_that_it_cant() -> None:
    check_runtime(PODMAN, "runc")
    with pytest.raises(SandboxUnavailable, match=r"can't choose the runtime 'runsc'.*podman --runtime runsc"):
        check_runtime(PODMAN, "runsc")  # listed, and passed over in silence


def test_room_for_a_runtime_with_a_kernel_of_its_own() -> None:
    assert settings({"pids_limit": 100}, "runc") == settings({"pids_limit": 100}, None) == {"pids_limit": 100}
    assert settings({"pids_limit": 100}, "runsc")["pids_limit"] > 200
    assert has_own_kernel("kata-runtime")


@pytest.mark.docker
async def test_an_engine_that_lacks_it() -> None:
    need("docker")
    with pytest.raises(SandboxUnavailable, match=r"no runtime 'no-such-runtime'; it knows: .*runc"):
        await open_sandbox("docker", replace(SPEC, runtime="no-such-runtime"))


@pytest.mark.podman
async def test_podman_passes_over_a_runtime_so_it_is_refused() -> None:
    need("podman")
    with pytest.raises(SandboxUnavailable, match="can't choose the runtime 'runsc'"):
        await open_sandbox("podman", replace(SPEC, runtime="runsc"))


@pytest.mark.parametrize("kind", ["bubblewrap", "none"])
async def test_kinds_without_runtimes(kind: str) -> None:
    with pytest.raises(SandboxUnavailable, match="has no OCI runtimes"):
        await open_sandbox(kind, replace(SPEC, runtime="runsc"))
