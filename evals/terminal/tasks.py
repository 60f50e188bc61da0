"""Folders of Terminal-Bench tasks as instances; one that is broken, or can't be run here, is named with the reason.

Two layouts: the older one of the `terminal-bench` package (task.yaml, Dockerfile, run-tests.sh, tests/, solution.sh)
and that of Harbor (task.toml, instruction.md, environment/, tests/test.sh, solution/). A task's tests stay in its
folder until it is judged, and its solution is never read but for the hash of the whole.

Left out: images (`environment`), running tests (`testing`), and what they mean (`verdict`).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from evals.instance import Instance, RowBroken, check_id, read_instance
from evals.rows import DatasetUnusable, Raw
from evals.terminal.compose import check_compose, client_of

OLDER_FILE: Final = "task.yaml"
NEWER_FILE: Final = "task.toml"
MAX_TEXT: Final = 4 << 20
"""Bytes of a file that is read whole."""
_SOLUTIONS: Final = frozenset({"solution.sh", "solution.yaml", "solution"})
_CANARY: Final = re.compile(r"\s*(?:<!--.*canary.*-->|#.*canary.*)\s*", re.IGNORECASE)
_MAJOR: Final = re.compile(r"1(?:\.\d+)*")
_REPO_PART: Final = re.compile(r"[^A-Za-z0-9._-]+")


class Layout(StrEnum):
    """Whose folders they are."""

    OLDER = "terminal-bench"
    """The package `terminal-bench`: verdicts from pytest's summary."""
    NEWER = "harbor"
    """Harbor, which runs Terminal-Bench from 2.0 on: verdicts from a reward file."""


@dataclass(frozen=True, slots=True)
class TerminalTask:
    """What an instance keeps of its folder. Times in seconds; `env` is for the tests only."""

    folder: Path
    sha256: str
    layout: Layout
    agent_seconds: float
    test_seconds: float
    workdir: str = ""  # "": as the image says
    dockerfile: str = ""  # relative to the folder, "" where there is none
    context: str = "."  # of the build, relative to the folder
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def tests(self) -> Path:
        return self.folder / "tests"

    @property
    def script(self) -> Path:
        """What runs the tests."""
        return self.folder / "run-tests.sh" if self.layout is Layout.OLDER else self.tests / "test.sh"

    @property
    def solution(self) -> Path:
        """What solves it, where the task has that. Nothing that an agent works with ever asks for it."""
        return self.folder / "solution.sh" if self.layout is Layout.OLDER else self.folder / "solution" / "solve.sh"


def is_terminal(instance: Instance) -> bool:
    """Whether an instance is such a task."""
    return "terminal_task" in instance.rest


