"""Hostile code inside: it is bounded, it sees nothing of the host, and the sandbox goes on answering."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.base import CommandEnd, FileProblem, SandboxDied
from sandbox.channel import HEADER
from sandbox.machine import GuestSandbox
from sandbox.policy import MIB, SandboxSpec
from tests.sandbox.kinds import ISOLATED, SPEC, opener

SECRET = "planted-host-secret-5b1f"


async def python(cell: GuestSandbox, script: str, timeout: float = 60.0) -> str:
    result = await cell.run(["python3", "-c", script], timeout=timeout)
    return result.output.decode()


# ---------------------------------------------------------------- resources


async def test_fork_bomb(cell: GuestSandbox) -> None:
    started = time.monotonic()
    result = await cell.run("f() { f | f & }; f; sleep 100", timeout=3)
    assert result.end in (CommandEnd.TIMEOUT, CommandEnd.EXITED)
    assert time.monotonic() - started < 40
    count = "ls /proc | grep -c '^[0-9]'"
    for _ in range(20):  # what the limit stopped must not linger
        after = await cell.run(count)
        if after.exit_code == 0 and int(after.output.split()[-1]) < 10:
            break
        await asyncio.sleep(0.3)
    assert int(after.output.split()[-1]) < 10
    assert (await cell.run("echo alive")).output == b"alive\n"


async def test_processes_are_counted(cell: GuestSandbox) -> None:
    script = """import os, time
n = 0
try:
    while n < 1000:
        if os.fork() == 0: time.sleep(60); os._exit(0)
        n += 1
except OSError as error: print(n, error.errno)"""
    result = await cell.run(["python3", "-c", script])
    children, number = (int(word) for word in result.output.split())
    assert children < SPEC.limits.processes
    assert number == 11
    full = await cell.run("echo x")
    assert full.exit_code != 0 or full.output == b"x\n"
    assert len(result.still_running) == min(children, 100)
    await cell.fingerprint()  # file calls need no process
    reader = asyncio.create_task(cell.read("/etc/passwd"))
    assert b"root" in await reader
    cell_died = await _end_all(cell, result.still_running)
    assert cell_died.output == b"alive\n"


async def _end_all(cell: GuestSandbox, pids: tuple[int, ...]):  # type: ignore[no-untyped-def]
    """At the limit no command starts: a deadline's kill needs none, so the caller can always get out."""
    for _ in range(50):
        result = await cell.run(["kill", "-9", *map(str, pids)])
        if result.exit_code == 0:
            break
        await asyncio.sleep(0.2)
    await asyncio.sleep(0.3)
    return await cell.run("echo alive")


async def test_memory_hog(cell: GuestSandbox) -> None:
    total = SPEC.limits.total_memory
    result = await cell.run(["python3", "-c", f"x = b'x' * {total}; print('got it')"], timeout=60)
    assert result.exit_code == 137
    assert result.end is CommandEnd.MEMORY
    assert b"got it" not in result.output
    child = await cell.run(f"python3 -c 'x = b\"x\" * {total}'; exit 5", timeout=60)
    assert child.exit_code == 5
    assert (await cell.run("echo alive")).output == b"alive\n"
    calm = await cell.run("exit 1")
    assert calm.end is CommandEnd.EXITED, "an earlier kill is not this command's"


@pytest.mark.parametrize(
    ("folder", "size"),
    [
        (".", SPEC.limits.workdir_bytes),
        ("/tmp", SPEC.limits.tmp_bytes),
        ("~", SPEC.limits.home_bytes),
        ("/dev/shm", SPEC.limits.shm_bytes),
    ],
)
async def test_disk_fill(cell: GuestSandbox, folder: str, size: int) -> None:
    free = os.statvfs("/tmp").f_bavail
    result = await cell.run(f"cd {folder} && head -c {size + (8 << 20)} /dev/zero >fill; stat -c %s fill; df -B1 .")
    assert b"No space left on device" in result.output
    assert size - MIB <= int(result.output.split(b"\n")[1]) <= size
    with pytest.raises(FileProblem) as caught:
        await cell.write(f"{'/home/agent' if folder == '~' else folder}/more", b"x" * (1 << 20))
    assert caught.value.errno_name == "ENOSPC"
    listed = await cell.run(f"ls -A {folder}")
    assert listed.output == b"fill\n", "a write that failed leaves no part of a file"
    assert os.statvfs("/tmp").f_bavail > free - (1 << 30) / os.statvfs("/tmp").f_frsize
    long = await cell.run(f"seq 1 100000; rm {folder}/fill", max_output=1000)
    assert long.exit_code == 0
    await cell.write("after", b"fine")


