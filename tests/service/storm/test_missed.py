"""The service was down while the forge delivered: nobody sends it again by hand, and each request is done once."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.forges.fake.server import fake_forge
from tests.runs.harness import BUGGY, served
from tests.service.bot.fleet import SECRET, Fleet, cleared, free_port, until
from tests.service.storm.weather import SLUG, TURNS, Seen

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1200)]


async def test_what_came_while_the_service_was_down_is_asked_for_and_done_once(tmp_path: Path) -> None:
    port = free_port()
    with served(TURNS) as model:
        async with fake_forge(tmp_path / "forge") as forge:
            await forge.add_repository(SLUG, BUGGY)
            forge.grant(SLUG, "mia", "maintain")
            app = await forge.add_app("patchwright", hook=f"http://127.0.0.1:{port}/webhooks/github", secret=SECRET)
            forge.install(app.id, SLUG)
            numbers = [await forge.open_issue(SLUG, "uma", f"mean() is too small, case {n}") for n in range(3)]
            for number in numbers:
                await forge.label(SLUG, number, "mia", "patchwright")
            await forge.hooks.settled()
            assert not [one for one in forge.deliveries if one.status]
            settings = {"PATCHWRIGHT_SWEEP_SECONDS": "2", "PATCHWRIGHT_RUNS_PER_REPOSITORY": "3"}
            fleet = Fleet(tmp_path, forge, app, f"sqlite:///{tmp_path}/home/service.sqlite", model.url, port, settings)
            with cleared(fleet):
                service = fleet.web(3)
                repo, home = forge.repo(SLUG), tmp_path / "home"
                await until(lambda: "".join(one.body for one in repo.notes).count("See #") == 3, "three last words")
                await until(lambda: not Seen.of(home).open, "the end of all requests")
                assert service.stop() == 0
            asked = [(number, state) for _, number, kind, state, _ in Seen.of(home).requests if kind == "fix"]
            assert sorted(asked) == [(number, "done") for number in numbers]
            assert len([one for one in repo.threads if one.pull]) == 3
            assert len(repo.notes) == 3