def task_of(instance: Instance) -> TerminalTask:
    """The task of an instance. RowBroken when its row was changed."""
    try:
        said = dict(instance.rest["terminal_task"])
        return TerminalTask(
            Path(instance.rest["task_folder"]),
            layout=Layout(said.pop("layout")),
            **{name: said[name] for name in said},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RowBroken(f"{instance.instance_id} is no row of a Terminal-Bench task: {error!r}") from error


def is_task(folder: Path) -> bool:
    return (folder / NEWER_FILE).is_file() or (folder / OLDER_FILE).is_file()


def read_tasks(source: Path) -> Iterator[Raw]:
    """Rows of one task's folder, or of a folder of such, by name. DatasetUnusable when there is none."""
    try:
        folders = [source] if is_task(source) else sorted(path for path in source.iterdir() if path.is_dir())
    except OSError as error:
        raise DatasetUnusable(f"{source} can't be read: {error.strerror}") from error
    folders = [path for path in folders if is_task(path)]
    if not folders:
        raise DatasetUnusable(
            f"{source} is a folder without tasks: neither it nor a folder in it holds {NEWER_FILE} or {OLDER_FILE}. "
            "Give a folder of Terminal-Bench tasks, or a file with rows"
        )
    for place, folder in enumerate(folders, 1):
        try:
            yield Raw(place, row_of_task(folder.resolve()))
        except RowBroken as error:
            yield Raw(place, broken=f"{folder.name}: {error}")


def row_of_task(folder: Path) -> dict[str, Any]:
    """The row of one task, without tests and solution. RowBroken says why it can't be used."""
    check_id(folder.name)
    try:
        row = _newer(folder) if (folder / NEWER_FILE).is_file() else _older(folder)
        row["terminal_task"] = {**row["terminal_task"], "sha256": content_sha256(folder)}
    except OSError as error:
        raise RowBroken(f"it can't be read: {error}") from error
    task = task_of(read_instance(row))
    if not task.script.is_file():
        raise RowBroken(f"it has no {task.script.relative_to(folder)}, which runs its tests")
    if not row["image"] and not task.dockerfile:
        raise RowBroken("it names no image and has no Dockerfile")
    if not row["problem_statement"].strip():
        raise RowBroken("its instruction is empty")
    return row


def content_sha256(folder: Path) -> str:
    """Of all files with their names and whether they can be run: the same wherever the folder lies."""
    digest = hashlib.sha256()
    for path in sorted(_files(folder)):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            digest.update(f"link\0{name}\0{path.readlink()}\0".encode("utf-8", "surrogateescape"))
            continue
        runs = "x" if path.stat().st_mode & stat.S_IXUSR else "-"
        digest.update(f"{runs}\0{name}\0{path.stat().st_size}\0".encode("utf-8", "surrogateescape"))
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        links = [name for name in folders if Path(where, name).is_symlink()]
        folders[:] = [name for name in folders if name not in links and name != ".git"]
        for name in (*files, *links):
            path = Path(where, name)
            if path.is_symlink() or path.is_file():
                yield path


# -- the newer layout


def _newer(folder: Path) -> dict[str, Any]:
    try:
        said = tomllib.loads(_text(folder / NEWER_FILE))
    except ValueError as error:
        raise RowBroken(f"{NEWER_FILE} is no TOML that can be read: {error}") from None
    _refuse_newer(folder, said)
    metadata, environment = _table(said, "metadata"), _table(said, "environment")
    verifier, agent = _table(said, "verifier"), _table(said, "agent")
    dockerfile = "environment/Dockerfile"
    instruction = folder / "instruction.md"
    if not instruction.is_file():
        raise RowBroken("it has no instruction.md")
    return _row(
        folder,
        metadata,
        without_canary(_text(instruction)),
        image=_word(environment, "docker_image"),
        task={
            "layout": Layout.NEWER.value,
            "agent_seconds": _seconds(agent, "timeout_sec", 3600.0),
            "test_seconds": _seconds(verifier, "timeout_sec", 600.0),
            "workdir": _word(environment, "workdir"),
            "dockerfile": dockerfile if (folder / dockerfile).is_file() else "",
            "context": "environment",
            "env": _variables({**_table(environment, "env"), **_table(verifier, "env")}),
        },
    )


def _refuse_newer(folder: Path, said: Mapping[str, Any]) -> None:
    """What this runner doesn't do. A verdict without it would be another one than the official."""
    version = str(said.get("schema_version", said.get("version", "1.0")))
    environment, verifier = _table(said, "environment"), _table(said, "verifier")
    separate = verifier.get("environment") or str(verifier.get("environment_mode", "")).lower() == "separate"
    reasons = {
        f"its schema is {version!r}; known is 1.x": not _MAJOR.fullmatch(version),
        "it has several steps, and one is all that is run here": bool(said.get("steps")),
        "it is for Windows": str(environment.get("os", "linux")).lower() != "linux",
        "its tests want an environment of their own": bool(separate),
        "it wants a GPU, and sandboxes have none": bool(environment.get("gpus") or environment.get("tpu")),
        "it wants MCP servers": bool(environment.get("mcp_servers")),
        "it starts services with its container (a healthcheck), and sandboxes run no entrypoint": bool(
            environment.get("healthcheck")
        ),
    }
    for reason, holds in reasons.items():
        if holds:
            raise RowBroken(reason)
    check_compose(folder / "environment" / "docker-compose.yaml")


# -- the older layout


def _older(folder: Path) -> dict[str, Any]:
    from evals.terminal.yaml_files import read_yaml

    said = read_yaml(folder / OLDER_FILE)
    parser = _word(said, "parser_name") or "pytest"
    if parser != "pytest":
        raise RowBroken(f"its parser {parser!r} isn't read here; known is pytest")
    if said.get("run_tests_in_same_shell"):
        raise RowBroken("its tests want the agent's own shell, and there is none after its end")
    client = client_of(folder)
    return _row(
        folder,
        said,
        _word(said, "instruction"),
        image=client.image,
        task={
            "layout": Layout.OLDER.value,
            "agent_seconds": _seconds(said, "max_agent_timeout_sec", 360.0),
            "test_seconds": _seconds(said, "max_test_timeout_sec", 60.0),
            "workdir": client.workdir,
            "dockerfile": client.dockerfile,
            "context": client.context,
            "env": {"TEST_DIR": "/tests", "T_BENCH_TEST_DIR": "/tests"},
        },
    )


# -- both


def _row(folder: Path, metadata: Mapping[str, Any], issue: str, *, image: str, task: dict[str, Any]) -> dict[str, Any]:
    category = _REPO_PART.sub("-", str(metadata.get("category") or "")).strip("-.") or "other"
    return {
        "instance_id": folder.name,
        "repo": f"terminal-bench/{category[:90]}",
        "problem_statement": issue,
        "difficulty": str(metadata.get("difficulty") or ""),
        "image": image,
        "FAIL_TO_PASS": [],
        "PASS_TO_PASS": [],
        "task_folder": str(folder),
        "terminal_task": task,
        # A task may be solved by what is in no patch: its tests are run in any case.
        "grade_empty_patch": True,
    }


def without_canary(text: str) -> str:
    """The text without the leading lines that mark it as a benchmark's, which Harbor doesn't show to agents either."""
    lines = text.split("\n")
    while lines and (_CANARY.fullmatch(lines[0]) or not lines[0].strip()):
        del lines[0]
    return "\n".join(lines)


def is_solution(name: str) -> bool:
    """Whether an entry of a task's folder is its solution."""
    return name in _SOLUTIONS


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_TEXT + 1)
    if len(data) > MAX_TEXT:
        raise RowBroken(f"{path.name} is longer than {MAX_TEXT >> 20} MB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowBroken(f"{path.name} isn't UTF-8: {error}") from None


def _table(said: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = said.get(name) or {}
    if not isinstance(value, Mapping):
        raise RowBroken(f"{name} is no table")
    return value


def _word(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    if value is not None and not isinstance(value, str):
        raise RowBroken(f"{name} is no text")
    return value or ""


def _seconds(said: Mapping[str, Any], name: str, usual: float) -> float:
    value = said.get(name)
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise RowBroken(f"{name} is {value!r}, which is no time in seconds")
    return float(value)


def _variables(said: Mapping[str, Any]) -> dict[str, str]:
    """Static ones only: this machine's own variables are nothing that a task gets."""
    for name, value in said.items():
        if "${" in str(value):
            raise RowBroken(f"its variable {name} is taken from the host, and a task gets nothing of the host here")
    return {str(name): str(value) for name, value in said.items()}
