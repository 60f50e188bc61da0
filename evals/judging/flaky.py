"""Tests that are known to say nothing about a patch: those that fail with the gold patch too, and those that flicker.

`agent eval gold` writes what it found to a JSON file; runs read it, and a verdict that hangs on such tests alone is
marked as doubtful (`Judged.doubt`). It is never changed by it.

Left out: finding them (`gold`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from evals.predictions import write_whole

FORMAT: Final = 1
MAX_FILE: Final = 64 << 20


class KnownTestsBroken(ValueError):
    """A file of known tests that can't be used; the message says why."""


@dataclass(frozen=True, slots=True)
class InstanceTests:
    """What is known of one instance: test ids that fail with gold in every run, and ids that differ between runs.

    `broken`: why the environment as a whole is broken, "" where it isn't.
    """

    failing: frozenset[str] = frozenset()
    flaky: frozenset[str] = frozenset()
    broken: str = ""

    def __bool__(self) -> bool:
        return bool(self.failing or self.flaky or self.broken)


@dataclass(frozen=True, slots=True)
class KnownTests:
    """By instance id."""

    instances: Mapping[str, InstanceTests] = field(default_factory=dict)

    def of(self, instance_id: str) -> InstanceTests:
        return self.instances.get(instance_id, InstanceTests())


NOTHING_KNOWN: Final = KnownTests()


def read_known(path: Path) -> KnownTests:
    """What `write_known` wrote. KnownTestsBroken says what is wrong."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise KnownTestsBroken(f"{path} is longer than {MAX_FILE >> 20} MB")
        data = json.loads(path.read_bytes())
        if data["format"] != FORMAT:
            raise KnownTestsBroken(f"{path} has format {data['format']!r}; this release reads {FORMAT}")
        return KnownTests({name: _tests(said) for name, said in data["instances"].items()})
    except OSError as error:
        raise KnownTestsBroken(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, KnownTestsBroken):
            raise
        raise KnownTestsBroken(f"{path} is no list of known tests (agent eval gold writes one): {error!r}") from error


def _tests(said: Mapping[str, Any]) -> InstanceTests:
    failing, flaky, broken = said["failing"], said["flaky"], said["broken"]
    if not (_names(failing) and _names(flaky) and isinstance(broken, str)):
        raise KnownTestsBroken("an instance's lists hold something else than names of tests")
    return InstanceTests(frozenset(failing), frozenset(flaky), broken)


def _names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def write_known(path: Path, known: KnownTests, facts: Mapping[str, Any]) -> None:
    """Write it whole. `facts`: how it was found (data set, times, semantics), for the reader."""
    instances = {
        name: {"failing": sorted(one.failing), "flaky": sorted(one.flaky), "broken": one.broken}
        for name, one in sorted(known.instances.items())
        if one
    }
    write_whole(path, json.dumps({"format": FORMAT, "facts": dict(facts), "instances": instances}, indent=2) + "\n")


def doubt_about(known: InstanceTests, report: Mapping[str, Any]) -> str:
    """Why a failure may not be the patch's, in a sentence; "" for a verdict that hangs on other tests too."""
    if report["resolved"]:
        return ""
    failed = set(failed_tests(report))
    if failed and failed <= known.failing:
        return f"only tests failed that fail with the gold patch too: {some(failed)}"
    if failed and failed <= known.failing | known.flaky:
        return f"only tests failed that are flaky or fail with the gold patch too: {some(failed)}"
    if known.broken:
        return f"the environment is broken with the gold patch too: {known.broken}"
    return ""


def failed_tests(report: Mapping[str, Any]) -> Iterable[str]:
    """Ids of the tests that a report counts as failed."""
    lists = report.get("tests_status") or {}
    for name in ("FAIL_TO_PASS", "PASS_TO_PASS"):
        yield from lists.get(name, {}).get("failure", ())


def some(tests: Iterable[str]) -> str:
    ordered = sorted(tests)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return ", ".join(ordered[:3]) + more