async def test_all_folders_full_leaves_memory_for_processes(cell: GuestSandbox) -> None:
    fill = "for d in /tmp ~ /dev/shm /run/patchwright .; do head -c 400M /dev/zero >$d/fill 2>/dev/null; done; true"
    assert (await cell.run(fill, timeout=100)).exit_code == 0
    result = await cell.run(["python3", "-c", "x = b'x' * (100 << 20); print('ok')"])
    assert result.output == b"ok\n"
    long = await cell.run("seq 1 100000", max_output=1000)
    assert (long.exit_code, long.output_file) == (0, None), "no room for the file of a long output"
    assert (await cell.run("cd /tmp", keep_session=True)).exit_code == 0


# ---------------------------------------------------------------- network and host


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_no_network(cell: GuestSandbox, listener: int) -> None:
    script = f"""import socket
for address in [("1.1.1.1", 53), ("169.254.169.254", 80), ("127.0.0.1", {listener}), ("localhost", {listener})]:
    try:
        socket.create_connection(address, timeout=3); print("connected", address)
    except OSError as error: print("refused", error.errno)
try:
    socket.getaddrinfo("example.org", 80); print("resolved")
except OSError: print("no name")
try:
    s = socket.socket(socket.AF_INET6); s.connect(("2606:4700:4700::1111", 53)); print("connected 6")
except OSError: print("refused 6")
print(sorted(name for _, name in socket.if_nameindex()))"""
    text = await python(cell, script)
    assert "connected" not in text
    assert "resolved" not in text
    assert text.count("refused") == 5
    assert text.endswith("['lo']\n")


async def test_loopback_of_its_own_works(cell: GuestSandbox) -> None:
    script = """import socket, threading
server = socket.create_server(("localhost", 0))
threading.Thread(target=lambda: server.accept()[0].sendall(b"hello")).start()
print(socket.create_connection(server.getsockname()).recv(5).decode())"""
    assert await python(cell, script) == "hello\n"


async def test_socket_families(cell: GuestSandbox) -> None:
    script = """import socket
for family in (40, 17, 38, 31, 15):  # vsock, packet, kernel crypto, bluetooth, key
    try:
        socket.socket(family, socket.SOCK_STREAM if family != 17 else socket.SOCK_RAW); print("open", family)
    except OSError as error: print(error.errno)
socket.socket(socket.AF_UNIX); socket.socketpair()"""
    assert await python(cell, script) == "97\n" * 5


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/etc/new", "/usr/bin/new", "/new", "/bin/sh", "/proc/sys/kernel/hostname"]
)
async def test_writing_outside(cell: GuestSandbox, path: str) -> None:
    ways = ("echo x >>", "cp /dev/null ", "mkdir ", "mv /tmp ", "truncate -s0 ")
    for script in (way + path for way in ways):
        result = await cell.run(script)
        assert result.exit_code != 0, script
    with pytest.raises(FileProblem):
        await cell.write(path, b"x")


async def test_only_the_bounded_folders_are_writable(cell: GuestSandbox) -> None:
    script = """import os
for line in open("/proc/self/mountinfo"):
    fields = line.split(); mount, options = fields[4], fields[5].split(",")
    kind = fields[fields.index("-") + 1]
    rest = fields[-1]
    if "rw" in options and kind not in ("proc", "devpts", "mqueue", "sysfs"): print(mount, kind, "size=" in rest)"""
    lines = (await python(cell, script)).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    bounded = {path for path, (kind, sized) in rows.items() if kind == "tmpfs" and sized == "True"}
    assert {"/tmp", "/home/agent", "/run/patchwright", cell.workdir} <= bounded
    assert {path for path in set(rows) - bounded if not path.startswith(("/dev", "/sys/fs/cgroup"))} == set(), rows
    for path in set(rows) - bounded:
        assert b"denied" in (await cell.run(f"test -d {path} || echo denied; touch {path}/x")).output, path


