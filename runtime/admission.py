"""Live trajectories are admitted by the tokens that they need in a server's cache, and not by a count.

A trajectory whose prefix is evicted between two turns is computed again from its start, and when the live ones need
more than the pool holds, each evicts the next one's: the hit rate falls off a cliff (`benchmarks/admission.py`).
So the ones that don't fit wait, first come, first served, and are told. A trajectory that is in is never held up:
one that outgrows what it asked for keeps new ones out.

Left out: how many requests run at once, which is the server's own queue; users of the server on other machines.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from runtime.prefix import CacheRules, Strategy

if TYPE_CHECKING:
    from runtime.models.base import Pools

STATES_EACH: Final = {Strategy.TOKENS: 0, Strategy.NO_BUFFER: 3, Strategy.EXTRA_BUFFER: 5, Strategy.UNKNOWN: 0}
"""Recurrent states that a request takes while it runs, by strategy: its own, those of its prefix, and the buffers
that states are written to. SGLang bounds its running requests by the same numbers."""

_POLL: Final = 0.5  # seconds between looks at what other processes hold


@dataclass(frozen=True, slots=True)
class Need:
    """What a trajectory takes of a server's pools."""

    tokens: int
    states: int = 0
    slots: int = 1  # of a server that keeps one prefix in each


