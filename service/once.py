"""One event, worked on in the foreground: what a workflow of the repository itself does instead of a service.

The same reading, admission, run and delivery as the bot's. The event comes from a file that the workflow's runner
wrote, and the token is used for its repository alone. What a run leaves is in `PATCHWRIGHT_HOME`: where that is kept,
reviews are followed up with the same conversation. Left out: what ends work (cancel the workflow), and queues.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from agent.ends import EXIT_CODES, Outcome
from agent.forges import commits
from agent.forges.base import Forge, ForgeProblem, checked_slug
from agent.jobs import Job, JobContext, open_jobs
from service.bot.context import Bot
from service.bot.mirrors import Mirrors
from service.bot.threads import Asked, StoredThreads, Threads
from service.bot.work import work
from service.environment import Environment
from service.store import Store, Thread
from service.store.model import request_id
from service.webhooks.model import ASKS_FOR_WORK, Myself, Refused, WishKind
from service.webhooks.reading import read
from service.webhooks.values import Malformed, Value
from service.work_process import WorkSettings, forge_of

_KIND: Final = "request"
_MOST_ATTEMPTS: Final = 99
BY_HAND: Final = "workflow_dispatch"
_WORKED_ON: Final = ASKS_FOR_WORK | {WishKind.HELP}


class Result(StrEnum):
    """How a request ended."""

    PULL = "pull request"
    ANSWERED = "answered"
    NOTHING = "nothing asked"
    NO_CHANGE = "no change"
    REFUSED = "refused"
    FAILED = "failed"


REFUSED_CODE: Final = 10
FAILED_CODE: Final = 11
CODES: Final = {
    Result.PULL: 0,
    Result.ANSWERED: 0,
    Result.NOTHING: 0,
    Result.NO_CHANGE: EXIT_CODES[Outcome.NO_PATCH],
    Result.REFUSED: REFUSED_CODE,
    Result.FAILED: FAILED_CODE,
}


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an event. `outcome`: the run's, "" where there was none."""

    result: Result
    why: str = ""
    pull: int | None = None
    run: str = ""
    outcome: str = ""

    @property
    def code(self) -> int:
        """The exit code: of the run, where it ended without a change for another reason than that there is none."""
        if self.result is Result.NO_CHANGE and self.outcome not in ("", Outcome.VERIFIED, Outcome.UNVERIFIED):
            return EXIT_CODES[Outcome(self.outcome)]
        return CODES[self.result]


class EventProblem(Exception):
    """An event that can't be worked on as it was given."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a workflow is told of the event that began it. `number`: the issue, if it was started by hand."""

    name: str
    payload: Any
    repository: str
    number: int | None = None
    run: str = "1"  # names the workflow's run

    def asked(self, me: Myself) -> tuple[str, Asked] | str:
        """What is to be done, with a name that equal wishes share; or why nothing is. Raises EventProblem."""
        if self.number:
            if self.name != BY_HAND:
                raise EventProblem(f"an issue is named for {BY_HAND} only: the event {self.name!r} says which itself")
            return self._by_hand(self.number)
        delivery = read(self.name, "once", self.payload, me)
        if isinstance(delivery, Refused):
            raise EventProblem(f"the event {self.name!r} can't be read: {delivery.reason}")
        wish = delivery.wish
        if wish is None or wish.kind not in _WORKED_ON:
            return delivery.why_not or "what ends work is for a workflow's `concurrency`, or for cancelling it by hand"
        self._check(delivery.slug)
        asked = Asked(
            delivery.slug, delivery.repository_id, wish.kind, wish.number, wish.text, wish.comment, wish.place,
            wish.review, wish.sha, wish.pull, delivery.sender,
        )  # fmt: skip
        return request_id(delivery), asked

    def _by_hand(self, number: int) -> tuple[str, Asked]:
        """A workflow that somebody started for an issue that they named."""
        try:
            value = Value.of(self.payload)
            repository, sender = value.at("repository"), value.person("sender")
            slug, repository_id = repository.slug("full_name"), repository.number("id")
        except Malformed as malformed:
            raise EventProblem(f"the event {self.name!r} can't be read: {malformed}") from None
        self._check(slug)
        return f"by-hand-{self.run}", Asked(slug, repository_id, WishKind.FIX, number, person=sender)

    def _check(self, slug: str) -> None:
        if slug.casefold() != self.repository.casefold():
            raise EventProblem(f"the event is about {slug}, and this is a workflow of {self.repository}")


def myself(environment: Mapping[str, str]) -> Myself:
    """How this bot is spoken to."""
    reader = Environment(environment)
    name = reader.text("PATCHWRIGHT_BOT_NAME", "patchwright")
    label = reader.text("PATCHWRIGHT_BOT_LABEL", name)
    return Myself(name, label=label, branches=reader.text("PATCHWRIGHT_BOT_BRANCHES", "patchwright/"))


async def once(settings: WorkSettings, me: Myself, event: Event) -> Done:
    """Work on what an event asks for. Raises EventProblem, ForgeProblem, StoreError; cancelled by SIGTERM."""
    checked_slug(event.repository)
    found = event.asked(me)
    if isinstance(found, str):
        return Done(Result.NOTHING, found)
    task = asyncio.current_task()
    assert task is not None
    for one in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(one, task.cancel)
    store, forge = await asyncio.to_thread(Store.open, settings.database.reveal()), forge_of(settings, event.repository)
    try:
        threads = _Threads(StoredThreads(store), forge, event.repository, settings.bot.branches)
        bot = Bot(forge, threads, Mirrors(settings.mirrors, forge), settings.bot)
        return await _worked(bot, *found)
    finally:
        await forge.close()
        store.close()


async def _worked(bot: Bot, key: str, asked: Asked) -> Done:
    """Through a queue of its own, for the steps that a job has; what has to outlast this process is elsewhere."""

    async def one(job: JobContext) -> dict[str, Any]:
        return await work(bot, job)

    with tempfile.TemporaryDirectory(prefix="patchwright-once-") as folder:
        database = f"sqlite:///{folder}/jobs.sqlite"
        async with open_jobs(database, {_KIND: one}, application="patchwright-once") as jobs:
            job = Job(key, _KIND, asked.to_json())
            await jobs.enqueue([job])
            async for ended in jobs.ended([job.id]):
                if ended.error:
                    return Done(Result.FAILED, ended.error)
                return _done(ended.value())
    raise AssertionError("a job that doesn't end")


def _done(value: dict[str, Any]) -> Done:
    result = Result(value["end"])
    return Done(result, value.get("why", ""), value.get("pull"), value.get("run", ""), value.get("outcome", ""))


@dataclass(frozen=True, slots=True)
class _Threads:
    """What is remembered here; for an issue that isn't, the forge is asked which branches earlier attempts took."""

    kept: Threads
    forge: Forge
    slug: str
    branches: str

    async def get(self, repository_id: int, number: int) -> Thread | None:
        if known := await self.kept.get(repository_id, number):
            return known
        attempts = await self._attempts(number)
        return Thread(repository_id, number, self.slug, attempt=attempts) if attempts else None

    async def put(self, thread: Thread) -> None:
        await self.kept.put(thread)

    async def _attempts(self, number: int) -> int:
        access = await self.forge.git_access(self.slug)
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            more = f"-{attempt}" if attempt > 1 else ""
            if await commits.tip(access, f"{self.branches}issue-{number}{more}") is None:
                return attempt - 1
        raise ForgeProblem(f"issue {number} has {_MOST_ATTEMPTS} branches that begin with {self.branches}: remove some")
