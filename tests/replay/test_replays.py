"""Real code, the real issue, what a real model said, in Docker: the run ends where the recording ended."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent import checkout as base_checkout
from agent.machine import Machine
from agent.runs import RunFolder
from agent.worktree import Worktree
from sandbox.base import CommandResult
from tests.replay.prepare import DJANGO_10880, FLASK_5014, Replay, SourceUnavailable, checkout, image_for, rewrite
from tests.replay.recorded import bash_turns, editor_turns, recorded_exit_codes, row
from tests.runs.harness import Finished, Place, served
from tests.sandbox.kinds import need
from tests.shared_data import needs_shared

pytestmark = [pytest.mark.replay, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    need("docker")
    return Place(tmp_path, "docker")


def prepared(place: Place, replay: Replay) -> None:
    try:
        checkout(replay, place.repo)
    except SourceUnavailable as error:
        if "pip can't download" in str(error):
            pytest.skip(str(error))
        raise


def run(place: Place, turns: list[dict[str, Any]], issue: str) -> Finished:
    file = place.folder / "issue.md"
    file.write_text(issue)
    with served(turns) as model:
        arguments = ["fix", str(place.repo), str(file), "--model", model.url, "--sandbox", "docker", "--json"]
        return place.agent(*arguments)


def hunks(patch: str) -> str:
    """A patch without the lengths to which blob ids are shortened."""
    return "\n".join(line for line in patch.strip().splitlines() if not line.startswith("index "))


async def graded(
    place: Place, replay: Replay, image: str, instance: dict[str, Any], *, with_patch: bool
) -> CommandResult:
    """The instance's tests on the base commit with its test patch, without or with the run's patch."""
    folder = RunFolder(place.run_folder)
    base = await base_checkout.read_base(folder.repository)
    machine = Machine("docker", image, "/workspace", folder)
    sandbox = await machine.open("grading")
    try:
        await Worktree(sandbox, folder.repository, base).fill()
        patches = [instance["test_patch"]] + ([place.patch()] if with_patch else [])
        for patch in patches:
            await sandbox.write("/tmp/p.diff", patch.encode())
            applied = await sandbox.run(["git", "apply", "/tmp/p.diff"])
            assert applied.exit_code == 0, applied.output
        return await sandbox.run(replay.test_command, timeout=600, max_output=4_000_000)
    finally:
        await sandbox.close()


def ids_that(result: CommandResult, *, passed: bool, django: bool = False) -> set[str]:
    text = result.output.decode()
    if django:
        ending = "ok" if passed else "(?:FAIL|ERROR)"
        found = re.findall(rf"^(\w+) \(([\w.]+?)(?:\.\1)?\)(?:\n.*?)? \.\.\. {ending}$", text, re.MULTILINE)
        return {f"{name} ({place})" for name, place in found}
    return set(re.findall(rf"^{'PASSED' if passed else 'FAILED'} (\S+)", text, re.MULTILINE))


@needs_shared
async def test_flask_5014(place: Place) -> None:
    prepared(place, FLASK_5014)
    trajectory = row("trajectories_bash.jsonl.xz", FLASK_5014.instance_id)
    instance = row("swe-bench-verified-500.jsonl.xz", FLASK_5014.instance_id)
    done = run(place, bash_turns(FLASK_5014, trajectory), instance["problem_statement"])

    assert done.of_type("loop_ended")[0]["end"] == "submitted", done.err + done.out[-2000:]
    assert hunks(place.patch()) == hunks(trajectory["submission"])
    codes = [data["facts"]["exit_code"] for data in done.of_type("observation") if "exit_code" in data["facts"]]
    assert codes == recorded_exit_codes(trajectory)[: len(codes)]
    assert done.of_type("verified")[0]["applies"]
    # The test command and the tests near the change pass without and with the patch: none knows the issue yet.
    assert [data["verdict"] for data in done.of_type("check") if data["kind"] == "command"] == ["kept", "kept"]
    assert done.code == 3

    image = await image_for(FLASK_5014, place.repo)
    wanted = set(json.loads(instance["FAIL_TO_PASS"])), set(json.loads(instance["PASS_TO_PASS"]))
    before = await graded(place, FLASK_5014, image, instance, with_patch=False)
    after = await graded(place, FLASK_5014, image, instance, with_patch=True)
    assert ids_that(before, passed=False) == wanted[0]
    assert ids_that(before, passed=True) >= wanted[1]
    assert ids_that(after, passed=True) >= wanted[0] | wanted[1]
    assert ids_that(after, passed=False) == set()


@needs_shared
async def test_django_10880(place: Place) -> None:
    prepared(place, DJANGO_10880)
    trajectory = row("trajectories_str_replace_editor.jsonl.xz", DJANGO_10880.instance_id)
    instance = row("swe-bench-verified-500.jsonl.xz", DJANGO_10880.instance_id)
    turns = editor_turns(DJANGO_10880, trajectory)
    done = run(place, turns, instance["problem_statement"])

    assert done.of_type("loop_ended")[0]["end"] == "submitted", done.err + done.out[-2000:]
    assert hunks(place.patch()) == hunks(recorded_change(place, turns))
    assert done.of_type("verified")[0]["applies"]

    image = await image_for(DJANGO_10880, place.repo)
    before = await graded(place, DJANGO_10880, image, instance, with_patch=False)
    after = await graded(place, DJANGO_10880, image, instance, with_patch=True)
    wanted = set(json.loads(instance["FAIL_TO_PASS"])), set(json.loads(instance["PASS_TO_PASS"]))
    assert ids_that(before, passed=False, django=True) == wanted[0]
    assert ids_that(before, passed=True, django=True) >= wanted[1]
    assert ids_that(after, passed=True, django=True) >= wanted[0] | wanted[1]
    assert ids_that(after, passed=False, django=True) == set()


def recorded_change(place: Place, turns: list[dict[str, Any]]) -> str:
    """The patch that the recorded edits of the repository's files make when plain Python does them."""
    for turn in turns:
        for call in turn["calls"]:
            edit = call["arguments"]
            if call["name"] == "str_replace_editor" and edit["command"] == "str_replace":
                path = place.repo / edit["path"].removeprefix("/workspace/")
                if path.is_file():
                    text = path.read_text()
                    assert text.count(edit["old_str"]) == 1
                    path.write_text(text.replace(edit["old_str"], edit["new_str"]))
    patch = subprocess.run(["git", "-C", str(place.repo), "diff"], capture_output=True, text=True, check=True).stdout
    subprocess.run(["git", "-C", str(place.repo), "checkout", "-q", "."], check=True)
    assert patch
    return patch


def test_rewriting_leaves_no_recorded_path() -> None:
    text = "cd /workspace/django__django__3.0 && python /workspace/reproduce_issue.py"
    assert rewrite(DJANGO_10880, text) == "cd /workspace && python /tmp/reproduce_issue.py"
