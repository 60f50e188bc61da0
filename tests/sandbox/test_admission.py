"""Sandboxes wait for memory in line, across processes, and a dead process's place is free again."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandbox import admission
from sandbox.admission import Memory, Waiting, enter, machine_memory, need_of, told
from sandbox.base import SandboxUnavailable
from sandbox.choose import open_sandbox
from sandbox.ledger import Ledger
from sandbox.policy import GIB, MIB, Limits
from tests.sandbox.kinds import SPEC

LIMITS = Limits()
NEED = need_of(LIMITS)


def machine(places: float, *, total: int = 64 * GIB) -> Memory:
    """With room for so many sandboxes, none of which takes anything yet."""
    memory = Memory(total, 0)
    return Memory(total, int(memory.reserve + places * NEED))


def test_a_need_is_far_below_the_limits_and_above_an_idle_sandbox() -> None:
    assert 200 * MIB < NEED < LIMITS.total_memory / 10
    assert need_of(Limits(memory=MIB, workdir_bytes=MIB, tmp_bytes=MIB, home_bytes=MIB, state_bytes=MIB)) == 16 * MIB


def test_the_machines_memory_is_known() -> None:
    memory = machine_memory()
    assert memory is not None
    assert 0 < memory.available < memory.total


async def test_those_that_do_not_fit_wait_in_line_and_are_told(tmp_path: Path) -> None:
    waits: list[Waiting] = []
    order: list[int] = []

    async def one(number: int) -> None:
        with told(waits.append):
            place = await enter(LIMITS, folder=tmp_path, memory=lambda: machine(2.5))
        order.append(number)
        await asyncio.sleep(0.6)
        place.leave()

    started = []
    for number in range(5):
        started.append(asyncio.create_task(one(number)))
        await asyncio.sleep(0.02)
    assert order == [0, 1]
    assert [wait.position for wait in waits] == [1, 2, 3]
    assert str(waits[0]).startswith(
        f"waiting for {NEED // MIB} MiB of this machine's memory for a sandbox, next in line"
    )
    assert "2 sandboxes are open" in str(waits[0])
    await asyncio.gather(*started)
    assert order == [0, 1, 2, 3, 4]
    assert Ledger(tmp_path).entries() == []


async def test_what_an_open_one_takes_is_not_counted_twice(tmp_path: Path) -> None:
    """Its memory is gone from the machine's free memory already."""
    meter = tmp_path / "meter"
    meter.write_text(str(NEED))
    first = await enter(LIMITS, folder=tmp_path, memory=lambda: machine(1))
    first.measured_by(meter)
    second = await asyncio.wait_for(enter(LIMITS, folder=tmp_path, memory=lambda: machine(1)), 5)
    with pytest.raises(TimeoutError):  # the second holds its need, and says of no part of it that it is taken
        await asyncio.wait_for(enter(LIMITS, folder=tmp_path, memory=lambda: machine(1.5)), 0.5)
    for place in (first, second):
        place.leave()


async def test_what_can_never_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable, match=r"Lower the sandbox's limits, or use a larger machine"):
        await enter(LIMITS, folder=tmp_path, memory=lambda: Memory(NEED, NEED))


async def test_memory_that_no_sandbox_holds_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "ALONE_PATIENCE", 0.3)
    with pytest.raises(SandboxUnavailable, match="End other programs"):
        await enter(LIMITS, folder=tmp_path, memory=lambda: machine(0.5))
    assert Ledger(tmp_path).entries() == []


async def test_a_process_that_holds_one_gets_a_second_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what is really free: two that each hold one and want another would wait for each other."""
    monkeypatch.setattr(admission, "PATIENCE", 0.3)
    first = await enter(LIMITS, folder=tmp_path, memory=lambda: machine(1.5))
    second = await asyncio.wait_for(enter(LIMITS, folder=tmp_path, memory=lambda: machine(1.5)), 5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(enter(LIMITS, folder=tmp_path, memory=lambda: machine(0.5)), 1)
    first.leave()
    second.leave()


async def test_a_cancelled_wait_leaves_nothing(tmp_path: Path) -> None:
    first = await enter(LIMITS, folder=tmp_path, memory=lambda: machine(1))
    waiting = asyncio.create_task(enter(LIMITS, folder=tmp_path, memory=lambda: machine(1)))
    await asyncio.sleep(0.1)
    assert len(Ledger(tmp_path).entries()) == 2
    waiting.cancel()
    await asyncio.wait([waiting])
    assert len(Ledger(tmp_path).entries()) == 1
    first.leave()


WORKER = """
import asyncio, sys, time
from pathlib import Path
from sandbox.admission import enter
from tests.sandbox.test_admission import LIMITS, machine
async def main():
    place = await enter(LIMITS, folder=Path(sys.argv[1]), memory=lambda: machine(2.5))
    began = time.monotonic()
    await asyncio.sleep(float(sys.argv[2]))
    print(began, time.monotonic(), flush=True)
    place.leave()
asyncio.run(main())
"""


def worker(folder: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(folder), str(seconds)], stdout=-1, text=True)


def test_several_processes_share_one_bound(tmp_path: Path) -> None:
    workers = [worker(tmp_path, 0.5) for _ in range(6)]
    spans = []
    for process in workers:
        said, _ = process.communicate(timeout=60)
        begin, end = (float(word) for word in said.split())
        spans.append((begin, end))
    most = max(sum(begin <= at < end for begin, end in spans) for at, _ in spans)
    assert most == 2, spans


async def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    victims = [worker(tmp_path, 600) for _ in range(2)]
    deadline = time.monotonic() + 30
    while sum(entry.live for entry in Ledger(tmp_path).entries()) < 2:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    for process in victims:
        process.send_signal(signal.SIGKILL)
        process.wait()
    place = await asyncio.wait_for(enter(LIMITS, folder=tmp_path, memory=lambda: machine(2.5)), 5)
    assert len(Ledger(tmp_path).entries()) == 1
    place.leave()


async def test_an_open_sandbox_holds_a_place_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    box = await open_sandbox("none", SPEC)
    (folder,) = tmp_path.glob("patchwright-places-*")
    fork = await box.fork()
    assert [entry.live for entry in Ledger(folder).entries()] == [True, True]
    await fork.close()
    assert len(Ledger(folder).entries()) == 1
    await box.close()
    assert Ledger(folder).entries() == []


async def test_an_entry_that_a_full_disk_cut_off_stops_nobody(tmp_path: Path) -> None:
    """Its owner lives on and holds its lock; all other processes of the user see the file."""
    with (tmp_path / "1.json").open("w") as cut:
        fcntl.flock(cut, fcntl.LOCK_EX)
        places = [await enter(LIMITS, folder=tmp_path, memory=lambda: machine(2.5)) for _ in range(2)]
        assert [entry.number for entry in Ledger(tmp_path).entries()] == [2, 3]
        for place in places:
            place.leave()
    assert Ledger(tmp_path).entries() == [] and not list(tmp_path.glob("*.json"))


async def test_a_full_disk_makes_nobody_wait_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    place = await enter(LIMITS, folder=tmp_path, memory=lambda: machine(0.5))
    assert not list(tmp_path.glob("*.json"))
    place.leave()
