"""Verdicts and lists of both semantics: a case per trait, bounds, and the real runs of the official harness."""

from __future__ import annotations

import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from evals.datasets import load_dataset
from evals.grading import logs
from evals.grading.infra import trouble_in
from evals.grading.logs import Log, read_log
from evals.grading.semantics import GradingFailed, Semantics, parser_family
from evals.grading.verdict import report, semantics_of
from evals.instance import Instance
from evals.regrade import Outcome, regrade
from evals.reports import read_report
from evals.saved_logs import find_logs
from tests.evals.case_list import CASES
from tests.evals.cases import Case, framed, graded, instance, said_of
from tests.shared_data import SHARED, needs_shared


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_4_says(case: Case, tmp_path: Path) -> None:
    assert said_of(case, Semantics.V4, tmp_path) == case.four


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_5_says(case: Case, tmp_path: Path) -> None:
    assert said_of(case, Semantics.V5, tmp_path) == case.five


def test_the_report_of_a_resolved_instance(tmp_path: Path) -> None:
    lists = {kind: {"success": [], "failure": []} for kind in ("FAIL_TO_FAIL", "PASS_TO_FAIL")}
    four = {
        "patch_is_None": False,
        "patch_exists": True,
        "patch_successfully_applied": True,
        "resolved": True,
        "tests_status": {
            "FAIL_TO_PASS": {"success": ["f"], "failure": []},
            "PASS_TO_PASS": {"success": ["p"], "failure": []},
            **lists,
        },
    }
    text = framed("PASSED f\nPASSED p")
    assert graded(instance(), text, Semantics.V4, tmp_path) == four
    assert graded(instance(), text, Semantics.V5, tmp_path) == four | {"infra_failure": False}


def test_what_is_skipped_decides_by_version(tmp_path: Path) -> None:
    """4.1 resolves an instance whose tests were all skipped; 5 doesn't."""
    text = framed("SKIPPED f\nSKIPPED p")
    assert graded(instance(), text, Semantics.V4, tmp_path)["resolved"] is True
    assert graded(instance(), text, Semantics.V5, tmp_path)["resolved"] is False


def test_no_patch() -> None:
    none = {"patch_is_None": True, "patch_exists": False, "patch_successfully_applied": False, "resolved": False}
    assert report(instance(), Log(""), Semantics.V4, patch_is_none=True) == none
    assert report(instance(), Log(""), Semantics.V5, patch_is_none=True) == none | {"infra_failure": False}


@pytest.mark.parametrize(
    ("text", "reason", "certain"),
    [
        ("Could not resolve host: x", "network_unreachable", True),
        ("x\nKilled\ny", "out_of_memory", True),
        ("was Killed", None, None),
        ("ModuleNotFoundError: x", "missing_module", False),
        ("collected 0 items", "no_tests_collected", False),
        ("no tests ran; Cannot allocate memory", "out_of_memory", True),
        ("Timeout error: 1800 seconds exceeded.", "tests_timed_out", False),
    ],
)
def test_signs_of_a_broken_environment(text: str, reason: str | None, certain: bool | None, tmp_path: Path) -> None:
    found = trouble_in(text)
    assert (found and found.reason, found and found.certain) == (reason, certain)
    said = graded(instance(), text, Semantics.V5, tmp_path)
    assert (said["infra_failure"], said.get("infra_failure_reason")) == (bool(certain), reason)
    assert "infra_failure" not in graded(instance(), text, Semantics.V4, tmp_path)


def test_only_failures_count_where_the_row_or_the_repository_says_so(tmp_path: Path) -> None:
    quiet = framed("PASSED x")
    row = {"log_parser": "parse_log_pytest", "eval_type": "fail_only", "image": "", "eval_script": ""}
    assert graded(instance(**row), quiet, Semantics.V5, tmp_path)["resolved"] is True
    assert graded(instance(**row), quiet, Semantics.V4, tmp_path)["resolved"] is False
    failed = framed("PASSED x\nFAILED p")
    assert graded(instance(**row), failed, Semantics.V5, tmp_path)["resolved"] is False
    errors = framed("PASSED x\nERROR p")
    assert graded(instance(**row), errors, Semantics.V5, tmp_path)["resolved"] is True


def test_the_row_names_the_parser_in_5_and_the_repository_in_4() -> None:
    assert parser_family(Semantics.V5, "a/b", "parse_log_requests") == "pytest_options"
    assert parser_family(Semantics.V5, "psf/requests", "") == "pytest_options"
    assert parser_family(Semantics.V4, "psf/requests", "parse_log_django") == "pytest_options"
    assert parser_family(Semantics.V4, "a/b", "", "parse_log_pytest") == "pytest"
    with pytest.raises(GradingFailed, match="no log parser for a/b"):
        parser_family(Semantics.V4, "a/b", "parse_log_pytest")
    with pytest.raises(GradingFailed, match=r"none of swebench's; choose one with --log-parser"):
        parser_family(Semantics.V5, "a/b", "def parser(log):\n    import os")


