"""Predictions, reports and saved logs: read and written in the official layout."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from evals.grading.official import cached_wheel, official_modules
from evals.grading.semantics import GradingFailed, Semantics
from evals.predictions import Prediction, read_predictions, write_predictions
from evals.reports import Graded, ReportBroken, model_folder, read_report, summary, write_report
from evals.rows import DatasetUnusable
from evals.saved_logs import find_logs

ONE = Prediction("a__b-1", "org/model", "--- a\n+++ b\n")
TWO = Prediction("a__b-2", "org/model", None)


@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_predictions_come_back(name: str, tmp_path: Path) -> None:
    write_predictions(tmp_path / name, [ONE, TWO])
    assert read_predictions(tmp_path / name).by_id == {"a__b-1": ONE, "a__b-2": TWO}
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert json.loads((tmp_path / name).read_text().splitlines()[0] if name == "p.jsonl" else "{}") in ({}, ONE.row())


def test_a_patch_gets_its_last_newline(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.json", [Prediction("a__b-1", "m", "+x")])
    assert read_predictions(tmp_path / "p.json").by_id["a__b-1"].patch == "+x\n"


def test_predictions_by_id_and_broken_ones(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(
        json.dumps({"a__b-1": {"instance_id": "a__b-1", "model_patch": ""}, "x": {"instance_id": "../x"}, "y": 3})
    )
    found = read_predictions(path)
    assert found.by_id == {"a__b-1": Prediction("a__b-1", "None", "")}
    assert [reason[:13] for reason in found.broken] == ["prediction 2:", "prediction 3:"]
    path.with_suffix(".jsonl").write_text('{"instance_id": "a__b-1", "model_patch": [1]}\n{\n')
    assert len(read_predictions(path.with_suffix(".jsonl")).broken) == 2
    with pytest.raises(DatasetUnusable):
        read_predictions(tmp_path / "missing.jsonl")
    with pytest.raises(ValueError, match=r"\.json or \.jsonl"):
        write_predictions(tmp_path / "p.csv", [])


def test_reports_come_back(tmp_path: Path) -> None:
    path = write_report(tmp_path, "org/model", "a__b-1", {"resolved": True})
    assert path == tmp_path / "org__model" / "a__b-1" / "report.json"
    assert read_report(path, "a__b-1") == {"resolved": True}
    for wrong in ("", "3", "[]", "{}", '{"a__b-1": 3}', '{"a__b-1": {"resolved": "yes"}}', "[" * 100_000):
        path.write_text(wrong)
        with pytest.raises(ReportBroken, match=r"a__b-1|resolved"):
            read_report(path, "a__b-1")
    with pytest.raises(ReportBroken, match="can't be read"):
        read_report(tmp_path / "none", "a__b-1")


@pytest.mark.parametrize("name", ["", ".", "..", "a\0b", "x" * 201])
def test_models_that_are_no_folders(name: str) -> None:
    with pytest.raises(ValueError, match="can't be a folder's"):
        model_folder(name)
    assert model_folder("../../x") == "..__..__x"


def test_the_summary_counts_as_the_harness_does() -> None:
    predictions = {
        name: Prediction(name, "m", patch)
        for name, patch in {"a": "x", "b": "x", "c": "", "d": "x", "e": None, "g": "x"}.items()
    }
    graded = {
        "a": Graded({"resolved": True}),
        "b": Graded({"resolved": False}, "Could not resolve host"),
        "d": Graded(None),
    }
    graded["g"] = Graded({"resolved": False}, "collected 0 items")
    said = summary("abcdefg", predictions, graded, Semantics.V5)
    assert {name: said[f"{name}_ids"] for name in ("resolved", "unresolved", "error", "empty_patch", "incomplete")} == {
        "resolved": ["a"],
        "unresolved": ["b", "g"],
        "error": ["d"],
        "empty_patch": ["c", "e"],
        "incomplete": ["f"],
    }
    assert (said["completed_ids"], said["submitted_instances"], said["total_instances"]) == (["a", "b", "g"], 6, 7)
    assert (said["infra_failure_ids"], said["ambiguous_failure_ids"]) == (["b"], ["g"])
    assert said["failure_reasons"] == {"b": "network_unreachable", "g": "no_tests_collected"}
    assert said["schema_version"] == 2
    four = summary("abcdefg", predictions, graded, Semantics.V4)
    assert said.keys() - four.keys() == {
        "infra_failure_instances",
        "ambiguous_failure_instances",
        "infra_failure_ids",
        "ambiguous_failure_ids",
        "failure_reasons",
    }


def save(folder: Path, text: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "test_output.txt").write_text(text)
    return folder


def test_logs_are_found_at_any_depth(tmp_path: Path) -> None:
    save(tmp_path / "logs" / "run_evaluation" / "r" / "m2" / "a__b-1")
    save(tmp_path / "logs" / "run_evaluation" / "r" / "m1" / "a__b-1")
    for start in (
        tmp_path,
        tmp_path / "logs" / "run_evaluation" / "r",
        tmp_path / "logs" / "run_evaluation" / "r" / "m1",
    ):
        assert {(log.model, log.instance_id) for log in find_logs(start)} <= {("m1", "a__b-1"), ("m2", "a__b-1")}
    assert [log.model for log in find_logs(tmp_path)] == ["m1", "m2"]
    (single,) = find_logs(tmp_path / "logs" / "run_evaluation" / "r" / "m1" / "a__b-1")
    assert (single.model, single.instance_id, single.broken) == ("m1", "a__b-1", "")


def test_logs_that_are_no_plain_files_are_named(tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_text("x")
    root = tmp_path / "root"
    for name in ("link", "pipe", "loop", ".dot", "a b"):
        (root / "m" / name).mkdir(parents=True)
    (root / "m" / "link" / "test_output.txt").symlink_to(outside)
    os.mkfifo(root / "m" / "pipe" / "test_output.txt")
    (root / "m" / "loop" / "test_output.txt").symlink_to("test_output.txt")
    for name in (".dot", "a b"):
        (root / "m" / name / "test_output.txt").write_text("")
    (root / "m" / "up").symlink_to(root)
    broken = {log.instance_id: log.broken for log in find_logs(root)}
    assert set(broken) == {"link", "pipe", "loop", ".dot", "a b"}
    assert all(broken.values())


def test_without_the_official_release_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path))
    official_modules.cache_clear()
    if cached_wheel(Semantics.V4).parent != tmp_path / "swebench":
        pytest.fail("the wheel isn't looked for in the cache")
    with pytest.raises(GradingFailed, match=r"needs swebench 4\.1\.0: run scripts/swebench\.sh"):
        official_modules(Semantics.V4)
