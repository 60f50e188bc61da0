"""A repository on the fake forge whose mean() is off, the bot as its App, and jobs on SQLite that a model is scripted
for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs the extra `service`")
pytest.importorskip("uvicorn", reason="needs the extra `service`")
pytest.importorskip("cryptography", reason="needs the extra `service`")

from agent.forges.base import Person, Place, Secret
from agent.forges.fake.acts import FakeForge
from agent.forges.fake.server import fake_forge
from agent.forges.fake.state import Repo
from agent.forges.fake.state import Thread as Conversation
from agent.forges.github.auth import AppAuth
from agent.forges.github.client import Pace
from agent.forges.github.forge import open_github
from agent.jobs import Job, open_jobs
from agent.limits import Limits
from service.bot.context import Bot, BotSettings
from service.bot.mirrors import Mirrors
from service.bot.running import RunSettings
from service.bot.threads import Asked
from service.bot.work import work
from service.store import Thread
from service.webhooks.model import WishKind
from tests.runs.harness import BUGGY, ISSUE, served

SLUG = "octo/calc"
QUICK = Pace(between_writes=0.0, failure=0.01, unexplained=0.05, patience=5.0)


@dataclass
class Remembered:
    """Threads in memory; copies, as a database gives."""

    kept: dict[tuple[int, int], Thread] = field(default_factory=dict)

    async def get(self, repository_id: int, number: int) -> Thread | None:
        for (repository, issue), thread in self.kept.items():
            if repository == repository_id and number in (issue, thread.pull):
                return replace(thread)
        return None

    async def put(self, thread: Thread) -> None:
        self.kept[thread.repository_id, thread.number] = thread


@dataclass
class Scene:
    """The forge as it is, and the bot on it."""

    forge: FakeForge
    folder: Path
    bot: Bot
    threads: Remembered
    number: int  # of the issue
    asked: int = 0

    @property
    def repo(self) -> Repo:
        return self.forge.repo(SLUG)

    def conversation(self, number: int) -> Conversation:
        return self.forge.thread(self.repo, number)

    def person(self, login: str) -> Person:
        account = self.forge.add_person(login)
        return Person(account.id, login, account.bot)

    def ours(self, number: int) -> list[str]:
        """What the bot has written below an issue or pull request."""
        me = self.forge.add_person("patchwright[bot]").id
        return [note.body for note in self.repo.notes if note.number == number and note.author == me]

    def asks(self, kind: WishKind, text: str = "", login: str = "mia", number: int | None = None, **more: Any) -> Asked:
        more = {"place": Place.ISSUE, "person": self.person(login), **more}
        return Asked(SLUG, self.repo.id, kind, number or self.number, text, **more)

    async def ask(self, turns: list[Any], asked: Asked) -> dict[str, Any]:
        """Enqueue one request and wait for its end, with a model that says `turns`."""
        self.asked += 1
        job = Job(f"bot/{self.asked}", "request", asked.to_json())
        with served(turns) if turns else nullcontext() as model:
            target = model.url if model else "http://127.0.0.1:9"  # where nobody is
            settings = replace(self.bot.settings, run=replace(self.bot.settings.run, model=target))
            bot = replace(self.bot, settings=settings)
            database = f"sqlite:///{self.folder}/jobs-{self.asked}.sqlite"
            async with open_jobs(database, {"request": lambda one: work(bot, one)}, application="bot") as jobs:
                await jobs.enqueue([job])
                async for ended in jobs.ended([job.id]):
                    value: dict[str, Any] = ended.value()
                    return value
        raise AssertionError("no end")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with fake_forge(tmp_path / "forge") as forge:
        await forge.add_repository(SLUG, BUGGY)
        forge.grant(SLUG, "mia", "maintain")
        app = await forge.add_app("patchwright")
        forge.install(app.id, SLUG)
        title, _, body = ISSUE.partition("\n\n")
        number = await forge.open_issue(SLUG, "uma", title, body)
        client = open_github(AppAuth(str(app.id), [Secret(app.key)]), forge.api, QUICK)
        threads = Remembered()
        run = RunSettings("", sandbox="none", limits=Limits(steps=20))
        settings = BotSettings(tmp_path / "runs", run, run_url="https://bot.example/runs/{run}")
        bot = Bot(client, threads, Mirrors(tmp_path / "mirrors", client), settings)
        try:
            yield Scene(forge, tmp_path, bot, threads, number)
        finally:
            await client.close()
