"""Every bundled task is what it says: hidden tests fail before the fix, pass with it, and notice what is lazy."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.mini.dataset import eval_script, hidden_files, mini_dataset
from evals.mini.repositories import repository
from evals.mini.script import turns
from evals.mini.tasks import read_task, task_ids
from tests.evals.mini.direct import checkout, git, outcome, passing

TASKS = task_ids()
one_here_all_in_test_all = pytest.mark.parametrize(
    "task_id", [TASKS[0], *(pytest.param(one, marks=pytest.mark.heavy) for one in TASKS[1:])]
)
UNSTEADY = {"mini__limiter-9"}  # its own tests depend on the machine before the fix: that is the issue


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "cache"))


def test_there_are_ten_of_several_kinds_and_languages() -> None:
    tasks = [read_task(task_id) for task_id in TASKS]
    assert len(tasks) == 10
    assert {task.kind for task in tasks} == {"bug", "feature", "refactor", "flaky", "impossible"}
    assert {task.language for task in tasks} >= {"python", "shell", "perl", "awk", "make"}
    assert len({task.title for task in tasks}) == 10


@pytest.mark.heavy
@pytest.mark.parametrize("task_id", TASKS)
def test_before_the_fix(task_id: str, tmp_path: Path) -> None:
    task = read_task(task_id)
    passed = passing(outcome(task, tmp_path / "checkout"))
    assert not passed & set(task.fail_to_pass)
    missing = set(task.pass_to_pass) - passed
    if task_id in UNSTEADY:
        missing = {test for test in missing if test.startswith("tests/test_steadiness.py")}
    assert not missing


@pytest.mark.heavy
@pytest.mark.parametrize("task_id", TASKS)
def test_with_the_gold_patch(task_id: str, tmp_path: Path) -> None:
    task = read_task(task_id)
    for time in range(3 if task_id in UNSTEADY else 1):
        statuses = outcome(task, tmp_path / str(time), task.patch)
        assert set(statuses) == passing(statuses) == {*task.fail_to_pass, *task.pass_to_pass}


@one_here_all_in_test_all
def test_the_agent_sees_nothing_of_the_answer(task_id: str, tmp_path: Path) -> None:
    task = read_task(task_id)
    checkout(task, tmp_path / "checkout")
    kept = {path.name for path in (tmp_path / "checkout").rglob("*") if ".git" not in path.parts}
    assert not kept & {"task.toml", "gold.patch", "tests.patch", "turns.toml"}
    for path, new in hidden_files(task):
        assert (tmp_path / "checkout" / path).exists() != new
    history = git("-C", str(repository(task)), "log", "-p", "--all")
    for patch in (task.patch, task.test_patch):  # moved lines were there, and so were calls that every test makes
        added = [line[1:].strip() for line in patch.splitlines() if line.startswith("+") and len(line.strip()) > 30]
        shown = [line for line in added if line in history]
        assert len(shown) <= len(added) / 5


def test_the_row_has_what_a_row_of_harness_5_has() -> None:
    found = mini_dataset()
    assert not found.broken
    assert [one.instance_id for one in found.instances] == list(TASKS)
    for one in found.instances:
        assert one.schema == "swe-bench-5"
        assert one.eval_type == "pass_and_fail"
        assert one.log_parser == "parse_log_pytest"
        assert len(one.base_commit) == 40
        assert bool(one.fail_to_pass) != bool(one.rest["grade_empty_patch"])
        assert bool(one.patch) != bool(one.rest["grade_empty_patch"])


def test_the_script_puts_tests_back_and_notes_the_exit_code() -> None:
    task = read_task("mini__confy-21")
    lines = eval_script(task).split("\n")
    assert "rm -f tests/test_include.py" in lines
    start, end = lines.index(": '>>>>> Start Test Output'"), lines.index(": '>>>>> End Test Output'")
    assert lines[start + 1 : end] == [task.test_command, "SWEBENCH_TEST_EXIT_CODE=$?"]
    known = eval_script(read_task("mini__tally-7"))
    assert f"git checkout {read_task('mini__tally-7').base_commit} tests/test_entries.py tests/test_report.py" in known


LAZY = {
    "mini__sweep-14": ("bin/sweep", "        rm -f $1\n", '        rm -f "$1"\n'),
    "mini__tally-7": ("tally/entries.py", "minutes=self.end - self.start)", "minutes=(self.end - self.start) % 1440)"),
    "mini__logsum-8": ("bin/logsum", "sort @times", "sort { $a <=> $b } @times"),
    "mini__till-11": ("till/invoice.py", "* money.parse(self.price)", "* money.parse(self.price) + 3"),
    "mini__csvsum-4": ("lib/csvsum.awk", "{ sub(/\\r$/, \"\") }", "{ sub(/\\r$/, \"\"); gsub(/\"/, \"\") }"),
    "mini__pages-6": ("Makefile", ".PHONY: all clean", ".PHONY: all clean $(PAGES) out/index.html"),
    "mini__limiter-9": ("tests/test_bucket.py", "import pytest\n", "import pytest\n\npytestmark = pytest.mark.skip\n"),
    "mini__ticket-3": ("ticket/codes.py", "MAX_NUMBER = 9_999_999_999", "MAX_NUMBER = 999_999"),
    "mini__tabula-5": ("tabula/__init__.py", "to_tsv\n\n", "to_tsv\n\nSTYLES = {}\n\n"),
}  # fmt: skip
"""Task -> a change that one would make without reading the issue to its end: file, before, after."""


@pytest.mark.heavy
@pytest.mark.parametrize("task_id", LAZY)
def test_a_lazy_fix_is_not_enough(task_id: str, tmp_path: Path) -> None:
    task = read_task(task_id)
    path, before, after = LAZY[task_id]
    checkout(task, tmp_path / "edited")
    file = tmp_path / "edited" / path
    text = file.read_text()
    assert text.count(before) == 1
    file.write_text(text.replace(before, after))
    patch = git("-C", str(tmp_path / "edited"), "diff")
    passed = passing(outcome(task, tmp_path / "judged", patch))
    assert {*task.fail_to_pass, *task.pass_to_pass} - passed


@pytest.mark.heavy
def test_another_file_is_noticed_where_nothing_should_change(tmp_path: Path) -> None:
    task = read_task("mini__ticket-3")
    patch = (
        "diff --git a/notes.md b/notes.md\nnew file mode 100644\n--- /dev/null\n+++ b/notes.md\n@@ -0,0 +1 @@\n+No.\n"
    )
    passed = passing(outcome(task, tmp_path / "checkout", patch))
    assert set(task.pass_to_pass) - passed == {"tests/test_nothing_was_changed.py::test_no_file_was_added"}


def test_the_scripted_model_has_turns_for_each() -> None:
    for task_id in TASKS:
        said = turns(read_task(task_id))
        assert [turn["calls"][0]["name"] for turn in said[-2:]] == ["submit", "submit"]
        assert all(turn["reasoning"] for turn in said)
