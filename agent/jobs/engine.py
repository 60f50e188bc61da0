"""A worker: DBOS launched in this process, claiming jobs and recording steps; the work itself runs elsewhere.

DBOS is one per process and lives in threads of its own, its event loop among them: it is launched from a thread, so
that it doesn't adopt the caller's loop (`agent.jobs.running`). What we touch of it that isn't public is here and in
`agent.jobs.store`; the version is pinned for that, and tests kill workers over it.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer
from dbos import error as dbos_error
from dbos._context import assert_current_dbos_context

from agent.jobs.context import Work
from agent.jobs.machine import Identity
from agent.jobs.model import Job, JobsBusy
from agent.jobs.running import Reason, Run
from agent.jobs.store import WORKFLOW, Store

CLAIMS: Final = 20  # so often a job is taken again when its workers are lost, before it is held to be what kills them
_one = threading.Lock()


class Engine:
    """Runs the jobs of some kinds in this process, up to `concurrency[kind]` at a time."""

    def __init__(
        self,
        store: Store,
        me: Identity,
        kinds: Mapping[str, Work],
        concurrency: Mapping[str, int],
        poll: float,
    ) -> None:
        self._store, self._me, self._kinds, self._poll = store, me, kinds, poll
        self._limits = {store.queue(kind): concurrency.get(kind, 1) for kind in kinds}
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self.runs: set[Run] = set()  # a job may be here twice: a claim that was lost, and a new one
        self._dbos: DBOS | None = None

    def launch(self) -> None:
        """Synchronous, seconds; to be called in a thread that has no event loop. Raises JobsBusy."""
        if not _one.acquire(blocking=False):
            raise JobsBusy("this process has a worker already; share it, or open the second with worker=False")
        try:
            for kind in self._kinds:
                self._store.make_queue(kind)
            self._dbos = DBOS(config=self._config())
            DBOS.workflow(name=WORKFLOW, max_recovery_attempts=CLAIMS)(_workflow(self))
            DBOS.listen_queues(list(self._limits))
            DBOS.launch()
            self._set_limits(self._dbos)
        except BaseException:
            self.shut()
            raise

    def _config(self) -> DBOSConfig:
        return {
            "name": self._store.application,
            "system_database_url": self._store.database,
            "application_version": self._store.version,
            "executor_id": self._me.id,
            "serializer": DBOSPortableJSONSerializer(),
            "use_listen_notify": False,  # nobody waits for events; it would hold a connection
            "log_level": "WARNING",
        }

    def _set_limits(self, dbos: DBOS) -> None:
        """A queue's row says one limit for all workers; ours is this machine's, so it is put in as the row is read."""
        read = dbos._sys_db.get_queue

        def here(name: str, **options: Any) -> Any:
            queue = read(name, **options)
            if queue is not None and name in self._limits:
                queue._worker_concurrency = self._limits[name]
                queue._polling_interval_sec = self._poll
            return queue

        dbos._sys_db.get_queue = here  # type: ignore[method-assign]

    async def run(self, text: str) -> str:
        """One claimed job, in DBOS's loop: its outcome as JSON text."""
        context, said = assert_current_dbos_context(), json.loads(text)
        job = Job(context.workflow_id, said["kind"], said["payload"])
        run = Run(job, self._me.name, str(context.owner_xid), self._loop, self._store.keep_file)
        if self._closing:
            raise asyncio.CancelledError
        self.runs.add(run)
        try:
            outcome = await run.served(self._kinds[job.kind], _record)
        finally:
            self.runs.discard(run)
        if outcome is not None:
            return outcome
        match run.reason:
            case Reason.CANCELLED:
                raise dbos_error.DBOSWorkflowCancelledError(f"job {job.id} was cancelled")
            case Reason.CLOSING:
                raise asyncio.CancelledError  # leaves the row as it is, ours, until it is given back
            case _:
                raise dbos_error.DBOSWorkflowConflictIDError(job.id)

    def active(self) -> set[str]:
        """Jobs that DBOS holds to be running here."""
        return set(self._dbos._active_workflows_set.activeList()) if self._dbos else set()

    async def close(self) -> None:
        """Stops all work, waits for its end, shuts DBOS down and gives back what wasn't finished."""
        self._closing = True
        while runs := list(self.runs):
            for run in runs:
                run.stop(Reason.CLOSING)
            await asyncio.wait([asyncio.wrap_future(run.over) for run in runs])
            await asyncio.sleep(0.01)  # for the engine's side of them to end as well
        await asyncio.to_thread(self.shut)

    def shut(self) -> None:
        try:
            DBOS.destroy(destroy_registry=True)
        finally:
            self._dbos = None
            _one.release()


def _workflow(engine: Engine) -> Callable[[str], Awaitable[str]]:
    async def job(text: str) -> str:
        return await engine.run(text)

    return job


async def _record(name: str, work: Callable[[], Awaitable[str]]) -> str:
    async def step() -> str:
        return await work()

    return await DBOS.run_step_async({"name": name}, step)
