"""Judging in every kind of sandbox that isolates, on the base image: the same verdicts, and a border around them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from evals.grading.semantics import Semantics
from evals.judging.base import JudgeSpec, JudgingFailed
from evals.judging.judge import judge
from tests.evals.judging.subject import F2P, P2P, PASSED, Subject, make_subject
from tests.evals.judging.test_judge import FUZZY, loose
from tests.sandbox.kinds import ISOLATED, need


@pytest.fixture(params=ISOLATED)
def kind(request: pytest.FixtureRequest) -> str:
    need(request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return make_subject(tmp_path_factory.mktemp("subject") / "repo")


def spec(subject: Subject, kind: str, command: str = "python3 -m pytest -rA", **fields: Any) -> JudgeSpec:
    return subject.spec(environment={"kind": kind, "test_command": command}, **fields)


async def test_without_and_with_gold(subject: Subject, kind: str, tmp_path: Path) -> None:
    before = await judge(spec(subject, kind), "", tmp_path / "before", unpatched=True)
    after = await judge(spec(subject, kind), subject.gold, tmp_path / "after")
    assert (before.report["resolved"], after.report["resolved"]) == (False, True)
    assert before.report["tests_status"]["FAIL_TO_PASS"]["failure"] == F2P
    assert before.report["tests_status"]["PASS_TO_PASS"]["success"] == P2P
    assert after.doubt == ""


@pytest.mark.parametrize("semantics", Semantics)
async def test_each_fallback_is_there(subject: Subject, kind: str, semantics: Semantics, tmp_path: Path) -> None:
    """The image has git and patch; what only `patch` takes leaves nothing in `.git`."""
    hook = loose(".git/hooks/post-checkout", "#!/bin/sh\ntouch /testbed/mark\n")
    command = f"ls mark .git/hooks; {PASSED}"
    judged = await judge(spec(subject, kind, command, semantics=semantics), FUZZY + hook, tmp_path)
    assert "with fuzz" in (tmp_path / "run_instance.log").read_text()
    assert judged.report["resolved"] is True
    said = (tmp_path / "test_output.txt").read_text().partition("Start Test Output")[2]
    assert "ls: cannot access 'mark'" in said
    assert "post-checkout" not in said


LOOK = """
import os, pathlib, socket
for host in ("1.1.1.1", "127.0.0.1"):
    try:
        socket.create_connection((host, 80), 2)
        print("reached", host)
    except OSError as error:
        print("not reached", host)
print("git", sorted(path.name for path in pathlib.Path(".git/refs").rglob("*") if path.is_file()))
print("user", os.getuid() != 0)
"""


async def test_no_network_no_root_no_history(subject: Subject, kind: str, tmp_path: Path) -> None:
    patch = subject.diff({"look.py": LOOK})
    await judge(
        spec(subject, kind, f"python3 look.py; git log --oneline --all; git stash list; {PASSED}"), patch, tmp_path
    )
    said = (tmp_path / "test_output.txt").read_text().partition("Start Test Output")[2]
    assert "\nreached" not in said
    assert said.count("not reached") == 2
    assert "user True" in said
    assert "git ['main']" in said
    assert re.search(r"\+ git log --oneline --all\n[0-9a-f]+ .*Start\n\+ git stash list\n\+ ", said)


async def test_a_patch_that_ends_its_sandbox_has_no_verdict(subject: Subject, kind: str, tmp_path: Path) -> None:
    """Whatever the tests kill, either the sandbox outlives it, or it is said that the tests were running."""
    try:
        judged = await judge(
            spec(subject, kind, f"{PASSED.removesuffix('; : ')}; kill -9 -1; : "), subject.gold, tmp_path
        )
    except JudgingFailed as problem:
        assert problem.tests_ran
        assert problem.again
    else:
        assert judged.report["resolved"] is False, "the script was killed before its end marker"


async def test_the_time_limit(subject: Subject, kind: str, tmp_path: Path) -> None:
    judged = await judge(spec(subject, kind, f"{PASSED}; setsid sleep 300; : ", seconds=2), subject.gold, tmp_path)
    assert judged.report["resolved"] is False
    assert "Timeout error: 2 seconds exceeded." in (tmp_path / "test_output.txt").read_text()
