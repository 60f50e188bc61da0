"""What the tests said, by the rules of each layout's own package, and what isn't the model's doing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evals.terminal.tasks import Layout
from evals.terminal.verdict import Said, ctrf_tests, pytest_summary, rewards_of, verdict

SUMMARY = "some output\n===== short test summary info =====\n"
RAN = SUMMARY + "PASSED t.py::test_a\nFAILED t.py::test_b - assert 1 == 2\n1 failed, 1 passed\n"
OFFLINE = "curl: (6) Could not resolve host: astral.sh\n/tests/test.sh: line 9: uvx: command not found\n"


def said(output: str = "", **fields: Any) -> Said:
    return Said(**{"output": output, "exit_code": 0, "seconds": 1.0, **fields})


def test_pytests_summary() -> None:
    text = RAN + "XFAIL t.py::test_c\nXPASS t.py::test_d\nERROR t.py::test_e - a - b\nSKIPPED [1] t.py:3: no\nPASSED\n"
    assert pytest_summary(text) == {
        "test_a": True, "test_b": False, "test_c": True, "test_d": False, "test_e - a - b": False,
        "[1] t.py:3: no": True,
    }  # fmt: skip
    assert pytest_summary("PASSED t.py::test_a\n") is None  # before the summary nothing counts
    assert pytest_summary(SUMMARY) == {}
    assert pytest_summary(SUMMARY + "PASSED: t.py::T::test_a\n") == {"T::test_a": True}


def test_the_older_layout() -> None:
    good = verdict(Layout.OLDER, said(SUMMARY + "PASSED t.py::test_a\nPASSED t.py::test_b\n"))
    assert (good.resolved, good.doubt, good.environment) == (True, "", "")
    bad = verdict(Layout.OLDER, said(RAN))
    assert not bad.resolved
    assert bad.report()["tests_status"]["FAIL_TO_PASS"] == {"success": ["test_a"], "failure": ["test_b"]}
    late = verdict(Layout.OLDER, said(SUMMARY + "PASSED t.py::test_a\n", timed_out=True))
    assert not late.resolved
    assert "their own limit" in late.doubt
    for output in ("", "Traceback", SUMMARY):
        none = verdict(Layout.OLDER, said(output, exit_code=1))
        assert not none.resolved
        assert "no summary" in none.doubt
        assert not none.environment


@pytest.mark.parametrize("layout", Layout)
def test_tests_that_could_not_run_are_nobodys_failure(layout: Layout) -> None:
    """A script that can't install what it tests with often writes a reward of 0 all the same."""
    found = verdict(layout, said(OFFLINE, exit_code=1, reward_text="0\n"))
    assert not found.resolved
    assert "no network and no root" in found.environment
    assert "Could not resolve host" in found.environment
    # With results there is a verdict, whatever else the log says.
    assert not verdict(layout, said(OFFLINE + RAN, reward_text="0")).environment


@pytest.mark.parametrize(
    "output",
    [
        "curl: (7) Failed to connect to localhost port 8123 after 0 ms: Could not connect to server\n",
        "urllib.error.URLError: <urlopen error [Errno 111] Connection refused>\n",
        "solver: cannot write /etc/x: Read-only file system\n",
        "E: my own words\n",
    ],
)
def test_what_the_task_may_have_been_about_is_the_models(output: str) -> None:
    found = verdict(Layout.NEWER, said(output, exit_code=1, reward_text="0"))
    assert (found.resolved, found.environment) == (False, "")


def test_the_newer_layout() -> None:
    assert verdict(Layout.NEWER, said(reward_text="1\n")).resolved
    assert verdict(Layout.NEWER, said(reward_json='{"reward": 1.0, "style": 0.2}')).resolved
    half = verdict(Layout.NEWER, said(reward_text="0.5"))
    assert (half.resolved, half.rewards) == (False, {"reward": 0.5})
    assert half.report()["rewards"] == {"reward": 0.5}
    assert not verdict(Layout.NEWER, said(reward_json='{"a": 1, "b": 0}')).resolved  # the least of several
    late = verdict(Layout.NEWER, said(reward_text="1", timed_out=True))
    assert not late.resolved
    none = verdict(Layout.NEWER, said("all is well"))
    assert (none.resolved, none.doubt) == (False, "its tests left no reward")
    broken = verdict(Layout.NEWER, said(reward_text="much"))
    assert not broken.resolved
    assert "can't be read" in broken.doubt


def test_rewards() -> None:
    assert rewards_of(said(reward_json='{"a": 1, "b": true, "c": "x"}')) == {"a": 1.0}
    assert rewards_of(said(reward_json='{"a": 1}', reward_text="0.5")) == {"a": 1.0, "reward": 0.5}
    assert rewards_of(said(reward_json='{"a": 1}', reward_text="?")) == {"a": 1.0}
    assert rewards_of(said(reward_json='{"reward": 0}', reward_text="1")) == {"reward": 0.0}  # the object goes before
    assert rewards_of(said()) == {}
    for fields in ({"reward_json": "["}, {"reward_json": "[1]"}, {"reward_text": ""}, {"reward_text": "nan"}):
        with pytest.raises(ValueError):
            rewards_of(said(**fields))
    with pytest.raises(ValueError, match="deeply"):
        rewards_of(said(reward_json="[" * 100_000))


def test_results_of_single_tests() -> None:
    listed = [{"name": "a", "status": "passed"}, {"name": "b", "status": "failed"}, {"name": "c", "status": "?"}]
    text = json.dumps({"results": {"tests": listed}})
    assert ctrf_tests(text) == {"a": True, "b": False, "c": False}
    assert verdict(Layout.NEWER, said(reward_text="0", ctrf=text)).tests == {"a": True, "b": False, "c": False}
    for broken in (None, "", "[]", '{"results": 1}', "[" * 100_000):
        assert ctrf_tests(broken) == {}
