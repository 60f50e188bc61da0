"""Whole runs over hosts that take only chat messages: the same outcomes, kill -9 and resume, cuts, and money."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from runtime.conversation import read
from runtime.qwen_bpe import qwen_tokenizer
from tests.runs.harness import FIX, Place, Served, call, fixing_turns, served
from tests.runs.test_resume import ids_of_turns, kill_after

pytestmark = pytest.mark.heavy

KEY = "sk-not-a-real-key-1234"


def target(model: Served) -> str:
    return f"chat:{model.url}#scripted"


def asked(model: Served) -> list[list[dict[str, Any]]]:
    return [request.body["messages"] for request in model.server.requests]


def test_a_run_over_chat_ends_verified(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.make_repo()
    with served(fixing_turns(), dialect="chat") as model:
        done = place.fix(target(model), PATCHWRIGHT_API_KEY=KEY)
        messages = asked(model)[-1]
    assert done.code == 0, done.err + done.out[-3000:]
    assert place.patch().endswith(FIX)
    (connected,) = done.of_type("model_connected")
    assert (connected["engine"], connected["name"]) == ("chat", "scripted")
    assert "exact ids" not in connected["features"]
    assert [message["role"] for message in messages] == ["system", "user"] + ["assistant", "tool"] * 5
    assert all(message["reasoning_content"] for message in messages[2::2])
    assert KEY not in done.out + done.err + (place.run_folder / "events.jsonl").read_text()


REST = (("turn_started", 1), ("turn_started", 3), ("turn", 2))


@pytest.mark.parametrize(
    ("kind", "nth"), [("call_started", 3), *(pytest.param(*point, marks=pytest.mark.heavy) for point in REST)]
)
def test_a_killed_run_goes_on_over_chat(tmp_path: Path, kind: str, nth: int) -> None:
    turns = fixing_turns()
    for turn in turns:
        turn["faults"] = [{"kind": "slow", "seconds": 0.002, "times": 1000}]
    place = Place(tmp_path)
    place.make_repo()
    with served(turns, dialect="chat") as model:
        before = kill_after(place, target(model), kind, nth)
        done = place.agent("resume", "last", "--json")
        histories = asked(model)
    assert done.code == 0, done.err + done.out[-3000:]
    assert place.patch().endswith(FIX)
    after = (place.run_folder / "events.jsonl").read_text().splitlines()
    whole = [line for line in before if line.endswith("}}")]
    assert after[: len(whole)] == whole
    assert len(ids_of_turns(after)) == 6
    for shorter, longer in pairwise(histories):  # what the host is told only ever grows
        assert longer[: len(shorter)] == shorter


def test_cut_streams_and_busy_hosts_change_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.make_repo()
    turns = fixing_turns()
    turns[0]["faults"] = [{"kind": "cut", "tokens": 2}]
    turns[1]["faults"] = [{"kind": "http", "status": 429}, {"kind": "cut", "tokens": 5}]
    turns[3]["faults"] = [{"kind": "http", "status": 500}]
    with served(turns, dialect="chat") as model:
        done = place.fix(target(model))
    assert done.code == 0, done.err + done.out[-3000:]
    assert len(done.of_type("model_retry")) == 4
    tokenizer = qwen_tokenizer()
    written = [tokenizer.decode(ids) for ids in ids_of_turns([json.dumps(event) for event in done.events])]
    assert [text.partition("\n</think>")[0] for text in written] == [turn["reasoning"] for turn in turns]


def test_turns_without_a_readable_call_go_on_over_chat(tmp_path: Path) -> None:
    """What the agent tells the model then is no answer to a call; the host gets it in a form that it takes."""
    place = Place(tmp_path)
    place.make_repo()
    odd = [
        {"reasoning": "Hm.", "content": "I would say it is solved."},
        {"text": "Hm.\n</think>\n\n<tool_call>\n<function=bash>\n<parameter=command>\nls", "finish": "length"},
        {"reasoning": "Both.", "calls": [*call("bash", command="ls")["calls"], *call("no tool", x="1")["calls"]]},
    ]
    with served([*odd, *fixing_turns()], dialect="chat") as model:
        done = place.fix(target(model))
        histories = asked(model)
    assert done.code == 0, done.err + done.out[-3000:]
    for messages in histories:
        waiting: list[str] = []
        for message in messages:
            assert message["role"] != "tool" or message["tool_call_id"] == waiting.pop(0)
            assert message["role"] == "tool" or not waiting
            waiting += [made["id"] for made in message.get("tool_calls", ())]
            assert all(json.loads(made["function"]["arguments"]) for made in message.get("tool_calls", ()))
    prompt = [event for event in done.events if event["type"] in ("prompt", "turn", "observed")]
    ids = [token for event in prompt for token in event["data"]["ids"]]
    assert len(read(ids, qwen_tokenizer()).messages) == len(histories[-1]) + 1


def priced(turns: list[dict[str, Any]], cost: float) -> list[dict[str, Any]]:
    return [turn | {"cost": cost} for turn in turns]


def test_money_is_counted_and_bounded_and_a_resumed_run_may_have_more(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.make_repo()
    with served(priced(fixing_turns(), 0.25), dialect="chat") as model:
        first = place.fix(target(model), "--max-cost", "0.7")
        assert first.code == 5, first.err + first.out[-2000:]
        second = place.agent("resume", "last", "--json", "--max-cost", "2")
    assert first.of_type("loop_ended")[0]["end"] == "cost limit"
    assert [turn["usage"]["cost"] for turn in first.of_type("turn")] == [0.25] * 3
    assert second.code == 0, second.err
    assert len(second.of_type("turn")) == 3


def test_costs_that_nobody_knows_are_said_to_be_unknown(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.make_repo()
    with served(fixing_turns(), dialect="chat") as model:
        done = place.fix(target(model), "--max-cost", "0.01")
    assert done.code == 0, done.err
    assert {turn["usage"]["cost"] for turn in done.of_type("turn")} == {None}
    told = [event["text"] for event in done.of_type("progress") if "--max-cost" in event["text"]]
    assert len(told) == 1
