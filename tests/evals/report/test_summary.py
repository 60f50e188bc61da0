"""What a report counts, over what, and why attempts failed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.report import report_of, without_times
from evals.report.causes import Cause, cause_of, signs_of
from evals.report.distributions import BINS, KINDS, bin_width, distribution
from evals.runs.record import AttemptRecord, Judged, Predicted, Usage
from evals.statistics import wilson
from tests.evals.report.sample import GOLDEN, records, small

FILE = GOLDEN / "report.json"
"""Written anew by `python -m tests.evals.report.test_summary` where the format changes on purpose."""


def written() -> str:
    return json.dumps(report_of(*small()), indent=1, sort_keys=True) + "\n"


def test_the_golden_report() -> None:
    assert written() == FILE.read_text()


def attempt(instance: str = "a__b-1", number: int = 1, **more: Any) -> AttemptRecord:
    said = {"predicted": Predicted("unverified", "submitted", usage=Usage(steps=3), edited=("core.py",))} | more
    return AttemptRecord("r", instance, number, "m", repo="a/b", gold_files=("core.py",), **said)


def judged(failed: int = 0, broken: int = 0, **more: Any) -> Judged:
    lists = {
        "FAIL_TO_PASS": {"success": ["f"] * (2 - failed), "failure": ["f"] * failed},
        "PASS_TO_PASS": {"success": ["p"], "failure": ["p"] * broken},
    }
    return Judged({"patch_is_None": False, "resolved": not failed + broken, "tests_status": lists}, "4.1.0", **more)


def test_an_infrastructure_failure_stays_in_the_denominator_and_is_named() -> None:
    broken = attempt("a__b-2", infrastructure="the image is gone")
    found = report_of([attempt(judged=judged()), broken], {})
    assert (found["resolved"]["resolved"], found["resolved"]["attempts"], found["resolved"]["rate"]) == (1, 2, 0.5)
    assert "infrastructure failure counts as not resolved" in found["resolved"]["denominator"]
    assert found["resolved"]["with_a_verdict"]["rate"] == 1 and found["resolved"]["with_a_verdict"]["attempts"] == 1
    assert found["counts"]["infrastructure"] == 1
    assert found["infrastructure"] == [{"instance_id": "a__b-2", "attempt": 1, "infrastructure": "the image is gone"}]


def test_what_was_asked_for_and_has_no_record_is_named() -> None:
    said = {"dataset": {"instances": ["a__b-1", "a__b-2"]}, "settings": {"attempts": 2}}
    found = report_of([attempt(judged=judged()), attempt(number=2, judged=judged(1))], said)
    assert found["counts"]["attempts_asked"] == 4 and found["counts"]["missing"] == 2
    assert [one["instance_id"] for one in found["missing"]] == ["a__b-2", "a__b-2"]
    assert found["resolved"]["denominator"].startswith("the attempts that have ended;")
    assert report_of([attempt()], {"instances": 7})["counts"]["missing"] == 6
    assert report_of([attempt()], {"instances": True, "attempts": -1})["counts"]["missing"] == 0


def test_a_failure_in_a_doubtful_environment_is_apart_and_still_counts() -> None:
    doubtful = attempt("a__b-2", judged=judged(1, doubt="fails with gold too"))
    found = report_of([attempt(judged=judged()), doubtful], {})
    assert found["resolved"]["rate"] == 0.5 and found["resolved"]["without_doubtful"]["rate"] == 1
    assert found["counts"]["doubtful"] == 1 and found["doubts"][0]["doubt"] == "fails with gold too"


def test_a_resolved_attempt_in_a_doubtful_environment_is_resolved() -> None:
    found = report_of([attempt(judged=judged(doubt="flaky"))], {})
    assert found["resolved"]["without_doubtful"]["rate"] == 1 and not found["causes"]


def test_the_rate_and_its_interval_are_wilsons() -> None:
    found = report_of(records(), {})["resolved"]
    low, high = wilson(found["resolved"], 60)
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-6)


def test_pass_at_1_is_the_rate_and_the_curves_go_apart() -> None:
    found = report_of(records(4), {})
    curve = found["repeats"]["curve"]
    assert curve[0]["pass_at"] == curve[0]["pass_hat"] == found["resolved"]["rate"]
    assert [point["pass_at"] for point in curve] == sorted(point["pass_at"] for point in curve)
    assert [point["pass_hat"] for point in curve] == sorted((point["pass_hat"] for point in curve), reverse=True)
    times = found["repeats"]["resolved_times"]
    assert sum(times) == 60 and curve[3]["pass_hat"] == pytest.approx(times[4] / 60, abs=1e-6)
    assert curve[3]["pass_at"] == pytest.approx(1 - times[0] / 60, abs=1e-6)


def test_an_instance_with_an_attempt_that_has_not_ended_is_in_no_curve() -> None:
    found = report_of(records(4)[1:], {})["repeats"]
    assert (found["instances"], found["unfinished"]) == (59, 1)
    none = report_of(records(2)[:1], {"attempts": 2})["repeats"]
    assert none["instances"] == 0 and none["curve"][0]["pass_at"] is None


@pytest.mark.parametrize(
    ("record", "cause", "signs"),
    [
        (attempt(judged=judged()), None, ()),
        (attempt(infrastructure="x", judged=judged(1)), Cause.INFRASTRUCTURE, (Cause.INFRASTRUCTURE,)),
        (attempt(judged=judged(1, doubt="flaky")), Cause.DOUBT, (Cause.DOUBT, Cause.INCOMPLETE)),
        (attempt(judged=judged(1)), Cause.INCOMPLETE, (Cause.INCOMPLETE,)),
        (attempt(judged=judged(1, 1)), Cause.BROKE_TESTS, (Cause.BROKE_TESTS, Cause.INCOMPLETE)),
        (
            attempt(judged=judged(1), predicted=Predicted("unverified", "submitted", edited=("other.py",))),
            Cause.WRONG_FILE,
            (Cause.WRONG_FILE, Cause.INCOMPLETE),
        ),
        (
            attempt(judged=judged(1), predicted=Predicted("limit", "step limit", edited=("other.py",))),
            Cause.RAN_OUT,
            (Cause.RAN_OUT, Cause.WRONG_FILE, Cause.INCOMPLETE),
        ),
        (attempt(predicted=Predicted("limit", "time limit")), Cause.RAN_OUT, (Cause.RAN_OUT, Cause.NO_EDIT)),
        (attempt(predicted=Predicted("no patch", "submitted")), Cause.NO_EDIT, (Cause.NO_EDIT,)),
        (attempt(predicted=None), Cause.NO_EDIT, (Cause.NO_EDIT,)),
        (
            attempt(judged=judged(1), predicted=Predicted("model failed", "model failed", edited=("core.py",))),
            Cause.CUT_OFF,
            (Cause.CUT_OFF, Cause.INCOMPLETE),
        ),
        (attempt(judged=Judged({"resolved": False}, "4.1.0")), Cause.NOT_RUN, (Cause.NOT_RUN,)),
        (
            attempt(judged=Judged({"resolved": False, "infra_failure": True}, "5.0.2")),
            Cause.DOUBT,
            (Cause.DOUBT, Cause.NOT_RUN),
        ),
        (attempt(judged=Judged({"resolved": False, "tests_status": {}}, "5.0.2")), Cause.INCOMPLETE, ()),
    ],
)
def test_causes(record: AttemptRecord, cause: Cause | None, signs: tuple[Cause, ...]) -> None:
    assert (cause_of(record), signs_of(record)) == (cause, signs)


def test_every_unresolved_attempt_has_one_cause() -> None:
    found = report_of(records(4), {})
    clustered = [tuple(key) for one in found["causes"] for key in one["attempts"]]
    assert len(clustered) == len(set(clustered)) == 240 - found["counts"]["resolved"]
    assert {one["cause"] for one in found["causes"]} >= {"ran out", "wrong file", "environment in doubt", "no edit"}


def test_without_times_two_runs_of_the_same_are_equal() -> None:
    first = records()
    again = [
        replace(
            one, run="other", worker="two", started=5.0, ended=9.0, tries=("x",),
            predicted=one.predicted and replace(one.predicted, usage=replace(one.predicted.usage, seconds=1.0)),
        )
        for one in first
    ]  # fmt: skip
    assert report_of(first, {}) != report_of(again, {})
    assert without_times(report_of(first, {})) == without_times(report_of(again, {}))
    again[0] = replace(again[0], judged=None, infrastructure="x")
    assert without_times(report_of(first, {})) != without_times(report_of(again, {}))


def test_the_order_of_records_and_a_doubled_one_change_nothing() -> None:
    made = records(2)
    assert report_of([*made[::-1], made[5]], {}) == report_of(made, {})
    assert report_of([], {})["resolved"]["rate"] is None


def test_long_texts_are_cut_and_long_lists_too() -> None:
    leaks = tuple(f"leak {number}" for number in range(500))
    one = attempt(judged=judged(), predicted=Predicted("given", leaks=leaks), infrastructure="x" * 9000)
    row = report_of([one], {})["attempts"][0]
    assert len(row["leaks"]) == 40 and len(row["infrastructure"]) < 700


@given(st.lists(st.tuples(st.floats(0, 1e9), st.sampled_from(["resolved", "infrastructure", "no_patch"])), max_size=50))
def test_a_histogram_holds_every_value_once(values: list[tuple[float, str]]) -> None:
    found = distribution(values, 3)
    assert (found["known"], found["unknown"]) == (len(values), 3)
    if values:
        bins = found["histogram"]
        assert sum(sum(bins[kind]) for kind in KINDS) == len(values)
        assert len(bins["resolved"]) <= BINS + 1
        assert bins["start"] <= found["min"] * (1 + 1e-6) and found["min"] <= found["median"] <= found["max"]


@given(st.floats(0, 1e7), st.floats(0, 1e7), st.booleans())
def test_bins_have_a_round_width(one: float, other: float, whole: bool) -> None:
    low, high = sorted((one, other))
    width = bin_width(low, high, whole=whole)
    assert width > 0 and (high - low) / width <= BINS
    assert not whole or width == int(width)


if __name__ == "__main__":
    FILE.write_text(written())
