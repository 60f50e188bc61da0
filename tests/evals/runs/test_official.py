"""A run's summary beside that of the official harness, each made from what its own judging left."""

from __future__ import annotations

import asyncio
import importlib
import json
import shutil
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evals.grading.official import cached_wheel
from evals.grading.semantics import Semantics
from evals.judging.base import JudgeSpec
from evals.judging.judge import judge
from evals.judging.script import eval_script
from evals.runs.folder import EvalFolder
from evals.runs.manifest import DatasetFacts, Manifest, Settings
from evals.runs.official import MISSING, write_official
from evals.runs.record import AttemptKey, AttemptRecord, Judged, Predicted
from tests.evals.judging import harness
from tests.evals.judging.subject import Subject, make_subject, quick

BOTH = "echo PASSED f; echo PASSED p; "


@dataclass(frozen=True)
class Case:
    """A prediction and what its tests do. `fits` False: the patch doesn't apply; None: there is no prediction."""

    tests: str = BOTH
    fits: bool | None = True
    empty: bool = False


CASES: Mapping[str, Case] = {
    "pallets__flask-1": Case(),
    "pallets__flask-2": Case("echo FAILED f; echo PASSED p; "),
    "pallets__flask-3": Case(fits=False),
    "pallets__flask-4": Case(f"{BOTH}sleep 60; "),
    "pallets__flask-5": Case("echo Could not resolve host; echo FAILED f; echo PASSED p; "),
    "pallets__flask-6": Case(empty=True),
    "pallets__flask-7": Case(fits=None),
    "pallets__flask-8": Case(f"{BOTH}printf '\\377\\n'; "),  # no text, on which the official grader stops
}
SECONDS = 3
WITHOUT_CLIENT = ("unstopped_instances", "unstopped_containers", "unremoved_images")
"""What 4.1.0 counts only where it was given no Docker client, which is what a test does and a run doesn't."""


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return make_subject(tmp_path_factory.mktemp("subject") / "repo")


def spec_of(subject: Subject, name: str, semantics: Semantics) -> JudgeSpec:
    fields = {"instance_id": name, "FAIL_TO_PASS": ["f"], "PASS_TO_PASS": ["p"]}
    return quick(subject, f"{CASES[name].tests}: ", semantics=semantics, seconds=SECONDS, **fields)


def patch_of(subject: Subject, name: str) -> str:
    if CASES[name].empty:
        return ""
    gold = subject.gold
    return gold if CASES[name].fits else gold.replace("len(values)", "len(others)").replace("index", "xedni")


def ours(subject: Subject, semantics: Semantics, path: Path) -> dict[str, Any]:
    folder, records = EvalFolder(path), []
    for name, case in CASES.items():
        judged: Judged | None = None
        if case.fits is not None and not case.empty:
            log = folder.log(AttemptKey("run", name, 1), "m")
            judged = asyncio.run(judge(spec_of(subject, name, semantics), patch_of(subject, name), log))
        predicted = Predicted("given" if case.fits is not None else MISSING)
        records.append(AttemptRecord("run", name, 1, "m", predicted=predicted, judged=judged))
    settings = Settings(kind="grade", semantics=semantics.value)
    manifest = Manifest("run", 0.0, DatasetFacts("set", instances=tuple(CASES)), settings, {"name": "m"})
    (summary,) = write_official(folder, manifest, records)
    said: dict[str, Any] = json.loads(summary.read_text())
    return said


@pytest.mark.heavy
def test_what_the_harness_counts_as_an_error_is_no_verdict_of_the_tests(subject: Subject, tmp_path: Path) -> None:
    said = ours(subject, Semantics.V5, tmp_path)
    numbers = {name: [one[-1] for one in said[f"{name}_ids"]] for name in ("resolved", "unresolved", "error")}
    assert numbers == {"resolved": ["1"], "unresolved": ["2", "5"], "error": ["3", "4", "8"]}
    assert [one[-1] for one in said["completed_ids"]] == ["1", "2", "5"]
    assert (said["error_instances"], said["completed_instances"], said["submitted_instances"]) == (3, 3, 7)
    assert said["failure_reasons"] == {
        "pallets__flask-4": "tests_timed_out",
        "pallets__flask-5": "network_unreachable",
    }


# -- the official one


def theirs(subject: Subject, semantics: Semantics, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    predictions = {}
    for name, case in CASES.items():
        if case.fits is None:
            continue
        patch = patch_of(subject, name)
        predictions[name] = {"instance_id": name, "model_name_or_path": "m", "model_patch": patch}
        if not case.empty:
            left = run_official(subject, semantics, name, patch, folder / name)
            shutil.copytree(left, folder / "logs" / "run_evaluation" / "run" / "m" / name)
    monkeypatch.chdir(folder)
    written = reporting(semantics).make_run_report(predictions, [{"instance_id": name} for name in CASES], "run")
    said: dict[str, Any] = json.loads(Path(written).read_text())
    return said


def run_official(subject: Subject, semantics: Semantics, name: str, patch: str, folder: Path) -> Path:
    spec = spec_of(subject, name, semantics)
    script = eval_script(spec.instance, spec.environment, semantics).replace("/testbed", str(folder / "testbed"))
    said = types.SimpleNamespace(
        instance_id=name, repo=spec.instance.repo, version=spec.instance.version, image="", image_assets={},
        is_remote_image=True, FAIL_TO_PASS=["f"], PASS_TO_PASS=["p"], log_parser="parse_log_flask",
        eval_type="pass_and_fail", eval_script=script,
    )  # fmt: skip
    return harness.run_official(semantics, said, patch, folder, subject.repository, subject.commit, SECONDS)


def reporting(semantics: Semantics) -> types.ModuleType:
    """The release's module that writes summaries."""
    with harness._stand_ins(semantics):
        del sys.modules["swebench.harness.reporting"]  # the one stand-in that is wanted in earnest
        sys.modules["swebench.image_builder.docker_utils"] = harness.Anything("swebench.image_builder.docker_utils")
        return importlib.import_module("swebench.harness.reporting")


@pytest.mark.evals
@pytest.mark.skipif(
    not all(cached_wheel(semantics).is_file() for semantics in Semantics),
    reason="the official releases aren't there: scripts/swebench.sh fetches them",
)
@pytest.mark.parametrize("semantics", Semantics)
def test_the_summary_is_the_official_one(
    subject: Subject, semantics: Semantics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    official = theirs(subject, semantics, tmp_path / "theirs", monkeypatch)
    assert len(official["error_ids"]) == 3
    for key in WITHOUT_CLIENT:
        official.pop(key, None)
    assert ours(subject, semantics, tmp_path / "ours") == official
