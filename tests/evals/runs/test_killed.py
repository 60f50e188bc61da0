"""kill -9 at any moment: the same command goes on, nothing is lost or done twice, and the report is the same."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from evals.mini.dataset import mini_dataset
from evals.report.folder import read_report
from runtime.qwen_bpe import qwen_tokenizer
from tests.evals.runs.harness import (
    LIGHT,
    SECONDS,
    Evaluation,
    Listening,
    chosen,
    digits_of_durations,
    judged,
    killed_when,
    scripted,
)

pytestmark = pytest.mark.heavy

CUT = "mini__sweep-14"
KILLS = 5
MINI_SECONDS = 180.0
"""How long the bundled set may take with the scripted model on two cores that do nothing else."""


def turns_so_far(evaluation: Evaluation) -> int:
    logs = (evaluation.folder / "home" / "evals" / ".work").glob("out/*/*/predict/*/events.jsonl")
    return sum(line.startswith('{"seq"') and '"type":"turn"' in line for log in logs for line in log.open())


@pytest.mark.bubblewrap
def test_a_run_that_is_killed_goes_on_to_the_same_report(tmp_path_factory: pytest.TempPathFactory) -> None:
    whole, cut = (Evaluation(tmp_path_factory.mktemp(name), "bubblewrap") for name in ("whole", "cut"))
    model = scripted(whole.folder / "script.json", delay=0.004)
    assert whole.run(*chosen(CUT), model=model).code == 0
    after = random.Random().randrange(1, 6)  # turns; another one each time
    killed_when(cut.start(*cut.arguments(*chosen(CUT), model=model)), lambda: turns_so_far(cut) >= after)
    assert not cut.records()
    done = cut.run(*chosen(CUT), model=model)
    assert done.code == 0, f"killed after {after} turns: {done.out}{done.err}"
    assert cut.report() == whole.report(), f"killed after {after} turns"
    kinds = [event["type"] for event in cut.events(CUT)]
    assert kinds.count("run_started") == 1
    assert "run_resumed" in kinds
    assert kinds.count("prompt") == 1


def test_ctrl_c_stops_softly_and_says_how_to_go_on(tmp_path: Path) -> None:
    evaluation = Evaluation(tmp_path)
    process = evaluation.start(*evaluation.arguments(*chosen(*LIGHT)))
    due = time.monotonic() + SECONDS
    while turns_so_far(evaluation) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < due
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert f"To go on: agent eval run --out {evaluation.out}" in out
    assert "Traceback" not in err
    assert read_report(evaluation.out)["counts"]["missing"] == 1
    done = evaluation.agent("run", "--out", str(evaluation.out))  # nothing else has to be said again
    assert done.code == 0, done.out + done.err
    assert [record.status for record in evaluation.records().values()] == ["resolved"]


# -- the whole set


def turns_kept(evaluation: Evaluation) -> Counter[str]:
    """Turns of each instance that are on the disk, wherever its attempt's log lies now."""
    found: Counter[str] = Counter()
    for pattern, place in (
        (evaluation.folder / "home" / "evals" / ".work", "out/*/1/predict/*/events.jsonl"),
        (evaluation.out / "trajectories", "*/1/events.jsonl"),
    ):
        for log in pattern.glob(place):
            instance_id = log.relative_to(pattern).parts[-3 if pattern.name == "trajectories" else 1]
            try:
                turns = log.read_text().count('"type":"turn",')
            except FileNotFoundError:  # it was on its way home
                continue
            found[instance_id] = max(found[instance_id], turns)
    return found


def progress(evaluation: Evaluation) -> int:
    """How far a run is: turns and, counting as three, attempts that are over."""
    return turns_kept(evaluation).total() + 3 * len(list(evaluation.out.glob("records/*/1.json")))


def killed_at(evaluation: Evaluation, moment: int, later: float) -> Listening:
    """The run gone on with, and killed `later` seconds after it is as far as `moment`."""
    process = evaluation.listen(*evaluation.arguments())
    deadline = time.monotonic() + SECONDS
    while progress(evaluation) < moment:
        assert process.process.poll() is None, f"ended before it could be killed: {process.events[-3:]}"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(later)
    process.kill()
    return process


def recorded(evaluation: Evaluation) -> Counter[tuple[str, str]]:
    """Steps that the queue has the result of: (instance, name) -> how often."""
    with sqlite3.connect(f"file:{evaluation.out / 'jobs.sqlite'}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT workflow_uuid, function_name FROM operation_outputs").fetchall()
    return Counter((job.split("/")[1], name) for job, name in rows)


