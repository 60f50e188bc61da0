"""A job that runs here: the bridge between the engine's thread, where DBOS records, and the loop where work is done.

Work never runs in DBOS's own loop: signal handlers, child processes, context variables and the default executor of
the caller's loop stay what they are, and work that blocks for a while holds up neither claims nor heartbeats. For each
job a coroutine in the engine's loop (`Run.served`) starts the work over there and answers its steps one by one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agent.jobs.context import JobContext, Turn, Work, encoded, settle
from agent.jobs.model import Job

Record = Callable[[str, Callable[[], Awaitable[str]]], Awaitable[str]]  # DBOS's: a step's name, what to record
Keep = Callable[[str, str, str, bytes], bool]  # job, token, name, data -> whether the job is still ours


class Reason(StrEnum):
    """Why work is stopped before its end."""

    LOST = "lost"  # the job belongs to somebody else by now
    CANCELLED = "cancelled"
    CLOSING = "closing"  # this worker ends; the job goes back into the queue


@dataclass(frozen=True, slots=True)
class _End:
    text: str | None  # None: the work was stopped


class Run:
    """One claim of a job by this worker. `token` names the claim: it is void once somebody else has the job."""

    def __init__(self, job: Job, worker: str, token: str, loop: asyncio.AbstractEventLoop, keep: Keep) -> None:
        self.job, self.worker, self.token = job, worker, token
        self.reason: Reason | None = None
        self.over: Future[None] = Future()  # the work's task has ended
        self._loop, self._keep = loop, keep
        self._engine_loop = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[Turn | _End] = asyncio.Queue()
        self._task: asyncio.Task[Any] | None = None

    # In the engine's loop

    async def served(self, work: Work, record: Record) -> str | None:
        """Runs the work and gives its outcome as JSON text; None when it was stopped, and `reason` says why.

        Whatever `record` raises stops the work, waits for its end, and is raised here.
        """
        try:
            self._loop.call_soon_threadsafe(self._begin, work)
        except RuntimeError as error:  # that loop is closed: as if this process had ended
            raise asyncio.CancelledError from error
        try:
            while True:
                match await self._inbox.get():
                    case _End(text):
                        return text
                    case turn:
                        await self._answer(turn, record)
        except BaseException:
            self.stop(Reason.LOST)
            await asyncio.wrap_future(self.over)
            raise

    async def _answer(self, turn: Turn, record: Record) -> None:
        ran = False

        async def ask() -> str:
            nonlocal ran
            ran = True
            settle(turn.recorded, None)
            return await asyncio.wrap_future(turn.outcome)

        try:
            text = await record(turn.name, ask)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the engine's own end; else the work was stopped in mid-step, and its end is on its way
            return
        if ran:
            settle(turn.kept, None)
        else:
            settle(turn.recorded, text)

    # In the work's loop

    def _begin(self, work: Work) -> None:
        self._task = self._loop.create_task(_done(work, JobContext(self)), name=f"job {self.job.id}")
        self._task.add_done_callback(self._ended)
        if self.reason is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[str]) -> None:
        if task.cancelled():
            text = None if self.reason else _error("its work was cancelled from within")
        elif error := task.exception():
            text = _error(f"{type(error).__name__}: {error}")
        else:
            text = task.result()
        settle(self.over, None)
        self._engine_loop.call_soon_threadsafe(self._inbox.put_nowait, _End(text))

    def ask(self, turn: Turn) -> None:
        if self.reason is not None:
            raise asyncio.CancelledError
        self._engine_loop.call_soon_threadsafe(self._inbox.put_nowait, turn)

    async def keep(self, name: str, data: bytes) -> bool:
        return await asyncio.to_thread(self._keep, self.job.id, self.token, name, data)

    # From any thread

    def stop(self, reason: Reason) -> None:
        """Cancels the work; what it has recorded stays. Nothing happens when it is being stopped already."""
        if self.reason is None:
            self.reason = reason
            self._loop.call_soon_threadsafe(self._cancel)

    def lose(self) -> None:
        self.stop(Reason.LOST)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def _done(work: Work, context: JobContext) -> str:
    result = await work(context)
    try:
        return encoded({"result": result})
    except (TypeError, ValueError) as error:
        return _error(f"its result is not JSON: {error}")


def _error(message: str) -> str:
    return json.dumps({"error": message})
