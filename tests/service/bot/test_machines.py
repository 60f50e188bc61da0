"""Two workers and a Postgres, as on two machines: one is lost in the middle, and there is one pull request."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agent.forges.fake.access import Refusal
from agent.forges.fake.server import fake_forge
from agent.forges.fake.state import Thread
from tests.jobs.conftest import Postgres
from tests.runs.harness import BUGGY, FIX, ISSUE, fixing_turns, served
from tests.runs.test_follow_up import FURTHER
from tests.service.bot.conftest import SLUG
from tests.service.bot.fleet import SECRET, Fleet, Process, cleared, free_port, kinds, until
from tests.service.conftest import new_database

pytestmark = [pytest.mark.heavy, pytest.mark.postgres, pytest.mark.timeout(1800)]
SLOWLY = {"kind": "slow", "seconds": 30.0, "times": 1}


def held_up(turn: int) -> list[dict[str, Any]]:
    """The model of a run that is in the middle for long: whoever asks first for that turn waits, the next doesn't."""
    turns = fixing_turns()
    turns[turn]["faults"] = [SLOWLY]
    return turns


class Machines(Fleet):
    """The service on several machines, and what can be seen of it from outside."""

    def claimed(self) -> int:
        """The process that has the one job that goes on; 0 for none."""
        with psycopg.connect(self.database) as connection:
            row = connection.execute(
                "SELECT pid FROM dbos.workflow_status JOIN patchwright_workers worker ON id = executor_id "
                "WHERE status = 'PENDING'"
            ).fetchone()
        return int(row[0]) if row else 0

    def steps(self) -> list[str]:
        """What the queue has on record of all jobs."""
        with psycopg.connect(self.database) as connection:
            rows = connection.execute("SELECT function_name FROM dbos.operation_outputs ORDER BY function_id")
            return [str(name) for (name,) in rows]

    def woke_up(self, pid: int) -> bool:
        """A worker that was taken for lost has been in touch since, and works on nothing."""
        with psycopg.connect(self.database) as connection:
            query = "SELECT running FROM patchwright_workers WHERE pid = %s"
            row = connection.execute(query, (pid,)).fetchone()
        return row is not None and row[0] == 0

    def states(self) -> list[tuple[str, str]]:
        """Of all requests, each with the reason that it has, if any."""
        with psycopg.connect(self.database) as connection:
            return connection.execute("SELECT state, why FROM requests WHERE number > 0 ORDER BY seq").fetchall()

    def carried(self) -> int:
        """Bytes of logs that are in the database."""
        with psycopg.connect(self.database) as connection:
            rows = connection.execute("SELECT data FROM run_parts WHERE name = 'events.jsonl'").fetchall()
        return sum(len(zlib.decompress(data)) for (data,) in rows)

    def owner(self) -> Process:
        """The worker that has the job."""
        (found,) = [one for one in self.processes if self.claimed() in one.parts()]
        return found

    def pulls(self) -> list[Thread]:
        return [one for one in self.forge.repo(SLUG).threads if one.pull]

    def git(self, *arguments: str) -> str:
        bare = self.forge.bare(self.forge.repo(SLUG))
        done = subprocess.run(["git", "-C", str(bare), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    async def done(self) -> None:
        """The request has ended, as the service sees it."""
        ends = {"done", "failed", "cancelled"}
        await until(lambda: [state for state, _ in self.states() if state in ends], "the request's end")

    def check_once(self) -> None:
        """One branch with one commit on top, one pull request, one comment that names it."""
        assert self.states() == [("done", "")]
        (pull,) = self.pulls()
        assert pull.pull is not None
        branches = self.git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").split()
        assert sorted(branches) == ["main", pull.pull.head]
        assert self.git("rev-list", "--count", f"main..{pull.pull.head}") == "1"
        assert FIX.strip() in self.git("diff", "main", pull.pull.head)
        (note,) = self.forge.repo(SLUG).notes
        assert f"See #{pull.number}" in note.body


@asynccontextmanager
async def machines(folder: Path, database: str, model: str) -> AsyncIterator[tuple[Machines, int]]:
    """The web process is up, no worker is yet; an issue is open."""
    port = free_port()
    async with fake_forge(folder / "forge") as forge:
        await forge.add_repository(SLUG, BUGGY)
        forge.grant(SLUG, "mia", "maintain")
        app = await forge.add_app("patchwright", hook=f"http://127.0.0.1:{port}/webhooks/github", secret=SECRET)
        title, _, body = ISSUE.partition("\n\n")
        number = await forge.open_issue(SLUG, "uma", title, body)
        forge.install(app.id, SLUG)
        settings = {"PATCHWRIGHT_SWEEP_SECONDS": "0"}  # what was told of before the service was up isn't of interest
        fleet = Machines(folder, forge, app, database, model, port, settings)
        with cleared(fleet):
            fleet.web()
            await fleet.ready()
            yield fleet, number


@pytest.fixture
def database(postgres: Postgres) -> str:
    return new_database(postgres)


async def in_mid_run(fleet: Machines, turns: int = 3) -> tuple[Process, Process, Path]:
    """Who has the run, who hasn't, and its log, which has so many turns and whose model is held up."""
    log = await until(lambda: fleet.logs() and fleet.logs()[0], "a run")
    await until(lambda: kinds(log).count("turn") >= turns, f"turn {turns}")
    owner = fleet.owner()
    (other,) = [one for one in fleet.processes if one.name == "worker" and one is not owner]
    return owner, other, log


async def test_a_killed_workers_run_goes_on_in_the_other_from_its_log(tmp_path: Path, database: str) -> None:
    with served(held_up(3)) as model:
        async with machines(tmp_path, database, model.url) as (fleet, number):
            fleet.worker(), fleet.worker()
            await fleet.forge.label(SLUG, number, "mia", "patchwright")
            owner, other, log = await in_mid_run(fleet)
            before = log.read_bytes().split(b"\n")[:-1]
            owner.kill()
            await until(lambda: fleet.claimed() in other.parts(), "the other worker's claim")
            await fleet.done()
            after = log.read_bytes().split(b"\n")[:-1]
            assert after[: len(before)] == before
            assert (kinds(log).count("run_started"), kinds(log).count("run_resumed")) == (1, 1)
            assert kinds(log).count("turn") == 6
            assert fleet.logs() == [log]
            fleet.check_once()


async def test_a_frozen_worker_that_wakes_up_late_changes_nothing(tmp_path: Path, database: str) -> None:
    with served(held_up(3)) as model:
        async with machines(tmp_path, database, model.url) as (fleet, number):
            fleet.worker(), fleet.worker()
            await fleet.forge.label(SLUG, number, "mia", "patchwright")
            owner, _, log = await in_mid_run(fleet)
            owner.freeze()
            await fleet.done()
            await woken_up(fleet, owner)
            assert (kinds(log).count("run_started"), kinds(log).count("turn")) == (1, 6)
            assert owner.stop() == 0
            fleet.check_once()


async def woken_up(fleet: Machines, owner: Process) -> None:
    """A frozen worker is let go on, and has seen that what it worked on isn't its own any more."""
    (frozen,) = owner.frozen
    assert not fleet.woke_up(frozen)  # it was taken for lost
    owner.thaw()
    await until(lambda: fleet.woke_up(frozen), "the frozen worker's next heartbeat")


Strike = Callable[[Process], None]
Act = Callable[..., Awaitable[Any]]


def strike_at(fleet: Machines, act: str, strike: Strike, *, before: bool) -> list[Process]:
    """Strikes at whoever has the job at the first time that the forge is asked for something, before or behind its
    taking effect; then the answer goes wrong, as with a connection that is lost. The struck one."""
    struck: list[Process] = []
    done: Act = getattr(fleet.forge, act)

    async def once(*arguments: Any, **more: Any) -> Any:
        if struck:
            return await done(*arguments, **more)
        struck.append(fleet.owner())
        if before:
            strike(struck[0])
            raise Refusal(502, "Server Error")
        result = await done(*arguments, **more)
        strike(struck[0])
        return result

    setattr(fleet.forge, act, once)
    return struck


AT = pytest.mark.parametrize(
    ("act", "before"),
    [
        pytest.param("pushed", False, id="branch pushed"),
        pytest.param("open_pull", True, id="pull request not made"),
        pytest.param("open_pull", False, id="pull request made"),
    ],
)


@AT
async def test_killed_between_branch_and_pull_request_there_is_one_of_each(
    tmp_path: Path, database: str, act: str, before: bool
) -> None:
    with served(fixing_turns()) as model:
        async with machines(tmp_path, database, model.url) as (fleet, number):
            fleet.worker(), fleet.worker()
            struck = strike_at(fleet, act, Process.kill, before=before)
            await fleet.forge.label(SLUG, number, "mia", "patchwright")
            await fleet.done()
            assert len(struck) == 1
            fleet.check_once()


async def test_frozen_after_the_pull_request_and_woken_up_there_is_one_of_each(tmp_path: Path, database: str) -> None:
    with served(fixing_turns()) as model:
        async with machines(tmp_path, database, model.url) as (fleet, number):
            fleet.worker(), fleet.worker()
            struck = strike_at(fleet, "open_pull", Process.freeze, before=False)
            await fleet.forge.label(SLUG, number, "mia", "patchwright")
            await fleet.done()
            await woken_up(fleet, struck[0])
            assert struck[0].stop() == 0
            fleet.check_once()


async def test_without_a_shared_disk_the_run_goes_on_from_what_the_database_has_of_it(
    tmp_path: Path, database: str
) -> None:
    turns = [*fixing_turns(), *FURTHER]
    turns[3]["faults"] = [SLOWLY]
    with served(turns) as model:
        async with machines(tmp_path, database, model.url) as (fleet, number):
            fleet.worker("home-1"), fleet.worker("home-2")
            await fleet.forge.label(SLUG, number, "mia", "patchwright")
            owner, other, log = await in_mid_run(fleet)
            await until(lambda: fleet.carried() >= log.stat().st_size, "the log in the database")
            before = log.read_bytes()
            owner.kill()
            await fleet.done()
            fleet.check_once()
            (went_on,) = [one for one in fleet.logs() if one != log]
            assert went_on.parent.name == log.parent.name
            assert went_on.read_bytes().startswith(before)
            assert (kinds(went_on).count("run_started"), kinds(went_on).count("turn")) == (1, 6)

            third = fleet.worker("home-3")  # days later, on a machine that knows nothing of it
            other.kill()
            (pull,) = fleet.pulls()
            await fleet.forge.review(SLUG, pull.number, "mia", "", [("calc/ops.py", 2, "What of an empty list?")])
            await until(lambda: [one for one in fleet.forge.repo(SLUG).remarks if one.in_reply_to], "an answer")
            assert third.stop() == 0
            (last,) = (tmp_path / "home-3").rglob("events.jsonl")
            assert last.read_bytes().startswith(went_on.read_bytes())
            assert (kinds(last).count("run_started"), kinds(last).count("followed")) == (1, 1)
            assert fleet.git("rev-list", "--count", "main..patchwright/issue-1") == "2"
            assert "without values" in fleet.git("show", "patchwright/issue-1:calc/ops.py")
