"""What a queue does while nothing dies: results, failures, files, order, limits; a worker in the test's own process."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent.jobs import (
    Ended,
    FileTooLarge,
    Job,
    JobContext,
    JobFailed,
    JobsBusy,
    JobUnknown,
    StepFailed,
    Work,
    open_jobs,
)
from tests.jobs.conftest import Hire, desk, long
from tests.jobs.works import APPLICATION, Diary

where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")


async def one(value: Any = None) -> Any:
    return value


async def ends_of(database: str, work: Work, *payloads: dict[str, Any]) -> list[Ended]:
    """Each payload a job of `work`, one at a time, in this process; their ends by number."""
    wanted = [Job(f"job/{number}", "work", payload) for number, payload in enumerate(payloads)]
    async with open_jobs(database, {"work": work}, application=APPLICATION, poll=0.05) as jobs, asyncio.timeout(30):
        await jobs.enqueue(wanted)
        ends = {end.id: end async for end in jobs.ended(job.id for job in wanted)}
    return [ends[job.id] for job in wanted]


async def test_results_are_what_the_work_returned(database: str) -> None:
    async def work(context: JobContext) -> Any:
        first = await context.step("first", lambda: one({"text": "ä\n", "none": None}))
        return [first, await context.step("second", lambda: one(2.5)), dict(context.job.payload)]

    [end] = await ends_of(database, work, {"n": 1})
    assert end == Ended("job/0", [{"text": "ä\n", "none": None}, 2.5, {"n": 1}])


async def test_work_runs_in_the_callers_loop_one_job_after_the_other_in_order(database: str) -> None:
    seen: list[tuple[int, bool]] = []
    loop, executor = asyncio.get_running_loop(), asyncio.get_running_loop()._default_executor  # type: ignore[attr-defined]

    async def work(context: JobContext) -> str:
        seen.append((context.job.payload["n"], asyncio.get_running_loop() is loop))
        where.set(f"job {context.job.id}")
        child = await asyncio.create_subprocess_exec("true")
        assert await child.wait() == 0

        async def inside() -> str:
            return where.get()

        return str(await context.step("where", inside))

    ends = await ends_of(database, work, *({"n": n} for n in range(6)))
    assert seen == [(n, True) for n in range(6)]
    assert [end.result for end in ends] == [f"job job/{n}" for n in range(6)]
    assert await asyncio.to_thread(int, "3") == 3  # the loop's own pool is still its own, and works
    assert executor is None or loop._default_executor is executor  # type: ignore[attr-defined]


async def test_failures_are_sentences_and_a_step_fails_alike_for_all(database: str) -> None:
    async def work(context: JobContext) -> Any:
        async def broken() -> None:
            raise ConnectionError("no route")

        match context.job.payload["how"]:
            case "step":
                await context.step("dial", broken)
            case "caught":
                try:
                    await context.step("dial", broken)
                except StepFailed as error:
                    return [error.step, error.kind, error.message]
            case "body":
                raise KeyError("x")
            case "result":
                return {1, 2}
            case "step result":
                await context.step("set", lambda: one({1, 2}))
            case "nested":
                await context.step("outer", lambda: context.step("inner", one))
            case "within":
                raise asyncio.CancelledError
        return None

    hows = ["step", "caught", "body", "result", "step result", "nested", "within"]
    ends = dict(zip(hows, await ends_of(database, work, *({"how": how} for how in hows)), strict=True))
    assert ends["caught"].value() == ["dial", "ConnectionError", "no route"]
    said = {how: end.error for how, end in ends.items() if end.error}
    assert said == {
        "step": "StepFailed: step 'dial': ConnectionError: no route",
        "body": "KeyError: 'x'",
        "result": "its result is not JSON: Object of type set is not JSON serializable",
        "step result": "StepFailed: step 'set': TypeError: Object of type set is not JSON serializable",
        "nested": "StepFailed: step 'outer': JobsError: step 'inner' inside of step 'outer': "
        "a step is recorded whole; make them siblings",
        "within": "its work was cancelled from within",
    }
    with pytest.raises(JobFailed, match="job job/0: StepFailed"):
        ends["step"].value()


async def test_files_go_home_until_they_are_taken(database: str) -> None:
    async def work(context: JobContext) -> str:
        await context.send("a/events.jsonl", b"old")
        await context.send("a/events.jsonl", bytes(range(256)) * 1000)
        await context.send("empty", b"")
        try:
            await context.send("huge", _Huge())
        except FileTooLarge as error:
            return str(error)
        return "sent"

    [end] = await ends_of(database, work, {})
    assert end.result == "huge of job job/0: 536870913 bytes, at most 536870912 can be sent"
    async with desk(database) as jobs:
        assert await jobs.take("job/0") == {"a/events.jsonl": bytes(range(256)) * 1000, "empty": b""}
        await jobs.taken("job/0")
        assert await jobs.take("job/0") == {}


class _Huge(bytes):
    def __len__(self) -> int:
        return 512 * 1024 * 1024 + 1


async def test_known_jobs_are_left_as_they_are(database: str) -> None:
    runs = 0

    async def work(context: JobContext) -> int:
        nonlocal runs
        runs += 1
        return runs

    assert [end.result for end in await ends_of(database, work, {}, {})] == [1, 2]
    assert [end.result for end in await ends_of(database, work, {"other": 1}, {}, {})] == [1, 2, 3]
    async with desk(database) as jobs:
        job = Job("job/3", "work", {})
        assert await jobs.enqueue([job, job]) == 1
        with pytest.raises(JobUnknown, match="nobody enqueued job/9"):
            await anext(jobs.ended(["job/0", "job/9"]))
        await jobs.cancel(["job/0"])  # ended already: stays so
        assert (await anext(jobs.ended(["job/0"]))).result == 1


async def test_one_worker_for_a_process(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/jobs.sqlite"
    async with open_jobs(database, {}, application=APPLICATION, name="mine") as jobs:
        with pytest.raises(JobsBusy, match="has a worker already"):
            async with open_jobs(database, {}, application=APPLICATION):
                pass
        async with desk(database) as other:
            assert [worker.name for worker in await other.workers()] == ["mine"]
        assert await jobs.enqueue([]) == 0
    async with open_jobs(database, {}, application=APPLICATION):
        pass


async def test_applications_in_one_database_keep_apart(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/jobs.sqlite"

    async def name(context: JobContext) -> str:
        return context.worker

    async with open_jobs(database, {}, application="other", worker=False) as other:
        await other.enqueue([Job("theirs", "work", {})])
        async with open_jobs(database, {"work": name}, application=APPLICATION, poll=0.05, name="ours") as jobs:
            await jobs.enqueue([Job("ours", "work", {})])
            assert [end.result async for end in jobs.ended(["ours"])] == ["ours"]
            await asyncio.sleep(0.5)
        async with open_jobs(database, {"work": name}, application="other", poll=0.05, name="they") as other:
            assert [end.result async for end in other.ended(["theirs"])] == ["they"]


@long
async def test_each_worker_holds_its_own_limit(database: str, diary: Diary, hire: Hire) -> None:
    wanted = [Job(f"crowd-{n}", "crowd", {"seconds": 0.3}) for n in range(14)]
    async with desk(database) as jobs, asyncio.timeout(60):
        narrow, wide = hire("narrow", concurrency="1"), hire("wide", concurrency="4")
        await narrow.ready()
        await wide.ready()
        await jobs.enqueue(wanted)
        assert len([end async for end in jobs.ended(job.id for job in wanted)]) == 14
    most = {"narrow": 0, "wide": 0}
    inside = dict(most)
    for word, _, worker in diary.lines():
        inside[worker] += 1 if word == "in" else -1
        most[worker] = max(most[worker], inside[worker])
    assert most == {"narrow": 1, "wide": 4}


@pytest.mark.parametrize("bad", ["", "a b", "é", "x" * 401])
def test_ids_that_would_make_trouble_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="job id"):
        Job(bad, "kind", {})
    with pytest.raises(ValueError, match="kind"):
        Job("id", bad or "K", {})


async def test_a_database_that_cannot_be_is_named_at_once() -> None:
    for database, application in (("mysql://here", APPLICATION), ("sqlite:///x", "ab"), ("sqlite:///x", "Evals")):
        with pytest.raises(ValueError, match=r"begins with sqlite|3 to 60 lower-case"):
            async with open_jobs(database, {}, application=application):
                pass


def test_the_package_is_cheap_to_import() -> None:
    code = "import sys, agent.jobs; sys.exit(bool({'dbos', 'sqlalchemy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def sql(database: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Into a SQLite database, from outside."""
    with sqlite3.connect(database.removeprefix("sqlite:///"), timeout=30) as connection:
        return connection.execute(statement, values).fetchall()


