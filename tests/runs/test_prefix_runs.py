"""Whole runs against servers with a prefix cache: what is foreseen, what is lost, and who is admitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.models.scripted_delivery import ServedRequest
from tests.runs.harness import FIX, Place, fixing_turns, served

pytestmark = pytest.mark.heavy

RULES = {"strategy": "extra_buffer", "decode_interval": 64}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.make_repo()
    return place


def test_a_run_finds_cached_what_its_log_expects(place: Place) -> None:
    with served({"turns": fixing_turns(), "cache": RULES}) as model:
        done = place.fix(model.url)
    assert done.code == 0, done.err
    uses = [data["prefix"] for data in done.of_type("turn")]
    assert [use["cached"] for use in uses] == [use["expected"] for use in uses]
    assert uses[0]["uncached"] == {"first turn": uses[0]["prompt"]}
    assert all(set(use["uncached"]) == {"new", "checkpoint granularity"} for use in uses[1:])
    shown = place.agent("runs", "show", "last", "--usage").out
    assert "lost" not in shown
    assert "behind the last checkpoint" in shown


def test_what_a_server_lost_in_mid_run_is_said(place: Place) -> None:
    answered: list[ServedRequest] = []

    def forget_all_after_three(request: ServedRequest) -> None:
        answered.append(request)
        if len(answered) == 3:
            model.server.engine.cache.clear()

    with served({"turns": fixing_turns(), "cache": RULES}, on_done=forget_all_after_three) as model:
        done = place.fix(model.url)
    assert done.code == 0, done.err
    assert place.patch().endswith(FIX)
    uses = [data["prefix"] for data in done.of_type("turn")]
    assert ["eviction or restart" in use["uncached"] for use in uses] == [False, False, False, True, False, False]
    assert (uses[3]["cached"], uses[3]["uncached"]["eviction or restart"]) == (0, uses[3]["expected"])
    assert [use["cached"] for use in uses[4:]] == [use["expected"] for use in uses[4:]]
    shown = place.agent("runs", "show", "last").out
    assert shown.count("not cached: ") == 1
    assert "evicted, or the server was restarted" in shown
    assert "lost by eviction or a restart" in shown.splitlines()[-1]


def test_a_server_that_does_not_tell_its_memory_is_named_once(place: Place) -> None:
    with served(fixing_turns(), dialect="chat") as model:
        done = place.fix(f"chat:{model.url}")
    assert done.code == 0, done.err
    assert done.out.count("doesn't say how much its cache holds") == 1
