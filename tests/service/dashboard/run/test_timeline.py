"""A run's events as what its page shows: of a real run, whole or in pieces, and of runs too long for a page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")

from agent.events import Event, EventType, read_events
from agent.runs import RunFolder
from service.dashboard.run.reading import Reader
from service.dashboard.run.timeline import MOST_TEXT, Timeline
from service.dashboard.run.views import Answer, Chapter, Note, Result, RunView, Step
from tests.service.dashboard.run.acting import GOLDEN, Acting

EVENTS = list(read_events(GOLDEN))


def fed(events: list[Event]) -> Timeline:
    timeline = Timeline()
    for event in events:
        timeline.take(event)
    return timeline


def event(seq: int, kind: EventType, **data: Any) -> Event:
    return Event(seq, 1000.0 + seq, kind, data)


def test_a_real_run_is_told_as_it_was() -> None:
    view = fed(EVENTS).view()
    chapter, *steps, result = view.parts
    assert isinstance(chapter, Chapter) and chapter.text.head.startswith("mean() is too small")
    assert isinstance(result, Result) and len(steps) == 6
    first, second, third = view.steps[:3]
    assert (first.thinking.head, first.calls[0].about) == ("I look around.", "git log --oneline; cat calc/ops.py")
    assert (first.calls[0].exit_code, second.calls[0].exit_code, second.went_wrong) == (0, 1, True)
    assert first.calls[0].output.head.startswith("8b60f35 Start") and "exit status" not in first.calls[0].output.head
    change = third.calls[0].change
    assert change and (change.before, change.after) == view.tree and third.changes == 1
    assert (result.end, result.files, result.applies) == ("submitted", (("M", "calc/ops.py"),), True)
    (check,) = result.of("fixed")
    assert check.before and check.after and (check.before.exit_code, check.after.exit_code) == (1, 0)
    assert (result.verified, result.outcome, view.now.ended) == (True, "verified", True)
    assert view.facts.summary == "mean() divided by one too many."
    assert (view.totals.turns, view.totals.prompt, view.totals.written, view.totals.cost) == (6, 12182, 295, None)
    assert [point.cached for point in view.points] == [0, 1679, 1790, 2032, 2178, 2265]


@pytest.mark.parametrize(
    ("kind", "words"),
    [("run_started", "preparing the sandbox"), ("turn_started", "thinking"), ("call_started", "running"),
     ("loop_ended", "keeping the patch"), ("check_started", "verifying"), ("run_ended", "ended")],
)  # fmt: skip
def test_it_says_what_goes_on_and_since_when(kind: str, words: str) -> None:
    last = next(one for one in EVENTS if one.type == kind)
    now = fed(EVENTS[: last.seq + 1]).view().now
    assert (now.words, now.since, now.ended) == (words, last.time, kind == "run_ended")


def test_every_second_belongs_to_one_phase() -> None:
    view = fed(EVENTS).view()
    phases = dict(view.phases)
    # The run's folder was made 1.0 s before the first event, in the second that its name says.
    assert sum(phases.values()) == pytest.approx(EVENTS[-1].time - EVENTS[0].time + phases["checkout"], abs=0.01)
    assert 0 <= phases["checkout"] < 2
    assert phases["tools"] == pytest.approx(2.27, abs=0.02) and phases["model, reading"] == pytest.approx(0.091)
    assert view.totals.seconds == pytest.approx(sum(phases.values()), abs=0.01)


def test_time_in_which_nobody_was_at_work_counts_nowhere() -> None:
    later = [
        event(len(EVENTS), EventType.FOLLOW_UP, text="And now?", tree="", source="x"),
        event(len(EVENTS) + 1, EventType.RUN_RESUMED, request={}),
    ]
    moved = [replace(one, time=EVENTS[-1].time + 86_400) for one in later]
    assert fed([*EVENTS, *moved]).view().totals.seconds == pytest.approx(fed(EVENTS).view().totals.seconds)


@pytest.mark.parametrize("cut", range(len(EVENTS) + 1))
def test_in_pieces_it_is_what_it_is_as_a_whole(cut: int, tmp_path: Path) -> None:
    """Through a log that grows, torn in the middle of a line, and looked at in between."""
    folder = RunFolder(tmp_path)
    lines = GOLDEN.read_bytes().splitlines(keepends=True)
    first, rest = b"".join(lines[:cut]), b"".join(lines[cut:])
    torn = rest[: len(rest) // 3]
    reader = Reader(folder)
    folder.events.write_bytes(first + torn)
    early = reader.view()
    assert early.seq >= cut - 1 and reader.view() is early
    folder.events.write_bytes(first + rest)
    whole = Reader(folder).view()
    assert reader.view() == whole
    news = {part.id for part in whole.since(early.seq)}
    assert {part.id for part in early.parts} | news == {part.id for part in whole.parts}
    same = {part.id: part for part in early.parts if part.id not in news}
    assert same == {part.id: part for part in whole.parts if part.id not in news}


def test_a_follow_up_is_a_chapter_with_an_end_of_its_own(tmp_path: Path) -> None:
    acting = Acting(tmp_path / "20260101-000000-aaaa")
    acting.end()
    acting.add(EventType.FOLLOW_UP, text="What of an empty list?", tree=acting.now, source="r1")
    acting.add(EventType.RUN_RESUMED, request={}, versions={})
    between = Reader(RunFolder(acting.folder)).view()
    assert between.result is None and not between.now.ended and between.facts.summary == ""
    acting.step()
    acting.end(summary="Documented.")
    acting.close()
    view = Reader(RunFolder(acting.folder)).view()
    forms = [part.form for part in view.parts]
    assert forms == ["chapter", "step", "result", "chapter", "step", "step", "result"]
    second = view.parts[3]
    assert isinstance(second, Chapter) and second.others and second.text.head == "What of an empty list?"
    assert len({part.id for part in view.parts}) == len(view.parts)
    assert view.facts.summary == "Documented."


def test_what_went_wrong_between_steps_is_noted(tmp_path: Path) -> None:
    acting = Acting(tmp_path / "run")
    number = acting.turn(("bash", {"command": "sleep 9"}))
    acting.add(EventType.CALL_STARTED, turn=number, call=0, name="bash", arguments={})
    acting.add(EventType.SANDBOX_DIED, call="bash", why="memory", replaced=True)
    acting.add(EventType.MODEL_RETRY, why="503", wait=1)
    acting.add(EventType.TURN_DROPPED, turn=1, ids=[], why="time limit")
    acting.add(EventType.NETWORK, allowed=False, target="evil.example:443", why="not a registry")
    acting.add(EventType.RUN_RESUMED, request={})
    acting.add(EventType.LOOP_ENDED, end="interrupted", message="stopped", tree="")
    acting.close()
    view = Reader(RunFolder(acting.folder)).view()
    notes = [part.text for part in view.parts if isinstance(part, Note)]
    assert [text.split(" ")[1] for text in notes] == ["sandbox", "model", "turn", "network", "run"]
    assert view.steps[0].calls[0].answer is Answer.NONE
    assert view.facts.requests == (0, 1)


def shown(view: RunView) -> int:
    return sum(part.size for part in view.parts if isinstance(part, Step))


def test_long_texts_are_cut_and_say_so(tmp_path: Path) -> None:
    acting = Acting(tmp_path / "run")
    big = "0123456789" * 1_000_000
    acting.step(output=f"Output:\n{big}\n[exit status 0, 0.12 s]", thinking=big[:50_000])
    many = {f"a{i}": "x" for i in range(1000)}
    acting.turn(*[("bash", {"command": "x" * 20_000})] * 500, ("odd", many))
    acting.close()
    reader = Reader(RunFolder(acting.folder))
    first, second = reader.view().steps
    output = first.calls[0].output
    assert output.size == MOST_TEXT and output.left_out == len(big) - MOST_TEXT and output.tail.endswith("789")
    assert first.thinking.whole == 50_000
    assert (len(second.calls), second.more_calls) == (40, 461)
    assert shown(reader.view()) < 400_000
    whole = reader.step(1)
    assert whole is not None and whole.calls[0].output.size == 300_000 and not whole.thinking.left_out
    assert whole.calls[0].answer is Answer.GIVEN and reader.step(3) is None


def test_a_thousand_steps_are_read_once_each(tmp_path: Path) -> None:
    acting = Acting(tmp_path / "run")
    for _ in range(1000):
        acting.step()
    taken: list[int] = []
    reader = Reader(RunFolder(acting.folder))
    take = Timeline.take

    def counted(self: Timeline, event: Event, at: int = 0) -> None:
        taken.append(event.seq)
        take(self, event, at)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Timeline, "take", counted)
        assert len(reader.view().steps) == 1000
        acting.step()
        assert len(reader.view().steps) == 1001
    acting.close()
    assert taken == list(range(taken[-1] + 1))


@pytest.mark.parametrize(
    "line", ['{"seq": 5}', "[1]", "[" * 100_000, '{"seq":9,"time":1,"type":"turn","data":{}}', "x"], ids=len
)
def test_a_damaged_log_is_shown_up_to_there(tmp_path: Path, line: str) -> None:
    path = RunFolder(tmp_path).events
    path.write_bytes(b"".join(GOLDEN.read_bytes().splitlines(keepends=True)[:8]) + line.encode() + b"\n")
    reader = Reader(RunFolder(tmp_path))
    view = reader.view()
    assert (view.seq, len(view.steps)) == (7, 1) and "event 8" in view.damage
    with path.open("a") as log:
        log.write("more\n")
    assert reader.view() is view


def test_events_of_another_release_hold_nothing_up(tmp_path: Path) -> None:
    lines = GOLDEN.read_text().splitlines()
    unknown = json.dumps({"seq": 8, "time": 1795452398.7, "type": "mused", "data": {}})
    odd = json.dumps({"seq": 9, "time": 1795452398.7, "type": "turn", "data": {"turn": 1}})
    path = RunFolder(tmp_path).events
    path.write_text("\n".join([*lines[:8], unknown, odd, ""]))
    view = Reader(RunFolder(tmp_path)).view()
    assert (view.seq, view.damage) == (9, "")
    assert isinstance(view.parts[-1], Note) and "can't be shown" in view.parts[-1].text
