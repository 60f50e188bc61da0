"""Which commands can show that a patch mends the issue, and on which trees they are run before and after.

Four sources, the strongest first: what the model named in `submit`, commands that failed and later passed in the
run itself, the repository's own test command, and test files near the change. Before means the base commit plus
the patch's test files; a script that the model wrote to reproduce the problem and then removed is put back for
both sides.

Left out: running them (`agent.verify`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from agent import checkout
from agent.checkout import Base
from agent.config import RepositoryConfig
from agent.events import Event, EventType
from agent.git import git

MAX_INFERRED = 3
MAX_NEAR_FILES = 8


class CheckSource(StrEnum):
    SUBMITTED = "named in submit"
    INFERRED = "failed and later passed in the run"
    CONFIGURED = "the repository's test command"
    NEAR = "tests near the change"


@dataclass(frozen=True, slots=True)
class Check:
    """One command and the two trees that it is run on."""

    source: CheckSource
    command: str
    before: str
    after: str
    timeout: float = 900.0
    cwd: str = "."  # relative to the work folder


def is_test_file(path: str) -> bool:
    """Whether a path looks like a test by the conventions of the common languages."""
    parts = PurePosixPath(path).parts
    name = parts[-1]
    in_test_folder = any(part in ("test", "tests", "testing", "spec", "__tests__") for part in parts[:-1])
    return in_test_folder or bool(
        re.search(r"(^test_|^conftest\.|_test\.|\.test\.|\.spec\.|Test\.java$|_spec\.)", name)
    )


@dataclass(frozen=True, slots=True)
class _Command:
    text: str
    cwd: str
    tree: str  # the work tree while it ran
    exit_code: int


def _commands(events: Iterable[Event]) -> list[_Command]:
    """The bash commands of a run, in order."""
    found = []
    for event in events:
        if event.type is EventType.OBSERVATION:
            facts = event.data["facts"]
            if isinstance(command := facts.get("command"), str) and isinstance(code := facts.get("exit_code"), int):
                found.append(_Command(command, facts.get("cwd", "."), event.data["tree"], code))
    return found


def handed_over(events: Sequence[Event]) -> frozenset[str]:
    """The trees that a run had ended with each time before it was told more."""
    told = max((event.seq for event in events if event.type is EventType.FOLLOW_UP), default=-1)
    return frozenset(event.data["tree"] for event in events if event.type is EventType.LOOP_ENDED and event.seq < told)


def flipped(events: Sequence[Event], final_tree: str) -> list[_Command]:
    """Commands, as they failed, that passed later on the final tree, or on one handed over earlier; newest first."""
    final = {final_tree} | handed_over(events)
    failed: dict[tuple[str, str], _Command] = {}
    passed: dict[tuple[str, str], None] = {}
    for command in _commands(events):
        key = (command.text, command.cwd)
        if command.exit_code:
            failed[key] = command
            passed.pop(key, None)
        elif command.tree in final and key in failed:
            passed.pop(key, None)
            passed[key] = None
    return [failed[key] for key in reversed(passed)][:MAX_INFERRED]


async def plan(
    bare: Path, base: Base, tree: str, events: Sequence[Event], config: RepositoryConfig, reproduction: str | None
) -> list[Check]:
    """The checks of a patch, each command once."""
    changed = await checkout.changed_files(bare, base.tree, tree)
    tests = [path for status, path in changed if status != "D" and is_test_file(path)]
    before = await compose(bare, base.tree, tree, tests)
    found: dict[str, Check] = {}

    async def add(source: CheckSource, command: str, seen: _Command | None = None, timeout: float = 900.0) -> None:
        if command in found:
            return
        sides = [before, tree]
        if seen:
            extra = await _vanished(bare, base.tree, seen.tree, tree)
            sides = [await compose(bare, side, seen.tree, extra) for side in sides]
        found[command] = Check(source, command, sides[0], sides[1], timeout, seen.cwd if seen else ".")

    if reproduction and reproduction.strip():
        seen = {command.text: command for command in _commands(events)}
        await add(CheckSource.SUBMITTED, reproduction, seen.get(reproduction))
    for command in flipped(events, tree):
        await add(CheckSource.INFERRED, command.text, command)
    if config.test.command:
        await add(CheckSource.CONFIGURED, config.test.command, timeout=config.test.timeout)
    if near := await near_tests(bare, tree, [path for status, path in changed if status != "D"]):
        await add(CheckSource.NEAR, _pytest(near))
    return list(found.values())


async def _vanished(bare: Path, base_tree: str, seen_on: str, final_tree: str) -> list[str]:
    """Files that a command could see when it ran and that neither the base nor the patch has."""
    added = {path for status, path in await checkout.changed_files(bare, base_tree, seen_on) if status == "A"}
    gone = {path for status, path in await checkout.changed_files(bare, seen_on, final_tree) if status == "D"}
    return sorted(added & gone)


async def compose(bare: Path, tree: str, source: str, paths: Sequence[str]) -> str:
    """A tree with some paths taken from another tree. Writes only tree objects to the run's repository."""
    if not paths:
        return tree
    listing = await git("ls-tree", "-r", "-z", "--full-tree", source, "--", *paths, at=bare)
    index = {"GIT_INDEX_FILE": str(bare / "compose.index")}
    await git("read-tree", tree, at=bare, env=index)
    await git("update-index", "-z", "--index-info", at=bare, env=index, stdin=listing)
    return (await git("write-tree", at=bare, env=index)).decode().strip()


async def near_tests(bare: Path, tree: str, changed: Sequence[str]) -> list[str]:
    """Python test files that changed or are named after a changed module."""
    listing = (await git("ls-tree", "-r", "-z", "--name-only", "--full-tree", tree, at=bare)).decode("utf-8", "replace")
    stems = {PurePosixPath(path).stem.strip("_") for path in changed if path.endswith(".py") and not is_test_file(path)}
    stems |= {PurePosixPath(path).parent.name for path in changed if path.endswith("__init__.py")}
    near = [path for path in changed if path.endswith(".py") and _is_pytest_file(path)]
    for path in listing.split("\0"):
        stem = PurePosixPath(path).stem
        if _is_pytest_file(path) and stem.removeprefix("test_").removesuffix("_test") in stems and path not in near:
            near.append(path)
    return near[:MAX_NEAR_FILES]


def _is_pytest_file(path: str) -> bool:
    name = PurePosixPath(path).name
    return name.endswith("_test.py") or (name.startswith("test_") and name.endswith(".py"))


def _pytest(paths: Sequence[str]) -> str:
    return "python -m pytest -q -p no:cacheprovider " + " ".join(shlex.quote(path) for path in paths)
