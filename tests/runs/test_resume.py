"""kill -9 at any point: `agent resume` ends with the same patch, and what was written stays as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.runs.harness import FIX, TESTS, Place, call, fixing_turns, served


def kill_after(place: Place, model: str, kind: str, nth: int) -> list[str]:
    """Start a run, kill it -9 as soon as the nth event of a type is shown; returns the lines of its log."""
    process = place.start(*place.fix_arguments(model))
    assert process.stdout is not None
    seen = 0
    for line in process.stdout:
        seen += json.loads(line)["type"] == kind
        if seen == nth:
            break
    process.kill()
    process.communicate()
    assert seen == nth, f"only {seen} events {kind}"
    return (place.run_folder / "events.jsonl").read_text().splitlines()


def ids_of_turns(lines: list[str]) -> list[list[int]]:
    events = [json.loads(line) for line in lines]
    return [event["data"]["ids"] for event in events if event["type"] == "turn"]


# (event, which of them, what the killed process was doing)
POINTS = [
    ("run_started", 1),
    ("sandbox_opened", 1),
    ("prompt", 1),
    ("turn_started", 1),  # the model writes its first turn
    ("turn_started", 3),
    ("turn", 1),  # between
    ("turn", 3),
    ("call_started", 1),  # a tool runs
    ("call_started", 3),
    ("observation", 2),
    ("observation", 3),  # the change is made
    ("observed", 3),
    ("call_started", 5),  # submit has shown the diff
    ("observation", 6),  # submitted
    ("loop_ended", 1),
    ("patch", 1),
    ("check_started", 1),  # verifying
    ("check", 2),
    ("verified", 1),
]
SHORT = {("turn_started", 1), ("observation", 3), ("check", 2)}  # `make test`


@pytest.mark.parametrize(
    ("kind", "nth"),
    [point if point in SHORT else pytest.param(*point, marks=pytest.mark.heavy) for point in POINTS],
)
def test_a_killed_run_goes_on_to_the_same_patch(tmp_path: Path, kind: str, nth: int) -> None:
    turns = fixing_turns()
    for turn in turns:
        turn["faults"] = [{"kind": "slow", "seconds": 0.002, "times": 1000}]
    place = Place(tmp_path)
    place.make_repo()
    with served(turns) as model:
        before = kill_after(place, model.url, kind, nth)
        done = place.agent("resume", "last", "--json")
    assert done.code == 0, done.err + done.out[-3000:]
    assert place.patch().endswith(FIX)
    after = (place.run_folder / "events.jsonl").read_text().splitlines()
    whole = [line for line in before if line.endswith("}}")]
    assert after[: len(whole)] == whole
    written = ids_of_turns(after)
    assert len(written) == 6
    assert written[: len(ids_of_turns(whole))] == ids_of_turns(whole)


def test_the_interrupted_command_runs_again_on_the_tree_before_it(tmp_path: Path) -> None:
    """What a command had changed when the process died is gone, and the command runs once more from the start."""
    place = Place(tmp_path)
    place.make_repo()
    slow = call("bash", command="echo step >> trace.txt; sleep 2; echo end >> trace.txt")
    with served([slow, *fixing_turns()]) as model:
        kill_after(place, model.url, "call_started", 1)
        done = place.agent("resume", "last", "--json")
    assert done.code == 0, done.err
    assert "+step\n+end\n" in place.patch()


@pytest.mark.heavy
def test_the_working_directory_and_undo_history_survive(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.make_repo()
    edit = fixing_turns()[2]
    wrong = call(
        "str_replace_editor", command="str_replace", path="calc/ops.py", old_str="The average.", new_str="Wrong."
    )
    undo = call("str_replace_editor", command="undo_edit", path="calc/ops.py")
    turns = [
        call("bash", command="cd calc && export COLOR=red"),
        call("bash", command=f"cd .. && {TESTS}; code=$?; cd calc; exit $code"),
        edit, wrong, call("bash", command="pwd"), undo,
        call("bash", command=f"cd .. && {TESTS}; code=$?; cd calc; exit $code"),
        *fixing_turns()[4:],
    ]  # fmt: skip
    with served(turns) as model:
        kill_after(place, model.url, "observed", 4)
        done = place.agent("resume", "last", "--json")
    assert done.code == 0, done.err + done.out[-2000:]
    assert "/calc" in done.of_type("observation")[0]["text"]
    assert "Wrong" not in place.patch()
    assert FIX in place.patch()


@pytest.mark.heavy
def test_an_ended_run_says_so_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.make_repo()
    with served(fixing_turns()) as model:
        assert place.fix(model.url).code == 0
    lines = (place.run_folder / "events.jsonl").read_text()
    done = place.agent("resume", "last")
    assert (done.code, "VERIFIED" in done.out) == (0, True)
    assert (place.run_folder / "events.jsonl").read_text() == lines


@pytest.mark.heavy
def test_a_model_that_went_away_can_come_back(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.make_repo()
    turns = fixing_turns()
    turns[3]["faults"] = [{"kind": "http", "status": 400, "times": 1}]
    with served(turns) as model:
        first = place.fix(model.url)
        assert first.code == 7, first.err
        second = place.agent("resume", "last", "--json")
    assert second.code == 0, second.err
    assert len(second.of_type("turn")) == 3


def test_interrupting_removes_the_sandbox_and_can_be_resumed(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.make_repo()
    turns = [call("bash", command="sleep 60 & sleep 60"), *fixing_turns()]
    with served(turns) as model:
        process = place.start(*place.fix_arguments(model.url))
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["type"] == "call_started":
                break
        process.terminate()
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out.splitlines()[-1])["data"]["outcome"] == "interrupted"


DEMO = Path(__file__).parents[2] / "examples/demo/model"


def damaged(place: Place, kind: str, **values: object) -> None:
    """Change the data of the first event of a type."""
    log = place.run_folder / "events.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    next(event for event in events if event["type"] == kind)["data"].update(values)
    log.write_text("".join(json.dumps(event) + "\n" for event in events))


@pytest.mark.heavy
def test_a_model_with_another_vocabulary_is_refused_and_the_run_still_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `embedded`")
    pytest.importorskip("transformers", reason="needs the extra `embedded`")
    place = Place(tmp_path)
    place.make_repo()
    turns = fixing_turns()
    turns[2]["faults"] = [{"kind": "slow", "seconds": 0.01, "times": 1000}]
    with served(turns) as model:
        kill_after(place, model.url, "observed", 2)
        refused = place.agent("resume", "last", "--json", "--model", str(DEMO))
        assert refused.code == 7, refused.err
        assert "Traceback" not in refused.err
        (ended,) = refused.of_type("run_ended")
        assert "in the tokens of 'qwen3.6'" in ended["message"] and "another vocabulary" in ended["message"]
        assert not refused.of_type("sandbox_opened") and not refused.of_type("turn_started")
        done = place.agent("resume", "last", "--json", "--model", model.url)
    assert done.code == 0, done.err
    assert place.patch().endswith(FIX)


@pytest.mark.heavy
def test_a_tokenizer_of_another_name_and_the_same_vocabulary_goes(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.make_repo()
    with served(fixing_turns()) as model:
        kill_after(place, model.url, "turn", 2)
        damaged(place, "model_connected", tokenizer="the same under another name")
        assert place.agent("resume", "last").code == 0
    assert place.patch().endswith(FIX)


@pytest.mark.heavy
def test_a_record_that_is_no_transcript_ends_the_run_by_name(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.make_repo()
    with served(fixing_turns()) as model:
        kill_after(place, model.url, "turn", 2)
        damaged(place, "turn", ids=[1, 2, 3])
        done = place.agent("resume", "last", "--json")
    assert done.code == 7 and "Traceback" not in done.err
    (ended,) = done.of_type("run_ended")
    assert "can't be gone on with" in ended["message"]
