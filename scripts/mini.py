#!/usr/bin/env python3
"""After a bundled task was edited: writes its base commit and its lists of tests anew, and says what looks wrong.

    scripts/mini.py [TASK ...]      all tasks without a name

The tests are run three times before the fix (with only the tests' patch) and three times with the gold patch. What
fails before and passes with it goes into fail_to_pass, what passes in both into pass_to_pass; a test that isn't the
same in all runs is named, and so is a task without a test that tells.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from evals.mini.repositories import RepositoryFailed, repository
from evals.mini.tasks import TASKS, TaskBroken, read_task, task_ids
from tests.evals.mini.direct import outcome, passing

TIMES = 3


def freeze_commit(task_id: str) -> None:
    try:
        repository(read_task(task_id))
    except TaskBroken as error:
        found = re.search(r"has the commit ([0-9a-f]{40})", str(error))
        if found is None:
            raise
        _replace(task_id, "base_commit", f'"{found[1]}"')


def freeze_tests(task_id: str) -> list[str]:
    task = read_task(task_id)
    with tempfile.TemporaryDirectory() as scratch:
        before = [passing(outcome(task, Path(scratch, f"b{i}"))) for i in range(TIMES)]
        runs = [outcome(task, Path(scratch, f"g{i}"), task.patch) for i in range(TIMES)]
    after = [passing(run) for run in runs]
    problems = [f"{test} isn't steady" for test in sorted(_unsteady(before) | _unsteady(after))]
    problems += [f"{test} fails with the gold patch" for test in sorted(set(runs[0]) - after[0])]
    fixed = [test for test in runs[0] if test in after[0] and test not in before[0]]
    kept = [test for test in runs[0] if test in after[0] and test in before[0]]
    problems += [
        f"{test} was cut at a blank: name the parameters" for test in runs[0] if test.count("[") > test.count("]")
    ]
    if not fixed and not task.grade_empty_patch:
        problems.append("no test tells whether the issue is solved")
    _replace(task_id, "fail_to_pass", _listed(fixed))
    _replace(task_id, "pass_to_pass", _listed(kept))
    print(f"{task_id}: {len(fixed)} fail to pass, {len(kept)} pass to pass")
    return problems


def _unsteady(runs: list[set[str]]) -> set[str]:
    return set.union(*runs) - set.intersection(*runs)


def _listed(tests: list[str]) -> str:
    return "[\n" + "".join(f"    {json.dumps(test)},\n" for test in tests) + "]" if tests else "[]"


def _replace(task_id: str, name: str, value: str) -> None:
    path = TASKS / task_id / "task.toml"
    text = path.read_text(encoding="utf-8")
    field = re.compile(rf'^{name} = (\[\]|\[.*?^\]|"[^"]*")$', re.MULTILINE | re.DOTALL)
    changed, count = field.subn(lambda _: f"{name} = {value}", text, count=1)
    assert count == 1, f"{path} has no {name}"
    path.write_text(changed, encoding="utf-8")
    read_task.cache_clear()


def main(ids: list[str]) -> int:
    problems: list[str] = []
    for task_id in ids or task_ids():
        try:
            freeze_commit(task_id)
            problems += [f"{task_id}: {problem}" for problem in freeze_tests(task_id)]
        except (TaskBroken, RepositoryFailed, AssertionError) as error:
            problems.append(f"{task_id}: {error}")
    print("\n".join(problems), file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
