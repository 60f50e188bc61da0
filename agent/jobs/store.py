"""The database: DBOS's tables through its client, and two tables of ours beside them, workers and files.

Synchronous; callers go through threads. Nothing waits here for a database that is gone: SQLAlchemy's errors come out,
and `is_outage` tells those that trying again can cure. Left out: running anything (`agent.jobs.engine`).
"""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from dbos import DBOSClient, DBOSPortableJSONSerializer, EnqueueOptions
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from agent.jobs.machine import Identity
from agent.jobs.model import Ended, Job, JobsUnavailable, JobUnknown, WorkerSeen
from agent.jobs.running import Reason

WORKFLOW: Final = "patchwright.job"
_ENDS: Final = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_PREPARE_SECONDS: Final = 20
_CHUNK: Final = 500
T = TypeVar("T")
_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS patchwright_workers (
        id TEXT PRIMARY KEY, application TEXT NOT NULL, name TEXT NOT NULL, machine TEXT NOT NULL,
        place TEXT NOT NULL, pid BIGINT NOT NULL, started BIGINT NOT NULL,
        last_seen DOUBLE PRECISION NOT NULL, running BIGINT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS patchwright_files (
        job TEXT NOT NULL, name TEXT NOT NULL, data {bytes} NOT NULL, PRIMARY KEY (job, name))""",
)


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's row: how long ago it was seen, in seconds by the database's clock."""

    id: str
    place: str
    pid: int
    started: int
    age: float


class Store:
    """One application's part of a database."""

    def __init__(self, database: str, application: str) -> None:
        quiet()
        self.database, self.application = database, application
        self.version = f"{application}-jobs-1"  # unique in a database; a change of steps' meaning asks for a new one
        self._client = DBOSClient(
            system_database_url=database,
            serializer=DBOSPortableJSONSerializer(),  # the default is pickle: who writes rows would run code here
            application_name=application,
            system_database_pool_size=10,
            retry_connection_errors=False,
            lazy=True,
        )
        self._engine = self._client._sys_db.engine
        postgres = self._engine.dialect.name == "postgresql"
        self._status = "dbos.workflow_status" if postgres else "workflow_status"
        self._now = (
            "extract(epoch from clock_timestamp())" if postgres else "((julianday('now') - 2440587.5) * 86400.0)"
        )
        self._bytes = "BYTEA" if postgres else "BLOB"

    # Set-up

    def prepare(self) -> None:
        """Makes the tables that aren't there. Several processes may do so at once. Raises JobsUnavailable."""
        deadline = time.monotonic() + _PREPARE_SECONDS
        while True:
            try:
                self._client._sys_db.run_migrations()
                self._make_tables()
                return
            except DBAPIError as error:
                if time.monotonic() > deadline:
                    raise JobsUnavailable(
                        f"the jobs' database can't be opened ({error.orig}); look at its URL and whether it is up"
                    ) from error
                time.sleep(0.2)

    def _make_tables(self) -> None:
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect() as connection:  # readers and a writer at once; stays in the file
                connection.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text("PRAGMA journal_mode=WAL"))
        with self._engine.begin() as connection:
            for table in _TABLES:
                connection.execute(sa.text(table.format(bytes=self._bytes)))

    def queue(self, kind: str) -> str:
        return f"{self.application}.{kind}"

    def make_queue(self, kind: str) -> None:
        """What the row says holds for a worker's first look at most; then its own limits do (`agent.jobs.engine`)."""
        name = self.queue(kind)
        self._client.register_queue(name, worker_concurrency=1, polling_interval_sec=0.2, on_conflict="never_update")

    def close(self) -> None:
        self._client.destroy()

    # Jobs

    def enqueue(self, jobs: Sequence[Job]) -> int:
        """Adds those that aren't known; a call's jobs are started in the order of the list. How many were new."""
        new = 0
        for start in range(0, len(jobs), _CHUNK):
            chunk = jobs[start : start + _CHUNK]
            with self._engine.begin() as connection:
                known = self._known(connection, [job.id for job in chunk])
                for place, job in enumerate(chunk, start + 1):
                    if job.id in known:
                        continue
                    known.add(job.id)
                    self._client.enqueue_in_transaction(connection, self._options(job, place), _text(job))
                    new += 1
        return new

    def _options(self, job: Job, place: int) -> EnqueueOptions:
        return {
            "workflow_name": WORKFLOW,
            "queue_name": self.queue(job.kind),
            "workflow_id": job.id,
            "app_version": self.version,
            "priority": place,
        }

    def _known(self, connection: sa.Connection, ids: Sequence[str]) -> set[str]:
        query = sa.text(f"SELECT workflow_uuid FROM {self._status} WHERE workflow_uuid IN :ids")  # noqa: S608
        rows = connection.execute(query.bindparams(sa.bindparam("ids", expanding=True)), {"ids": list(ids)})
        return {str(row[0]) for row in rows}

    def check_known(self, ids: Sequence[str]) -> None:
        """Raises JobUnknown."""
        for chunk in _chunks(ids):
            with self._engine.connect() as connection:
                known = self._known(connection, chunk)
            if missing := [job for job in chunk if job not in known]:
                raise JobUnknown(f"nobody enqueued {missing[0]} ({len(missing)} unknown); enqueue it first")

    def ended(self, ids: Sequence[str]) -> list[Ended]:
        """Those of them that have ended."""
        found: list[Ended] = []
        for chunk in _chunks(ids):
            states = self._client.list_workflows(workflow_ids=list(chunk), status=_ENDS, load_input=False)
            found += [_ended(state.workflow_id, state.status, state.output, state.error) for state in states]
        return found

    def cancel(self, ids: Sequence[str]) -> None:
        for chunk in _chunks(ids):
            self._client.cancel_workflows(list(chunk))

    def forget_ended(self, before: float, spared: Collection[str], *, dry_run: bool = False) -> int:
        """Removes jobs of ours that ended and were enqueued before a time, but for some. How many went, or would."""
        moment = datetime.fromtimestamp(before, UTC).isoformat()
        count, passed = 0, 0
        while True:
            found = self._client.list_workflows(
                status=_ENDS, end_time=moment, app_version=self.version, limit=_CHUNK, offset=passed,
                load_input=False, load_output=False,
            )  # fmt: skip
            gone = [state.workflow_id for state in found if state.workflow_id not in spared]
            count += len(gone)
            passed += len(found) if dry_run else len(found) - len(gone)
            if gone and not dry_run:
                self._client.delete_workflows(gone)
                self._drop_files_of(gone)
            if len(found) < _CHUNK:
                return count

    def _drop_files_of(self, jobs: Sequence[str]) -> None:
        query = sa.text("DELETE FROM patchwright_files WHERE job IN :jobs")
        with self._engine.begin() as connection:
            connection.execute(query.bindparams(sa.bindparam("jobs", expanding=True)), {"jobs": list(jobs)})

    # Files on their way home

    def keep_file(self, job: str, token: str, name: str, data: bytes) -> bool:
        """Whether the job is still the one of that claim; nothing is kept otherwise."""
        packed = zlib.compress(data)
        with self._engine.begin() as connection:
            insert = sa.text(
                "INSERT INTO patchwright_files (job, name, data) "  # noqa: S608
                f"SELECT workflow_uuid, :name, :data FROM {self._status} "
                "WHERE workflow_uuid = :job AND owner_xid = :token AND status = 'PENDING' "
                "ON CONFLICT (job, name) DO UPDATE SET data = excluded.data"
            )
            done = connection.execute(insert, {"job": job, "token": token, "name": name, "data": packed})
            return done.rowcount > 0

    def files(self, job: str) -> dict[str, bytes]:
        with self._engine.connect() as connection:
            rows = connection.execute(
                sa.text("SELECT name, data FROM patchwright_files WHERE job = :job"), {"job": job}
            )
            return {str(name): zlib.decompress(data) for name, data in rows}

    def drop_files(self, job: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM patchwright_files WHERE job = :job"), {"job": job})

    # Workers

    def beat(self, me: Identity, running: int) -> None:
        with self._engine.begin() as connection:
            upsert = sa.text(
                "INSERT INTO patchwright_workers (id, application, name, machine, place, pid, started, last_seen, "  # noqa: S608
                f"running) VALUES (:id, :app, :name, :machine, :place, :pid, :started, {self._now}, :running) "
                f"ON CONFLICT (id) DO UPDATE SET last_seen = {self._now}, running = :running"
            )
            row = {"id": me.id, "name": me.name, "machine": me.machine, "place": me.place, "pid": me.pid}
            connection.execute(upsert, {**row, "started": me.started, "app": self.application, "running": running})

    def leases(self) -> list[Lease]:
        age = f"{self._now} - last_seen"
        query = f"SELECT id, place, pid, started, {age} FROM patchwright_workers WHERE application = :app"  # noqa: S608
        with self._engine.connect() as connection:
            rows = connection.execute(sa.text(query), {"app": self.application})
            return [Lease(row[0], row[1], int(row[2]), int(row[3]), float(row[4])) for row in rows]

    def workers(self) -> list[WorkerSeen]:
        query = "SELECT name, machine, pid, last_seen, running FROM patchwright_workers WHERE application = :app"
        with self._engine.connect() as connection:
            rows = connection.execute(sa.text(query + " ORDER BY name"), {"app": self.application})
            return [WorkerSeen(row[0], row[1], int(row[2]), float(row[3]), int(row[4])) for row in rows]

    def forget(self, worker: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM patchwright_workers WHERE id = :id"), {"id": worker})

    # Claims

    def claims(self) -> dict[str, set[str]]:
        """Worker -> the jobs that are claimed by it and haven't ended."""
        query = (
            f"SELECT executor_id, workflow_uuid FROM {self._status} "  # noqa: S608
            "WHERE status = 'PENDING' AND application_version = :version"
        )
        found: dict[str, set[str]] = {}
        with self._engine.connect() as connection:
            for worker, job in connection.execute(sa.text(query), {"version": self.version}):
                found.setdefault(str(worker), set()).add(str(job))
        return found

    def stopped(self, claims: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Reason]:
        """Of these claims, as job and token, which to stop: the job was cancelled, or is somebody else's by now."""
        found: dict[tuple[str, str], Reason] = {}
        query = sa.text(
            f"SELECT workflow_uuid, status, owner_xid FROM {self._status} WHERE workflow_uuid IN :ids"  # noqa: S608
        ).bindparams(sa.bindparam("ids", expanding=True))
        for chunk in _chunks(claims):
            with self._engine.connect() as connection:
                rows = connection.execute(query, {"ids": [job for job, _ in chunk]})
                states = {job: (status, token) for job, status, token in rows}
            for job, token in chunk:
                status, owner = states.get(job, ("gone", None))
                if status == "CANCELLED":
                    found[job, token] = Reason.CANCELLED
                elif (status, owner) != ("PENDING", token):
                    found[job, token] = Reason.LOST
        return found

    def give_back(self, worker: str, jobs: Iterable[str]) -> int:
        """Puts jobs that `worker` has claimed back into their queue; those that another has by now stay. How many."""
        system = self._client._sys_db
        return sum(system.reenqueue_for_recovery(job, [worker], self.queue("lost")) for job in jobs)


def is_outage(error: BaseException) -> bool:
    """Whether the database was away, or busy with others for too long: the same call may work later."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, (OperationalError, PoolTimeout))


def quiet() -> None:
    """DBOS tells its story on stderr unless its logger has a handler already: give it one that says nothing."""
    logger = logging.getLogger("dbos")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
        logger.propagate = False


def _text(job: Job) -> str:
    return json.dumps({"kind": job.kind, "payload": dict(job.payload)}, allow_nan=False)


def _ended(job: str, status: str, output: Any, error: Exception | None) -> Ended:
    if status == "SUCCESS":
        outcome = json.loads(output)
        return Ended(job, outcome.get("result"), outcome.get("error"))
    if status == "CANCELLED":
        return Ended(job, error="it was cancelled", cancelled=True)
    if status == "ERROR":
        return Ended(job, error=f"the engine refused it: {error}")
    return Ended(job, error="its worker was lost each time that it ran; it isn't tried again")


def _chunks(ids: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]
