"""Stopping and beginning at once: only who may stops, what is ended isn't begun, and what is claimed gets its job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dbos", reason="needs the extra `service`")

from agent.forges.base import Person
from agent.jobs import JobContext, Jobs, open_jobs
from service.bot.allowed import Allowed
from service.bot.asking import OURS
from service.dispatch import KIND, Dispatcher
from service.store import Request, State, Store
from service.webhooks.model import Delivery, ObjectKey, ObjectKind, Wish, WishKind
from tests.service.bot.conftest import SLUG, Scene

pytestmark = pytest.mark.heavy
NOW = "2026-11-21T10:00:00Z"


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = Store.open(f"sqlite:///{tmp_path}/service.sqlite")
    yield opened
    opened.close()


@pytest.fixture
async def jobs(tmp_path: Path) -> AsyncIterator[Jobs]:
    async def nothing(job: JobContext) -> dict[str, Any]:
        return {}

    async with open_jobs(
        f"sqlite:///{tmp_path}/jobs.sqlite", {KIND: nothing}, application="ending", worker=False
    ) as opened:
        yield opened


def wants(kind: WishKind, person: Person, repository: int = 1, number: int = 7) -> Delivery:
    key = ObjectKey(ObjectKind.COMMENT, hash((kind, person.login)) & 0xFFFFFF, NOW)
    return Delivery(
        f"{kind}-{person.login}", "issue_comment", "created", repository, SLUG, None, person, key, NOW,
        Wish(kind, number),
    )  # fmt: skip


def request_of(store: Store, delivery: Delivery) -> Request:
    (received,) = store.receive([delivery])
    assert received.request is not None
    found = store.request(received.request)
    assert found is not None
    return found


def state(store: Store, request: Request) -> tuple[State, str]:
    found = store.request(request.id)
    assert found is not None
    return found.state, found.why


async def noted(ended: Request, by: Request) -> None:
    return None


async def test_who_may_stop(scene: Scene, store: Store) -> None:
    mia, stranger = scene.person("mia"), scene.person("stranger")
    allowed = Allowed(scene.bot.forge)
    of_uma = request_of(store, wants(WishKind.FIX, scene.person("uma"), scene.repo.id))

    def stopped_by(person: Person) -> Request:
        return request_of(store, wants(WishKind.STOP, person, scene.repo.id))

    assert "write permission" in await allowed.refusal(stopped_by(stranger), [of_uma])
    assert await allowed.refusal(stopped_by(mia), [of_uma]) == ""
    assert await allowed.refusal(stopped_by(scene.person("uma")), [of_uma]) == "", "who asked for it"
    of_mia = request_of(store, wants(WishKind.FIX, mia, scene.repo.id))
    assert "write permission" in await allowed.refusal(stopped_by(scene.person("uma")), [of_uma, of_mia])
    assert "write permission" in await allowed.refusal(stopped_by(scene.person("uma")), [])
    assert await allowed.refusal(stopped_by(Person(OURS, "api:me")), [of_uma]) == "", "with a token of ours"


async def test_a_stop_by_whoever_may_not_ends_nothing(store: Store, jobs: Jobs) -> None:
    async def refusal(stopping: Request, ends: Any) -> str:
        return "" if stopping.asked_by and stopping.asked_by.login == "mia" else "it takes write permission"

    mia, stranger = Person(1, "mia"), Person(2, "stranger")
    work = request_of(store, wants(WishKind.FIX, mia))
    refused = request_of(store, wants(WishKind.STOP, stranger))
    dispatcher = Dispatcher(store, jobs, noted, refusal=refusal)
    assert await dispatcher.once() == 1
    assert state(store, work)[0] is State.QUEUED
    assert state(store, refused) == (State.CANCELLED, "it takes write permission")
    heeded = request_of(store, wants(WishKind.STOP, mia))
    await dispatcher.once()
    assert state(store, work)[0] is State.CANCELLED and state(store, heeded)[0] is State.DONE


async def test_what_is_stopped_while_it_waits_is_not_begun(store: Store, jobs: Jobs) -> None:
    work = request_of(store, wants(WishKind.FIX, Person(1, "mia")))
    request_of(store, wants(WishKind.STOP, Person(1, "mia")))
    assert await Dispatcher(store, jobs, noted).once() == 0
    assert state(store, work)[0] is State.CANCELLED


async def test_what_was_claimed_by_a_dispatcher_that_died_gets_its_job(store: Store, jobs: Jobs) -> None:
    work = request_of(store, wants(WishKind.FIX, Person(1, "mia")))
    assert store.change(work.id, State.QUEUED, since={State.WAITING})  # and no job: it was killed here
    assert await Dispatcher(store, jobs, noted).once() == 0

    async def known() -> None:
        async for _ in jobs.ended([work.id]):
            pass

    with pytest.raises(TimeoutError):  # it waits for its end, and doesn't say that nobody knows it
        await asyncio.wait_for(known(), 1)
