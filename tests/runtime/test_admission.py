"""Trajectories are admitted by what they need, first come first served; nobody starves and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.admission import (
    Admission,
    LocalRegister,
    Need,
    Ticket,
    Waiting,
    admission_for,
    may_enter,
)
from runtime.admission_ledger import FileRegister
from runtime.models import connect
from runtime.models.base import Pools
from runtime.models.scripted import Dialect, ScriptedServer
from runtime.prefix import CacheRules, Strategy

URL = "http://127.0.0.1:30000"


class Watched(LocalRegister):
    """A register that keeps what was live after every admission."""

    def __init__(self) -> None:
        super().__init__()
        self.admitted: list[int] = []
        self.together: list[list[Ticket]] = []

    def enter(self, number, may):  # type: ignore[no-untyped-def]
        refused = super().enter(number, may)
        if refused is None:
            self.admitted.append(number)
            self.together.append([ticket for ticket in self.tickets() if ticket.live])
        return refused


TRAJECTORIES = st.lists(
    st.tuples(st.integers(1, 130), st.integers(0, 5), st.integers(0, 5), st.booleans()), min_size=1, max_size=15
)


@settings(deadline=None)
@given(TRAJECTORIES)
def test_all_come_in_their_order_and_together_they_fit(trajectories: list[tuple[int, int, int, bool]]) -> None:
    """Each: tokens, when it comes, how long it stays, and whether it is cancelled half way."""
    register = Watched()

    async def one(admission: Admission, tokens: int, comes: int, stays: int) -> None:
        for _ in range(comes):
            await asyncio.sleep(0)
        async with admission.enter(tokens):
            for _ in range(stays * 3):
                await asyncio.sleep(0)

    async def all_of_them() -> list[asyncio.Task[None]]:
        admission = Admission(Pools(kv_tokens=100), register=register)
        tasks = [asyncio.create_task(one(admission, *trajectory[:3])) for trajectory in trajectories]
        await asyncio.sleep(0)
        for task, (_, comes, _, cancelled) in zip(tasks, trajectories, strict=True):
            if cancelled:
                for _ in range(comes):
                    await asyncio.sleep(0)
                task.cancel()
        async with asyncio.timeout(20):
            await asyncio.wait(tasks)
        return tasks

    tasks = asyncio.run(all_of_them())
    assert register.tickets() == []
    assert register.admitted == sorted(register.admitted)
    for live in register.together:
        assert len(live) == 1 or sum(ticket.need.tokens for ticket in live) <= 100
    for task, trajectory in zip(tasks, trajectories, strict=True):
        assert task.cancelled() <= trajectory[3]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 90), st.integers(0, 5), st.booleans()), max_size=8),
    st.none() | st.integers(50, 150),
    st.none() | st.integers(3, 20),
)
def test_exactly_the_first_in_line_may_enter_if_it_fits(
    drawn: list[tuple[int, int, bool]], tokens: int | None, states: int | None
) -> None:
    tickets = [Ticket(number, Need(need, kept), live) for number, (need, kept, live) in enumerate(drawn)]
    random.Random(1).shuffle(tickets)
    waiting = sorted(ticket.number for ticket in tickets if not ticket.live)
    may = [number for number in waiting if may_enter(number, tickets, tokens, states)]
    assert may in ([], waiting[:1])
    live = [ticket.need for ticket in tickets if ticket.live]
    if waiting and (not live or (tokens is None and states is None)):
        assert may == waiting[:1]
    if may and live:
        (need,) = (ticket.need for ticket in tickets if ticket.number == may[0])
        assert tokens is None or sum(one.tokens for one in live) + need.tokens <= tokens
        assert states is None or sum(one.states for one in live) + need.states <= states


async def test_the_waiting_are_told_where_they_stand() -> None:
    admission = Admission(Pools(kv_tokens=100))
    told: dict[str, list[Waiting]] = {"second": [], "third": []}
    leave = asyncio.Event()

    async def one(name: str, tokens: int) -> None:
        async with admission.enter(tokens, on_wait=told[name].append):
            await leave.wait()

    async with admission.enter(70) as place:
        place.grow(60)  # less than it holds already
        tasks = [asyncio.create_task(one("second", 40)), asyncio.create_task(one("third", 90))]
        await asyncio.sleep(0.01)
        place.grow(110)
        assert told == {"second": [Waiting(1, 1, 40, 70, 100)], "third": [Waiting(2, 1, 90, 70, 100)]}
    await asyncio.sleep(0.01)
    assert told["third"][1:] == [Waiting(1, 1, 90, 40, 100)]
    assert str(told["third"][1]) == (
        "waiting for 90 tokens of room in the model server's cache, next in line: 1 live run holds 40 of 100"
    )
    leave.set()
    await asyncio.gather(*tasks)


async def test_one_that_outgrows_its_room_keeps_others_out() -> None:
    admission = Admission(Pools(kv_tokens=100))
    async with admission.enter(30) as place:
        place.grow(80)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), admission.enter(30):
                pytest.fail("there was no room")
        async with admission.enter(20):
            pass


async def test_states_count_where_a_request_takes_them() -> None:
    rules = CacheRules(Strategy.EXTRA_BUFFER)
    admission = Admission(Pools(kv_tokens=1000, states=10), rules)
    async with admission.enter(1), admission.enter(1):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), admission.enter(1):
                pytest.fail("there were no states left")


@pytest.mark.parametrize("pools", [Pools(), Pools(requests=1), Pools(states=3)])
async def test_without_known_pools_nobody_waits(pools: Pools, tmp_path: Path) -> None:
    admission = admission_for(pools, server=URL, folder=tmp_path)
    assert not admission.bounded
    async with admission.enter(10**9), admission.enter(10**9) as place:
        place.grow(2 * 10**9)
    assert list(tmp_path.iterdir()) == []


# -- several processes ------------------------------------------------------------------------------------------

HOLDER = """
import asyncio, sys
from pathlib import Path
from runtime.admission import admission_for
from runtime.models import connect
from runtime.models.base import Pools
from runtime.models.scripted import Dialect, ScriptedServer

