"""Hostile code that takes all there is: it is bounded, and the sandbox goes on answering."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from sandbox.base import CommandEnd, FileProblem
from sandbox.machine import GuestSandbox
from sandbox.policy import MIB
from tests.sandbox.kinds import SPEC


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
