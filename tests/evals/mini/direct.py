"""Bundled tasks run directly: a clone of the task's repository, patches, its test command, and the log's statuses."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from evals.grading.parsers import PARSERS
from evals.grading.semantics import Semantics
from evals.mini.dataset import hidden_files
from evals.mini.repositories import repository
from evals.mini.tasks import Task

_SECONDS = 120


def outcome(task: Task, folder: Path, patch: str = "") -> dict[str, str]:
    """Test id -> status of the hidden tests in a new checkout in `folder`, after `patch`."""
    checkout(task, folder)
    if patch:
        apply(folder, patch)
    for path, new in hidden_files(task):
        git("-C", str(folder), *(("rm", "-q", "--ignore-unmatch") if new else ("checkout", "HEAD")), "--", path)
    apply(folder, task.test_patch)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_"))}
    code, log = _run(task.test_command, folder, environment)
    statuses = PARSERS[task.log_parser.removeprefix("parse_log_")](log, Semantics.V5)
    assert statuses, log
    failed = any(status in ("FAILED", "ERROR") for status in statuses.values())
    assert failed == (code != 0), log
    return statuses


def _run(command: str, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and output; what the command started ends with it when it takes too long."""
    with subprocess.Popen(
        ["sh", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, output.decode("utf-8", "replace")


def checkout(task: Task, folder: Path) -> None:
    git("clone", "--quiet", "--no-hardlinks", str(repository(task)), str(folder))


def apply(folder: Path, patch: str) -> None:
    git("-C", str(folder), "apply", "--whitespace=nowarn", "-", stdin=patch)


def git(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run(["git", *arguments], input=stdin.encode(), capture_output=True)
    assert not done.returncode, done.stderr.decode()
    return done.stdout.decode()


def passing(statuses: dict[str, str]) -> set[str]:
    return {test for test, status in statuses.items() if status in ("PASSED", "XFAIL")}
