"""Terminal-Bench tasks of our own, in both layouts, and what a scripted model says to solve them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.runs.harness import call

DOCKERFILE = """# a plain one
FROM patchwright/base:latest
WORKDIR /app
COPY names.txt \\
     ./
ENV GREETING=Hello
RUN mkdir empty && printf '*.log\\n' > .gitignore && printf 'kept\\n' > before.log
"""
TESTS = """import pathlib


def test_greetings():
    assert pathlib.Path("/app/greetings.txt").read_text().split("\\n")[:2] == ["Hello, Ada", "Hello, Kurt"]


def test_log_that_git_ignores():
    assert pathlib.Path("/app/run.log").read_text().strip() == "2 greeted"


def test_home():
    assert (pathlib.Path.home() / ".greeted").exists()


def test_folder_as_it_was():
    assert pathlib.Path("/app/empty").is_dir()
    assert pathlib.Path("/app/before.log").read_text() == "kept\\n"
"""
ISSUE = "Greet every name of /app/names.txt in /app/greetings.txt, a line each: `Hello, NAME`."
GOLD = "gold-7f3a"
"""A mark in solutions, for tests that look for it."""
WORK = (
    "while read -r name; do echo \"Hello, $name\"; done <names.txt >greetings.txt; echo '2 greeted' >run.log; "
    "touch ~/.greeted; cat names.txt; ls -a / /app /tests 2>&1; env"
)
_RUN_OLDER = "#!/bin/bash\ncd $TEST_DIR\npython3 -m pytest -p no:cacheprovider $TEST_DIR/test_outputs.py -rA\n"
_RUN_NEWER = (
    "#!/bin/bash\npython3 -m pytest -p no:cacheprovider /tests/test_outputs.py -rA\n"
    "if [ $? -eq 0 ]; then echo 1 >/logs/verifier/reward.txt; else echo 0 >/logs/verifier/reward.txt; fi\n"
)
_COMPOSE = """services:
  client:
    build:
      dockerfile: Dockerfile
    image: ${T_BENCH_TASK_DOCKER_CLIENT_IMAGE_NAME}
    command: ["sh", "-c", "sleep infinity"]
    environment:
      - TEST_DIR=${T_BENCH_TEST_DIR}
"""


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def older(folder: Path, files: Mapping[str, str] | None = None, **fields: Any) -> Path:
    """A task of the older layout. `files` go over the usual ones, `fields` into task.yaml (JSON is YAML)."""
    said: dict[str, Any] = {
        "instruction": ISSUE,
        "difficulty": "easy",
        "category": "file operations",
        "parser_name": "pytest",
    }
    said |= {"max_agent_timeout_sec": 120.0, "max_test_timeout_sec": 60.0, **fields}
    return write(
        folder,
        {
            "task.yaml": json.dumps(said),
            "docker-compose.yaml": _COMPOSE,
            "Dockerfile": DOCKERFILE,
            "names.txt": "Ada\nKurt\n",
            "run-tests.sh": _RUN_OLDER,
            "solution.sh": f"#!/bin/bash\n# {GOLD}\n{WORK}\n",
            "tests/test_outputs.py": TESTS,
            **(files or {}),
        },
    )


def newer(folder: Path, files: Mapping[str, str] | None = None, **tables: Mapping[str, Any]) -> Path:
    """The same in the newer layout. `tables` go over those of task.toml."""
    said: dict[str, Mapping[str, Any]] = {
        "metadata": {"difficulty": "easy", "category": "file-operations"},
        "verifier": {"timeout_sec": 60.0},
        "agent": {"timeout_sec": 120.0},
        "environment": {"build_timeout_sec": 600.0},
        **tables,
    }
    toml = 'version = "1.0"\n' + "".join(f"[{name}]\n{_toml(table)}" for name, table in said.items())
    return write(
        folder,
        {
            "task.toml": toml,
            "instruction.md": f"<!-- canary GUID 1-2-3 -->\n\n{ISSUE}\n",
            "environment/Dockerfile": DOCKERFILE,
            "environment/names.txt": "Ada\nKurt\n",
            "tests/test.sh": _RUN_NEWER,
            "tests/test_outputs.py": TESTS,
            "solution/solve.sh": f"#!/bin/bash\n# {GOLD}\n{WORK}\n",
            **(files or {}),
        },
    )


def _toml(table: Mapping[str, Any]) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items())


def model_script(path: Path, command: str = WORK, *, delay: float = 0.0) -> str:
    """A model that runs one command and hands over; `delay` seconds before every token."""
    turns = [
        call("bash", "I do it.", command=command),
        call("submit", "Done.", summary="Greeted."),
        call("submit", "The diff is right.", summary="Greeted."),
    ]
    path.write_text(json.dumps({"name": "scripted-terminal", "turns": turns, "token_delay": delay}))
    return f"script:{path}"
