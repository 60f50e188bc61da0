"""Label, job, run, draft pull request; review, follow-up commit; close, cancelled: over real HTTP and git, the web
process beside, webhooks sent by the fake forge."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from agent.forges.base import Secret
from agent.forges.fake.acts import FakeForge
from agent.forges.fake.server import fake_forge
from agent.forges.github.auth import AppAuth
from agent.forges.github.forge import open_github
from agent.limits import Limits
from service.bot.context import Bot, BotSettings
from service.bot.mirrors import Mirrors
from service.bot.running import RunSettings
from service.bot.threads import StoredThreads
from service.dispatch import Dispatcher
from service.store import Request, State, Store
from service.worker import working
from tests.runs.harness import BUGGY, ISSUE, call, fixing_turns, served
from tests.runs.test_follow_up import FURTHER
from tests.service.bot.conftest import QUICK, SLUG

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(280)]
SECRET = "a-webhook-secret-of-some-length"


@dataclass
class Service:
    forge: FakeForge
    store: Store
    repository: int
    stopped: list[tuple[str, str]]

    async def until(self, seen: Callable[[], bool], seconds: float = 60.0) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not seen():
                    await asyncio.sleep(0.1)
        except TimeoutError:
            asked = [(one.wish.kind, one.state, one.why, one.at) for _, one in self.store.page(None, None, 50)]
            sent = [(one.event, one.action, one.status) for one in self.forge.deliveries]
            raise AssertionError(f"requests {asked}, stopped {self.stopped}, deliveries {sent}") from None

    def requests(self, number: int) -> list[Request]:
        return self.store.of_thread(self.repository, number)

    def states(self, number: int) -> list[str]:
        return [f"{one.wish.kind} {one.state}" for one in self.requests(number)]


@asynccontextmanager
async def web_process(database: str) -> AsyncIterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    environment = {
        **os.environ, "PATCHWRIGHT_DATABASE": database, "PATCHWRIGHT_WEBHOOK_SECRET": SECRET,
        "PATCHWRIGHT_PORT": str(port),
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "service.server"], env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx2.AsyncClient() as client, asyncio.timeout(60):
            while True:
                try:
                    if (await client.get(f"{url}/readyz")).status_code == 200:
                        break
                except httpx2.TransportError:
                    assert process.poll() is None
                await asyncio.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@asynccontextmanager
async def service(folder: Path, model: str) -> AsyncIterator[Service]:
    database = f"sqlite:///{folder}/service.sqlite"
    stopped: list[tuple[str, str]] = []

    async def note(ended: Request, by: Request) -> None:
        stopped.append((ended.wish.kind, by.wish.kind))

    async with web_process(database) as url, fake_forge(folder / "forge") as forge:
        await forge.add_repository(SLUG, BUGGY)
        forge.grant(SLUG, "mia", "maintain")
        app = await forge.add_app("patchwright", hook=f"{url}/webhooks/github", secret=SECRET)
        forge.install(app.id, SLUG)
        client = open_github(AppAuth(str(app.id), [Secret(app.key)]), forge.api, QUICK)
        store = Store.open(database)
        settings = BotSettings(folder / "runs", RunSettings(model, sandbox="none", limits=Limits(steps=20)))
        bot = Bot(client, StoredThreads(store), Mirrors(folder / "mirrors", client), settings)
        async with working(f"sqlite:///{folder}/jobs.sqlite", store, bot) as jobs:
            dispatching = asyncio.create_task(Dispatcher(store, jobs, note, pause=0.1).run())
            try:
                yield Service(forge, store, forge.repo(SLUG).id, stopped)
            finally:
                dispatching.cancel()
        store.close()
        await client.close()


async def test_label_pull_request_review_commit_close(tmp_path: Path) -> None:
    with served([*fixing_turns(), *FURTHER]) as model:
        async with service(tmp_path, model.url) as there:
            title, _, body = ISSUE.partition("\n\n")
            number = await there.forge.open_issue(SLUG, "uma", title, body)
            await there.forge.label(SLUG, number, "mia", "patchwright")
            await there.until(lambda: there.states(number) == ["fix done"])
            (request,) = there.requests(number)
            assert request.pull is not None
            pull = there.forge.thread(there.forge.repo(SLUG), request.pull)
            assert pull.pull is not None
            assert pull.pull.draft
            before = pull.pull.head_sha

            await there.forge.review(SLUG, request.pull, "mia", "", [("calc/ops.py", 2, "What of an empty list?")])
            await there.until(lambda: pull.pull is not None and pull.pull.head_sha != before)
            await there.until(lambda: not there.store.in_state({State.WAITING, State.QUEUED, State.RUNNING}))
            assert len({one.number for one in there.forge.repo(SLUG).threads if one.pull}) == 1
            answers = [one.body for one in there.forge.repo(SLUG).remarks if one.in_reply_to]
            assert any("Done in" in answer for answer in answers)


async def test_closing_the_issue_cancels_its_run(tmp_path: Path) -> None:
    waits = call("bash", "I wait.", command="sleep 60")
    with served([waits, *fixing_turns()]) as model:
        async with service(tmp_path, model.url) as there:
            number = await there.forge.open_issue(SLUG, "uma", "It waits")
            await there.forge.comment(SLUG, number, "mia", "@patchwright fix")
            await there.until(lambda: any((tmp_path / "runs").rglob("events.jsonl")))
            assert there.states(number) == ["fix running"]
            await there.forge.close_thread(SLUG, number, "mia")
            await there.until(lambda: ("fix", "closed") in there.stopped)
            assert "fix cancelled" in there.states(number)
            assert not [one for one in there.forge.repo(SLUG).threads if one.pull]
