"""Opening a queue: the one function that callers begin with, and what they do with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from agent.jobs.context import Work
from agent.jobs.model import (
    Ended,
    Job,
    JobsMissing,
    JobsUnavailable,
    WorkerSeen,
    check_name,
)

if TYPE_CHECKING:
    from agent.jobs.machine import Identity
    from agent.jobs.store import Store

LEASE: Final = 30.0
POLL: Final = 0.5
PATIENCE: Final = 600.0  # so long a call waits for a database that is away
_SLOWEST_LOOK: Final = 1.0
T = TypeVar("T")


class Jobs:
    """An open queue. All calls may be made by any process of the application, also without a worker."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def enqueue(self, jobs: Iterable[Job]) -> int:
        """Adds jobs; ids that are known already are left as they are, ended or not. How many were new.

        They are started in the order of the call. All of them or, when it raises, some of the first: call it again.
        """
        return await self._call(self._store.enqueue, list(jobs))

    async def ended(self, ids: Iterable[str]) -> AsyncIterator[Ended]:
        """Each of these jobs once, as they end; those that had ended before come first. Raises JobUnknown."""
        waiting = dict.fromkeys(ids)
        await self._call(self._store.check_known, list(waiting))
        pause = 0.05
        while waiting:
            found = await self._call(self._store.ended, list(waiting))
            for end in found:
                del waiting[end.id]
                yield end
            pause = 0.05 if found else min(pause * 1.5, _SLOWEST_LOOK)
            if waiting:
                await asyncio.sleep(pause)

    async def take(self, job: str) -> dict[str, bytes]:
        """What the job sent home so far and nobody removed: name -> contents."""
        return await self._call(self._store.files, job)

    async def taken(self, job: str) -> None:
        """Removes what `take` gave, once it is safe elsewhere."""
        await self._call(self._store.drop_files, job)

    async def cancel(self, ids: Iterable[str]) -> None:
        """Jobs that haven't ended will; running work is stopped at its next step, or within a sixth of the lease."""
        await self._call(self._store.cancel, list(ids))

    async def forget_ended(self, before: float, spared: Collection[str] = (), *, dry_run: bool = False) -> int:
        """Removes jobs that have ended and were enqueued before a time (seconds since the epoch), but for `spared`.

        How many went, or would go. One that is enqueued again later is done again: forget what nobody asks for.
        """
        return await self._call(partial(self._store.forget_ended, before, spared, dry_run=dry_run))

    async def workers(self) -> list[WorkerSeen]:
        """All that haven't closed or been found lost, by name."""
        return await self._call(self._store.workers)

    async def _call(self, function: Callable[..., T], *arguments: object) -> T:
        from agent.jobs.store import is_outage

        deadline, pause = time.monotonic() + PATIENCE, 0.2
        while True:
            try:
                return await asyncio.to_thread(function, *arguments)
            except Exception as error:  # told apart at once: the database's absence is waited for, the rest raised
                if not is_outage(error):
                    raise
                if time.monotonic() > deadline:
                    raise JobsUnavailable(
                        f"the jobs' database has been away for {PATIENCE:.0f} s ({error}); start it and run this again"
                    ) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)


@asynccontextmanager
async def open_jobs(
    database: str,
    kinds: Mapping[str, Work],
    *,
    application: str,
    worker: bool = True,
    concurrency: Mapping[str, int] | None = None,
    name: str | None = None,
    lease: float = LEASE,
    poll: float = POLL,
) -> AsyncIterator[Jobs]:
    """Opens the queue of `application` in a database, and works on it unless `worker` is false.

    `database` is `sqlite:///path` (processes of one machine, on a local disk) or `postgresql://...`. `kinds` says what
    this process can do; `concurrency` how many jobs of a kind it does at a time (1). Leaving stops the work that is
    going on and gives its jobs back to the queue. `lease`: seconds of silence after which a worker is lost; `poll`:
    seconds between two looks for new jobs. Raises JobsMissing, JobsBusy, JobsUnavailable, ValueError for names.
    """
    if not database.startswith(("sqlite:///", "postgresql")):
        raise ValueError("the database of jobs is a URL that begins with sqlite:/// or postgresql://")
    check_name("application", application, 3)
    for kind in kinds:
        check_name("kind", kind)
    try:
        from agent.jobs.store import Store
    except ImportError as error:
        raise JobsMissing(
            f"jobs need the package dbos ({error}); install Patchwright with the extra `evals` or `service`"
        ) from error
    store = await asyncio.to_thread(Store, database, application)
    try:
        await asyncio.to_thread(store.prepare)
        if not worker:
            yield Jobs(store)
            return
        from agent.jobs.machine import identity

        async with _working(store, identity(name), kinds, concurrency or {}, lease, poll):
            yield Jobs(store)
    finally:
        await asyncio.to_thread(store.close)


@asynccontextmanager
async def _working(
    store: Store,
    me: Identity,
    kinds: Mapping[str, Work],
    concurrency: Mapping[str, int],
    lease: float,
    poll: float,
) -> AsyncIterator[None]:
    from agent.jobs.engine import Engine
    from agent.jobs.keeper import Keeper

    engine = Engine(store, me, kinds, concurrency, poll)
    await asyncio.to_thread(store.beat, me, 0)
    try:
        await asyncio.to_thread(engine.launch)
    except BaseException:
        await asyncio.to_thread(store.forget, me.id)
        raise
    keeper = Keeper(store, me, engine, lease)
    keeper.start()
    try:
        yield
    finally:
        await engine.close()
        await asyncio.to_thread(keeper.stop)
        await asyncio.to_thread(_hand_over, store, me)


def _hand_over(store: Store, me: Identity) -> None:
    """What fails here is done by whoever finds that this process is gone."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        store.give_back(me.id, store.claims().get(me.id, ()))
        store.forget(me.id)
    except SQLAlchemyError:
        pass
