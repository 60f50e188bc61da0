"""Failures of the infrastructure while an attempt is judged: its tries, and what the record says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.jobs import Job, open_jobs
from evals.environments import Recipes
from evals.judging.base import JudgingFailed
from evals.mini.dataset import mini_dataset
from evals.runs.folder import EvalFolder
from evals.runs.manifest import Settings
from evals.runs.pipeline import APPLICATION, KIND, Work, Worker
from evals.runs.record import AttemptKey, AttemptRecord
from evals.runs.rows import row_of
from tests.evals.runs.harness import LIGHT

PERHAPS = "its tests were running each time, so it may be the patch that does it"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvalFolder:
    monkeypatch.setenv("PATCHWRIGHT_HOME", str(tmp_path / "home"))
    return EvalFolder(tmp_path / "out")


async def record_of(folder: EvalFolder, *failures: JudgingFailed, monkeypatch: pytest.MonkeyPatch) -> AttemptRecord:
    """The record of somebody's patch whose judging fails so, try after try."""
    left = [*failures]

    async def judge(*_: Any) -> None:
        raise left.pop(0)

    monkeypatch.setattr("evals.runs.pipeline.judge", judge)
    instance = next(one for one in mini_dataset().instances if one.instance_id == LIGHT[0])
    settings = Settings(kind="grade", sandbox="none", tries=len(failures))
    work = Work(AttemptKey("out", instance.instance_id, 1), instance, settings, "m", given="+++ b/x\n")
    worker = Worker(Recipes(), folder=folder, run="out", wait=0.0)
    database = f"sqlite:///{folder.path.parent / 'jobs.sqlite'}"
    async with open_jobs(database, {KIND: worker}, application=APPLICATION, poll=0.1) as jobs:
        await jobs.enqueue([Job(work.key.job, KIND, work.payload(row_of(instance)))])
        ends = [end async for end in jobs.ended([work.key.job])]
    return AttemptRecord.from_json(ends[0].value())


def died(*, tests_ran: bool) -> JudgingFailed:
    return JudgingFailed("the sandbox died", again=True, tests_ran=tests_ran)


async def test_what_ends_every_sandbox_may_be_the_patch_itself(
    folder: EvalFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await record_of(folder, died(tests_ran=True), died(tests_ran=True), monkeypatch=monkeypatch)
    assert record.status == "infrastructure"
    assert record.infrastructure == f"the sandbox died ({PERHAPS})"
    assert record.tries == ("judge: the sandbox died",)


async def test_a_machine_that_fails_before_the_tests_is_no_patchs_doing(
    folder: EvalFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await record_of(folder, died(tests_ran=False), died(tests_ran=True), monkeypatch=monkeypatch)
    assert record.infrastructure == "the sandbox died"
