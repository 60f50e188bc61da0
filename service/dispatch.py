"""Stored requests become jobs, as many at a time as a repository may have, one after the other in a conversation.

Who may work on what at once is decided here and not by the queue, so that a lost worker's claims hold nobody up. What
stops or closes ends the jobs before it. A request is claimed first, so that what is ended meanwhile isn't begun, and
enqueued under its own id, so that doing it twice is doing it once.
One process dispatches at a time: the web process does. Left out: doing the work (`service.bot.work`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from agent.forges.base import ForgeProblem
from agent.jobs import Job, Jobs, JobsError, JobUnknown
from service.bot.threads import Asked
from service.store import ACTIVE, Request, State, Store, StoreUnavailable
from service.telemetry.logs import about, tell
from service.telemetry.work import WorkTelemetry
from service.webhooks.model import ENDS_WORK, WishKind

KIND = "request"
_LOG = logging.getLogger(__name__)
_QUICK = frozenset({WishKind.HELP, WishKind.EXPLAIN})  # they start no run
_TELLING = 2.0  # seconds
_LOOK_EVERY = 20  # rounds between two looks for jobs that ended without saying so
_ORDERS = ENDS_WORK | {WishKind.REMOVED, WishKind.INSTALLED}
_WORK = frozenset(WishKind) - _ORDERS - _QUICK
_UNDER_WAY = frozenset({State.QUEUED, State.RUNNING})


async def _nobody_is_refused(stopping: Request, ends: Sequence[Request]) -> str:
    return ""


async def _nothing_is_shown(request: Request) -> None:
    return None


@dataclass(slots=True)
class Dispatcher:
    """`stopped` is told of each request that was ended by another one: (ended, by).

    `refusal` is asked before one stops others, with what it would end: why its person may not, or an empty text.
    `seen` is told of each request that has to wait.
    """

    store: Store
    jobs: Jobs
    stopped: Callable[[Request, Request], Awaitable[None]]
    per_repository: int = 2
    telemetry: WorkTelemetry = field(default_factory=WorkTelemetry)
    pause: float = 0.5  # seconds between two looks at the store
    refusal: Callable[[Request, Sequence[Request]], Awaitable[str]] = _nobody_is_refused
    seen: Callable[[Request], Awaitable[None]] = _nothing_is_shown
    _round: int = field(default=0, init=False)
    _shown: set[str] = field(default_factory=set, init=False)
    _telling: set[asyncio.Future[None]] = field(default_factory=set, init=False)
    _unsure: bool = field(default=True, init=False)  # whether all that is claimed is in the queue

    async def run(self) -> None:
        """Until it is cancelled; a database that is away is waited for."""
        while True:
            try:
                await self.once()
            except (StoreUnavailable, JobsError) as problem:
                _LOG.warning("requests wait: %s", problem)
            await asyncio.sleep(self.pause)

    async def once(self) -> int:
        """One look at what waits; how many requests became jobs."""
        for request in await asyncio.to_thread(self.store.waiting_for, _ORDERS):
            if request.wish.kind is WishKind.INSTALLED:
                await self._change(request, State.DONE)
            else:
                await self._end(request)
        quick = await asyncio.to_thread(self.store.waiting_for, _QUICK)
        waiting = quick + await asyncio.to_thread(partial(self.store.waiting_for, _WORK, each_number=1))
        ready = await self._ready(waiting)
        self._show(waiting, ready)
        claimed = [one for one in ready if await self._change(one, State.QUEUED, since=frozenset({State.WAITING}))]
        if claimed:
            self._unsure = True
            await self.jobs.enqueue([_job(request) for request in claimed])
            self._unsure = False
            for request in claimed:
                with about(request.id, repository=request.slug):
                    self.telemetry.queued(request, datetime.fromisoformat(request.created).timestamp())
        self._round += 1
        if self._round % _LOOK_EVERY == 1:
            await self._reconcile()
        return len(claimed)

    async def _ready(self, waiting: list[Request]) -> list[Request]:
        """Those that may start now, in their order."""
        going = await asyncio.to_thread(self.store.in_state, _UNDER_WAY)
        threads = await asyncio.to_thread(self.store.issues_of, [*going, *waiting])
        held = Counter(one.repository_id for one in going if one.wish.kind not in _QUICK)
        busy = {threads[one.id] for one in going if one.wish.kind not in _QUICK}
        ready = []
        for request in waiting:
            if request.wish.kind not in _QUICK:
                thread = threads[request.id]
                if thread in busy or held[request.repository_id] >= self.per_repository:
                    busy.add(thread)  # what came later in this conversation waits behind it
                    continue
                busy.add(thread)
                held[request.repository_id] += 1
            ready.append(request)
        return ready

    async def _end(self, request: Request) -> None:
        ends = await asyncio.to_thread(self.store.to_end, request)
        if request.wish.kind is WishKind.STOP:
            try:
                refusal = await self.refusal(request, ends)
            except ForgeProblem as problem:
                _LOG.warning("%s waits, whether its person may stop can't be asked: %s", request.id, problem)
                return
            if refusal:
                await self._change(request, State.CANCELLED, why=refusal)
                return
        await self.jobs.cancel([one.id for one in ends if one.state in _UNDER_WAY])
        for one in ends:
            if await self._change(one, State.CANCELLED, why=f"{request.wish.kind} came after it"):
                with about(one.id, repository=one.slug):
                    tell(logging.INFO, "request ended", end="cancelled", why=f"{request.wish.kind} came after it")
                await self._tell(one, request)
        await self._change(request, State.DONE)

    def _show(self, waiting: Sequence[Request], ready: Sequence[Request]) -> None:
        """That what has to wait was seen; what is begun now is greeted by its job."""
        held = {one.id: one for one in waiting if one.wish.kind is not WishKind.CHECKS_FAILED}
        for one in ready:
            held.pop(one.id, None)
        for key in held.keys() - self._shown:
            task = asyncio.ensure_future(self.seen(held[key]))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        self._shown = set(held)

    async def _tell(self, ended: Request, by: Request) -> None:
        """A forge that is slow to be told holds up no other conversation for long."""
        task = asyncio.ensure_future(self.stopped(ended, by))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
        await asyncio.wait({task}, timeout=_TELLING)

    async def _reconcile(self) -> None:
        """A job that the queue gave up, or whose worker died between its end and its last word here.

        One that isn't in the queue was claimed by a dispatcher that died before it could put it there.
        """
        going = {one.id: one for one in await asyncio.to_thread(self.store.in_state, _UNDER_WAY)}
        if not going:
            return
        if self._unsure:
            await self.jobs.enqueue([_job(one) for one in going.values()])
            self._unsure = False
        try:
            async with asyncio.timeout(1.0):
                async for ended in self.jobs.ended(list(going)):
                    state = State.FAILED if ended.error else State.DONE
                    await self._change(going[ended.id], state, why=ended.error or "")
        except JobUnknown as problem:
            self._unsure = True
            _LOG.warning("a request has no job and gets one at the next look: %s", problem)
        except TimeoutError:
            pass  # the rest goes on

    async def _change(self, request: Request, state: State, *, why: str = "", since: frozenset[State] = ACTIVE) -> bool:
        return await asyncio.to_thread(lambda: self.store.change(request.id, state, why=why, since=since))


def asked_of(request: Request) -> Asked:
    """What the request's job is told."""
    wish = request.wish
    return Asked(
        request.slug, request.repository_id, wish.kind, wish.number, wish.text, wish.comment, wish.place, wish.review,
        wish.sha, wish.pull, request.asked_by,
    )  # fmt: skip


def _job(request: Request) -> Job:
    return Job(request.id, KIND, asked_of(request).to_json())
