"""A run on one machine, its follow-up on another that shares nothing with it but the database."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.bot.carrying import Carrier
from service.bot.mirrors import Mirrors
from service.store import Store
from service.store.parts import Part, carried, own, send
from service.webhooks.model import WishKind
from tests.runs.harness import fixing_turns
from tests.runs.test_follow_up import FURTHER
from tests.service.bot.conftest import SLUG, Scene


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path}/carried.sqlite")
    yield opened
    opened.close()


def machine(scene: Scene, store: Store | None, name: str) -> None:
    """From now on requests are worked on there."""
    mirrors = Mirrors(scene.folder / name / "mirrors", scene.bot.forge)
    carrier = Carrier(store, mirrors, every=0.05) if store else None
    settings = replace(scene.bot.settings, runs=scene.folder / name / "runs")
    scene.bot = replace(scene.bot, mirrors=mirrors, settings=settings, carrier=carrier)


def events(scene: Scene, name: str) -> list[dict[str, Any]]:
    (log,) = (scene.folder / name).rglob("events.jsonl")
    return [json.loads(line) for line in log.open()]


@pytest.mark.heavy
@pytest.mark.timeout(180)
async def test_a_follow_up_goes_on_with_the_same_conversation_on_another_machine(scene: Scene, store: Store) -> None:
    machine(scene, store, "one")
    first = await scene.ask(fixing_turns(), scene.asks(WishKind.FIX))
    before = events(scene, "one")
    machine(scene, store, "two")
    second = await scene.ask([*fixing_turns(), *FURTHER], scene.asks(WishKind.CONTINUE, "The docstring, please."))
    assert (second["end"], second["run"], second["pull"]) == ("pull request", first["run"], first["pull"])
    after = events(scene, "two")
    assert after[: len(before)] == before
    assert [event["type"] for event in after].count("run_started") == 1
    shutil.rmtree(scene.folder / "two")

    machine(scene, store, "one")  # which has an older state of it, and takes the newer one
    words = "Thank you. Say it in capitals."
    third = await scene.ask([*fixing_turns(), *FURTHER, *FURTHER], scene.asks(WishKind.CONTINUE, words))
    assert third["run"] == first["run"]
    assert events(scene, "one")[: len(after)] == after


@pytest.mark.heavy
@pytest.mark.timeout(180)
async def test_where_nothing_was_carried_the_work_begins_anew_on_the_same_branch(scene: Scene) -> None:
    machine(scene, None, "one")
    first = await scene.ask(fixing_turns(), scene.asks(WishKind.FIX))
    shutil.rmtree(scene.folder / "one")
    machine(scene, None, "two")
    turns = [FURTHER[0], *FURTHER[1:]]
    second = await scene.ask(turns, scene.asks(WishKind.CONTINUE, "The docstring, please."))
    assert (second["end"], second["pull"]) == ("pull request", first["pull"])
    assert second["run"] != first["run"]
    issue = events(scene, "two")[0]["data"]["issue"]["text"]
    assert "mean() is too small" in issue
    assert "mia answers:\n\nThe docstring, please." in issue
    assert len([one for one in scene.forge.repo(SLUG).threads if one.pull]) == 1


def test_only_the_owner_sends_and_parts_stay_as_they_are(store: Store) -> None:
    assert carried(store, "1-2-1") is None
    assert own(store, "1-2-1", "ann").parts == {}
    assert send(store, "1-2-1", "ann", "run", [Part("log", 0, b"a\n"), Part("log", 1, b"b\n"), Part("patch", 0, b"p")])
    assert own(store, "1-2-1", "bob").parts == {"log": [b"a\n", b"b\n"], "patch": [b"p"]}
    assert not send(store, "1-2-1", "ann", "run", [Part("log", 2, b"late\n")])
    assert send(store, "1-2-1", "bob", "run", [Part("log", 2, b"c\n")])
    found = carried(store, "1-2-1")
    assert found is not None
    assert (found.run, found.parts["log"]) == ("run", [b"a\n", b"b\n", b"c\n"])
