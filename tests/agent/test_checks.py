"""Which checks are planned, on which trees, and how their results are judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import checkout, checks, config
from agent.checks import CheckSource, is_test_file
from agent.ends import InputProblem
from agent.events import Event, EventType
from agent.verify import Verdict, Verification, failed_tests, judge
from sandbox.base import CommandEnd, CommandResult
from tests.agent.repos import CALC, git, make_repo
from tests.agent.test_checkout import tree_with


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("tests/test_ops.py", True), ("pkg/ops_test.go", True), ("src/a.test.ts", True), ("spec/a_spec.rb", True),
        ("conftest.py", True), ("tests/data/x.json", True), ("src/FooTest.java", True),
        ("src/contest.py", False), ("latest/ops.py", False), ("testament.py", False), ("pkg/ops.py", False),
    ],
)  # fmt: skip
def test_test_files_by_name(path: str, expected: bool) -> None:
    assert is_test_file(path) is expected


def observed(command: str, exit_code: int, tree: str) -> Event:
    facts = {"command": command, "exit_code": exit_code}
    data = {"facts": facts, "tree": tree, "ends_run": False}
    return Event(0, 0.0, EventType.OBSERVATION, data)


def test_a_command_that_failed_and_passes_on_the_final_tree_is_a_reproduction() -> None:
    events = [
        observed("pytest a", 1, "base"),
        observed("pytest b", 1, "base"),
        observed("pytest a", 0, "middle"),  # passed, but not on the final tree
        observed("pytest b", 0, "final"),
        observed("ls", 0, "final"),  # never failed
        observed("pytest c", 1, "base"),
        observed("pytest c", 0, "final"),
        observed("pytest c", 1, "final"),  # failed again
    ]
    found = checks.flipped(events, "final")
    assert [(command.text, command.cwd, command.tree) for command in found] == [("pytest b", ".", "base")]


async def test_the_plan_puts_test_files_and_removed_scripts_on_both_sides(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo", CALC)
    bare = tmp_path / "bare"
    base = await checkout.take_base(bare, str(repo), git(repo, "rev-parse", "HEAD"))
    script = await tree_with(bare, base, repo, {"repro.py": "import calc"})
    (repo / "repro.py").unlink()
    final = await tree_with(bare, base, repo, {"calc/ops.py": "fixed", "tests/test_more.py": "def test_more(): ..."})
    events = [observed("python repro.py", 1, script), observed("python repro.py", 0, final)]
    settings = config.parse_config('[test]\ncommand = "make check"\ntimeout = 5')
    plan = await checks.plan(bare, base, final, events, settings, "pytest -k mean")

    assert [(check.source, check.command) for check in plan] == [
        (CheckSource.SUBMITTED, "pytest -k mean"),
        (CheckSource.INFERRED, "python repro.py"),
        (CheckSource.CONFIGURED, "make check"),
        (CheckSource.NEAR, "python -m pytest -q -p no:cacheprovider tests/test_more.py tests/test_ops.py"),
    ]

    async def names(tree: str) -> set[tuple[str, str]]:
        return set(await checkout.changed_files(bare, base.tree, tree))

    submitted, inferred, configured, _ = plan
    assert await names(submitted.before) == {("A", "tests/test_more.py")}
    assert submitted.after == final
    assert await names(inferred.before) == {("A", "tests/test_more.py"), ("A", "repro.py")}
    assert await names(inferred.after) == {("A", "tests/test_more.py"), ("A", "repro.py"), ("M", "calc/ops.py")}
    assert configured.timeout == 5


def result(exit_code: int, output: str = "", end: CommandEnd = CommandEnd.EXITED) -> CommandResult:
    return CommandResult(exit_code, output.encode(), b"", len(output), 0.1, end)


ONE, TWO = "FAILED t.py::one - x\n", "FAILED t.py::one - x\nFAILED t.py::two - y\n"


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (result(1), result(0), Verdict.FIXED),
        (result(0), result(0), Verdict.KEPT),
        (result(0), result(1), Verdict.BROKEN),
        (result(1, ONE), result(1, ONE), Verdict.FAILING),
        (result(1, TWO), result(1, ONE), Verdict.FAILING),
        (result(1, ONE), result(1, TWO), Verdict.BROKEN),
        (result(1), result(1), Verdict.FAILING),
        (result(127), result(127), Verdict.UNCLEAR),
        (result(-1, end=CommandEnd.TIMEOUT), result(0), Verdict.FIXED),
        (result(0), result(-1, end=CommandEnd.TIMEOUT), Verdict.UNCLEAR),
    ],
)
def test_a_verdict_on_two_results(before: CommandResult, after: CommandResult, verdict: Verdict) -> None:
    assert judge(before, after) is verdict


@pytest.mark.parametrize(
    ("applies", "verdicts", "verified"),
    [
        (True, (Verdict.FIXED, Verdict.KEPT, Verdict.FAILING, Verdict.UNCLEAR), True),
        (True, (Verdict.KEPT,), False),
        (True, (), False),
        (True, (Verdict.FIXED, Verdict.BROKEN), False),
        (False, (Verdict.FIXED,), False),
    ],
)
def test_what_counts_as_verified(applies: bool, verdicts: tuple[Verdict, ...], verified: bool) -> None:
    assert Verification(applies, verdicts).verified is verified


def test_failed_tests_come_from_the_summary_only() -> None:
    assert failed_tests(result(1, "E   FAILED x\n" + TWO + "ERROR t.py\n")) == {"t.py::one", "t.py::two", "t.py"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sandbox]\nruntime = 'runc'", "sandbox.runtime: Extra inputs are not permitted"),
        ("[test]\ntimeout = 100000", "test.timeout"),
        ("[sandbox]\nimage = 3", "sandbox.image"),
        ("nonsense", "not TOML"),
    ],
)
def test_settings_of_a_repository_are_a_safe_subset(text: str, message: str) -> None:
    with pytest.raises(InputProblem, match=message):
        config.parse_config(text)
