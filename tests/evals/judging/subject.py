"""A small project with an issue of ours: repository, row, gold patch and environment, for judging in real sandboxes."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.environments.base import InstanceEnvironment
from evals.instance import Instance, read_instance
from evals.judging.base import JudgeSpec
from tests.agent.repos import ENV, git, make_repo, write

FILES: dict[str, str | bytes] = {
    "calc/__init__.py": "",
    "calc/ops.py": (
        "def mean(values):\n    return sum(values) / (len(values) + 1)\n\n\n"
        "def total(values):\n    return sum(values)\n"
    ),
    "tests/test_ops.py": ("from calc.ops import total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n"),
    "tests/conftest.py": "",
    "pytest.ini": "[pytest]\npythonpath = .\n",
    ".gitignore": "__pycache__/\n",
}
FIXED = FILES | {
    "calc/ops.py": (
        "def mean(values):\n    return sum(values) / len(values)\n\n\ndef total(values):\n    return sum(values)\n"
    )
}
TESTED: dict[str, str | bytes] = {
    "tests/test_ops.py": (
        "from calc.ops import mean, total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n"
        "\n\ndef test_mean():\n    assert mean([2, 4]) == 3\n"
    ),
    "tests/test_new.py": "from calc.ops import mean\n\n\ndef test_one():\n    assert mean([7]) == 7\n",
}
F2P = ["tests/test_ops.py::test_mean", "tests/test_new.py::test_one"]
P2P = ["tests/test_ops.py::test_total"]
COMMAND = f"{shlex.quote(sys.executable)} -m pytest -rA -p no:cacheprovider -p no:randomly"
"""For the kind `none`, where the tests' own pytest has to do."""


@dataclass(frozen=True)
class Subject:
    """The project in a repository of its own."""

    repository: Path
    commit: str

    def diff(self, files: Mapping[str, str | bytes | None]) -> str:
        """The patch that makes these files (None: removes them) out of the base commit."""
        git(self.repository, "reset", "--quiet", "--hard", self.commit)
        write(self.repository, {name: content for name, content in files.items() if content is not None})
        for name, content in files.items():
            if content is None:
                (self.repository / name).unlink()
        git(self.repository, "add", "-A")
        patch = raw_diff(self.repository, self.commit, "--binary", "--no-renames")
        git(self.repository, "reset", "--quiet", "--hard", self.commit)
        return patch

    @property
    def gold(self) -> str:
        return self.diff({"calc/ops.py": FIXED["calc/ops.py"]})

    @property
    def test_patch(self) -> str:
        return self.diff(TESTED)

    def row(self, **fields: Any) -> dict[str, Any]:
        """A row of the old schema, of a project that every release has a pytest parser for. None: without the field."""
        said = {
            "instance_id": "pallets__flask-1",
            "repo": "pallets/flask",
            "base_commit": self.commit,
            "version": "2.3",
            "problem_statement": "The mean is wrong.",
            "patch": self.gold,
            "test_patch": self.test_patch,
            "FAIL_TO_PASS": F2P,
            "PASS_TO_PASS": P2P,
            **fields,
        }
        return {name: value for name, value in said.items() if value is not None}

    def instance(self, **fields: Any) -> Instance:
        return read_instance(self.row(**fields))

    def environment(self, **fields: Any) -> InstanceEnvironment:
        said: dict[str, Any] = {
            "kind": "none",
            "image": "",
            "workdir": "/testbed",
            "repository": str(self.repository),
            "base_commit": self.commit,
            "test_command": COMMAND,
            "facts": {"source": "bundled"},
        }
        return InstanceEnvironment(**said | fields)

    def spec(self, *, environment: Mapping[str, Any] | None = None, **fields: Any) -> JudgeSpec:
        """`fields` are the row's, but for those of JudgeSpec."""
        mine = {name: fields.pop(name) for name in ("seconds", "semantics", "parser", "known") if name in fields}
        return JudgeSpec(
            self.instance(**fields),
            self.environment(**(environment or {})),
            "org/model",
            "run",
            **{"seconds": 120, **mine},
        )


def raw_diff(repository: Path, commit: str, *options: str) -> str:
    """What is in the index, against a commit; to the last byte."""
    command = ["git", "-C", str(repository), "diff", "--cached", *options, commit]
    return subprocess.run(command, env=ENV, check=True, capture_output=True).stdout.decode("utf-8", "surrogateescape")


def make_subject(folder: Path) -> Subject:
    repository = make_repo(folder, FILES)
    return Subject(repository, git(repository, "rev-parse", "HEAD"))


PASSED = "printf 'PASSED %s\\n' " + " ".join([*F2P, *P2P]) + "; : "
"""A test command that is quick and happy with everything."""


def quick(subject: Subject, command: str = PASSED, /, **fields: Any) -> JudgeSpec:
    return subject.spec(environment={"test_command": command, **fields.pop("environment", {})}, **fields)
