"""What isn't the model's doing: tried again, told apart, in the denominator, and in nobody's bucket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evals.predictions import read_predictions
from tests.evals.runs.harness import LIGHT, Evaluation, chosen, dataset, scripted

pytestmark = pytest.mark.heavy

OTHER = "mini__sweep-14"


def title_of(instance_id: str) -> str:
    from evals.mini.tasks import read_task

    return read_task(instance_id).title


def test_a_model_server_that_is_away_is_nobodys_failure_and_may_be_tried_again(tmp_path: Path) -> None:
    evaluation, file = Evaluation(tmp_path), tmp_path / "script.json"
    model = scripted(file, title_of(OTHER), kind="http", status=503, times="always")
    given = [*chosen(*LIGHT, OTHER), "--tries", "2", "--model-absence", "0.5"]
    done = evaluation.run(*given, model=model)
    assert done.code == 3, done.out + done.err
    record = evaluation.records()[OTHER, 1]
    assert record.status == "infrastructure"
    assert "503" in record.infrastructure
    assert len(record.tries) == 1
    assert record.tries[0].startswith("predict: ")
    report = evaluation.report()
    assert (report["counts"]["resolved"], report["counts"]["infrastructure"], report["counts"]["attempts"]) == (1, 1, 2)
    assert report["resolved"]["rate"] == 0.5  # a failure of ours lowers the rate, and is told beside it
    assert report["resolved"]["with_a_verdict"]["rate"] == 1.0
    assert list(read_predictions(evaluation.out / "predictions.jsonl").by_id) == list(LIGHT)
    summary = json.loads((evaluation.out / "scripted-mini.out.json").read_text())
    assert (summary["total_instances"], summary["incomplete_ids"], summary["unresolved_ids"]) == (2, [OTHER], [])

    scripted(file)  # the server is well again
    kept = evaluation.records()[LIGHT[0], 1]
    assert evaluation.run(*given, model=model).code == 3  # nothing is tried again unasked
    done = evaluation.run(*given, "--retry-infrastructure", model=model)
    assert done.code == 0, done.out + done.err
    assert not evaluation.records()[OTHER, 1].infrastructure
    assert evaluation.records()[LIGHT[0], 1] == kept


def test_an_environment_that_cannot_be_had(tmp_path: Path) -> None:
    def broken(row: dict[str, Any]) -> dict[str, Any]:
        if row["instance_id"] == OTHER:
            del row["bundled"]
        return row

    evaluation = Evaluation(tmp_path)
    rows = dataset(tmp_path / "rows.jsonl", *LIGHT, OTHER, change=broken)
    model = scripted(tmp_path / "script.json")
    done = evaluation.run("--tries", "1", dataset=rows, model=model, PATCHWRIGHT_GITHUB_URL="http://127.0.0.1:9")
    assert done.code == 3, done.out + done.err
    records = evaluation.records()
    assert records[LIGHT[0], 1].status == "resolved"
    assert records[OTHER, 1].status == "infrastructure"
    assert records[OTHER, 1].predicted is None
    assert f"NO VERDICT: {OTHER}" in done.out


def test_limits_are_the_models_own(tmp_path: Path) -> None:
    """An attempt that runs out has had its say: what it left is judged."""
    evaluation = Evaluation(tmp_path)
    done = evaluation.run(*chosen(*LIGHT), "--max-steps", "1")
    assert done.code == 0, done.out + done.err
    (record,) = evaluation.records().values()
    assert record.predicted is not None
    assert (record.predicted.outcome, record.predicted.end, record.status) == ("limit", "step limit", "no_patch")


def test_patches_without_a_verdict_of_the_tests_are_errors_in_the_official_summary_only(tmp_path: Path) -> None:
    """One doesn't apply, the other never lets its tests end: the model's doing, and the harness leaves no report."""
    sleeps = "diff --git a/{0} b/{0}\nnew file mode 100644\n--- /dev/null\n+++ b/{0}\n@@ -0,0 +1 @@\n+{1}\n"
    patches = {LIGHT[0]: sleeps.format("tests/conftest.py", "__import__('time').sleep(99)"), OTHER: "+++ b/none\n"}
    rows = [{"instance_id": name, "model_name_or_path": "m", "model_patch": patch} for name, patch in patches.items()]
    (tmp_path / "preds.json").write_text(json.dumps(rows))
    evaluation = Evaluation(tmp_path)
    done = evaluation.agent(
        "grade", "mini", *chosen(*patches), "--predictions", str(tmp_path / "preds.json"), "--sandbox", "none",
        "--out", str(evaluation.out), "--judge-timeout", "4",
    )  # fmt: skip
    assert done.code == 0, done.out + done.err
    assert {record.status for record in evaluation.records().values()} == {"unresolved"}
    summary = json.loads((evaluation.out / "m.out.json").read_text())
    assert sorted(summary["error_ids"]) == sorted(patches)
    assert (summary["unresolved_ids"], summary["completed_ids"]) == ([], [])
    assert evaluation.report()["counts"]["unresolved"] == 2