async def test_host_paths_are_not_there(cell: GuestSandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    tmp_path.chmod(0o755)
    secret.chmod(0o644)
    for path in (str(secret), "/root", "/var/run/docker.sock", "/run/docker.sock", f"/proc/1/root{secret}"):
        assert (await cell.run(["cat", path])).exit_code != 0, path
        with pytest.raises(FileProblem):
            await cell.read(path)
    await cell.run(f"ln -s {secret} link; ln -s {tmp_path} dir; mkdir -p deep; ln -s ../../../../../..{secret} deep/up")
    for path in ("link", "dir/secret", "deep/up", f"../..{secret}", f"deep/../../../..{secret}"):
        with pytest.raises(FileProblem):
            await cell.read(path)
    for path in ("link", "dir/new", f"../..{secret}"):
        try:
            await cell.write(path, b"overwritten")
        except FileProblem:
            continue
    assert secret.read_text() == SECRET
    assert sorted(p.name for p in tmp_path.iterdir()) == ["secret"]


async def test_the_hosts_environment_is_not_there(cell: GuestSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_TOKEN", SECRET)
    async with await opener(cell.kind)(SPEC) as other:
        result = await other.run("cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; env")
        assert b"PATH=" in result.output
        assert SECRET.encode() not in result.output
        assert b"PLANTED" not in result.output
        assert b"DOCKER_HOST" not in result.output
        guest = await other.run(["cat", f"/proc/{other.facts['pid']}/environ"])
        assert guest.exit_code != 0


async def test_no_process_of_the_host_is_seen(cell: GuestSandbox) -> None:
    result = await cell.run("ls /proc | grep -c '^[0-9]'; cat /proc/[0-9]*/comm")
    assert int(result.output.split()[0]) < 10
    assert (await cell.run(["kill", "-0", str(os.getpid())])).exit_code != 0 or os.getpid() < 20


async def test_two_sandboxes_do_not_see_each_other(cell: GuestSandbox) -> None:
    async with await opener(cell.kind)(SPEC) as other:
        await cell.run("echo mine >/tmp/mine; echo mine >mine; echo mine >/dev/shm/mine")
        await cell.run("sleep 4400 & ipcmk -M 10 >/dev/null 2>&1")
        assert (await other.run("ls /tmp . /dev/shm ~ | grep mine")).exit_code != 0
        assert b"sleep" not in (await other.run("cat /proc/[0-9]*/comm")).output
        script = "import socket, time; s = socket.socket(1); s.bind('\\0abstract'); s.listen(); time.sleep(3)"
        task = asyncio.create_task(cell.run(["python3", "-c", script]))
        await asyncio.sleep(1)
        text = await python(other, "import socket; socket.socket(socket.AF_UNIX).connect('\\0abstract')")
        assert "refused" in text.lower()
        await task


# ---------------------------------------------------------------- privileges


async def test_identity_and_capabilities(cell: GuestSandbox) -> None:
    status = (await cell.run("cat /proc/self/status")).output.decode()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["1000"] * 4 or os.getuid() != 0
    assert "0" not in fields["Uid"].split() + fields["Gid"].split()
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == 0, name
    assert (fields["NoNewPrivs"].strip(), fields["Seccomp"].strip()) == ("1", "2")
    assert (await cell.run("id -un; id -G")).output.split() == [b"agent", b"1000"] or os.getuid() != 0


async def test_on_the_host_it_is_not_root_either(cell: GuestSandbox) -> None:
    if cell.kind == "docker":
        pytest.skip("processes of a remote engine can't be looked at; the container's uid is the host's")
    await cell.run("sleep 4401 &")
    found = [p for p in Path("/proc").glob("[0-9]*/cmdline") if _reads(p) == b"sleep\0004401\0"]
    assert found
    assert "Uid:\t0" not in (found[0].parent / "status").read_text()


def _reads(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def test_set_user_id_programs_do_not_raise(cell: GuestSandbox) -> None:
    await cell.run("cp /usr/bin/id /tmp/id; chmod 4755 /tmp/id")
    assert (await cell.run("/tmp/id -u")).output.strip() != b"0"
    for program in ("su -c id root", "newgrp root -c id", "sudo -n id", "passwd -S root"):
        assert b"uid=0" not in (await cell.run(program, timeout=20)).output
    mounts = (await cell.run("grep -E ' (/tmp|/workspace|/home/agent|/dev/shm) ' /proc/self/mountinfo")).output
    rows = [row for row in mounts.splitlines() if b" - tmpfs " in row]
    assert len(rows) == 4
    assert all(b"nosuid,nodev" in row for row in rows)


REFUSED = """import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    result = getattr(libc, name)(*arguments)
    print(name, "refused" if result == -1 else "DONE", ctypes.get_errno())
call("mount", b"none", b"/tmp", b"tmpfs", 0, None)
call("umount2", b"/tmp", 2)
call("unshare", 0x10000000)
call("unshare", 0x00020000)
call("ptrace", 0, 0, 0, 0)
call("setns", 0, 0)
call("chroot", b"/tmp")
call("syscall", 250 if os.uname().machine == "x86_64" else 219, 0, 0, 0)
call("syscall", 321 if os.uname().machine == "x86_64" else 280, 0, 0, 0)
call("syscall", 425, 1, 0)
call("syscall", 56 if os.uname().machine == "x86_64" else 220, 0x10000000 | 17, 0, 0, 0, 0)
call("syscall", 435, 0, 0)
call("setuid", 0)
call("mknod", b"/tmp/device", 0o060666, os.makedev(254, 0))
"""


async def test_system_calls_are_refused(cell: GuestSandbox) -> None:
    text = await python(cell, REFUSED)
    assert "DONE" not in text, text
    assert text.count("refused 1\n") >= 12, text  # setuid(0) is EINVAL where no id 0 is mapped
    assert "syscall refused 38\n" in text, "clone3: not there, so that libc takes clone"
    assert (await cell.run("unshare -U true")).exit_code != 0
    threads = "import threading\nfor _ in range(5): threading.Thread(target=print, args=(1,)).start()"
    assert (await python(cell, threads)).count("1") == 5


async def test_nobody_inside_can_speak_for_the_guest(cell: GuestSandbox) -> None:
    pid = cell.facts["pid"]
    for path in ("fd/1", "fd/3", "fd/4", "fd/5", "mem", "environ"):
        assert (await cell.run(f"echo x >/proc/{pid}/{path}")).exit_code != 0, path
        assert (await cell.run(f"head -c1 /proc/{pid}/{path}", timeout=5)).exit_code != 0, path
    inherited = await cell.run(["python3", "-c", "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"])
    assert inherited.output == b"[0, 1, 2, 3]\n", "3 is listdir's own"


async def test_killing_everything_inside(cell: GuestSandbox) -> None:
    started = time.monotonic()
    with pytest.raises(SandboxDied, match="ended"):
        await cell.run("kill -9 -1; sleep 30", timeout=60)
    assert time.monotonic() - started < 15


# ---------------------------------------------------------------- a guest that lies


LIAR = """import os, struct, sys, time
def get(n):
    b = b""
    while len(b) < n: b += os.read(0, n - len(b))
    return b
def frame(body, data=b""): return struct.pack(">II", len(body), len(data)) + body + data
get(int(get(8)))
j, d = struct.unpack(">II", get(8)); get(j + d)
os.write(1, frame(b'{"id":0,"pid":5,"done":{}}'))
j, d = struct.unpack(">II", get(8)); get(j + d)
os.write(1, %s)
time.sleep(60)
"""


@pytest.mark.parametrize(
    "answer",
    [
        "b'\\xff' * 8",
        "struct.pack('>II', 0, 1 << 31)",
        "frame(b'[' * 100000)",
        "frame(b'not json')",
        "frame(b'[1, 2]')",
        "frame(b'{}') * 2000",
        "frame(b'{\"id\": 1}')",
        "frame(b'{\"id\": 1, \"part\": 1}', b'x')",
        'frame(b\'{"id":1,"exit_code":0,"head":9,"total":1,"seconds":0,"end":"exited","still_running":[]}\')',
        'frame(b\'{"id":1,"exit_code":0,"head":0,"total":\' + b\'9\' * 5000 + b\'}\')',
        'frame(b\'{"id":1,"exit_code":-1,"head":0,"total":0,"seconds":0,"end":"exited","still_running":[]}\')',
        'frame(b\'{"id":1,"exit_code":0,"head":0,"total":0,"seconds":0,"end":"great","still_running":[]}\')',
        'frame(b\'{"id":1,"exit_code":0,"head":0,"total":9999999,"seconds":0,"end":"exited","still_running":[]}\''
        ", b'x' * 9999999)",
    ],
)
async def test_a_hostile_guest_ends_its_sandbox_and_nothing_else(answer: str) -> None:
    box = await _liar(LIAR % answer)
    started = time.monotonic()
    with pytest.raises(SandboxDied, match="protocol"):
        await box.run("true", timeout=30)
    assert time.monotonic() - started < 10
    await box.close()


async def test_a_guest_that_is_silent() -> None:
    box = await _liar(LIAR % "b''", replace(SPEC, answer_grace=0.5))
    started = time.monotonic()
    with pytest.raises(SandboxDied, match="did not answer within"):
        await box.run("true", timeout=0.2)
    assert time.monotonic() - started < 10
    with pytest.raises(SandboxDied, match="did not answer"):
        await box.stat("x")
    await box.close()


async def test_a_guest_that_is_stopped_by_what_it_runs(cell: GuestSandbox) -> None:
    async with await opener(cell.kind)(replace(SPEC, answer_grace=1.0)) as other:
        started = time.monotonic()
        with pytest.raises(SandboxDied, match="did not answer within"):
            await other.run(f"kill -STOP {other.facts['pid']}; sleep 50", timeout=1)
        assert time.monotonic() - started < 20


async def _liar(source: str, spec: SandboxSpec = SPEC) -> GuestSandbox:
    from sandbox.local import LocalMachine, open_local
    from sandbox.pipes import spawn
    from sandbox.scratch import scratch_folder

    stream, channel = await spawn([sys.executable, "-c", source], {})
    machine = LocalMachine(stream, scratch_folder("state"), None)
    box = GuestSandbox(machine, channel, spec, workdir="/", state_dir="/", reopen=open_local)
    await box.start({})
    return box


def test_the_frame_header_is_what_the_liar_speaks() -> None:
    assert HEADER.pack(1, 2) == b"\0\0\0\1\0\0\0\2"


# ---------------------------------------------------------------- a host that is killed


OWNER = """import asyncio, sys
from tests.sandbox.kinds import SPEC, opener
async def main():
    box = await opener(sys.argv[1])(SPEC)
    await box.run("sleep 4402 & setsid sleep 4402 &")
    await box.write("f", b"x"); await box.snapshot()
    print("ready", flush=True)
    await box.run("sleep 4402")
asyncio.run(main())
"""


@pytest.fixture(params=[*ISOLATED, pytest.param("none")])
async def orphan(request: pytest.FixtureRequest) -> AsyncIterator[subprocess.Popen[bytes]]:
    opener(request.param)
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, request.param], cwd=root, stdout=subprocess.PIPE, env={**os.environ}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield process
    process.kill()
    process.wait()


async def test_a_killed_owner_leaves_nothing_after_prune(orphan: subprocess.Popen[bytes]) -> None:
    from sandbox.choose import prune
    from sandbox.owner import start_ticks

    mine = f"{orphan.pid}-{start_ticks(orphan.pid)}-"
    orphan.kill()
    orphan.wait()
    for _ in range(100):
        if not _sleepers():
            break
        await asyncio.sleep(0.1)
    assert not _sleepers(), "its processes end by themselves"
    await asyncio.to_thread(prune)
    assert not list(Path("/sys/fs/cgroup").glob(f"*/patchwright/{mine}*"))
    assert not list(Path("/tmp").glob(f"patchwright-*-{mine}*"))
    assert not await asyncio.to_thread(_containers_of, mine)


def _sleepers() -> list[Path]:
    return [p for p in Path("/proc").glob("[0-9]*/cmdline") if _reads(p) == b"sleep\0004402\0"]


def _containers_of(mine: str) -> list[str]:
    from sandbox.base import SandboxUnavailable
    from sandbox.docker_engine import LABEL, OWNER_LABEL, connect

    try:
        client = connect()
    except SandboxUnavailable:
        return []
    try:
        all_of_us = client.containers.list(all=True, filters={"label": LABEL})
        return [c.name for c in all_of_us if c.labels[OWNER_LABEL].startswith(mine)]
    finally:
        client.close()