def official_files(evaluation: Evaluation) -> dict[str, object]:
    """What the official harness and sb-cli read: summary, predictions, and each instance's report and patch."""
    files = [evaluation.out / "scripted-mini.out.json", evaluation.out / "predictions.jsonl"]
    files += sorted((evaluation.out / "logs").rglob("report.json")) + sorted(evaluation.out.rglob("patch.diff"))
    return {str(file.relative_to(evaluation.out)): file.read_text() for file in files}


@pytest.mark.evals
@pytest.mark.bubblewrap
@pytest.mark.timeout(1500)
def test_the_whole_set_survives_five_kills_at_random_moments(tmp_path_factory: pytest.TempPathFactory) -> None:
    seed = int(os.environ.get("PATCHWRIGHT_TEST_SEED") or random.randrange(1 << 32))
    chance = random.Random(seed)
    whole, cut = (Evaluation(tmp_path_factory.mktemp(name), "bubblewrap") for name in ("whole", "cut"))
    began = time.monotonic()
    undisturbed = whole.listen(*whole.arguments())
    assert undisturbed.end() == 0
    seconds = time.monotonic() - began
    moments = sorted(chance.randrange(int(0.9 * progress(whole))) for _ in range(KILLS))
    told = f"seed {seed}: killed at {moments} of {progress(whole)}; undisturbed {seconds:.0f} s"
    print(told)

    killed: list[Listening] = []
    for moment in moments:
        before = records_of(cut)
        killed.append(killed_at(cut, moment, chance.uniform(0, 1)))
        assert before.items() <= records_of(cut).items(), f"done again; {told}"
    before = records_of(cut)
    last = cut.listen(*cut.arguments())
    assert last.end() == 0, told
    print(f"with five kills {time.monotonic() - began - seconds:.0f} s")

    assert before.items() <= records_of(cut).items(), told
    assert cut.report() == whole.report(), told
    assert official_files(cut) == official_files(whole), told
    for key, record in whole.records().items():
        assert cut.records()[key].environment == record.environment, told
        assert cut.conversation(*key) == whole.conversation(*key), told
    _check_each_is_judged_once(cut, [*killed, last], undisturbed, told)
    if os.getloadavg()[1] < 3:  # on a machine that others keep busy it says nothing
        assert seconds < MINI_SECONDS


def _check_each_is_judged_once(cut: Evaluation, processes: list[Listening], undisturbed: Listening, told: str) -> None:
    """One verdict of each is on record, a judging that was begun twice was cut off by a kill, and no turn was lost."""
    to_judge = judged([undisturbed])
    kept = recorded(cut)
    for instance_id in (one.instance_id for one in mini_dataset().instances):
        assert kept[instance_id, "predict 1"] == 1, told
        assert kept[instance_id, "judge 1"] == to_judge[instance_id, 1], told
    cut_off = Counter(
        key
        for process in processes[:-1]
        for key in judged([process])
        if not process.heard("ended", instance_id=key[0], attempt=key[1])
    )
    begun = judged(processes)
    assert begun.keys() == to_judge.keys(), told
    assert not {key: count for key, count in begun.items() if count > 1 + cut_off[key]}, told
    ended = Counter(event["instance_id"] for process in processes for event in process.heard("ended", before=False))
    assert max(ended.values()) == 1, told
    said = [event for process in processes for event in process.heard("agent") if "turn" in event]
    turns = Counter((event["instance_id"], event["turn"]) for event in said)
    assert max(turns.values()) == 1, f"a turn was asked for twice; {told}"


def records_of(evaluation: Evaluation) -> dict[str, bytes]:
    """All that is over, as it is on the disk."""
    return {str(path): path.read_bytes() for path in evaluation.out.glob("records/*/*.json")}


def test_a_duration_of_ten_seconds_is_a_token_more_and_that_is_known() -> None:
    """What `Evaluation.report` takes out of the counts of tokens is what durations put in."""
    text = "3 passed in {}s\n[exit status 0, {} s]"
    tokenizer, sizes = qwen_tokenizer(), set()
    for seconds in ("0.02", "9.98", "10.02", "113.50"):
        said = text.format(seconds, seconds)
        sizes.add(len(tokenizer.encode(said)) - digits_of_durations(said))
    assert len(sizes) == 1
    assert digits_of_durations(text.format("10.02", "113.50")) == 3
    assert digits_of_durations("version 12.4.10, 12:30.5 s, 40 s") == 0
