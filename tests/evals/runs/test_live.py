"""What is seen of a run while it goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rich.console import Console

from cli.eval_live import JsonView, PlainView, TableView, Tally, ended_line
from evals.runs.record import AttemptKey, AttemptRecord, Judged, Predicted, Usage

RUN = "nightly"
USED = Usage(steps=7, prompt_tokens=20_000, cached_tokens=15_000, completion_tokens=700, cost=0.25, seconds=65)


def key(number: int, attempt: int = 1) -> AttemptKey:
    return AttemptKey(RUN, f"a__b-{number}", attempt)


def record(number: int, resolved: bool | None, *, attempt: int = 1, **more: Any) -> AttemptRecord:
    judged = (
        None
        if resolved is None
        else Judged({"resolved": resolved, "patch_is_None": False, "tests_status": {}}, "4.1.0")
    )
    predicted = Predicted("unverified", usage=USED)
    return AttemptRecord(RUN, f"a__b-{number}", attempt, "m", predicted=predicted, judged=judged, **more)


def test_the_line_counts_what_has_ended_and_what_is_going_on() -> None:
    tally = Tally(RUN, 5)
    tally.hear(key(1), "started", {})
    tally.hear(key(1), "agent", {"turn": 1, "prompt": 10_000, "cached": 0, "completion": 300})
    assert "nothing resolved yet" in tally.line()
    assert "10k tokens in, 300 out, 0% cached" in tally.line()
    tally.take(record(1, True))
    tally.take(record(2, False))
    tally.take(record(3, None, infrastructure="the disk is full"))
    line = tally.line()
    assert line.startswith("3 of 5 | resolved 1 of 3 (33%, 6% to 79%) | 1 without a verdict")
    assert "60k tokens in, 2100 out, 75% cached" in line  # what the first had used before isn't counted twice
    assert "$0.75" in line
    assert "left" in line


def test_what_was_there_before_says_nothing_of_the_pace() -> None:
    tally = Tally(RUN, 4)
    view = PlainView(tally)
    view.ended(record(1, True), before=True)
    assert tally.left() is None
    view.ended(record(2, True))
    left = tally.left()
    assert left is not None
    assert 0 <= left < 60


def test_attempts_at_one_instance_are_no_independent_ones() -> None:
    """Four attempts at one instance say less than one at four."""
    one, four = Tally(RUN, 4), Tally(RUN, 4)
    for attempt in range(1, 5):
        one.take(record(1, True, attempt=attempt))
        four.take(record(attempt, True))
    assert "100%, 21% to 100%" in one.line()
    assert "100%, 51% to 100%" in four.line()


def test_the_table_names_what_is_going_on_and_goes() -> None:
    console = Console(width=100, force_terminal=True, color_system=None, record=True)
    view = TableView(Tally(RUN, 3), console)
    view.watch(
        key(1), "agent", {"doing": "running bash\x1b[2J", "turn": 4, "prompt": 1, "cached": 0, "completion": 12_345}
    )
    view.watch(key(2, 2), "judge", {})
    with console.capture() as captured:
        console.print(view.render())
    shown = captured.get()
    assert "a__b-1 " in shown
    assert "a__b-2/2" in shown
    assert "12k" in shown
    assert "running the tests" in shown
    assert "\x1b[2J" not in shown  # what a repository prints doesn't drive the terminal
    view.ended(record(1, True))
    assert "a__b-1" not in view.tally.going
    view.close()


def test_json_is_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    view = JsonView(Tally(RUN, 2))
    view.watch(key(1), "retry", {"why": "the server is away", "wait": 10.0})
    view.ended(record(1, True))
    view.say("two\nlines")
    retry, ended, said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert retry == {"event": "retry", "instance_id": "a__b-1", "attempt": 1, "why": "the server is away", "wait": 10.0}
    assert (ended["event"], ended["status"], ended["before"]) == ("ended", "resolved", False)
    assert "tests_status" not in ended["judged"]["report"]
    assert said["text"] == "two\nlines"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (record(1, True), "RESOLVED: a__b-1 | 7 steps, 700 tokens, 1:05"),
        (record(1, False, attempt=2), "unresolved: a__b-1 (attempt 2) | 7 steps, 700 tokens, 1:05"),
        (record(1, None), "no patch: a__b-1 | 7 steps, 700 tokens, 1:05"),
        (record(1, None, infrastructure="no disk"), "NO VERDICT: a__b-1 | 7 steps, 700 tokens, 1:05 | no disk"),
    ],
)
def test_an_end_in_a_line(given: AttemptRecord, line: str) -> None:
    assert ended_line(given) == line
