"""What goes and what stays: by age, by what needs it, beside a service that works, and over a kill."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from agent.jobs import Job, JobContext, Jobs, open_jobs
from service.environment import SettingsProblem
from service.retention.folders import prune_mirrors, prune_runs
from service.retention.prune import age, daily, elected, kept_for, prune
from service.retention.rows import prune_carried, prune_rows, text_of
from service.store import State, Store
from service.store.engine import writing
from service.store.tables import AUDIT, DELIVERIES, REQUESTS, SESSIONS, TICKETS
from service.telemetry import ended
from service.webhooks import WishKind
from tests.service.deliveries import asked, comment
from tests.service.telemetry.test_metrics import RUN

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]
DAY = 86400.0
REPOSITORY = 7001


def run(folder: Path, number: int, attempt: int = 1, *, days: float, repository: int = REPOSITORY) -> Path:
    """A run that wrote something last so many days ago."""
    attempt_folder = folder / "runs" / f"{repository}-{number}-{attempt}"
    made = attempt_folder / f"run-{number}-{attempt}"
    made.mkdir(parents=True)
    (made / "patch.diff").write_text("a patch")
    (made / "events.jsonl").write_text("")
    moment = time.time() - days * DAY
    os.utime(made / "events.jsonl", (moment, moment))
    return attempt_folder


def request(store: Store, kind: WishKind, minute: int, number: int = 17, state: State = State.DONE) -> str:
    (received,) = store.receive(
        [asked(kind, minute, number=number, key=(KEY, 880_000 + minute), text="words of a person")]
    )
    assert received.request is not None
    if state is not State.WAITING:
        store.change(received.request, state, why="because of words")
    return received.request


KEY = asked(WishKind.FIX, 1).object.kind


def left(folder: Path) -> set[str]:
    return {path.name for path in (folder / "runs").iterdir() if not path.name.startswith(".")}


def keep_thread(store: Store, number: int, attempt: int = 1, **more: int) -> None:
    store.keep_thread(REPOSITORY, number, "octo/calc", run=f"run-{number}-{attempt}", attempt=attempt, **more)


def the_run(store: Store, number: int) -> str | None:
    thread = store.thread(REPOSITORY, number)
    assert thread is not None
    return thread.run


def test_old_runs_go_and_their_conversations_know_it(store: Store, tmp_path: Path) -> None:
    for number, days in ((1, 100.0), (2, 10.0), (3, 100.0), (4, 100.0)):
        run(tmp_path, number, days=days)
        keep_thread(store, number)
    request(store, WishKind.FIX, 3, 3, State.RUNNING)
    keep_thread(store, 4, pull=40)
    request(store, WishKind.REVIEWED, 4, 40, State.WAITING)  # at the pull request
    before = time.time() - 90 * DAY
    would = prune_runs(store, tmp_path / "runs", before, None, dry_run=True)
    assert [one.name for one in would] == [f"{REPOSITORY}-1-1"]
    assert would[0].bytes > 0
    assert (len(left(tmp_path)), the_run(store, 1)) == (4, "run-1-1")
    gone = prune_runs(store, tmp_path / "runs", before, None)
    assert gone == would
    assert left(tmp_path) == {f"{REPOSITORY}-{number}-1" for number in (2, 3, 4)}
    assert [the_run(store, number) for number in (1, 2, 3, 4)] == [None, "run-2-1", "run-3-1", "run-4-1"]
    assert prune_runs(store, tmp_path / "runs", before, None) == []
    assert list((tmp_path / "runs" / ".leaving").iterdir()) == []


def test_beyond_a_number_younger_ones_go_but_not_what_may_be_gone_on_with(store: Store, tmp_path: Path) -> None:
    for attempt in (1, 2, 3):
        run(tmp_path, 5, attempt, days=30.0 - attempt)
    keep_thread(store, 5, 3)
    run(tmp_path, 6, days=40.0)
    keep_thread(store, 6)
    request(store, WishKind.FIX, 1, 6)
    request(store, WishKind.CLOSED, 2, 6)
    run(tmp_path, 7, days=50.0)
    keep_thread(store, 7)
    request(store, WishKind.CLOSED, 3, 7)
    request(store, WishKind.FIX, 4, 7)  # asked for again after it was closed
    run(tmp_path, 1, days=20.0, repository=9)  # of another repository: its newest
    prune_runs(store, tmp_path / "runs", time.time() - 90 * DAY, 1)
    assert left(tmp_path) == {"9-1-1", f"{REPOSITORY}-5-3", f"{REPOSITORY}-7-1"}
    assert [the_run(store, number) for number in (5, 6, 7)] == ["run-5-3", None, "run-7-1"]


def test_a_run_that_a_process_has_open_stays(store: Store, tmp_path: Path) -> None:
    folder = run(tmp_path, 1, days=100.0)
    with (folder / "run-1-1" / "events.jsonl").open() as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        assert prune_runs(store, tmp_path / "runs", time.time(), None) == []
    assert len(prune_runs(store, tmp_path / "runs", time.time(), None)) == 1


def test_names_that_arent_ours_stay(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    runs = tmp_path / "runs"
    runs.mkdir()
    for name in ("notes", "1-2", "1-2-3x", "..."):
        (runs / name).mkdir()
    (runs / "1-2-3").symlink_to(outside)
    assert prune_runs(store, runs, time.time() + DAY, 0) == []
    assert len(list(runs.iterdir())) == 5
    assert outside.is_dir()


def test_mirrors_that_nobody_used_go(store: Store, tmp_path: Path) -> None:
    old = time.time() - 100 * DAY
    for number in (1, 2, REPOSITORY, 4):
        bare = tmp_path / f"{number}.git"
        (bare / "refs").mkdir(parents=True)
        (bare / "HEAD").write_text("ref: refs/heads/main\n")
        for path in (bare / "HEAD", bare / "refs"):
            os.utime(path, (old, old))
    (tmp_path / "2.git" / "FETCH_HEAD").write_text("")
    request(store, WishKind.FIX, 1, state=State.WAITING)
    with (tmp_path / "4.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        gone = prune_mirrors(store, tmp_path, time.time() - 90 * DAY)
    assert [one.name for one in gone] == ["1.git"]
    assert {path.name for path in tmp_path.glob("*.git")} == {"2.git", f"{REPOSITORY}.git", "4.git"}


def backdated(store: Store, table: sa.Table, **values: str) -> None:
    with writing(store.engine) as connection:
        connection.execute(sa.update(table).values(**values))


def test_rows_go_by_age_and_a_wish_is_known_for_ever(store: Store) -> None:
    wish = asked(WishKind.FIX, 1, text="words of a person")
    store.receive([wish, comment(WishKind.CONTINUE, 2, 42), asked(WishKind.RETRY, 3, number=18)])
    one, two, active = store.in_state([State.WAITING])
    store.change(one.id, State.DONE, why="words of a person")
    store.change(two.id, State.CANCELLED)
    ended.keep(store, one.id, RUN)
    store.note("mia", "submitted", one.id)
    now = datetime.now(UTC)
    with writing(store.engine) as connection:
        for age_, name in ((1, "young"), (8, "idle")):
            moment = text_of(now - timedelta(days=age_))
            connection.execute(sa.insert(SESSIONS), {"hash": name, "token": "t", "created": moment, "seen": moment})
        connection.execute(
            sa.insert(TICKETS), {"hash": "x", "token": "t", "created": text_of(now - timedelta(hours=1))}
        )
    horizon = now - timedelta(days=90)
    young = prune_rows(store, horizon, now, dry_run=True)
    nothing = {"deliveries": 0, "counted runs": 0, "carried runs": 0, "details of requests": 0}
    assert young == {**nothing, "sessions": 1, "tickets": 1}
    long_ago = text_of(now - timedelta(days=91))
    backdated(store, DELIVERIES, received=long_ago)
    backdated(store, AUDIT, at=long_ago)
    with writing(store.engine) as connection:
        connection.execute(sa.update(REQUESTS).where(REQUESTS.c.id != active.id).values(ended=long_ago))
    gone = {"deliveries": 3, "counted runs": 1, "details of requests": 1}
    expected = {**nothing, **gone, "sessions": 1, "tickets": 1}
    assert prune_rows(store, horizon, now, dry_run=True) == expected
    assert prune_rows(store, horizon, now) == expected
    assert prune_rows(store, horizon, now) == dict.fromkeys(expected, 0)
    kept = store.request(one.id)
    assert kept is not None
    assert (kept.wish.text, kept.why, kept.wish.number, kept.state) == ("", "", 17, State.DONE)
    assert [note["what"] for note in store.notes()] == ["submitted"]
    (again,) = store.receive([wish])
    assert (again.outcome, again.request) == ("duplicate", one.id)


def test_runs_that_the_database_carries_go_as_well(store: Store) -> None:
    if not sa.inspect(store.engine).has_table("carried"):
        pytest.skip("this schema carries no runs")
    for number in (1, 2, 3):
        keep_thread(store, number)
    request(store, WishKind.FIX, 1, 2, State.RUNNING)
    long_ago, today = text_of(datetime.now(UTC) - timedelta(days=91)), text_of(datetime.now(UTC))
    with writing(store.engine) as connection:
        for number, changed in ((1, long_ago), (2, long_ago), (3, today)):
            row = {"folder": f"{REPOSITORY}-{number}-1", "run": f"run-{number}-1", "changed": changed, "data": b"x"}
            connection.execute(sa.text("INSERT INTO carried VALUES (:folder, :run, 'owner', :changed)"), row)
            connection.execute(sa.text("INSERT INTO run_parts VALUES (:folder, 'pack', 0, :data)"), row)
    horizon = text_of(datetime.now(UTC) - timedelta(days=90))
    assert prune_carried(store, horizon, dry_run=True) == 1
    assert prune_carried(store, horizon) == 1
    with writing(store.engine) as connection:
        kept = set(connection.scalars(sa.text("SELECT folder FROM run_parts")))
    assert kept == {f"{REPOSITORY}-2-1", f"{REPOSITORY}-3-1"}
    assert [the_run(store, number) for number in (1, 2, 3)] == [None, "run-2-1", "run-3-1"]


def test_deliveries_outlive_a_horizon_that_is_shorter_than_redelivery(store: Store) -> None:
    store.receive([asked(WishKind.FIX, 1)])
    now = datetime.now(UTC)
    backdated(store, DELIVERIES, received=text_of(now - timedelta(days=20)))
    assert prune_rows(store, now - timedelta(days=1), now)["deliveries"] == 0


def test_many_rows_go_in_batches(store: Store) -> None:
    store.receive([asked(WishKind.FIX, number % 60, number=number) for number in range(1, 1203)])
    now = datetime.now(UTC)
    backdated(store, DELIVERIES, received="2020-01-01T00:00:00.000Z")
    assert prune_rows(store, now - timedelta(days=90), now)["deliveries"] == 1202


@asynccontextmanager
async def queue(tmp_path: Path, *, worker: bool = True) -> AsyncIterator[Jobs]:
    async def done(job: JobContext) -> str:
        return job.job.id

    url = f"sqlite:///{tmp_path}/jobs.sqlite"
    async with open_jobs(url, {"request": done}, application="patchwright-service", worker=worker, poll=0.05) as jobs:
        yield jobs


async def test_jobs_of_ended_requests_go(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/service.sqlite")
    spared = request(store, WishKind.FIX, 1, state=State.RUNNING)
    gone = [request(store, WishKind.FIX, minute, minute) for minute in (2, 3)]
    async with queue(tmp_path) as jobs:
        await jobs.enqueue([Job(one, "request", {}) for one in (spared, *gone)])
        async with asyncio.timeout(300):
            assert len([one async for one in jobs.ended([spared, *gone])]) == 3
        long_ago = timedelta(seconds=-5)  # in a moment, as it were
        would = await prune(store, jobs, tmp_path / "service", long_ago, dry_run=True)
        assert would.rows["jobs"] == 2
        assert (await prune(store, jobs, tmp_path / "service", timedelta(days=1))).rows["jobs"] == 0
        assert (await prune(store, jobs, tmp_path / "service", long_ago)).rows["jobs"] == 2
        assert (await prune(store, jobs, tmp_path / "service", long_ago)).rows["jobs"] == 0
        assert [one.id async for one in jobs.ended([spared])] == [spared]
    store.close()


def test_one_of_all_processes_does_it_once_a_day(store: Store) -> None:
    assert elected(store, "rows")
    assert not elected(store, "rows")
    assert elected(store, "folders of alpha")
    backdated(store, AUDIT, at=text_of(datetime.now(UTC) - timedelta(hours=25)))
    assert elected(store, "rows")
    assert not elected(store, "rows")
    assert len(store.notes()) == 2


async def test_the_service_does_it_by_itself(tmp_path: Path) -> None:

    store = Store.open(f"sqlite:///{tmp_path}/service.sqlite")
    run(tmp_path, 1, days=100.0)
    async with queue(tmp_path, worker=False) as jobs:
        task = asyncio.create_task(daily(store, jobs, tmp_path, timedelta(days=90), "alpha"))
        async with asyncio.timeout(300):
            while left(tmp_path) or len(store.notes()) < 2:
                await asyncio.sleep(0.02)
        task.cancel()
    store.close()


DYING = """
import json, os, signal, sys, time
from pathlib import Path
from service.retention import folders
from service.store import Store

