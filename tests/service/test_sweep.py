"""Deliveries that nobody took: asked for again at the forge, and only those, a bounded number of times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs the extra `service`")
pytest.importorskip("cryptography", reason="needs the extra `service`")

from agent.forges.base import ForgeProblem, Secret
from agent.forges.fake.acts import FakeForge
from agent.forges.fake.core import FakeApp
from agent.forges.fake.server import fake_forge
from agent.forges.github.auth import AppAuth
from agent.forges.github.client import Pace
from agent.forges.github.hooks import AppHooks
from service.store import State, Store
from service.sweep import Sweep
from service.webhooks import WishKind
from tests.service.serving import SECRET, serving, settings

SLUG = "octo/calc"
QUICK = Pace(between_writes=0.0, failure=0.01, unexplained=0.05, patience=5.0)
NOBODY = "http://127.0.0.1:9/webhooks/github"


@dataclass
class Scene:
    """A forge whose deliveries went to nobody, and the service's database. `now`: the sweep's clock."""

    forge: FakeForge
    app: FakeApp
    database: str
    hooks: AppHooks
    number: int
    now: float

    def sweep(self, store: Store) -> Sweep:
        return Sweep(self.hooks, store, clock=lambda: self.now)

    def fixes(self, store: Store) -> list[State]:
        found = store.of_thread(self.forge.repo(SLUG).id, self.number)
        return [one.state for one in found if one.wish.kind is WishKind.FIX]

    async def sent(self) -> None:
        await self.forge.hooks.settled()

    def lead_to(self, url: str) -> None:
        """The App's webhook is somewhere else from now on, for what is delivered again, too."""
        self.forge.app(self.app.id).hook = url
        for one in self.forge.deliveries:
            one.url = url


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with fake_forge(tmp_path / "forge") as forge:
        await forge.add_repository(SLUG, {"a": "1"})
        forge.grant(SLUG, "mia", "maintain")
        app = await forge.add_app("patchwright", hook=NOBODY, secret=SECRET.decode())
        forge.install(app.id, SLUG)
        number = await forge.open_issue(SLUG, "uma", "It is off")
        await forge.label(SLUG, number, "mia", "patchwright")
        await forge.hooks.settled()
        hooks = AppHooks(AppAuth(str(app.id), [Secret(app.key)]), forge.api, QUICK)
        try:
            yield Scene(forge, app, f"sqlite:///{tmp_path}/service.sqlite", hooks, number, forge.now())
        finally:
            await hooks.close()


async def test_what_nobody_took_comes_again_and_is_done_once(scene: Scene) -> None:
    async with serving(settings(scene.database)) as served:
        scene.lead_to(f"http://127.0.0.1:{served.port}/webhooks/github")
        sweep = scene.sweep(served.store)
        assert await sweep.once() == 3  # installed, opened, labelled
        await scene.sent()
        assert scene.fixes(served.store) == [State.WAITING]
        assert await sweep.once() == 0
        assert [len(one.log) for one in scene.forge.deliveries] == [2, 2, 2]


async def test_what_is_stored_is_not_asked_for_though_its_answer_was_lost(scene: Scene) -> None:
    (labelled,) = [one for one in scene.forge.deliveries if one.action == "labeled"]
    async with serving(settings(scene.database)) as served:
        assert (await served.send(labelled.body, **labelled.headers)).status_code == 202
        assert await scene.sweep(served.store).once() == 2
        await scene.sent()
        assert len(labelled.log) == 1
        assert scene.fixes(served.store) == [State.WAITING]


async def test_what_goes_wrong_again_and_again_is_given_up(scene: Scene) -> None:
    store = Store.open(scene.database)
    sweep, looks = scene.sweep(store), 0
    while await sweep.once():
        await scene.sent()
        scene.now += 3600
        looks += 1
        assert looks < 50
    store.close()
    assert [len(one.log) for one in scene.forge.deliveries] == [6, 6, 6]  # its own attempt, and five of ours


async def test_pauses_grow_between_two_tries(scene: Scene) -> None:
    store = Store.open(scene.database)
    sweep = scene.sweep(store)
    for _ in range(5):
        assert await sweep.once() == 3
        await scene.sent()
    store.close()
    assert [len(one.log) for one in scene.forge.deliveries] == [2, 2, 2]  # no time has passed


async def test_many_pages_are_read_up_to_what_was_looked_at(scene: Scene) -> None:
    for place in range(130):
        await scene.forge.comment(SLUG, scene.number, "uma", f"I see it, too ({place}).")
    await scene.sent()
    seen = [one.guid async for one in scene.hooks.since(0.0)]
    assert len(seen) == len(set(seen)) == 133
    assert [one async for one in scene.hooks.since(scene.forge.now() + 60)] == []
    assert len([one async for one in scene.hooks.since(0.0, most=1)]) == 100


async def test_a_key_that_was_taken_away_is_passed_over(scene: Scene) -> None:
    new = await scene.forge.add_key(scene.app.id)
    scene.forge.drop_key(scene.app.id)
    both = AppHooks(AppAuth(str(scene.app.id), [Secret(scene.app.key), Secret(new)]), scene.forge.api, QUICK)
    old = AppHooks(AppAuth(str(scene.app.id), [Secret(scene.app.key)]), scene.forge.api, QUICK)
    assert len([one async for one in both.since(0.0)]) == 3
    with pytest.raises(ForgeProblem, match="401"):
        _ = [one async for one in old.since(0.0)]
    await both.close()
    await old.close()


async def test_a_forge_that_is_away_is_waited_for(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.forge.breakdown("/app/hook/deliveries$", times=6)  # as often as a request is tried
    store = Store.open(scene.database)
    sweep = Sweep(scene.hooks, store, pause=0.01)
    looking = asyncio.create_task(sweep.run())
    async with asyncio.timeout(60):
        while not all(len(one.log) > 1 for one in scene.forge.deliveries):
            await asyncio.sleep(0.02)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await scene.sent()
    store.close()
    assert "can't be looked for" in caplog.text
