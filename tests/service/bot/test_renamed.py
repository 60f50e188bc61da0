"""A repository gets another name or another owner while the bot works for it: the work arrives where it is now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from agent.forges.base import ForgeProblem, Secret
from agent.forges.fake.state import Repo
from agent.forges.github.auth import AppAuth
from agent.forges.github.forge import open_github
from service.bot.mirrors import Mirrors
from service.webhooks.model import WishKind
from tests.runs.harness import BUGGY, fixing_turns
from tests.runs.test_follow_up import FURTHER
from tests.service.bot.conftest import QUICK, SLUG, Scene

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(180)]


@dataclass(frozen=True)
class ThenMirrors(Mirrors):
    """Something happens to the repository as soon as the bot has fetched from it, in the middle of its request."""

    act: Callable[[], Awaitable[None]]
    done: list[str]

    async def bring(self, slug: str, repository_id: int, ref: str) -> str:
        found = await Mirrors.bring(self, slug, repository_id, ref)
        if not self.done:
            self.done.append(found)
            await self.act()
        return found


def once_pulled(scene: Scene, act: Callable[[], Awaitable[None]]) -> None:
    mirrors = scene.bot.mirrors
    scene.bot = replace(scene.bot, mirrors=ThenMirrors(mirrors.folder, mirrors.forge, act, []))


def the_pull(repo: Repo) -> str:
    (pull,) = [one.pull for one in repo.threads if one.pull]
    return pull.head_repository


@pytest.mark.parametrize("owner", ["octo", "others"])
async def test_renamed_or_transferred_in_mid_work_it_still_gets_its_pull_request(scene: Scene, owner: str) -> None:
    repo = scene.repo
    app = scene.forge.world.apps[0].id

    async def act() -> None:
        if owner == "octo":
            scene.forge.rename_repository(SLUG, "sums")
        else:
            scene.forge.transfer_repository(SLUG, owner)
            scene.forge.install(app, f"{owner}/calc")

    once_pulled(scene, act)
    asked = scene.asks(WishKind.FIX)
    ended = await scene.ask(fixing_turns(), asked)
    assert ended["end"] == "pull request", ended
    assert the_pull(repo) == repo.slug != SLUG
    assert [note.body for note in repo.notes if f"See #{ended['pull']}" in note.body]
    assert len(repo.notes) == 1


async def test_what_follows_goes_on_under_the_new_name_though_it_was_asked_under_the_old(scene: Scene) -> None:
    first = await scene.ask(fixing_turns(), scene.asks(WishKind.FIX))
    repo, asked = scene.repo, scene.asks(WishKind.CONTINUE, "The docstring, please.")
    scene.forge.rename_repository(SLUG, "sums")
    ended = await scene.ask([*fixing_turns(), *FURTHER], asked)
    assert (ended["end"], ended["pull"], ended["run"]) == ("pull request", first["pull"], first["run"])
    assert the_pull(repo) == "octo/sums"


async def test_another_repository_of_the_old_name_gets_nothing(scene: Scene) -> None:
    repo, taken = scene.repo, []

    async def act() -> None:
        scene.forge.rename_repository(SLUG, "sums")
        del scene.forge.moved[SLUG]
        taken.append(await scene.forge.add_repository(SLUG, BUGGY))
        scene.forge.install(scene.forge.world.apps[0].id, SLUG)

    once_pulled(scene, act)
    ended = await scene.ask(fixing_turns(), scene.asks(WishKind.FIX))
    assert ended["end"] == "pull request", ended
    assert the_pull(repo) == "octo/sums"
    assert (taken[0].threads, taken[0].notes) == ([], [])


async def test_a_new_process_finds_a_token_by_the_old_name(scene: Scene) -> None:
    app = scene.forge.world.apps[0]
    key = await scene.forge.add_key(app.id)
    repo, other = scene.repo, await scene.forge.add_repository("octo/other", {"a": "1"})
    scene.forge.install(app.id, "octo/other")
    other.private = True
    scene.forge.rename_repository(SLUG, "sums").private = True
    client = open_github(AppAuth(str(app.id), [Secret(key)]), scene.forge.api, QUICK)
    try:
        assert await client.name_of(repo.id, SLUG) == "octo/sums"
        with pytest.raises(ForgeProblem, match="404"):  # the token is for that one repository all the same
            await client.name_of(other.id, SLUG)
    finally:
        await client.close()
