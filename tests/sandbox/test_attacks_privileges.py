"""Hostile code that asks for more rights, or goes for the guest: it gets neither."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from sandbox.base import SandboxDied
from sandbox.machine import GuestSandbox
from tests.sandbox.inside import member, python, reads, tar_of


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
    found = [p for p in Path("/proc").glob("[0-9]*/cmdline") if reads(p) == b"sleep\0004401\0"]
    assert found
    assert "Uid:\t0" not in (found[0].parent / "status").read_text()


async def test_set_user_id_programs_do_not_raise(cell: GuestSandbox) -> None:
    await cell.run("cp /usr/bin/id /tmp/id; chmod 4755 /tmp/id")
    assert (await cell.run("/tmp/id -u")).output.strip() != b"0"
    for program in ("su -c id root", "newgrp root -c id", "sudo -n id", "passwd -S root"):
        assert b"uid=0" not in (await cell.run(program, timeout=20)).output
    mounts = (await cell.run("grep -E ' (/tmp|/workspace|/home/agent|/dev/shm) ' /proc/self/mountinfo")).output
    rows = [row for row in mounts.splitlines() if b" - tmpfs " in row]
    assert len({row.split()[4] for row in rows}) == 4  # a work folder of layers is mounted over an anchor
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


TAKE_OVER = """import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
x86 = os.uname().machine == "x86_64"
def call(name, number, *arguments):
    if libc.syscall(number, *arguments) != -1: print("DONE", name)
buffer = ctypes.create_string_buffer(64)
vector = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 64)
for pid in map(int, sys.argv[1:]):
    for request in (16, 0x4206): call("ptrace", 101 if x86 else 117, request, pid, 0, 0)
    for number in ((310, 311) if x86 else (270, 271)): call("vm", number, pid, vector, 1, vector, 1, 0)
    for resource in (0, 1): call("kcmp", 312 if x86 else 272, pid, os.getpid(), resource, 0, 0)
    fd = libc.syscall(434, pid, 0)
    for number in range(8): call("getfd", 438, fd, number, 0)
    call("madvise", 440, fd, vector, 1, 21, 0)
    for name, mode in (("mem", 2), ("mem", 0), ("fd/0", 1), ("fd/1", 1), ("fd/3", 0), ("fd/4", 1), ("environ", 0),
                       ("maps", 0), ("auxv", 0), ("io", 0), ("syscall", 0), ("stack", 0), ("fdinfo", 0),
                       ("root/x", 65),
                       ("cwd/x", 65), ("exe", 0), ("ns/net", 0), ("clear_refs", 1), ("map_files", 0)):
        try: os.open("/proc/%d/%s" % (pid, name), mode); print("OPEN", name)
        except OSError: pass
print("done")"""


async def test_the_guest_can_be_neither_traced_nor_read_nor_written(cell: GuestSandbox) -> None:
    own = await cell.run(["python3", "-c", TAKE_OVER.replace("sys.argv[1:]", "[os.getpid()]")])
    assert b"OPEN environ" in own.output, "the look itself works"
    result = await cell.run(["python3", "-c", TAKE_OVER, str(cell.facts["pid"])])
    assert result.output == b"done\n"


WATCH = """import os, sys, time
me, guest = os.getpid(), int(sys.argv[1])
end, seen = time.monotonic() + 4, set()
while time.monotonic() < end:
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in (1, me, os.getppid()): continue
        try:
            with open("/proc/%s/stat" % name) as file: parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError: continue
        if parent != guest: continue
        seen.add(name)
        for path, mode in (("fd/1", 1), ("fd/0", 1), ("mem", 2), ("environ", 0)):
            try: os.open("/proc/%s/%s" % (name, path), mode); print("OPEN", path)
            except OSError: pass
print(len(seen) > 0)"""


async def test_what_the_guest_forks_is_as_closed_as_itself(cell: GuestSandbox) -> None:
    """A snapshot or a tar is read and written by a fork: whoever could write into it would write its answer."""
    await cell.run("head -c 50M /dev/urandom >large")
    tar = tar_of((member("f"), b"x" * (8 << 20)))
    running = asyncio.create_task(cell.run(["python3", "-c", WATCH, str(cell.facts["pid"])], timeout=30))
    while not running.done():
        await cell.unpack(tar, "into")
    assert (await running).output == b"True\n"


async def test_nothing_that_the_guest_loads_can_be_changed(cell: GuestSandbox) -> None:
    """It reads its modules from the image, some of them late, and nothing from where commands can write."""
    script = """import sys, os
for folder in [*sys.path[1:], sys.prefix, os.path.dirname(os.__file__), "/run/patchwright-guest", "/lib", "/usr/lib"]:
    if os.path.isdir(folder): print(folder)"""
    folders = sorted(set((await python(cell, script)).split()))
    assert len(folders) >= 3
    for folder in folders:
        for change in (f"touch {folder}/tarfile.py", f"mkdir {folder}/__pycache__/x", f"mv {folder} /tmp/moved"):
            assert (await cell.run(change)).exit_code != 0, change
    trap = "raise SystemExit(9)"
    for place in (".", cell.state_dir, "/tmp", "/home/agent", "/home/agent/.local/lib/python3/site-packages"):
        for name in ("tarfile", "hashlib", "sitecustomize", "usercustomize", "encodings"):
            await cell.write(f"{place}/{name}.py", trap.encode())
    await cell.run("export PYTHONPATH=$PWD PYTHONSTARTUP=$PWD/tarfile.py PYTHONHOME=$PWD", keep_session=True)
    await cell.unpack(tar_of((member("f"), b"x")))
    assert await cell.read("f") == b"x"
    async with await cell.fork() as fork:
        assert await fork.read("f") == b"x"