def dying(function):
    def called(*given, **more):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*given, **more)
    return called

for name in ("remove_folder", "_leave", "_clear", "_may_go"):
    setattr(folders, name, dying(getattr(folders, name)))
ends = []
for step, place in enumerate(sys.argv[1:]):
    left = step
    child = os.fork()
    if not child:
        store = Store.open(f"sqlite:///{place}/service.sqlite")
        folders.prune_runs(store, Path(place) / "runs", time.time() - 90 * 86400, None)
        os._exit(0)
    ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(ends))
"""


def test_a_prune_that_is_killed_is_gone_on_with(tmp_path: Path) -> None:
    """Killed between any two of its calls: what a conversation knows is there, and the next prune ends it."""
    places = [tmp_path / str(step) for step in range(14)]
    for place in places:
        place.mkdir()
        store = Store.open(f"sqlite:///{place}/service.sqlite")
        for number in (1, 2):
            run(place, number, days=100.0)
            keep_thread(store, number)
        store.close()
    command = [sys.executable, "-c", DYING, *map(str, places)]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=600, check=True)
    ends = json.loads(done.stdout)
    assert ends == [-signal.SIGKILL] * (killed := ends.count(-signal.SIGKILL)) + [0] * (len(places) - killed)
    assert 6 < killed < len(places)
    for place in places:
        store = Store.open(f"sqlite:///{place}/service.sqlite")
        for number in (1, 2):
            known = the_run(store, number)
            assert known is None or (place / "runs" / f"{REPOSITORY}-{number}-1" / known).is_dir()
        prune_runs(store, place / "runs", time.time() - 90 * DAY, None)
        assert left(place) == set()
        assert [the_run(store, number) for number in (1, 2)] == [None, None]
        assert list((place / "runs" / ".leaving").iterdir()) == []
        store.close()


@pytest.mark.parametrize(("text", "days"), [("90d", 90), ("4w", 28), (" 48h ", 2), ("0d", 0)])
def test_ages(text: str, days: int) -> None:
    assert age(text) == timedelta(days=days)


@pytest.mark.parametrize("text", ["90", "d", "-1d", "1.5d", "1y", "٣d", "999999d"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no age"):
        age(text)


def test_how_long_is_a_setting() -> None:
    assert kept_for({}) == timedelta(days=90)
    assert kept_for({"PATCHWRIGHT_KEEP_DAYS": "0"}) is None
    assert kept_for({"PATCHWRIGHT_KEEP_DAYS": "7"}) == timedelta(days=7)
    with pytest.raises(SettingsProblem, match="give a number"):
        kept_for({"PATCHWRIGHT_KEEP_DAYS": "a week"})
