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
from service.store import State, Store

APPLICATION = "patchwright-service"
_FAILED = frozenset({"failed"})


@asynccontextmanager
async def working(
    database: str, store: Store, bot: Bot, *, at_once: int = 2, name: str | None = None
) -> AsyncIterator[Jobs]:
    """Works on requests until the block ends, when what goes on is given back to the queue. `at_once` 0: on none."""

    async def one(job: JobContext) -> dict[str, Any]:
        return await _recorded(store, bot, job)

    async with open_jobs(
        database, {KIND: one}, application=APPLICATION, worker=at_once > 0, concurrency={KIND: at_once}, name=name
    ) as jobs:
        yield jobs


async def _recorded(store: Store, bot: Bot, job: JobContext) -> dict[str, Any]:
    """The work of a request, with its state in the database beside. The queue has the last word: see `_reconcile`."""
    key = job.job.id
    await asyncio.to_thread(store.change, key, State.RUNNING)
    try:
        ended = await work(bot, job)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        await asyncio.to_thread(partial(store.change, key, State.FAILED, why=why))
        raise
    state = State.FAILED if ended["end"] in _FAILED else State.DONE
    why, run, pull = str(ended.get("why", "")), ended.get("run"), ended.get("pull")
    await asyncio.to_thread(partial(store.change, key, state, why=why, run=run, pull=pull))
    return ended
