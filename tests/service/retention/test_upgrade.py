"""An upgrade while requests wait: a database of each released schema is migrated at the start, and they are done."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from agent.jobs import Job, JobContext, open_jobs
from service.dispatch import KIND, Dispatcher
from service.store import Request, State, Store
from service.store.migrations import STEPS
from service.store.model import wish_to_json
from service.webhooks import Wish, WishKind
from service.worker import APPLICATION
from tests.service.test_migrations import FIXTURES, written_by

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]
RELEASED = [number for number in range(1, len(STEPS) + 1) if (FIXTURES / f"schema_{number}.sql").exists()]


def asked(file: Path, number: int, state: State) -> str:
    """A request as a program of that schema wrote it."""
    key = f"r{number:024x}"
    row = {
        "id": key, "repository_id": 9000 + number, "slug": "octo/calc", "number": number, "kind": "fix",
        "wish": wish_to_json(Wish(WishKind.FIX, number)), "object_kind": "issue", "object_id": number,
        "object_version": "2026-01-01T00:00:00Z", "at": "2026-01-01T00:00:00Z", "asked_by": 1,
        "asked_by_login": "mia", "asked_by_bot": False, "state": state.value, "why": "",
        "created": "2026-01-01T00:00:00.000Z", "changed": "2026-01-01T00:00:00.000Z",
    }  # fmt: skip
    with closing(sqlite3.connect(file)) as connection, connection:
        places = ", ".join(f":{name}" for name in row)
        connection.execute(f"INSERT INTO requests ({', '.join(row)}) VALUES ({places})", row)
    return key


@pytest.mark.parametrize("schema", RELEASED)
async def test_what_waits_in_an_older_database_is_done_by_the_newer_program(schema: int, tmp_path: Path) -> None:
    url = written_by(schema, tmp_path)
    waiting = [asked(tmp_path / "old.sqlite", number, State.WAITING) for number in (101, 102, 103)]
    queued = [asked(tmp_path / "old.sqlite", number, State.QUEUED) for number in (201, 202)]
    jobs_url = f"sqlite:///{tmp_path}/old-jobs.sqlite"
    async with open_jobs(jobs_url, {}, application=APPLICATION, worker=False) as jobs:
        await jobs.enqueue([Job(key, KIND, {}) for key in queued])  # as the older program left them
    done: Counter[str] = Counter()
    ended: list[str] = []

    async def work(job: JobContext) -> None:
        done[job.job.id] += 1

    async def stopped(one: Request, by: Request) -> None:
        ended.append(one.id)

    store = Store.open(url)
    assert store.schema() == len(STEPS)
    async with open_jobs(jobs_url, {KIND: work}, application=APPLICATION, concurrency={KIND: 4}, poll=0.05) as jobs:
        dispatcher = Dispatcher(store, jobs, stopped)
        async with asyncio.timeout(300):
            while store.in_state({State.WAITING, State.QUEUED, State.RUNNING}):
                await dispatcher.once()
    found = {one.id: one.state for one in store.in_state(set(State))}
    store.close()
    assert done == Counter([*waiting, *queued])
    assert {found[key] for key in (*waiting, *queued)} == {State.DONE}
    assert len(ended) == 1  # the closed issue's, which the older program left to be stopped
