"""What every kind of sandbox does the same: deadlines, background processes, commands at once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from sandbox.base import CommandEnd
from sandbox.machine import GuestSandbox
from tests.sandbox.inside import count


async def test_a_deadline_ends_the_whole_group(box: GuestSandbox) -> None:
    started = time.monotonic()
    result = await box.run("echo started; sleep 4321 & sleep 4321; echo never", timeout=0.5)
    assert result.end is CommandEnd.TIMEOUT
    assert result.exit_code == 124
    assert result.output == b"started\n"
    assert result.still_running == ()
    assert time.monotonic() - started < 10
    assert (await count(box, "sleep 4321")) == 0


async def test_a_process_that_ignores_term_is_killed(box: GuestSandbox) -> None:
    result = await box.run("trap '' TERM HUP INT; while :; do sleep 0.1; done", timeout=0.3)
    assert result.end is CommandEnd.TIMEOUT
    assert result.seconds < 10
    assert (await count(box, "sleep 0.1")) == 0


async def test_a_daemon_that_forks_twice_ends_at_the_deadline(box: GuestSandbox) -> None:
    daemon = "import os,time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\ntime.sleep(4322)"
    await box.write("daemon.py", daemon.encode())
    result = await box.run("python3 daemon.py; sleep 4323", timeout=1.5)
    assert result.end is CommandEnd.TIMEOUT
    assert (await count(box, "daemon.py")) == 0


async def test_a_stopped_process_is_ended_too(box: GuestSandbox) -> None:
    result = await box.run("kill -STOP $$", timeout=0.5)
    assert result.end is CommandEnd.TIMEOUT


async def test_no_output_for_too_long(box: GuestSandbox) -> None:
    result = await box.run("echo a; sleep 4324", timeout=60, idle_timeout=0.7)
    assert (result.end, result.output) == (CommandEnd.IDLE, b"a\n")
    talkative = await box.run("for i in 1 2 3 4 5 6; do echo $i; sleep 0.3; done", idle_timeout=1.5)
    assert talkative.end is CommandEnd.EXITED


async def test_background_children_are_named_and_not_waited_for(box: GuestSandbox) -> None:
    started = time.monotonic()
    result = await box.run("sleep 4325 & sleep 4325 >/dev/null 2>&1 & setsid sleep 4325 & echo done")
    assert time.monotonic() - started < 5
    assert result.end is CommandEnd.EXITED
    assert result.output == b"done\n"
    assert len(result.still_running) == 3
    assert (await count(box, "sleep 4325")) == 3
    names = await box.run(["cat", *(f"/proc/{pid}/comm" for pid in result.still_running)])
    assert names.output == b"sleep\n" * 3
    assert sorted(result.command_lines) == ["sleep 4325"] * 3
    assert (await box.run("true")).still_running == (), "they belong to the command that started them"
    await box.run(["kill", *map(str, result.still_running)])
    await asyncio.sleep(0.2)
    assert (await count(box, "sleep 4325")) == 0


async def test_names_of_background_processes(box: GuestSandbox) -> None:
    hostile = r"$'two\nlines\e[2J\xff'$(printf 'x%.0s' {1..500})"
    script = f"(while :; do sleep 4331; done) & (exec -a {hostile} sleep 4331) & (exec -a '' sleep 4331) & sleep 0.3"
    for keep in (False, True):
        result = await box.run(script, keep_session=keep)
        named = dict(zip(result.still_running, result.command_lines, strict=True))
        assert sorted(line[:12] for line in named.values()) == ["4331", "bash", "sleep 4331", "two\nlines\x1b[2"]
        assert max(map(len, named.values())) == 200
        await box.run(["kill", "-9", *map(str, result.still_running)])
    assert (await box.run("true")).command_lines == ()


async def test_a_signal_to_every_python_does_not_end_the_guest(box: GuestSandbox) -> None:
    numbers = "1 2 3 10 12 13 14 15 17 18 20 21 22 23 24 26 27 29 34 64"
    await box.run(f"for n in {numbers}; do kill -$n {box.facts['pid']}; done")
    assert (await box.run("echo alive")).output == b"alive\n"
    status = (await box.run(["cat", "/proc/self/status"])).output.decode()
    sets = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    mine = Path("/proc/self/status").read_text().partition("SigIgn:")[2].split()[0]
    handed_on = int(mine, 16) & (3 << 31)  # 32 and 33 are the C library's: nobody can set them back
    assert int(sets["SigIgn"], 16) in {0, handed_on}, "commands have none of it"
    assert [int(sets[name], 16) for name in ("SigBlk", "SigCgt")] == [0, 0], "commands have none of it"
    assert (await box.run("sleep 4332", timeout=0.3)).end is CommandEnd.TIMEOUT


async def test_a_chatty_background_child_does_not_block(box: GuestSandbox) -> None:
    result = await box.run("(while :; do echo noise; sleep 0.01; done) & echo done")
    assert result.still_running
    await asyncio.sleep(0.5)
    assert (await box.run(["kill", "-0", str(result.still_running[0])])).exit_code == 0, "it must not die of SIGPIPE"
    await box.run(["kill", *map(str, result.still_running)])


async def test_several_commands_at_once(box: GuestSandbox) -> None:
    started = time.monotonic()
    results = await asyncio.gather(*(box.run(f"sleep 1; echo {i}") for i in range(8)))
    assert [int(result.output) for result in results] == list(range(8))
    assert time.monotonic() - started < 6


async def test_commands_at_once_keep_their_own_processes(box: GuestSandbox) -> None:
    slow = asyncio.create_task(box.run("sleep 4326", timeout=2))
    quick = await box.run("sleep 4327 & echo quick")
    assert len(quick.still_running) == 1
    assert (await slow).end is CommandEnd.TIMEOUT
    assert (await count(box, "sleep 4327")) == 1, "another command's deadline is not this one's"
    await box.run(["kill", str(quick.still_running[0])])


async def test_cancelling_a_call_ends_its_command(box: GuestSandbox) -> None:
    task = asyncio.create_task(box.run("sleep 4328"))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(50):
        if (await count(box, "sleep 4328")) == 0:
            break
        await asyncio.sleep(0.1)
    assert (await count(box, "sleep 4328")) == 0
    assert (await box.run("echo alive")).output == b"alive\n"