def test_whose_rules_a_log_was_written_for() -> None:
    new = instance(image="i", eval_script="", log_parser="parse_log_pytest", eval_type="pass_and_fail")
    noted = Log(framed("PASSED f", ">>>>> Test Exit Code: 0"))
    inside = Log(framed("PASSED f\n>>>>> Test Exit Code: 0"))
    assert semantics_of(instance(), Log(framed("PASSED f"))) is Semantics.V4
    assert semantics_of(instance(), noted) is Semantics.V5
    assert semantics_of(instance(), inside) is Semantics.V4
    assert semantics_of(new, Log(framed("PASSED f"))) is Semantics.V5


def test_names_of_semantics() -> None:
    assert [Semantics.named(text) for text in ("5", "5.0", "5.0.2", "4", "4.1", "4.1.0", "auto")] == [
        *[Semantics.V5] * 3,
        *[Semantics.V4] * 3,
        None,
    ]
    with pytest.raises(ValueError, match="no semantics '3'"):
        Semantics.named("3")


def test_logs_that_get_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    with pytest.raises(GradingFailed, match="can't be read"):
        read_log(path)
    path.write_bytes(b"PASSED \xff")
    with pytest.raises(GradingFailed, match="isn't UTF-8 at byte 7"):
        read_log(path)
    monkeypatch.setattr(logs, "MAX_LOG", 5)
    with pytest.raises(GradingFailed, match="more than"):
        read_log(path)
    with pytest.raises(GradingFailed, match="thousands of digits"):
        _ = Log(">>>>> Test Exit Code: " + "1" * 5000).exit_code


HOSTILE = {
    "django/django": (
        " ... Internal Server Error: /" * 40_000 + "\n",
        "x ... Testing against Django installed in \n" * 30_000,
        "x ... Testing against Django installed in " * 30_000,
        " ... Internal Server Error: /x\n" * 40_000,
        " ... ok" * 150_000,
    ),
    "sympy/sympy": ("_" * 1_000_000, "a.py: " * 200_000, " .py:" * 200_000 + "\n", " " * 1_000_000),
    "pallets/flask": ("PASSED " * 200_000, "PASSED x\n" * 150_000, "[" * 1_000_000),
    "psf/requests": ("PASSED " + "[" * 1_000_000, "PASSED " + "[/" * 300_000 + "]"),
    "astropy/astropy": ("\x1b[1m" * 300_000 + "PASSED x", "x PASSED\n" * 100_000),
    "mwaskom/seaborn": (" PASSED " * 150_000, "x PASSED y\n" * 100_000),
}


@pytest.mark.parametrize("repo", HOSTILE)
def test_hostile_logs_are_read_in_linear_time(repo: str, tmp_path: Path) -> None:
    """A megabyte each; the expressions of the original take hours or more on some of these."""
    for body in HOSTILE[repo]:
        before = time.process_time()
        for semantics in Semantics:
            graded(instance(repo), framed(body), semantics, tmp_path)
        assert time.process_time() - before < 8, body[:60]


def test_many_cut_ids_against_many_tests(tmp_path: Path) -> None:
    many = [f"t[{number}" for number in range(4000)]
    body = "\n".join(f"PASSED t[{number} x]" for number in range(40_000))
    before = time.process_time()
    said = graded(
        instance("astropy/astropy", FAIL_TO_PASS=many, PASS_TO_PASS=["t["]), framed(body), Semantics.V5, tmp_path
    )
    assert said["resolved"] is True
    assert time.process_time() - before < 8


def official_runs(folder: Path) -> tuple[list[Outcome], dict[str, Instance]]:
    """The real runs, unpacked below `folder` and graded by the rules that each was written for."""
    with tarfile.open(SHARED / "data" / "official_harness_logs.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    instances = load_dataset(str(SHARED / "data" / "swe-bench-verified-500.jsonl.xz")).by_id()
    return list(regrade(find_logs(folder), instances)), instances


def official_word(one: Outcome) -> dict[str, Any]:
    return read_report(one.log.with_name("report.json"), one.instance_id)


@needs_shared
def test_the_real_runs_get_their_official_reports(tmp_path: Path) -> None:
    outcomes, instances = official_runs(tmp_path)
    assert len(outcomes) == 86
    assert [one.report for one in outcomes] == [official_word(one) for one in outcomes]
    newer = list(regrade(find_logs(tmp_path), instances, Semantics.V5))
    assert [one.resolved for one in newer] == [one.resolved for one in outcomes]
    assert {
        one.instance_id
        for one, other in zip(newer, outcomes, strict=True)
        if one.report is None or other.report is None or one.report["tests_status"] != other.report["tests_status"]
    } == {"astropy__astropy-14369"}
