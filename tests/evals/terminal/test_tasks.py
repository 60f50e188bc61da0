"""Folders of tasks as data sets: both layouts are read, and each broken one is named with its reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.limits import Limits
from cli.main import cli
from evals.datasets import Filter, load_dataset
from evals.environments import EnvironmentUnavailable
from evals.instance import Schema, read_instance
from evals.rows import DatasetUnusable
from evals.runs.manifest import Settings
from evals.runs.predict import Task
from evals.runs.rows import row_line, row_of, rows_sha256
from evals.terminal.environment import build_context, checked_task
from evals.terminal.judging import settings_for
from evals.terminal.tasks import Layout, is_terminal, task_of, without_canary
from tests.evals.terminal.folders import GOLD, ISSUE, newer, older


def test_both_layouts(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="needs the extra `evals`")
    older(tmp_path / "greet-a")
    newer(tmp_path / "greet-b")
    (tmp_path / "no-task").mkdir()
    (tmp_path / "README.md").write_text("A folder of tasks.")
    found = load_dataset(str(tmp_path))
    assert not found.broken
    first, second = found.instances
    assert [one.instance_id for one in found.instances] == ["greet-a", "greet-b"]
    assert {one.schema for one in found.instances} == {Schema.TERMINAL_BENCH}
    assert (first.repo, second.repo) == ("terminal-bench/file-operations", "terminal-bench/file-operations")
    assert (first.difficulty, first.problem_statement) == ("easy", ISSUE)
    assert second.problem_statement == ISSUE + "\n"  # without what marks it as a benchmark's
    task = task_of(first)
    assert (task.layout, task.agent_seconds, task.test_seconds) == (Layout.OLDER, 120.0, 60.0)
    assert (task.dockerfile, task.context, task.script.name) == ("Dockerfile", ".", "run-tests.sh")
    task = task_of(second)
    assert (task.layout, task.dockerfile, task.script.name) == (Layout.NEWER, "environment/Dockerfile", "test.sh")
    chosen = load_dataset(str(tmp_path), wanted=Filter(ids=("*-b",))).instances
    assert [one.instance_id for one in chosen] == ["greet-b"]


def test_one_task_is_a_set(tmp_path: Path) -> None:
    assert [one.instance_id for one in load_dataset(str(newer(tmp_path / "greet"))).instances] == ["greet"]


def test_rows_come_back_and_hold_nothing_of_tests_and_solution(tmp_path: Path) -> None:
    (one,) = load_dataset(str(newer(tmp_path / "greet"))).instances
    assert read_instance(row_of(one)) == one
    line = row_line(one)
    assert GOLD not in line
    assert "test_greetings" not in line
    assert Task.of(one) == Task("greet", ISSUE + "\n")


def test_the_hash_names_the_content_and_not_the_place(tmp_path: Path) -> None:
    (here,) = load_dataset(str(newer(tmp_path / "a/greet"))).instances
    (there,) = load_dataset(str(newer(tmp_path / "b/greet"))).instances
    assert rows_sha256([here]) == rows_sha256([there])
    (tmp_path / "b/greet/tests/test_outputs.py").write_text("def test_all(): pass\n")
    (changed,) = load_dataset(str(tmp_path / "b")).instances
    assert rows_sha256([here]) != rows_sha256([changed])
    with pytest.raises(EnvironmentUnavailable, match="isn't what it was"):
        checked_task(there)
    shutil.rmtree(tmp_path / "b/greet")
    with pytest.raises(EnvironmentUnavailable, match="isn't on this machine"):
        checked_task(there)


NEWER_BROKEN: dict[str, dict[str, str | None]] = {
    "no TOML that can be read": {"task.toml": "[["},
    "its schema is '2.0'": {"task.toml": 'schema_version = "2.0"\n'},
    "has several steps": {"task.toml": '[[steps]]\nname = "one"\n'},
    "is for Windows": {"task.toml": '[environment]\nos = "windows"\n'},
    "an environment of their own": {"task.toml": '[verifier]\nenvironment_mode = "separate"\n'},
    "wants a GPU": {"task.toml": "[environment]\ngpus = 1\n"},
    "MCP servers": {"task.toml": '[[environment.mcp_servers]]\nname = "x"\n'},
    "taken from the host": {"task.toml": '[verifier.env]\nKEY = "${SECRET}"\n'},
    "timeout_sec is -1": {"task.toml": "[agent]\ntimeout_sec = -1\n"},
    "environment is no table": {"task.toml": "environment = 3\n"},
    "instruction is empty": {"instruction.md": "<!-- canary -->\n \n"},
    "instruction.md isn't UTF-8": {"instruction.md": None},
}


@pytest.mark.parametrize("reason", NEWER_BROKEN)
def test_broken_tasks_of_the_newer_layout(reason: str, tmp_path: Path) -> None:
    newer(tmp_path / "good")
    newer(tmp_path / "bad")
    for name, text in NEWER_BROKEN[reason].items():
        (tmp_path / "bad" / name).write_bytes(b"\xff\xfe" if text is None else text.encode())
    found = load_dataset(str(tmp_path))
    assert [one.instance_id for one in found.instances] == ["good"]
    (broken,) = found.broken
    assert broken.reason.startswith("bad: ")
    assert reason in broken.reason


OLDER_BROKEN = {
    "no YAML that can be read": {"task.yaml": "a: [\n"},
    "holds no mapping": {"task.yaml": "- 1\n"},
    "its parser 'mlebench'": {"task.yaml": "instruction: x\nparser_name: mlebench\n"},
    "the agent's own shell": {"task.yaml": "instruction: x\nrun_tests_in_same_shell: true\n"},
    "instruction is no text": {"task.yaml": "instruction: 3\n"},
    "several containers": {"docker-compose.yaml": "services: {client: {build: .}, db: {image: x}}\n"},
    "has no services": {"docker-compose.yaml": "a: 1\n"},
    "leaves the task's folder": {"docker-compose.yaml": "services: {client: {build: ../other}}\n"},
    "builds other.Dockerfile, which isn't there": {
        "docker-compose.yaml": "services: {client: {build: {dockerfile: other.Dockerfile}}}\n"
    },
}


@pytest.mark.parametrize("reason", OLDER_BROKEN)
def test_broken_tasks_of_the_older_layout(reason: str, tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="needs the extra `evals`")
    older(tmp_path / "bad", OLDER_BROKEN[reason])
    (broken,) = load_dataset(str(tmp_path)).broken
    assert reason in broken.reason


def test_missing_parts_are_named(tmp_path: Path) -> None:
    for name, lost in (("a", "tests/test.sh"), ("b", "instruction.md"), ("c", "environment/Dockerfile")):
        (newer(tmp_path / name) / lost).unlink()
    newer(tmp_path / "-d")
    reasons = [one.reason for one in load_dataset(str(tmp_path)).broken]
    assert [reason.split(": ")[0] for reason in reasons] == ["-d", "a", "b", "c"]
    for said, reason in zip(
        ("can't be a file name", "tests/test.sh", "instruction.md", "no Dockerfile"), reasons, strict=True
    ):
        assert said in reason


def test_a_published_image_needs_no_dockerfile(tmp_path: Path) -> None:
    task = newer(tmp_path / "greet", environment={"docker_image": "org/greet:1", "workdir": "/srv/work"})
    (task / "environment/Dockerfile").unlink()
    (one,) = load_dataset(str(task)).instances
    assert (one.image, task_of(one).workdir, task_of(one).dockerfile) == ("org/greet:1", "/srv/work", "")


def test_a_folder_without_tasks(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetUnusable, match="a folder without tasks"):
        load_dataset(str(tmp_path))


def test_the_build_sees_no_solution(tmp_path: Path) -> None:
    """An older task is built from its own folder, where solution and tests lie."""
    pytest.importorskip("yaml", reason="needs the extra `evals`")
    (one,) = load_dataset(str(older(tmp_path / "greet"))).instances
    with build_context(task_of(one)) as context:
        assert sorted(path.name for path in context.iterdir()) == ["Dockerfile", "names.txt"]
    named = {"Dockerfile": "FROM patchwright/base\nCOPY . /app\nCOPY tests /app/tests\n"}
    (one,) = load_dataset(str(older(tmp_path / "other", named))).instances
    with build_context(task_of(one)) as context:
        assert sorted(path.name for path in context.iterdir()) == ["Dockerfile", "names.txt", "tests"]


def test_the_command_lists_them(tmp_path: Path) -> None:
    newer(tmp_path / "good")
    newer(tmp_path / "bad", {"task.toml": "[["})
    said = CliRunner().invoke(cli, ["eval", "instances", str(tmp_path), "--json"])
    assert said.exit_code == 3
    assert [json.loads(line)["schema"] for line in said.stdout.splitlines()] == ["terminal-bench"]
    assert "bad: task.toml is no TOML" in said.stderr
    assert GOLD not in said.stdout


def test_the_agents_time_is_the_less_of_the_runs_and_the_tasks(tmp_path: Path) -> None:
    (one,) = load_dataset(str(newer(tmp_path / "greet", agent={"timeout_sec": 30.0}))).instances
    assert settings_for(one, Settings()).limits.seconds == 30.0
    assert settings_for(one, Settings(limits=Limits(seconds=5.0))).limits.seconds == 5.0
    other = read_instance({"instance_id": "a__b-1", "repo": "a/b", "FAIL_TO_PASS": [], "PASS_TO_PASS": []})
    assert settings_for(other, Settings()) == Settings()


def test_canaries() -> None:
    assert without_canary("<!-- a canary b -->\n# CANARY x\n\n# Title\ntext # canary\n") == "# Title\ntext # canary\n"
    assert without_canary("text\n# canary\n") == "text\n# canary\n"


def test_other_instances_are_none() -> None:
    row = {"instance_id": "a__b-1", "repo": "a/b", "FAIL_TO_PASS": [], "PASS_TO_PASS": []}
    assert not is_terminal(read_instance(row))
