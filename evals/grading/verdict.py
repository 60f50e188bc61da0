"""The report of one instance from its log: which tests pass, which don't, and whether the issue is resolved.

Equal to `get_eval_report` of the official harness in both semantics; conformance tests hold it to that.
Left out: finding logs (`evals.saved_logs`), and whether a patch could be applied where no log tells.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from functools import cached_property
from itertools import accumulate
from typing import Any, Final

from evals.grading.infra import trouble_in
from evals.grading.logs import Log
from evals.grading.parsers import PARSERS
from evals.grading.semantics import GradingFailed, Semantics, Status, only_failures_count, parser_family
from evals.instance import Instance, Schema

TestLists = dict[str, dict[str, list[str]]]
"""FAIL_TO_PASS and its three kin -> success and failure -> test ids in the order of the row."""

_PASSING: Final = (Status.PASSED, Status.XFAIL)


def semantics_of(instance: Instance, log: Log) -> Semantics:
    """Whose rules a log was written for: 5 where its script or its row is of 5.x, else 4."""
    return Semantics.V5 if log.of_version_5 or instance.schema is Schema.SWE_BENCH_5 else Semantics.V4


def report(
    instance: Instance, log: Log, semantics: Semantics, *, patch_is_none: bool = False, parser: str = ""
) -> dict[str, Any]:
    """The official report's object for `instance`: patch flags, `resolved`, and `tests_status` where the log is valid.

    `parser` overrules which parser reads the log. GradingFailed when there is no verdict to be had.
    """
    said: dict[str, Any] = {
        "patch_is_None": patch_is_none,
        "patch_exists": not patch_is_none,
        "patch_successfully_applied": False,
        "resolved": False,
    }
    if semantics is Semantics.V5:
        said["infra_failure"] = False
    if patch_is_none:
        return said
    statuses = log_statuses(instance, log, semantics, parser)
    if statuses is None:
        if semantics is Semantics.V5 and (trouble := trouble_in(log.text)):
            said["infra_failure"] = trouble.certain
            said["infra_failure_reason"] = trouble.reason
        return said
    lists = test_lists(instance, statuses, semantics)
    said["patch_successfully_applied"] = True
    # A test in neither list isn't counted at all, so a row whose tests all vanished is resolved; as in the original.
    said["resolved"] = not (lists["FAIL_TO_PASS"]["failure"] or lists["PASS_TO_PASS"]["failure"])
    said["tests_status"] = lists
    return said


def log_statuses(instance: Instance, log: Log, semantics: Semantics, parser: str = "") -> dict[str, str] | None:
    """Test id -> status; None for a log that describes no run (4.1: markers missing; 5: also one that lies)."""
    parse = _parser(instance, semantics, parser)
    if not log.usable:
        return None
    statuses = parse(log.results) or parse(log.text)
    if semantics is Semantics.V4:
        return statuses
    if not statuses and not log.suite_ran:
        return None
    if statuses and log.exit_code not in (None, 0) and not _some_failed(statuses.values()):
        return None  # the command failed and the log knows of no failure: somebody else wrote its PASSED lines
    return statuses


def _some_failed(statuses: Iterable[str]) -> bool:
    return any(status in (Status.FAILED, Status.ERROR) for status in statuses)


def _parser(instance: Instance, semantics: Semantics, forced: str) -> Callable[[str], dict[str, str]]:
    family = parser_family(semantics, instance.repo, instance.log_parser, forced)
    if ours := PARSERS.get(family):
        return lambda text: ours(text, semantics)
    from evals.grading.official import official_parser

    return official_parser(family, instance, semantics)


class _Known:
    """The statuses of a log, asked for test by test."""

    def __init__(self, statuses: dict[str, str], semantics: Semantics) -> None:
        self._statuses, self._semantics = statuses, semantics

    def status(self, test: str) -> str | None:
        """What the log says of `test`. 5 also takes ids that were cut inside of their parameters (`test[a` for
        `test[a b]`), where all that begin so agree on passing."""
        if (found := self._statuses.get(test)) is not None:
            return found
        if self._semantics is Semantics.V4 or test.count("[") <= test.count("]"):
            return None
        names, order, passing = self._sorted
        low = bisect_left(names, test)
        high = bisect_right(names, test, low, key=lambda name: name[: len(test)])
        if low == high or (passed := passing[high] - passing[low]) not in (0, high - low):
            return None
        return Status.PASSED.value if passed else self._statuses[names[min(range(low, high), key=order.__getitem__)]]

    @cached_property
    def _sorted(self) -> tuple[list[str], list[int], list[int]]:
        """Names in alphabetical order, their place in the log, and how many of the names before each one pass."""
        places = sorted((name, place) for place, name in enumerate(self._statuses))
        names = [name for name, _ in places]
        passes = (self._statuses[name] in _PASSING for name in names)
        return names, [place for _, place in places], list(accumulate(passes, initial=0))


def test_lists(instance: Instance, statuses: dict[str, str], semantics: Semantics) -> TestLists:
    """The four lists of the official report; the last two are always empty, as there."""
    known = _Known(statuses, semantics)
    if only_failures_count(semantics, instance.repo, instance.eval_type):
        counted = {
            "FAIL_TO_PASS": _only_failed(instance.fail_to_pass, statuses),
            "PASS_TO_PASS": _only_failed(instance.pass_to_pass, statuses),
        }
    else:
        counted = {
            "FAIL_TO_PASS": _passed(instance.fail_to_pass, known, semantics, skipped_passes=False),
            "PASS_TO_PASS": _passed(instance.pass_to_pass, known, semantics, skipped_passes=True),
        }
    return counted | {name: {"success": [], "failure": []} for name in ("FAIL_TO_FAIL", "PASS_TO_FAIL")}


def _passed(tests: Iterable[str], known: _Known, semantics: Semantics, *, skipped_passes: bool) -> dict[str, list[str]]:
    """4.1 puts a skipped test into neither list; 5 counts it as kept (P2P) or as failed (F2P). A status that the
    harness doesn't know is in neither list in both."""
    success, failure = [], []
    for test in tests:
        status = known.status(test)
        skipped = status == Status.SKIPPED and semantics is Semantics.V5
        if status in _PASSING or (skipped and skipped_passes):
            success.append(test)
        elif status is None or skipped or status in (Status.FAILED, Status.ERROR):
            failure.append(test)
    return {"success": success, "failure": failure}


def _only_failed(tests: Iterable[str], statuses: dict[str, str]) -> dict[str, list[str]]:
    success: list[str] = []
    failure: list[str] = []
    for test in tests:
        (failure if statuses.get(test) == Status.FAILED else success).append(test)
    return {"success": success, "failure": failure}


__all__ = ["GradingFailed", "TestLists", "log_statuses", "report", "semantics_of", "test_lists"]
