"""The mini set as rows of the schema of swebench 5: image, eval_script, log_parser, eval_type.

`image` is empty: any environment with Python 3, pytest, git and a POSIX shell with its usual tools will do, which the
base image has. Fields of ours, in `rest`: `bundled` (the task's folder), `kind`, `language`, `test_cmd`, `test_files`
and `grade_empty_patch`, which says that the right end of the task is no patch: its tests are then run on the tree as
it is, where the official harness would not run them (docs/evaluation-mini.md).

Left out: repositories (`repositories`), and running anything.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any, Final

from evals.instance import read_instance
from evals.mini.tasks import Task, read_task, task_ids

if TYPE_CHECKING:
    from evals.datasets import Dataset

NAME: Final = "mini"
_FILE: Final = re.compile(r"^diff --git a/(\S+) b/(\S+)$\n(?P<new>new file mode)?", re.MULTILINE)
_END_OF_PATCH: Final = "EOF_OF_THE_TESTS"


def mini_dataset() -> Dataset:
    """The bundled tasks, in the order of their ids. TaskBroken when the installation isn't whole."""
    from evals.datasets import Dataset

    return Dataset(NAME, tuple(read_instance(row(read_task(task_id))) for task_id in task_ids()))


def row(task: Task) -> dict[str, Any]:
    """The task as a row; lists of tests as JSON lists."""
    return {
        "instance_id": task.id,
        "repo": task.repo,
        "base_commit": task.base_commit,
        "problem_statement": task.issue,
        "patch": task.patch,
        "test_patch": task.test_patch,
        "version": task.version,
        "difficulty": task.difficulty,
        "FAIL_TO_PASS": list(task.fail_to_pass),
        "PASS_TO_PASS": list(task.pass_to_pass),
        "image": "",
        "eval_script": eval_script(task),
        "log_parser": task.log_parser,
        "eval_type": "pass_and_fail",
        "bundled": str(task.folder),
        "kind": task.kind,
        "language": task.language,
        "test_cmd": task.test_command,
        "test_files": [path for path, _ in hidden_files(task)],
        "grade_empty_patch": task.grade_empty_patch,
    }


def eval_script(task: Task) -> str:
    """What is run in a checkout at /testbed after the patch, in the form that harness 5 has for it."""
    known = [shlex.quote(path) for path, new in hidden_files(task) if not new]
    added = [shlex.quote(path) for path, new in hidden_files(task) if new]
    put_back = [f"git checkout {task.base_commit} {' '.join(known)}"] if known else []
    take_away = [f"rm -f {' '.join(added)}"] if added else []
    lines = [
        "#!/bin/bash",
        "set -uxo pipefail",
        "cd /testbed",
        *put_back,
        *take_away,
        f"git apply -v - <<'{_END_OF_PATCH}'",
        task.test_patch.rstrip("\n"),
        _END_OF_PATCH,
        ": '>>>>> Start Test Output'",
        task.test_command,
        "SWEBENCH_TEST_EXIT_CODE=$?",
        ": '>>>>> End Test Output'",
        'echo ">>>>> Test Exit Code: $SWEBENCH_TEST_EXIT_CODE"',
        *put_back,
        *take_away,
    ]
    return "\n".join(lines) + "\n"


def hidden_files(task: Task) -> list[tuple[str, bool]]:
    """Files that the tests' patch touches, each with whether it adds it."""
    return [(found[2], found["new"] is not None) for found in _FILE.finditer(task.test_patch)]
