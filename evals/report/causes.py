"""Why an attempt isn't resolved: the first cause that its record shows, and the signs that stand beside it.

A cluster, not a diagnosis: it is read off the patch's files, the tests' lists and how the loop ended. Left out: what
the tests or the model said.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from agent.ends import End, Outcome
from evals.runs.record import AttemptRecord, Status


class Cause(StrEnum):
    """In the order in which they are looked for: the first that holds is an attempt's cause."""

    INFRASTRUCTURE = "infrastructure"
    DOUBT = "environment in doubt"
    RAN_OUT = "ran out"
    CUT_OFF = "cut off"
    NO_EDIT = "no edit"
    NOT_RUN = "tests not run"
    WRONG_FILE = "wrong file"
    BROKE_TESTS = "broke tests"
    INCOMPLETE = "incomplete fix"


MEANINGS: Final[Mapping[Cause, str]] = {
    Cause.INFRASTRUCTURE: "no verdict: an image, a sandbox, a server or a disk failed, not the model",
    Cause.DOUBT: "its tests fail for what may be the environment's reason: known to be flaky, or gold fails too",
    Cause.RAN_OUT: "steps, tokens, time, money or context were used up before the work was submitted",
    Cause.CUT_OFF: "the model's server or the sandbox failed in mid-run, and the attempt was graded as it stood",
    Cause.NO_EDIT: "no patch: the work tree was left as it was",
    Cause.NOT_RUN: "the patch didn't apply, or the log shows no valid run of the tests",
    Cause.WRONG_FILE: "none of the files that the reference fix changes was touched",
    Cause.BROKE_TESTS: "tests that passed before fail with the patch (PASS_TO_PASS)",
    Cause.INCOMPLETE: "the right file, nothing broken, and tests of the issue still fail (FAIL_TO_PASS)",
}

_LIMITS: Final = frozenset({End.STEPS, End.TOKENS, End.TIME, End.COST, End.CONTEXT, End.STOPPED_TALKING})
_FAILURES: Final = frozenset({End.MODEL, End.SANDBOX, End.INTERRUPTED})


def signs_of(record: AttemptRecord) -> tuple[Cause, ...]:
    """All that hold, in the order of `Cause`; empty for a resolved attempt."""
    if record.status is Status.RESOLVED:
        return ()
    found = {cause for cause, holds in _signs(record).items() if holds}
    return tuple(cause for cause in Cause if cause in found)


def cause_of(record: AttemptRecord) -> Cause | None:
    """The first of them; None for a resolved attempt. An unresolved one without any sign has an incomplete fix."""
    if record.status is Status.RESOLVED:
        return None
    return next(iter(signs_of(record)), Cause.INCOMPLETE)


def _signs(record: AttemptRecord) -> dict[Cause, bool]:
    if record.status is Status.INFRASTRUCTURE:
        return {Cause.INFRASTRUCTURE: True}
    predicted = record.predicted
    end = predicted.end if predicted else ""
    report: Mapping[str, Any] = record.judged.report if record.judged else {}
    edited = set(predicted.edited) if predicted else set()
    no_edit = record.status is Status.NO_PATCH
    return {
        Cause.DOUBT: bool(record.judged and record.judged.doubt) or bool(report.get("infra_failure")),
        Cause.RAN_OUT: end in _LIMITS or bool(predicted and predicted.outcome == Outcome.LIMIT),
        Cause.CUT_OFF: end in _FAILURES,
        Cause.NO_EDIT: no_edit,
        Cause.NOT_RUN: not no_edit and "tests_status" not in report,
        Cause.WRONG_FILE: bool(edited and record.gold_files and not edited & set(record.gold_files)),
        Cause.BROKE_TESTS: bool(failed_tests(report, "PASS_TO_PASS")),
        Cause.INCOMPLETE: bool(failed_tests(report, "FAIL_TO_PASS")),
    }


def failed_tests(report: Mapping[str, Any], which: str) -> list[str]:
    """The tests of that list that failed; empty where the log showed no valid run."""
    return list(_lists(report, which).get("failure") or [])


def passed_of(report: Mapping[str, Any], which: str) -> list[int] | None:
    """[passed, all] of that list; None where the log showed no valid run."""
    lists = _lists(report, which)
    if not lists:
        return None
    passed = len(lists.get("success") or [])
    return [passed, passed + len(lists.get("failure") or [])]


def _lists(report: Mapping[str, Any], which: str) -> Mapping[str, Any]:
    status = report.get("tests_status")
    lists = status.get(which) if isinstance(status, Mapping) else None
    return lists if isinstance(lists, Mapping) else {}
