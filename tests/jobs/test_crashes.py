"""What holds when workers die, freeze or are cancelled: real processes, real signals, both databases."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3

import pytest

from agent.jobs import Ended, Job, Jobs
from tests.jobs.conftest import Hire, Postgres, Worker, desk, long, until
from tests.jobs.works import Diary


def three(count: int, seconds: float) -> list[Job]:
    return [Job(f"run/instance-{n}/1", "three", {"seconds": seconds}) for n in range(count)]


async def collected(jobs: Jobs, ids: list[str], seconds: float = 60) -> dict[str, Ended]:
    async with asyncio.timeout(seconds):
        ends = [end async for end in jobs.ended(ids)]
    assert sorted(end.id for end in ends) == sorted(ids)  # each once
    return {end.id: end for end in ends}


async def ready(*workers: Worker) -> None:
    for worker in workers:
        await worker.ready()


async def test_a_killed_workers_jobs_are_finished_by_another_without_redoing_steps(
    database: str, diary: Diary, hire: Hire
) -> None:
    wanted = three(12, 0.3)
    ids = [job.id for job in wanted]
    async with desk(database) as jobs:
        one, two = hire("one"), hire("two")
        await ready(one, two)
        assert await jobs.enqueue(wanted) == 12
        await until(lambda: len(diary.by("b", "one")) >= 2)
        one.signal(signal.SIGKILL)
        ends = await collected(jobs, ids)
        files = {job: await jobs.take(job) for job in ids}
        names = [worker.name for worker in await jobs.workers()]
    assert all(end.error is None for end in ends.values())
    assert names == ["two"]  # the dead one's row is gone
    finished = {word: diary.count(word) for word in "abc"}
    assert all(set(counts) == set(ids) for counts in finished.values())
    again = {word: {job for job, count in counts.items() if count > 1} for word, counts in finished.items()}
    in_mid_job = diary.by("a", "one") & diary.by("began", "two")
    assert in_mid_job, "the killed worker had nothing in hand: the test shows nothing"
    # at most one step of each job that was interrupted ran twice: the one that was going on
    assert again["a"] | again["b"] | again["c"] <= in_mid_job
    assert not again["a"] & again["b"] and not again["b"] & again["c"] and not again["a"] & again["c"]
    assert max(count for counts in finished.values() for count in counts.values()) == 2
    for job in ids:
        assert files[job]["log.txt"].startswith(job.encode())


async def test_a_restarted_worker_goes_on_where_the_killed_one_was(database: str, diary: Diary, hire: Hire) -> None:
    wanted = three(4, 0.4)
    ids = [job.id for job in wanted]
    async with desk(database) as jobs:
        await jobs.enqueue(wanted)
        one = hire("one", concurrency="2")
        await until(lambda: len(diary.by("b", "one")) >= 2)
        one.signal(signal.SIGKILL)
        await one.ended()
        hire("again", concurrency="2", lease="60")  # by its process id: nobody waits for the lease
        ends = await collected(jobs, ids, 20)
        assert await jobs.enqueue(wanted) == 0
    assert all(end.error is None for end in ends.values())
    assert max(diary.count("a").values()) == 1
    assert set(diary.count("c").values()) == {1}
    assert not diary.by("began", "again") - set(ids)


async def freeze(worker: Worker, database: str) -> None:
    """Stops a process, and not while it holds the lock of a SQLite file, where it would hold up everybody."""
    while True:
        worker.signal(signal.SIGSTOP)
        if not database.startswith("sqlite:///"):
            return
        connection = sqlite3.connect(database.removeprefix("sqlite:///"), timeout=0.5, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError:
            worker.signal(signal.SIGCONT)
            await asyncio.sleep(0.05)
        finally:
            connection.close()


@long
async def test_a_worker_that_wakes_up_late_stops_and_records_nothing(database: str, diary: Diary, hire: Hire) -> None:
    job = Job("run/frozen/1", "three", {"seconds": 1.5})
    nap = Job("run/nap/1", "nap", {"seconds": 60})
    async with desk(database) as jobs:
        zombie = hire("zombie", lease="3")
        await zombie.ready()
        await jobs.enqueue([job, nap])
        await until(lambda: bool(diary.by("b", "zombie") and diary.by("began", "zombie") >= {nap.id}))
        await freeze(zombie, database)
        heir = hire("heir", lease="3")
        await until(lambda: diary.by("c", "heir") == {job.id})
        zombie.signal(signal.SIGCONT)
        await until(lambda: diary.by("stopped", "zombie") == {nap.id})
        assert diary.by("began", "heir") == {job.id, nap.id}
        await jobs.cancel([nap.id])
        ends = await collected(jobs, [job.id, nap.id])
        zombie.signal(signal.SIGTERM)
        assert await zombie.ended() == 0  # nothing of it hangs
        heir.signal(signal.SIGTERM)
        assert await heir.ended() == 0
    assert ends[job.id].value() == {"done": ["a by zombie", "b by heir", "c by heir"]}
    assert diary.by("c", "zombie") == set()
    assert ends[nap.id].cancelled


async def test_cancelled_jobs_end_whether_they_wait_or_run(database: str, diary: Diary, hire: Hire) -> None:
    napping, waiting = Job("nap-1", "nap", {"seconds": 60}), Job("nap-2", "nap", {"seconds": 60})
    after = Job("three-1", "three", {"seconds": 0})
    async with desk(database) as jobs:
        worker = hire("one", concurrency="1")
        await jobs.enqueue([napping, waiting])
        await until(lambda: bool(diary.by("began", "one")))
        await jobs.cancel([napping.id, waiting.id])
        await jobs.enqueue([after])
        ends = await collected(jobs, [napping.id, waiting.id, after.id], 20)
        await until(lambda: diary.by("stopped", "one") == {napping.id})
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0
    assert {job for job, end in ends.items() if end.cancelled} == {napping.id, waiting.id}
    assert diary.count("began") == {napping.id: 1, after.id: 1}


@long
async def test_a_worker_that_closes_hands_its_jobs_over_at_once(database: str, diary: Diary, hire: Hire) -> None:
    nap = Job("nap", "nap", {"seconds": 1})
    async with desk(database) as jobs:
        one = hire("one", lease="60")
        await jobs.enqueue([nap])
        await until(lambda: diary.by("began", "one") == {nap.id})
        one.signal(signal.SIGTERM)
        assert await one.ended() == 0
        assert await jobs.workers() == []
        hire("two", lease="60")
        ends = await collected(jobs, [nap.id], 20)
    assert ends[nap.id].value() == "rested"
    assert diary.by("stopped", "one") == {nap.id}


@pytest.mark.postgres
@pytest.mark.parametrize("database", ["postgres"], indirect=True)  # a file doesn't go away
async def test_a_database_that_was_away_finds_everybody_at_work(
    postgres: Postgres, database: str, diary: Diary, hire: Hire
) -> None:
    """For longer than the lease: nobody takes it for the others' death."""
    wanted = three(6, 1.0)
    async with desk(database) as jobs:
        workers = hire("one"), hire("two")
        await ready(*workers)
        await jobs.enqueue(wanted)
        await until(lambda: len(diary.count("b")) >= 4)
        collecting = asyncio.create_task(collected(jobs, [job.id for job in wanted], 120))
        await asyncio.to_thread(postgres.do, "stop")
        await asyncio.sleep(8)
        await asyncio.to_thread(postgres.do, "start")
        ends = await collecting
    assert all(end.error is None for end in ends.values())
    assert [max(diary.count(word).values()) for word in ("began", "a", "b", "c")] == [1, 1, 1, 1]