async def test_a_silent_worker_elsewhere_is_lost_after_the_lease_and_not_before(tmp_path: Path, diary: Diary) -> None:
    database = f"sqlite:///{tmp_path}/jobs.sqlite"
    job = Job("left", "work", {})
    async with desk(database) as jobs:
        await jobs.enqueue([job])
        sql(database, "INSERT INTO patchwright_workers VALUES ('far', ?, 'far', 'far', 'x', 1, 1, 0, 1)", APPLICATION)
        sql(database, "UPDATE workflow_status SET status = 'PENDING', executor_id = 'far', owner_xid = 'token'")
        started = time.monotonic()
        async with open_jobs(
            database, {"work": lambda context: one("found")}, application=APPLICATION, poll=0.05, lease=1.5
        ) as mine:
            assert [end.result async for end in mine.ended(["left"])] == ["found"]
            assert 1.5 <= time.monotonic() - started < 30
            assert len(await mine.workers()) == 1


async def test_a_claim_whose_start_failed_is_found_by_its_own_worker(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/jobs.sqlite"
    async with (
        open_jobs(
            database, {"work": lambda context: one("found")}, application=APPLICATION, poll=0.05, lease=1
        ) as jobs,
        asyncio.timeout(20),
    ):
        await jobs.enqueue([Job("late", "other", {}), Job("lost", "work", {})])
        [end] = [end async for end in jobs.ended(["lost"])]
        assert end.result == "found"
        [[me]] = sql(database, "SELECT id FROM patchwright_workers")
        sql(
            database,
            "UPDATE workflow_status SET status = 'PENDING', executor_id = ?, owner_xid = 't', queue_name = ? "
            "WHERE workflow_uuid = 'late'",
            me,
            f"{APPLICATION}.work",
        )
        sql(database, "UPDATE workflow_input SET inputs = replace(inputs, 'other', 'work')")
        assert [end.result async for end in jobs.ended(["late"])] == ["found"]


async def test_a_job_that_loses_every_worker_is_given_up(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/jobs.sqlite"
    async with desk(database) as jobs:
        await jobs.enqueue([Job("job/0", "work", {})])
    sql(database, "UPDATE workflow_status SET recovery_attempts = 30")
    [end] = await ends_of(database, lambda context: one(), {})
    assert end.error == "its worker was lost each time that it ran; it isn't tried again"


async def test_who_lost_a_job_sends_nothing_home_and_stops(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/jobs.sqlite"
    runs: list[str] = []

    async def work(context: JobContext) -> str:
        runs.append("began")
        if len(runs) == 1:
            sql(database, "UPDATE workflow_status SET owner_xid = 'another claim'")
            try:
                await context.send("log", b"of the first")
            except asyncio.CancelledError:
                runs.append("stopped")
                raise
        return "done"

    async with (
        open_jobs(database, {"work": work}, application=APPLICATION, poll=0.05, lease=1.5) as jobs,
        asyncio.timeout(20),
    ):
        await jobs.enqueue([Job("one", "work", {})])
        assert [end.result async for end in jobs.ended(["one"])] == ["done"]
        assert runs == ["began", "stopped", "began"]
        assert await jobs.take("one") == {}
