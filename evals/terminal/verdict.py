"""What a task's tests said: pytest's summary for the older layout, a reward file for the newer one.

The readers are written after what the two packages do (docs/decisions/0032). Left out: running the tests (`testing`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from evals.terminal.tasks import Layout

_SUMMARY: Final = re.compile(r"=+[^\S\n]*short test summary info[^\S\n]*=+", re.IGNORECASE)
_WORDS: Final = {
    "PASSED": True, "XFAIL": True, "SKIPPED": True, "FAILED": False, "XPASS": False, "ERROR": False,
}  # fmt: skip
_CTRF: Final = {"passed": True, "skipped": True, "failed": False, "pending": False, "other": False}
_NO_TOOLS: Final = re.compile(
    r"\b(?:uvx?|pytest|curl|wget|apt-get|apt|pip3?|python3?|git|npm|node): (?:command )?not found"
    r"|No module named '?pytest|Could not resolve host|Temporary failure (?:in name resolution|resolving)"
    r"|^E: (?:Could not open lock file|Unable to locate package|Unable to fetch|Failed to fetch|List directory)"
    r"|Could not find a version that satisfies|dns error",
    re.MULTILINE,
)
"""What a script says that can't install what it tests with: there is no network and no root here.

A server that isn't there (connection refused) is none of it: starting it may have been the task.
"""
FULL: Final = 1.0
_SLACK: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Said:
    """What the tests left. `rewards` None: no reward file. Texts are as they came."""

    output: str
    exit_code: int
    seconds: float
    timed_out: bool = False
    reward_json: str | None = None
    reward_text: str | None = None
    ctrf: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`environment`: why there can be no verdict, "" where there is one. `doubt`: what a reader should know."""

    resolved: bool = False
    tests: Mapping[str, bool] = field(default_factory=dict)
    rewards: Mapping[str, float] = field(default_factory=dict)
    doubt: str = ""
    environment: str = ""

    def report(self) -> dict[str, Any]:
        """In the form of the official reports; `rewards` are of the newer layout."""
        passed = sorted(name for name, good in self.tests.items() if good)
        failed = sorted(name for name, good in self.tests.items() if not good)
        said: dict[str, Any] = {
            "patch_is_None": False,
            "patch_exists": True,
            "patch_successfully_applied": True,
            "resolved": self.resolved,
            "tests_status": {
                "FAIL_TO_PASS": {"success": passed, "failure": failed},
                "PASS_TO_PASS": {"success": [], "failure": []},
            },
        }
        return said | ({"rewards": dict(self.rewards)} if self.rewards else {})


def verdict(layout: Layout, said: Said) -> Verdict:
    """The verdict by the rules of the layout's own package."""
    return _older(said) if layout is Layout.OLDER else _newer(said)


def _older(said: Said) -> Verdict:
    """Resolved when all that the summary names has passed. A run that timed out is unresolved, whatever it printed."""
    tests = pytest_summary(said.output)
    if said.timed_out:
        return Verdict(tests=tests or {}, doubt=_late(said))
    if tests:
        return Verdict(all(tests.values()), tests)
    if reason := _could_not(said):
        return Verdict(environment=reason)
    # The package takes a summary without tests for a solved task, since none of its tests failed.
    return Verdict(doubt="its tests left no summary that names a test")


def _newer(said: Said) -> Verdict:
    tests = ctrf_tests(said.ctrf) or pytest_summary(said.output) or {}
    if said.timed_out:
        return Verdict(tests=tests, doubt=_late(said))
    try:
        rewards = rewards_of(said)
    except ValueError as error:
        return Verdict(tests=tests, doubt=f"its reward can't be read: {error}")
    if not rewards:
        return Verdict(tests=tests, environment=_could_not(said) if not tests else "", doubt="its tests left no reward")
    resolved = score(rewards) >= FULL - _SLACK
    if not resolved and not tests and (reason := _could_not(said)):
        return Verdict(rewards=rewards, environment=reason)
    return Verdict(resolved, tests, rewards)


def _late(said: Said) -> str:
    return f"its tests were stopped after {said.seconds:.0f} s, their own limit"


def _could_not(said: Said) -> str:
    """Why tests that never ran didn't, where the sandbox is to blame; "" where it isn't."""
    found = _NO_TOOLS.search(said.output)
    if found is None:
        return ""
    line = next((line for line in said.output.splitlines() if found[0] in line), found[0]).strip()
    return (
        f"its test script could not get what it tests with ({line[:160]!r}): sandboxes have no network and no root. "
        "An image that holds its tools already would serve"
    )


def pytest_summary(text: str) -> dict[str, bool] | None:
    """Tests by name behind the first line of pytest's short summary; None where there is no such line."""
    found = _SUMMARY.search(text)
    if found is None:
        return None
    tests: dict[str, bool] = {}
    for line in text[found.end() :].splitlines():
        if line.startswith("FAILED") and " - " in line:
            line = line.rpartition(" - ")[0]
        word, _, rest = line.strip().partition(" ")
        good, name = _WORDS.get(word.strip(":")), rest.strip()
        if good is not None and name:
            tests[name.partition("::")[2] or name] = good
    return tests


def ctrf_tests(text: str | None) -> dict[str, bool]:
    """Tests by name out of a CTRF file (https://ctrf.io); empty where there is none that can be read."""
    try:
        listed = json.loads(text or "")["results"]["tests"]
        return {str(one["name"]): _CTRF.get(str(one["status"]).lower(), False) for one in listed}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def rewards_of(said: Said) -> dict[str, float]:
    """The numbers of reward.json, else of reward.txt; empty where there is neither. ValueError for what is none."""
    if said.reward_json is not None:
        try:
            found = json.loads(said.reward_json)
        except RecursionError:
            raise ValueError("reward.json is nested too deeply") from None
        if not isinstance(found, dict):
            raise ValueError("reward.json holds no object")
        rewards = {name: float(value) for name, value in found.items() if _is_number(value)}
        if "reward" not in rewards and said.reward_text is not None:
            try:
                rewards["reward"] = _number(said.reward_text)
            except ValueError:  # then what reward.json names is all there is
                pass
        return rewards
    return {} if said.reward_text is None else {"reward": _number(said.reward_text)}


def score(rewards: Mapping[str, float]) -> float:
    """One number of several: `reward` where it is named, else the least."""
    return rewards["reward"] if "reward" in rewards else min(rewards.values())


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text.strip()[:40]!r} is no finite number")
    return value
