"""One row of a SWE-bench-like data set, read from any of the schemas in use and checked.

Everything in a row is data of others: the id becomes a file name, so it may only be one; a field that ought to be code
for a grader (some sets ship their log parser as Python source) is kept as text and never run.

Left out: where rows come from (`rows`, `datasets`) and what a log says about them (`grading`).
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final


class RowBroken(ValueError):
    """A row that can't be used; the message is the reason, without saying where the row stands."""


class Schema(StrEnum):
    """The families of rows, told apart by their fields."""

    SWE_BENCH_4 = "swe-bench-4"
    """Up to harness 4.x, also Lite, Verified, Multimodal, Multilingual, SWE-Gym: the grader knows parser and image."""
    SWE_BENCH_5 = "swe-bench-5"
    """From harness 5.0: image, eval_script, log_parser and eval_type stand in the row."""
    SWE_BENCH_LIVE = "swe-bench-live"
    SWE_BENCH_PRO = "swe-bench-pro"
    SWE_SMITH = "swe-smith"
    TERMINAL_BENCH = "terminal-bench"
    """A folder with a task, read by `evals.terminal`."""


_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
_REPO: Final = re.compile(r"[A-Za-z0-9._-]{1,100}(?:/[A-Za-z0-9._-]{1,100})?")
_COMMIT: Final = re.compile(r"[0-9a-fA-F]{7,64}")


@dataclass(frozen=True)
class Instance:
    """A task: a repository at a commit, an issue, and the tests that decide.

    `patch` and `test_patch` are gold: they must never reach an agent. For SWE-smith `patch` makes the bug; the fix is
    its reverse (`patch_breaks`). `eval_type` is "pass_and_fail", "fail_only" or "" where the row leaves it to the
    grader, and so is `log_parser`. `rest` holds the fields that have no place here, as they came.
    """

    instance_id: str
    repo: str
    schema: Schema
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    problem_statement: str = ""
    base_commit: str = ""
    patch: str = field(default="", repr=False)
    test_patch: str = field(default="", repr=False)
    version: str = ""
    difficulty: str = ""
    image: str = ""
    eval_script: str = field(default="", repr=False)
    log_parser: str = ""
    eval_type: str = ""
    rest: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def issue(self) -> str:
        """What an agent is told. SWE-bench Pro's tests also hang on what two more fields of its rows ask for."""
        if self.schema is not Schema.SWE_BENCH_PRO:
            return self.problem_statement
        more = {"Requirements": self.rest.get("requirements"), "New interfaces introduced": self.rest.get("interface")}
        parts = [f"{title}:\n{text}" for title, text in more.items() if isinstance(text, str) and text.strip()]
        return "\n\n".join([self.problem_statement, *parts])

    @property
    def patch_breaks(self) -> bool:
        """Whether `patch` is the bug and not the fix."""
        return self.schema is Schema.SWE_SMITH


_TEXTS: Final = {
    "problem_statement": ("problem_statement",),
    "base_commit": ("base_commit",),
    "patch": ("patch",),
    "test_patch": ("test_patch",),
    "version": ("version",),
    "difficulty": ("difficulty",),
    "image": ("image", "image_name", "docker_image", "dockerhub_tag"),
    "eval_script": ("eval_script",),
    "log_parser": ("log_parser", "parser"),
    "eval_type": ("eval_type",),
}
"""Our field -> the names that the schemas give it, the first that is there counts."""
_TESTS: Final = {"fail_to_pass": ("FAIL_TO_PASS", "fail_to_pass"), "pass_to_pass": ("PASS_TO_PASS", "pass_to_pass")}
_TAKEN: Final = {"instance_id", "repo"}.union(*_TEXTS.values(), *_TESTS.values())


def read_instance(row: object) -> Instance:
    """The instance that `row` describes. RowBroken says what is wrong with it."""
    if not isinstance(row, Mapping):
        raise RowBroken(f"a row is a JSON object with fields, this is {_kind(row)}")
    instance_id = check_id(row.get("instance_id"))
    texts = {ours: _text(row, names) for ours, names in _TEXTS.items()}
    if texts["base_commit"] and not _COMMIT.fullmatch(texts["base_commit"]):
        raise RowBroken(f"base_commit is no commit hash: {texts['base_commit'][:60]!r}")
    if texts["eval_type"] not in ("", "pass_and_fail", "fail_only"):
        raise RowBroken(f"eval_type is {texts['eval_type'][:60]!r}; known are pass_and_fail and fail_only")
    return Instance(
        instance_id=instance_id,
        repo=_repo(row),
        schema=_schema(row),
        fail_to_pass=_tests(row, _TESTS["fail_to_pass"]),
        pass_to_pass=_tests(row, _TESTS["pass_to_pass"]),
        rest={name: value for name, value in row.items() if name not in _TAKEN},
        **texts,
    )


def check_id(value: object) -> str:
    """`value` as an instance id that is safe as the name of a file; RowBroken otherwise."""
    if not isinstance(value, str) or not value:
        raise RowBroken("it has no instance_id")
    if not _ID.fullmatch(value):
        raise RowBroken(
            f"its instance_id can't be a file name: {value[:60]!r} (letters, digits and ._+- are allowed, up to 200)"
        )
    return value


def _schema(row: Mapping[str, Any]) -> Schema:
    if "terminal_task" in row:
        return Schema.TERMINAL_BENCH
    if "dockerhub_tag" in row or "selected_test_files_to_run" in row:
        return Schema.SWE_BENCH_PRO
    if "image_name" in row and not row.get("test_patch"):  # its rows have a base commit or none, by their age
        return Schema.SWE_SMITH
    if "eval_script" in row and "log_parser" in row:
        return Schema.SWE_BENCH_5
    if {"test_cmds", "test_cmd", "docker_image"} & row.keys():
        return Schema.SWE_BENCH_LIVE
    return Schema.SWE_BENCH_4


def _repo(row: Mapping[str, Any]) -> str:
    repo = row.get("repo")
    if not isinstance(repo, str) or not _REPO.fullmatch(repo) or ".." in repo:
        raise RowBroken(f"repo is no owner/name: {str(repo)[:60]!r}")
    return repo


def _text(row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        value = row.get(name)
        if value is None or value != value:  # Parquet says "not there" with None or NaN
            continue
        if isinstance(value, (int, float)) and name == "version":
            return str(value)
        if not isinstance(value, str):
            raise RowBroken(f"{name} is {_kind(value)}, not text")
        return value
    return ""


def _tests(row: Mapping[str, Any], names: tuple[str, str]) -> tuple[str, ...]:
    """A list of test ids: as a list, as JSON in a string, or (SWE-bench Pro) as a Python literal in a string."""
    name = next((name for name in names if row.get(name) is not None), None)
    if name is None:
        raise RowBroken(f"it has no {names[0]}")
    value = row[name]
    if isinstance(value, str):
        value = _list_in(value, name)
    if not isinstance(value, (list, tuple)):
        raise RowBroken(f"{name} is {_kind(value)}, not a list of tests")
    for test in value:
        if not isinstance(test, str):
            raise RowBroken(f"{name} holds {_kind(test)}, not only names of tests")
    return tuple(value)


def _list_in(text: str, name: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        raise RowBroken(f"{name} is neither JSON nor a Python list: {text[:60]!r}") from None


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else f"a {type(value).__name__}")
