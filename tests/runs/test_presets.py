"""Whole runs that ask their model in another way than the default, and keep to it on resume."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.chat import GENERATION_PROMPT, GENERATION_PROMPT_WITHOUT_THINKING
from tests.runs.harness import FIX, Place, fixing_turns, served

pytestmark = pytest.mark.heavy


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.make_repo()
    return place


def test_a_run_without_thinking_stays_so_when_it_is_resumed(place: Place) -> None:
    with served(fixing_turns()) as model:
        first = place.fix(model.url, "--max-steps", "2", PATCHWRIGHT_PRESET="instruct", PATCHWRIGHT_SEED="7")
        assert first.code == 5, first.err
        done = place.agent("resume", "last", "--max-steps", "20", "--json", PATCHWRIGHT_PRESET="thinking")
        requests = list(model.server.requests)
        decode = model.server.engine.tokenizer.decode
    assert done.code == 0, done.err + done.out[-2000:]
    assert place.patch().endswith(FIX)
    assert len(requests) == 6
    for request in requests:
        assert decode(request.prompt_ids).endswith(GENERATION_PROMPT_WITHOUT_THINKING)
        sampling = request.body["sampling_params"]
        assert (sampling["temperature"], sampling["top_p"], sampling["sampling_seed"]) == (0.7, 0.8, 7)
        assert request.body["routing_key"] == place.run_folder.name
    assert [turn["reasoning"] for turn in done.of_type("turn")] == [None] * 4


def test_the_default_thinks_and_is_not_greedy(place: Place) -> None:
    with served(fixing_turns()) as model:
        assert place.fix(model.url, "--max-steps", "1").code == 5
        (request,) = model.server.requests
        decode = model.server.engine.tokenizer.decode
    assert decode(request.prompt_ids).endswith(GENERATION_PROMPT)
    assert request.body["sampling_params"]["temperature"] == 0.6


def test_constrained_calls_are_asked_for_on_request_only(place: Place) -> None:
    with served(fixing_turns()) as model:
        assert place.fix(model.url, "--max-steps", "1").code == 5
        assert place.fix(model.url, "--max-steps", "1", PATCHWRIGHT_CONSTRAINED="1").code == 5
        free, bound = (request.body["sampling_params"] for request in model.server.requests)
    assert "structural_tag" not in free
    assert "str_replace_editor" in bound["structural_tag"]
