"""Runs from a data set to a report: what is left, in whose layout, and that others read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evals.predictions import read_predictions
from evals.runs.manifest import seed_of
from tests.evals.runs.harness import LIGHT, Evaluation, chosen

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """A run with two attempts at one instance, ended."""
    evaluation = Evaluation(tmp_path_factory.mktemp("twice"))
    done = evaluation.run(*chosen(*LIGHT), "-k", "2", "--seed", "5")
    assert done.code == 0, done.out + done.err
    return evaluation


def test_every_attempt_has_a_record_a_trajectory_and_a_verdict(twice: Evaluation) -> None:
    records = twice.records()
    assert list(records) == [(LIGHT[0], 1), (LIGHT[0], 2)]
    for (instance_id, attempt), record in records.items():
        assert record.status == "resolved"
        assert record.predicted is not None
        assert record.predicted.trajectory == f"trajectories/{instance_id}/{attempt}"
        assert record.predicted.usage.steps == len(
            [e for e in twice.events(instance_id, attempt) if e["type"] == "turn"]
        )
        assert set(record.predicted.edited) & set(record.gold_files)
        assert (twice.out / record.predicted.trajectory / "index.html").is_file()


def test_each_attempt_asks_with_its_own_seed(twice: Evaluation) -> None:
    asked = [
        next(e["data"]["sampling"]["seed"] for e in twice.events(LIGHT[0], k) if e["type"] == "model_connected")
        for k in (1, 2)
    ]
    assert asked == [seed_of(5, LIGHT[0], 1), seed_of(5, LIGHT[0], 2)]
    assert twice.manifest()["seeds"]["by_instance"] == {LIGHT[0]: asked}


def test_files_lie_in_the_official_layout(twice: Evaluation) -> None:
    for suffix in ("", ".attempt-2"):
        (prediction,) = read_predictions(twice.out / f"predictions{suffix}.jsonl").by_id.values()
        log = twice.out / "logs" / "run_evaluation" / f"out{suffix}" / prediction.model / LIGHT[0]
        assert {path.name for path in log.iterdir()} == {
            "patch.diff", "eval.sh", "test_output.txt", "report.json", "run_instance.log"
        }  # fmt: skip
        assert prediction.patch == (log / "patch.diff").read_text()
        summary = json.loads((twice.out / f"{prediction.model}.out{suffix}.json").read_text())
        assert summary["schema_version"] == 2
        assert (summary["total_instances"], summary["resolved_ids"]) == (1, list(LIGHT))


def test_the_logs_regrade_to_the_same(twice: Evaluation) -> None:
    done = twice.agent("regrade", str(twice.out / "logs"), "--dataset", str(twice.out / "instances.jsonl"), "--json")
    assert done.code == 0, done.err
    for row in done.events:
        attempt = 2 if "attempt-2" in row["log"] else 1
        judged = twice.records()[row["instance_id"], attempt].judged
        assert judged is not None
        assert {name: row[name] for name in judged.report} == judged.report


def test_the_predictions_grade_to_the_same(twice: Evaluation, tmp_path: Path) -> None:
    """As anyone's: through the same environments and judge, without a model."""
    evaluation = Evaluation(tmp_path)
    files = [str(twice.out / name) for name in ("predictions.jsonl", "predictions.attempt-2.jsonl")]
    done = evaluation.agent(
        "grade", "mini", *chosen(*LIGHT, "mini__sweep-14"), "--sandbox", "none", "--out", str(evaluation.out),
        "--predictions", files[0], "--predictions", files[1],
    )  # fmt: skip
    assert done.code == 0, done.out + done.err
    records = evaluation.records()
    assert [records[LIGHT[0], k].status for k in (1, 2)] == ["resolved", "resolved"]
    assert [records["mini__sweep-14", k].status for k in (1, 2)] == ["no_patch", "no_patch"]  # in the denominator
    assert evaluation.report()["counts"]["attempts"] == 4
    summary = json.loads((evaluation.out / "scripted-mini.out.json").read_text())
    assert (summary["submitted_ids"], summary["incomplete_ids"]) == (list(LIGHT), ["mini__sweep-14"])


def test_the_same_again_changes_nothing_and_runs_nothing(twice: Evaluation) -> None:
    before, manifest = twice.report(), twice.manifest()
    done = twice.agent("run", "--out", str(twice.out), "--json")
    assert done.code == 0, done.err
    assert (twice.report(), twice.manifest()) == (before, manifest)
    assert {event["event"] for event in done.events} == {"said", "ended", "report"}
    assert all(event["before"] for event in done.events if event["event"] == "ended")


def test_other_settings_under_the_same_name_are_refused_by_name(twice: Evaluation) -> None:
    done = twice.run(*chosen(*LIGHT), "-k", "2", "--seed", "5", "--max-steps", "9")
    assert done.code == 6
    assert "settings.limits.steps: 250 -> 9" in done.err


@pytest.mark.heavy
def test_a_manifest_is_repeated_and_what_differs_is_told(twice: Evaluation, tmp_path: Path) -> None:
    again = Evaluation(tmp_path)
    done = again.agent("run", "--from", str(twice.out), "-k", "1", "--sandbox", "none", "--out", str(again.out))
    assert done.code == 0, done.out + done.err
    assert done.err.strip() == "not as in out: settings.attempts: 2 -> 1"
    assert again.manifest()["dataset"] == twice.manifest()["dataset"]
    one, two = (done.records()[LIGHT[0], 1] for done in (again, twice))
    assert one.predicted is not None
    assert two.predicted is not None
    assert one.predicted.usage.completion_tokens == two.predicted.usage.completion_tokens
    assert one.judged is not None
    assert two.judged is not None
    assert one.judged.report == two.judged.report


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run"], 6, "give a DATASET"),
        (["run", "mini", "--model", "scripted", "--instance", "no-such"], 6, "the choice leaves none"),
        (
            ["run", "mini", "--model", "http://127.0.0.1:9", "--sandbox", "none", "--model-absence", "0"],
            7,
            "127.0.0.1:9",
        ),
        (["run", "no-such-file.jsonl"], 6, "no-such-file.jsonl"),
        (["run", "mini", "--run", "../up"], 6, "can't name a run"),
        (["run", "--run", "never-begun"], 6, "give a DATASET"),
        (["grade", "mini", "--predictions", "FILE"], 6, "for another data set"),
    ],
)
def test_what_cannot_begin_says_why(tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    file = tmp_path / "predictions.jsonl"
    file.write_text(json.dumps({"instance_id": "other-1", "model_name_or_path": "m", "model_patch": ""}) + "\n")
    done = Evaluation(tmp_path).agent(*(str(file) if word == "FILE" else word for word in arguments))
    assert (done.code, says in done.err) == (code, True), done.err
    assert "Traceback" not in done.err
