"""One bundled task as its folder describes it: `tasks/<id>/` with task.toml, repository/, gold.patch and tests.patch.

task.toml holds the issue, what kind of work it is, the tests that decide, and the history that the repository gets:
a list of commits, each naming the files that come with it (`paths`; as they are in repository/, or as they are in
history/<number of the commit>/ where an older version is kept there).

Left out: rows of a data set (`dataset`) and git (`repositories`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

TASKS: Final = Path(__file__).parent / "tasks"


class TaskBroken(ValueError):
    """A bundled task that isn't whole: the installation lost files, or the task was edited and not frozen again."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit of a task's history: what it says, and the files that are new or other after it."""

    message: str
    author: str  # Name <address>
    date: str  # seconds since the epoch and the zone, as git writes it: "1700000000 +0000"
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Task:
    """A task of the mini set. `patch` and `test_patch` are gold."""

    id: str
    repo: str
    version: str
    kind: str
    language: str
    difficulty: str
    issue: str
    base_commit: str
    test_command: str
    log_parser: str
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    patch: str = field(repr=False)
    test_patch: str = field(repr=False)
    commits: tuple[Commit, ...] = field(repr=False)
    executable: frozenset[str]
    grade_empty_patch: bool

    @property
    def folder(self) -> Path:
        return TASKS / self.id

    @property
    def title(self) -> str:
        """The issue's first line; no two tasks share it."""
        return self.issue.partition("\n")[0]


def task_ids() -> tuple[str, ...]:
    """The ids of all tasks, sorted."""
    return tuple(sorted(path.parent.name for path in TASKS.glob("*/task.toml")))


@cache
def read_task(task_id: str) -> Task:
    """The task in `tasks/<task_id>`. TaskBroken when its folder isn't whole."""
    folder = TASKS / task_id
    try:
        data = tomllib.loads((folder / "task.toml").read_text(encoding="utf-8"))
        return Task(
            id=task_id,
            issue=data["issue"].strip() + "\n",
            fail_to_pass=tuple(data["fail_to_pass"]),
            pass_to_pass=tuple(data["pass_to_pass"]),
            patch=_text(folder / "gold.patch"),
            test_patch=_text(folder / "tests.patch"),
            commits=_commits(folder, data["history"]),
            executable=frozenset(data.get("executable", ())),
            grade_empty_patch=bool(data.get("grade_empty_patch", False)),
            **{name: data[name] for name in _TEXTS},
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise TaskBroken(f"the bundled task {task_id} in {folder} isn't whole ({error!r}): install again") from error


_TEXTS: Final = ("repo", "version", "kind", "language", "difficulty", "base_commit", "test_command", "log_parser")


def _text(path: Path) -> str:
    return path.read_bytes().decode()


def _commits(folder: Path, history: list[dict[str, Any]]) -> tuple[Commit, ...]:
    return tuple(
        Commit(
            message=entry["message"].strip() + "\n",
            author=entry["author"],
            date=entry["date"],
            files={path: _version(folder, number, path) for path in entry["paths"]},
        )
        for number, entry in enumerate(history, 1)
    )


def _version(folder: Path, number: int, path: str) -> bytes:
    older = folder / "history" / str(number) / path
    return (older if older.is_file() else folder / "repository" / path).read_bytes()
