"""Why a failed verdict may be the environment's doing. Advice for a reader; it never changes a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from evals.grading.infra import trouble_in
from evals.judging.base import JudgeSpec
from evals.judging.flaky import doubt_about, failed_tests, some
from evals.judging.testing import TestRun


def doubt_of(spec: JudgeSpec, report: Mapping[str, Any], log: str, run: TestRun | None) -> str:
    """A sentence, "" for none. `run` None: the patch didn't apply, which is never the environment's doing."""
    if report["resolved"] or run is None:
        return ""
    if said := doubt_about(spec.known.of(spec.instance.instance_id), report):
        return said
    if wanting := _want_network(spec, report):
        return f"only tests failed that want a network, and there is none: {some(wanting)}"
    if run.memory:
        return "a process of the tests was killed at the sandbox's memory limit"
    if run.too_long:
        return "the tests were stopped because of what they wrote"
    trouble = trouble_in(log)
    if trouble is None:
        return ""
    sure = "a patch of the sources can't cause it" if trouble.certain else "the patch may be the cause as well"
    return f"the log shows the harness's sign {trouble.reason}: {sure}"


def _want_network(spec: JudgeSpec, report: Mapping[str, Any]) -> set[str]:
    """The failed tests, if the environment says of all of them that they need a network."""
    patterns = spec.environment.facts.get("wants_network") or ()
    failed = set(failed_tests(report))
    wanting = {test for test in failed if any(fnmatchcase(test, str(pattern)) for pattern in patterns)}
    return wanting if wanting == failed else set()