@long
async def test_workers_killed_again_and_again_never_redo_what_is_recorded(
    database: str, diary: Diary, hire: Hire
) -> None:
    wanted = three(40, 0.3)
    chance = random.Random(7)
    async with desk(database) as jobs:
        await jobs.enqueue(wanted)
        at_work = {name: hire(name) for name in ("one", "two")}
        await ready(*at_work.values())
        for number in range(6):
            await asyncio.sleep(chance.uniform(0.3, 1.2))
            name = chance.choice(list(at_work))
            at_work.pop(name).signal(signal.SIGKILL)
            at_work[f"heir-{number}"] = hire(f"heir-{number}")
            await at_work[f"heir-{number}"].ready()
        ends = await collected(jobs, [job.id for job in wanted], 120)
    assert all(end.error is None for end in ends.values())
    ran: dict[str, str] = {}
    for word, job, _ in diary.lines():
        ran[job] = ran.get(job, "") + (word if word in "abc" else "")
    # a step comes again only where it was the last that had begun
    assert {job: steps for job, steps in ran.items() if list(steps) != sorted(steps)} == {}
    assert all(set(steps) == set("abc") for steps in ran.values())
    assert any(len(steps) > 3 for steps in ran.values()), "nobody was killed in mid-step: the test shows nothing"
