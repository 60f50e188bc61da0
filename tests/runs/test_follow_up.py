"""Told more after its end, a run goes on: the same ids, the next message, the tools' state as a reviewer left it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from runtime.conversation import read
from runtime.qwen_bpe import qwen_tokenizer
from tests.agent.repos import git
from tests.runs.harness import Finished, Place, call, fixing_turns, served

MORE = "Please say in the docstring what an empty list gives."
FURTHER = [
    call(
        "str_replace_editor",
        "The docstring.",
        command="str_replace",
        path="calc/ops.py",
        old_str="The average.",
        new_str="The average; ZeroDivisionError without values.",
    ),
    call("submit", "Done again.", summary="The docstring names the error."),
    call("submit", "The diff is right.", summary="The docstring names the error."),
]
BACK = [call("bash", "I take it back.", command="git checkout -q -- ."), *FURTHER[1:]]


def events(place: Place) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place.run_folder / "events.jsonl").read_text().splitlines()]


def more(place: Place, text: str = MORE, *options: str) -> Finished:
    return place.agent("resume", "last", "--say", text, "--json", *options)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.make_repo()
    return place


def prompts_of(found: list[dict[str, Any]]) -> list[tuple[int, ...]]:
    """The transcript before each turn, from the log alone."""
    ids: list[int] = []
    before = []
    for event in found:
        data = event["data"]
        if event["type"] == "turn":
            before.append(tuple(ids))
        if event["type"] in ("prompt", "turn", "observed"):
            ids += data["ids"]
        elif event["type"] == "followed":
            ids += [one for segment in data["segments"] for one in segment["ids"]]
    return before


def test_the_conversation_goes_on_behind_its_end(place: Place) -> None:
    with served([*fixing_turns(), *FURTHER]) as model:
        assert place.fix(model.url, "--branch", "fix/mean", "--apply").code == 0
        first = git(place.repo, "rev-parse", "fix/mean")
        before = (place.run_folder / "events.jsonl").read_bytes()
        done = more(place)
    assert done.code == 0, done.err
    assert (place.run_folder / "events.jsonl").read_bytes().startswith(before)
    assert place.patch().count("\n-") == 3  # the file's name and both lines
    assert "\n+    return sum(values) / len(values)\n" in place.patch()

    found = events(place)
    prompts = prompts_of(found)
    assert all(later[: len(earlier)] == earlier for earlier, later in itertools.pairwise(prompts))
    messages = read(prompts[-1], qwen_tokenizer()).messages
    said = [message for message in messages if message["role"] == "user"]
    assert len(said) == 2
    assert said[1]["content"].startswith(MORE)
    assert messages[messages.index(said[1]) - 1]["content"] == "Submitted. The work has ended."
    assert all(message["reasoning_content"] for message in messages if message["role"] == "assistant")

    shown = [event["data"]["text"] for event in found if event["type"] == "observation"][-2]
    assert "This is your change" in shown  # a second submit shows the diff anew
    assert git(place.repo, "rev-parse", "fix/mean^") == first
    assert "The docstring names the error." in git(place.repo, "log", "-1", "--format=%B", "fix/mean")
    assert "without values" in (place.repo / "calc/ops.py").read_text()


@pytest.mark.heavy
@pytest.mark.parametrize(("kind", "nth"), [("follow_up", 1), ("followed", 1), ("turn", 1), ("observation", 3)])
def test_killed_in_a_follow_up_it_goes_on(place: Place, kind: str, nth: int) -> None:
    further = [{**turn, "faults": [{"kind": "slow", "seconds": 0.002, "times": 1000}]} for turn in FURTHER]
    with served([*fixing_turns(), *further]) as model:
        assert place.fix(model.url).code == 0
        process = place.start("resume", "last", "--say", MORE, "--json")
        assert process.stdout is not None
        seen = 0
        for line in process.stdout:
            seen += json.loads(line)["type"] == kind
            if seen == nth:
                break
        process.kill()
        process.communicate()
        assert seen == nth
        done = place.agent("resume", "last", "--json")
    assert done.code == 0, done.err
    assert [event["type"] for event in events(place)].count("followed") == 1
    assert "without values" in place.patch()


@pytest.mark.heavy
def test_a_run_that_a_limit_ended_is_told_more(place: Place) -> None:
    turns = [*fixing_turns()[:3], call("bash", "Unneeded.", command="true"), *FURTHER]
    with served(turns) as model:
        assert place.fix(model.url, "--max-steps", "3").code in (0, 5)
        done = more(place)
    assert done.code in (0, 3), done.err
    kinds = [segment["kind"] for event in events(place) if event["type"] == "followed"
             for segment in event["data"]["segments"]]  # fmt: skip
    assert kinds == ["turn", "user_message"]
    assert "without values" in place.patch()


@pytest.mark.heavy
def test_taking_everything_back_leaves_no_patch(place: Place) -> None:
    with served([*fixing_turns(), *BACK]) as model:
        assert place.fix(model.url).code == 0
        done = more(place, "Take it back.")
    assert done.code == 4
    assert not (place.run_folder / "patch.diff").exists()


@pytest.mark.parametrize(("text", "why"), [("  ", "is empty"), ("x" * 100_001, "longer than")])
@pytest.mark.heavy
def test_what_cannot_be_said(place: Place, text: str, why: str) -> None:
    with served(fixing_turns()) as model:
        assert place.fix(model.url).code == 0
        before = (place.run_folder / "events.jsonl").read_bytes()
        done = more(place, text)
    assert done.code == 6
    assert why in done.err
    assert (place.run_folder / "events.jsonl").read_bytes() == before


@pytest.mark.heavy
def test_a_run_that_was_cut_off_hears_it_and_goes_on(place: Place) -> None:
    with served([*fixing_turns(), *FURTHER]) as model:
        process = place.start(*place.fix_arguments(model.url))
        assert process.stdout is not None
        next(line for line in process.stdout if '"type":"observation"' in line)
        process.kill()
        process.communicate()
        done = more(place)
    assert done.code == 0, done.err
    found = events(place)
    (said,) = [event for event in found if event["type"] == "followed"]
    assert MORE in said["data"]["text"]
    prompts = prompts_of(found)
    assert len(prompts) > 2
    assert all(after[: len(before)] == before for before, after in itertools.pairwise(prompts)), "it only grew"
    assert found[-1]["type"] == "run_ended"


@pytest.mark.heavy
def test_what_is_said_while_the_model_is_away_is_heard_with_what_is_said_next(place: Place) -> None:
    with served([*fixing_turns(), *FURTHER]) as model:
        assert place.fix(model.url).code == 0
        away = more(place, "The first thing.", "--model", "http://127.0.0.1:9", "--model-absence", "0.1")
        assert away.code not in (0, 6)
        assert more(place, "The second thing.", "--model", model.url).code == 0
    (said,) = [event["data"]["text"] for event in events(place) if event["type"] == "followed"]
    assert "The first thing.\n\nThe second thing." in said
