"""Hostile code that takes all there is: it is bounded, and the sandbox goes on answering."""

from __future__ import annotations

import asyncio
import errno
import os
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.base import CommandEnd, FileProblem
from sandbox.machine import GuestSandbox
from sandbox.policy import MIB, Limits
from tests.sandbox.inside import count, host_peak, reads
from tests.sandbox.kinds import SPEC, opener


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


SMALL = Limits(
    memory=96 * MIB,
    processes=100,
    workdir_bytes=64 * MIB,
    tmp_bytes=16 * MIB,
    home_bytes=16 * MIB,
    state_bytes=16 * MIB,
    shm_bytes=16 * MIB,
    files=10_000,
)
EMPTY_FILES = """import os, sys
os.chdir(sys.argv[1]); n = 0
try:
    for d in range(4000):
        os.mkdir("d%d" % d)
        for f in range(1000): os.close(os.open("d%d/%d" % (d, f), os.O_CREAT | os.O_WRONLY)); n += 1
except OSError as error: print(n, error.errno)
else: print(n, 0)"""


async def test_millions_of_empty_files(cell: GuestSandbox) -> None:
    """They end at the number that a folder may hold or, where a kind can't set one, at the memory limit."""
    if not getattr(cell._machine, "bounds", True):
        pytest.skip("an engine that can't bound memory leaves it at what the kernel allows by itself: millions")
    async with await opener(cell.kind)(replace(SPEC, limits=SMALL)) as other:
        for folder in (".", "/tmp", "/home/agent", "/dev/shm", other.state_dir):
            result = await other.run(["python3", "-c", EMPTY_FILES, folder], timeout=100)
            by_number = result.exit_code == 0
            if by_number:
                made, number = (int(word) for word in result.output.split())
                assert (number, made <= SMALL.files) == (errno.ENOSPC, True), folder
            else:
                assert result.end is CommandEnd.MEMORY, folder
            if other.kind == "docker" and folder != "/dev/shm":
                assert by_number, folder
            assert (await cell.run("echo x >x; cat x")).output == b"x\n", "another sandbox has its own share"
            assert (await other.run(f"rm -r {folder}/d*; echo alive")).output == b"alive\n", folder
            await other.write("after", b"fine")
            assert await other.fingerprint()


# ---------------------------------------------------------------- output


async def test_a_gibibyte_in_one_line_costs_the_host_nothing(box: GuestSandbox) -> None:
    await box.run("true")
    host_peak()
    before, started, computed = host_peak(), time.monotonic(), time.process_time()
    result = await box.run("head -c 1G /dev/zero | tr '\\0' x", timeout=100, max_output=10_000)
    assert (result.exit_code, result.total_bytes) == (0, 1 << 30)
    assert result.output.count(b"x") == 10_000
    assert host_peak() - before < 4 << 10, "KiB"
    assert time.process_time() - computed < 1, "seconds of this process"
    assert time.monotonic() - started < 60
    assert (await box.run("echo alive")).output == b"alive\n"


# ---------------------------------------------------------------- what stays behind


async def test_zombies_that_nobody_waits_for(cell: GuestSandbox) -> None:
    script = """import os, time
n = 0
try:
    while n < 3000:
        if os.fork() == 0: os._exit(0)
        n += 1
except OSError: pass
print(n, flush=True)
"""
    result = await cell.run(["python3", "-c", script], timeout=20)  # their parent ends: they come to the guest
    assert int(result.output) < SPEC.limits.processes
    left = await cell.run(
        f"python3 -c '{script}time.sleep(100)' >/dev/null & sleep 1"
    )  # their parent stays and doesn't look at them
    assert len(left.still_running) == 1, "what is dead holds nothing and isn't named"
    full = await cell.run("true")
    assert full.exit_code in (0, 1, 126, 128, 254), "it runs, or says that it can't"
    for _ in range(50):
        ended = await cell.run(["kill", "-9", *map(str, left.still_running)])
        if ended.exit_code == 0:
            break
        await cell.run("exit 0", timeout=0.5)
    await asyncio.sleep(0.5)
    assert (await cell.run("ls /proc | grep -c '^[0-9]'")).output.strip() in {b"%d" % n for n in range(1, 12)}


async def test_a_thousand_short_background_jobs(box: GuestSandbox) -> None:
    script = "for i in $(seq 1000); do (sleep 0.0$((i % 10)) &); done; sleep 43321 & sleep 43321 & echo done"
    result = await box.run(script, timeout=60)
    assert result.output.endswith(b"done\n")
    await asyncio.sleep(1)
    assert (await box.run("true")).still_running == ()
    assert await count(box, "sleep 43321") == 2
    # one that ends while it is looked at has only its program's name left
    assert set(result.command_lines) <= {"sleep 43321", "bash", "sleep", *(f"sleep 0.0{n}" for n in range(10))}
    started = time.monotonic()
    await box.close()
    assert time.monotonic() - started < 15


STUBBORN = """import os, signal, time
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
for fd in range(3): os.close(fd)
while True:
    try: time.sleep(1); "stubborn-%s"
    except BaseException: pass
"""


@pytest.mark.parametrize("way", ["deadline", "close", "left behind"])
async def test_a_daemon_that_ignores_every_signal(box: GuestSandbox, way: str) -> None:
    mark = uuid.uuid4().hex
    await box.write("daemon.py", STUBBORN.encode())
    result = await box.run(f"python3 daemon.py {mark}; sleep {0 if way == 'left behind' else 30}", timeout=2)
    if way == "left behind":
        assert result.end is CommandEnd.EXITED
        assert [line.endswith(f"daemon.py {mark}") for line in result.command_lines] == [True]
    if way == "deadline":
        assert result.end is CommandEnd.TIMEOUT
        assert result.still_running == ()
        assert await count(box, mark) == 0
    await box.close()
    for _ in range(50):
        if not _with_words(mark):
            break
        await asyncio.sleep(0.1)
    assert not _with_words(mark)


def _with_words(words: str) -> list[str]:
    """Processes of this machine: an engine elsewhere has none here, before and after."""
    return [str(path) for path in Path("/proc").glob("[0-9]*/cmdline") if words.encode() in reads(path)]
