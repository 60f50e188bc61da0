"""Hostile code that looks for a way out: it sees nothing of the network, the host or other sandboxes."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.base import FileProblem
from sandbox.machine import GuestSandbox
from tests.sandbox.inside import SECRET, python
from tests.sandbox.kinds import SPEC, opener


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
    if fields[3] == "/null": continue  # a mask over something below /proc
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
        for path in ("/proc/self/environ", f"/proc/{other.facts['pid']}/environ"):  # the guest reads its own
            try:
                assert SECRET.encode() not in await other.read(path)
            except FileProblem:
                continue


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
