"""Verdicts that are in doubt, and what is no verdict at all: the infrastructure's failures, and giving up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from evals.judging.base import JudgeSpec, JudgingFailed
from evals.judging.flaky import InstanceTests, KnownTests
from evals.judging.judge import judge
from evals.runs.record import Judged
from tests.evals.judging.subject import F2P, P2P, PASSED, Subject, make_subject, quick


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return make_subject(tmp_path_factory.mktemp("subject") / "repo")


def log(folder: Path) -> str:
    return (folder / "run_instance.log").read_text()


# -- doubts


def known(**tests: Any) -> KnownTests:
    return KnownTests({"pallets__flask-1": InstanceTests(**tests)})


ONE_FAILS = f"echo FAILED {P2P[0]}; printf 'PASSED %s\\n' {' '.join(F2P)}; : "


@pytest.mark.parametrize(
    ("fields", "doubt"),
    [
        ({}, ""),
        ({"known": known(failing=frozenset(P2P))}, f"only tests failed that fail with the gold patch too: {P2P[0]}"),
        (
            {"known": known(flaky=frozenset(P2P))},
            f"only tests failed that are flaky or fail with the gold patch too: {P2P[0]}",
        ),
        ({"known": known(flaky=frozenset(F2P))}, ""),
        ({"known": known(broken="no pytest")}, "the environment is broken with the gold patch too: no pytest"),
        (
            {"environment": {"facts": {"wants_network": ["tests/test_ops.py::test_t*"]}}},
            f"only tests failed that want a network, and there is none: {P2P[0]}",
        ),
    ],
)
async def test_doubts(subject: Subject, fields: dict[str, Any], doubt: str, tmp_path: Path) -> None:
    judged = await judge(quick(subject, ONE_FAILS, **fields), subject.gold, tmp_path)
    assert judged.report["resolved"] is False
    assert judged.doubt == doubt


async def test_the_harness_own_signs_are_a_doubt(subject: Subject, tmp_path: Path) -> None:
    command = f"echo 'Temporary failure in name resolution'; {ONE_FAILS}"
    judged = await judge(quick(subject, command), subject.gold, tmp_path)
    assert judged.doubt == "the log shows the harness's sign network_unreachable: a patch of the sources can't cause it"


async def test_no_doubt_about_what_is_resolved(subject: Subject, tmp_path: Path) -> None:
    judged = await judge(quick(subject, f"echo Killed; {PASSED}", known=known(broken="x")), subject.gold, tmp_path)
    assert judged.doubt == ""


# -- no verdict


async def failure(spec: JudgeSpec, patch: str, folder: Path) -> JudgingFailed:
    with pytest.raises(JudgingFailed) as caught:
        await judge(spec, patch, folder)
    assert not (folder / "report.json").exists()
    return caught.value


async def test_no_repository(subject: Subject, tmp_path: Path) -> None:
    problem = await failure(quick(subject, environment={"repository": str(tmp_path / "gone")}), "x\n", tmp_path / "j")
    assert "the base commit can't be had" in str(problem)
    assert not problem.again
    problem = await failure(quick(subject, environment={"base_commit": "f" * 40}), "x\n", tmp_path / "j")
    assert not problem.again
    far = {"repository": "http://127.0.0.1:9/x.git"}
    assert (await failure(quick(subject, environment=far), "x\n", tmp_path / "j")).again


async def test_no_image(subject: Subject, tmp_path: Path) -> None:
    image = {"kind": "bubblewrap", "image": str(tmp_path / "gone")}
    problem = await failure(quick(subject, environment=image), subject.gold, tmp_path / "j")
    assert str(problem).startswith(("the image", "no sandbox"))


async def test_no_command_and_no_parser(subject: Subject, tmp_path: Path) -> None:
    problem = await failure(quick(subject, "", repo="a/b"), "x\n", tmp_path / "j")
    assert "no log parser for a/b" in str(problem)
    problem = await failure(quick(subject, "", repo="a/b", parser="parse_log_pytest"), "x\n", tmp_path / "j")
    assert "Name a test_command in a recipe" in str(problem)
    assert not problem.again
    assert not (tmp_path / "j").exists(), "nothing was begun"


async def test_a_folder_that_cant_be_written(subject: Subject, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    problem = await failure(quick(subject), "x\n", tmp_path / "file" / "judged")
    assert problem.again
    assert "can't be written" in str(problem)


async def test_a_sandbox_that_dies_under_its_tests(subject: Subject, tmp_path: Path) -> None:
    problem = await failure(quick(subject, f"{PASSED}; kill -9 $PPID; sleep 5; : "), subject.gold, tmp_path)
    assert problem.again
    assert problem.tests_ran
    assert "the sandbox failed while tests ran" in str(problem)


async def test_a_bug_that_doesnt_apply(subject: Subject, tmp_path: Path) -> None:
    fields = {"base_commit": None, "image_name": "i", "patch": "no patch\n", "test_patch": ""}
    problem = await failure(subject.spec(parser="parse_log_pytest", **fields), subject.gold, tmp_path)
    assert "the row's patch, which makes the bug, doesn't apply" in str(problem)
    assert not problem.again


async def test_giving_up_leaves_nothing_behind(subject: Subject, tmp_path: Path) -> None:
    task: asyncio.Task[Judged] = asyncio.create_task(judge(quick(subject, "sleep 77 ; : "), subject.gold, tmp_path))
    while not (tmp_path / "run_instance.log").exists() or "Git diff before" not in log(tmp_path):
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (tmp_path / "report.json").exists()