@dataclass(frozen=True, slots=True)
class Ticket:
    """A trajectory in line or live. Numbers rise in the order of arrival."""

    number: int
    need: Need
    live: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a waiting trajectory is told."""

    position: int  # 1 is next
    live: int  # trajectories that are in
    needed: int  # tokens
    held: int  # tokens that the live ones have reserved
    capacity: int  # tokens in the pool; 0 where it isn't bounded
    slots: int | None = None  # prefixes that the server keeps, where all of them are taken

    def __str__(self) -> str:
        place = "next in line" if self.position == 1 else f"number {self.position} in line"
        if self.slots is not None:
            return f"waiting for one of the {self.slots} slots of the model server's cache, {place}"
        runs = "1 live run holds" if self.live == 1 else f"{self.live} live runs hold"
        return (
            f"waiting for {self.needed} tokens of room in the model server's cache, {place}: "
            f"{runs} {self.held} of {self.capacity}"
        )


class Register(Protocol):
    """Who is in line and who is live, for one process or for all of a machine."""

    shared: bool  # changed by other processes too

    def join(self, need: Need) -> int:
        """The number of a new ticket, behind all others."""
        ...

    def tickets(self) -> list[Ticket]: ...

    def enter(self, number: int, may: Callable[[list[Ticket]], bool]) -> list[Ticket] | None:
        """Make a ticket live if it may be, as one step. None: it is; else what there was."""
        ...

    def change(self, number: int, need: Need) -> None: ...

    def leave(self, number: int) -> None: ...


class Admission:
    """Admits trajectories to one server. For one event loop; `register` makes it one line for several processes."""

    def __init__(self, pools: Pools, rules: CacheRules | None = None, register: Register | None = None) -> None:
        self._tokens, self._states, self._slots = pools.kv_tokens, pools.states, pools.slots
        self._states_each = STATES_EACH[rules.strategy] if rules else 0
        self._register: Register = register if register and self.bounded else LocalRegister()
        self._changed = asyncio.Event()

    @property
    def bounded(self) -> bool:
        """Whether the server's pools are known. Where they aren't, nobody waits."""
        states = self._states is not None and self._states_each > 0
        return states or self._tokens is not None or self._slots is not None

    @asynccontextmanager
    async def enter(self, tokens: int, on_wait: Callable[[Waiting], None] | None = None) -> AsyncIterator[Place]:
        """Wait for room for a trajectory that will grow to about so many tokens, and hold it.

        `on_wait` is called at the start of a wait and whenever the position changes. A trajectory that is larger
        than the whole pool is admitted alone. Cancelling leaves nothing behind.
        """
        need = Need(tokens, self._states_each)
        number = self._register.join(need)
        try:
            if self.bounded:
                await self._wait(number, need, on_wait)
            yield Place(self._register, number, need)
        finally:
            self._register.leave(number)
            self._changed.set()

    async def _wait(self, number: int, need: Need, on_wait: Callable[[Waiting], None] | None) -> None:
        told = 0
        while True:
            self._changed.clear()
            tickets = self._register.enter(number, lambda others: self._may(number, others))
            if tickets is None:
                self._changed.set()  # for whoever is next in line
                return
            waiting = self._told(number, need, tickets)
            if on_wait is not None and waiting.position != told:
                on_wait(waiting)
                told = waiting.position
            await self._any_change()

    async def _any_change(self) -> None:
        try:
            async with asyncio.timeout(_POLL if self._register.shared else None):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _may(self, number: int, tickets: list[Ticket]) -> bool:
        states = self._states if self._states_each else None
        return may_enter(number, tickets, self._tokens, states, self._slots)

    def _told(self, number: int, need: Need, tickets: list[Ticket]) -> Waiting:
        live = [ticket for ticket in tickets if ticket.live]
        position = sum(not ticket.live and ticket.number <= number for ticket in tickets)
        held = _sum(live)
        full = self._slots if self._slots is not None and held.slots >= self._slots else None
        return Waiting(position, len(live), need.tokens, held.tokens, self._tokens or 0, full)


class Place:
    """The room that a live trajectory holds."""

    def __init__(self, register: Register, number: int, need: Need) -> None:
        self._register = register
        self._number = number
        self._need = need

    @property
    def tokens(self) -> int:
        return self._need.tokens

    def grow(self, tokens: int) -> None:
        """The trajectory has so many tokens now. Never waits; what is less than the room held changes nothing."""
        if tokens > self._need.tokens:
            self._need = replace(self._need, tokens=tokens)
            self._register.change(self._number, self._need)


def may_enter(
    number: int, tickets: Iterable[Ticket], tokens: int | None, states: int | None, slots: int | None = None
) -> bool:
    """Whether a waiting ticket is the first in line and fits beside the live ones. None: no bound."""
    waiting = [ticket for ticket in tickets if not ticket.live]
    live = [ticket for ticket in tickets if ticket.live]
    first = min(waiting, key=lambda ticket: ticket.number, default=None)
    if first is None or first.number != number:
        return False
    held = _sum(live)
    return not live or (
        (tokens is None or held.tokens + first.need.tokens <= tokens)
        and (states is None or held.states + first.need.states <= states)
        and (slots is None or held.slots + first.need.slots <= slots)
    )


def _sum(tickets: Iterable[Ticket]) -> Need:
    needs = [ticket.need for ticket in tickets]
    return Need(*(sum(getattr(need, pool) for need in needs) for pool in ("tokens", "states", "slots")))


class LocalRegister:
    """The trajectories of this process alone."""

    shared = False

    def __init__(self) -> None:
        self._tickets: dict[int, Ticket] = {}
        self._last = 0

    def join(self, need: Need) -> int:
        self._last += 1
        self._tickets[self._last] = Ticket(self._last, need)
        return self._last

    def tickets(self) -> list[Ticket]:
        return list(self._tickets.values())

    def enter(self, number: int, may: Callable[[list[Ticket]], bool]) -> list[Ticket] | None:
        tickets = self.tickets()
        if not may(tickets):
            return tickets
        self._tickets[number] = replace(self._tickets[number], live=True)
        return None

    def change(self, number: int, need: Need) -> None:
        self._tickets[number] = replace(self._tickets[number], need=need)

    def leave(self, number: int) -> None:
        del self._tickets[number]


def admission_for(
    pools: Pools, rules: CacheRules | None = None, *, server: str | None = None, folder: Path | None = None
) -> Admission:
    """The admission to `server` (its URL), in one line with the other processes that keep theirs in `folder`.

    Without one of them, of this process alone. Entering raises OSError where the folder can't be written.
    """
    if server is None or folder is None:
        return Admission(pools, rules)
    from runtime.admission_ledger import FileRegister

    return Admission(pools, rules, FileRegister(folder, server))