async def main(folder, server, tokens):
    admission = admission_for(Pools(kv_tokens=100), server=server, folder=Path(folder))
    async with admission.enter(int(tokens), on_wait=lambda waiting: print("waits", waiting.position, flush=True)):
        print("in", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
    print("out", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


class Holder:
    """Another process that enters, and leaves when told to."""

    def __init__(self, folder: Path, tokens: int, server: str = URL) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder), server, str(tokens)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def comes_in(self) -> None:
        while (said := self.says()) != "in":
            assert said.startswith("waits")

    def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.says() == "out"
        self.end()

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.communicate()


async def test_processes_share_one_line(tmp_path: Path) -> None:
    first = Holder(tmp_path, 70)
    first.comes_in()
    second = Holder(tmp_path, 60, "http://localhost:30000/")  # the same server
    assert second.says() == "waits 1"
    third = Holder(tmp_path, 10)  # would fit, and isn't let past
    assert third.says() == "waits 2"
    elsewhere = Holder(tmp_path, 90, "http://127.0.0.1:30001")
    elsewhere.comes_in()
    first.leave()
    second.comes_in()
    third.comes_in()
    for holder in (second, third, elsewhere):
        holder.end()


async def test_what_a_killed_process_held_is_free(tmp_path: Path) -> None:
    first = Holder(tmp_path, 70)
    first.comes_in()
    second = Holder(tmp_path, 60)
    assert second.says() == "waits 1"
    third = Holder(tmp_path, 50)
    assert third.says() == "waits 2"
    second.end(signal.SIGKILL)  # while it waits
    first.end(signal.SIGKILL)  # while it is in
    third.comes_in()
    async with asyncio.timeout(30):
        async with admission_for(Pools(kv_tokens=100), server=URL, folder=tmp_path).enter(50):
            pass
    third.leave()
    assert list(tmp_path.glob("*/*.json")) == []


def test_a_ticket_names_its_owner(tmp_path: Path) -> None:
    register = FileRegister(tmp_path, URL)
    number = register.join(Need(5, 2))
    (file,) = tmp_path.glob("*/*.json")
    assert json.loads(file.read_bytes()) == {"pid": os.getpid(), "tokens": 5, "states": 2, "live": False}
    register.change(number, Need(123456, 2))
    register.change(number, Need(7, 2))
    assert FileRegister(tmp_path, URL).tickets() == [Ticket(number, Need(7, 2), live=True)]
    register.leave(number)
    assert register.tickets() == []


# -- servers that keep one prefix in each slot ----------------------------------------------------------------------


async def test_runs_on_llamacpp_wait_for_a_slot() -> None:
    """What is read of a llama.cpp server bounds the runs on it: by its slots, and by its tokens."""
    script = {"turns": [{"text": "one"}], "context_length": 4096}
    async with ScriptedServer(script, dialect=Dialect.LLAMACPP) as server:
        model = await connect(server.url)
        await model.close()
    assert (model.facts.pools.kv_tokens, model.facts.pools.slots) == (4096, 4)
    admission = admission_for(model.facts.pools, model.facts.cache)
    assert admission.bounded
    told: list[str] = []
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(admission.enter(100))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), admission.enter(100, lambda waiting: told.append(str(waiting))):
                pass
    assert told == ["waiting for one of the 4 slots of the model server's cache, next in line"]
    told.clear()
    async with admission.enter(4000):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), admission.enter(100, lambda waiting: told.append(str(waiting))):
                pass
    assert "1 live run holds 4000 of 4096" in told[0]


async def test_slots_bound_the_runs_of_all_processes(tmp_path: Path) -> None:
    pools = Pools(slots=1)
    first, second = (admission_for(pools, server=URL, folder=tmp_path) for _ in range(2))
    async with first.enter(1):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), second.enter(1):
                pass
    async with second.enter(1):
        pass
