"""Our grading against the official functions, run: on our cases, on random text, and on the real runs."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evals.grading.logs import read_log
from evals.grading.official import cached_wheel, official_modules, official_report
from evals.grading.semantics import GradingFailed, Semantics
from evals.grading.verdict import report
from evals.instance import Instance
from evals.regrade import regrade
from evals.saved_logs import find_logs
from tests.evals.case_list import CASES
from tests.evals.cases import BODIES, TEST_LISTS, VERSIONS, Case, framed, graded, instance
from tests.evals.test_grading import official_runs
from tests.shared_data import needs_shared

pytestmark = [
    pytest.mark.evals,
    pytest.mark.skipif(
        not all(cached_wheel(semantics).is_file() for semantics in Semantics),
        reason="the official releases aren't there: scripts/swebench.sh fetches them",
    ),
]


def word(judge: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any] | str:
    try:
        return judge(*args)
    except GradingFailed:
        return "stops"


def both(one: Instance, path: Path, semantics: Semantics) -> tuple[Any, Any]:
    ours = word(lambda: report(one, read_log(path), semantics))
    return ours, word(official_report, one, path, semantics)


@pytest.mark.parametrize("semantics", Semantics)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_cases(case: Case, semantics: Semantics, tmp_path: Path) -> None:
    path = tmp_path / "test_output.txt"
    path.write_bytes((case.body if case.bare else framed(case.body, case.after)).encode())
    ours, theirs = both(instance(case.repo, **case.fields), path, semantics)
    assert ours == theirs


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=BODIES,
    f2p=TEST_LISTS,
    p2p=TEST_LISTS,
    repo=st.sampled_from(sorted(VERSIONS)),
    after=st.sampled_from(["", ">>>>> Test Exit Code: 1\n", "PASSED f\n"]),
)
def test_random_logs(body: str, f2p: list[str], p2p: list[str], repo: str, after: str, tmp_path: Path) -> None:
    path = tmp_path / "test_output.txt"
    path.write_bytes(framed(body, after).encode())
    for semantics in Semantics:
        ours, theirs = both(instance(repo, FAIL_TO_PASS=f2p, PASS_TO_PASS=p2p), path, semantics)
        assert ours == theirs


@needs_shared
@pytest.mark.timeout(900)
def test_the_real_runs_also_torn(tmp_path: Path) -> None:
    """As they are, and with lines lost, doubled and mixed, from a fixed seed."""
    outcomes, instances = official_runs(tmp_path)
    dice = random.Random(1)
    for semantics in Semantics:
        ours = list(regrade(find_logs(tmp_path), instances, semantics))
        theirs = list(regrade(find_logs(tmp_path), instances, semantics, official=True))
        assert [one.report for one in ours] == [one.report for one in theirs]
    for one in outcomes:
        lines = one.log.read_text().split("\n")
        torn = [line[: dice.randrange(len(line) + 1)] if dice.random() < 0.1 else line for line in lines]
        mixed = [line for line in torn for _ in range(dice.choice((0, 1, 1, 1, 1, 1, 2)))]
        one.log.write_text("\n".join(mixed))
        for semantics in Semantics:
            mine, his = both(instances[one.instance_id], one.log, semantics)
            assert mine == his, (one.log, semantics)


OTHERS = {
    "gin-gonic/gin": ("--- PASS: f (0.00s)\n--- FAIL: p (0.10s)", "1.0"),
    "tokio-rs/axum": ("test f ... ok\ntest p ... FAILED", "1.0"),
    "babel/babel": ("  ✓ f (3 ms)\n  ✕ p (4 ms)", "1.0"),
}


@pytest.mark.parametrize("semantics", Semantics)
@pytest.mark.parametrize("repo", OTHERS)
def test_other_languages_are_read_by_the_official_parsers(repo: str, semantics: Semantics, tmp_path: Path) -> None:
    body, version = OTHERS[repo]
    lists = graded(instance(repo, version=version), framed(body), semantics, tmp_path)["tests_status"]
    assert (lists["FAIL_TO_PASS"]["success"], lists["PASS_TO_PASS"]["failure"]) == (["f"], ["p"])


def test_both_releases_live_in_one_process_and_leave_nothing_behind() -> None:
    four, five = (official_modules(semantics) for semantics in (Semantics.V4, Semantics.V5))
    assert hasattr(four["log_parsers"], "MAP_REPO_TO_PARSER")
    assert hasattr(five["log_parsers"], "PARSER_REGISTRY")
    assert not [name for name in sys.modules if name.partition(".")[0] == "swebench"]


def test_a_parser_that_never_ends_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evals.grading.official.PARSE_SECONDS", 0.5)
    path = tmp_path / "test_output.txt"
    path.write_text(framed("x ... Testing against Django installed in \n" * 30_000))
    with pytest.raises(GradingFailed, match=r"reads this log for more than 0\.5 s"):
        official_report(instance("django/django"), path, Semantics.V5)
