"""The worker process: takes requests off the queue and works on them, any number of workers for one database.

Left out: what a request's work is (`service.bot`), and which may start (`service.dispatch`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from agent.jobs import JobContext, Jobs, open_jobs
from service.bot.context import Bot
from service.bot.work import work
from service.dispatch import KIND
from service.store import State, Store, StoreUnavailable
from service.telemetry.logs import about
from service.telemetry.work import WorkTelemetry

APPLICATION = "patchwright-service"
_FAILED = frozenset({"failed"})
_TRIES, _PAUSE = 120, 5.0  # ten minutes, as the queue waits for its database


@asynccontextmanager
async def working(
    database: str,
    store: Store,
    bot: Bot,
    *,
    at_once: int = 2,
    name: str | None = None,
    telemetry: WorkTelemetry | None = None,
) -> AsyncIterator[Jobs]:
    """Works on requests until the block ends, when what goes on is given back to the queue. `at_once` 0: on none."""

    seen = telemetry or WorkTelemetry()

    async def one(job: JobContext) -> dict[str, Any]:
        with about(job.job.id, repository=str(job.job.payload.get("slug", ""))):
            return await _told(store, bot, job, seen)

    async with open_jobs(
        database, {KIND: one}, application=APPLICATION, worker=at_once > 0, concurrency={KIND: at_once}, name=name
    ) as jobs:
        yield jobs


async def _told(store: Store, bot: Bot, job: JobContext, seen: WorkTelemetry) -> dict[str, Any]:
    """The work, counted and traced. What goes back to the queue is told by whoever ends it."""
    key, runs, began = job.job.id, bot.settings.runs, seen.began()
    try:
        ended = await _recorded(store, bot, job)
    except asyncio.CancelledError:
        found = await asyncio.to_thread(store.request, key)
        if found is not None and found.state is State.CANCELLED:
            await seen.ended(store, runs, key, {"end": "cancelled"}, began)
        raise
    except Exception as error:
        await seen.ended(store, runs, key, {"end": "error", "why": f"{type(error).__name__}: {error}"}, began)
        raise
    else:
        await seen.ended(store, runs, key, ended, began)
        return ended
    finally:
        seen.left()


async def _recorded(store: Store, bot: Bot, job: JobContext) -> dict[str, Any]:
    """The work of a request, with its state in the database beside. The queue has the last word: see `_reconcile`."""
    key = job.job.id
    if not await _note(store, key, State.RUNNING):
        return {"end": "cancelled", "why": "it had ended before it was begun"}
    try:
        ended = await work(bot, job)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        await _note(store, key, State.FAILED, why=why)
        raise
    state = State.FAILED if ended["end"] in _FAILED else State.DONE
    why, run, pull = str(ended.get("why", "")), ended.get("run"), ended.get("pull")
    await _note(store, key, state, why=why, run=run, pull=pull)
    return ended


async def _note(store: Store, key: str, state: State, **more: Any) -> bool:
    """`Store.change`, which waits for a database that is away: a run isn't lost for want of a line about it."""
    for left in reversed(range(_TRIES)):
        try:
            return await asyncio.to_thread(partial(store.change, key, state, **more))
        except StoreUnavailable:
            if not left:
                raise
            await asyncio.sleep(_PAUSE)
    raise AssertionError("unreachable")
