"""What a job's work sees: its job, recorded steps, and a way to send files home.

Work is an async function of a JobContext that returns JSON. It runs in the event loop that called `open_jobs`, in a
task of its own. It is started again from its beginning when its worker was lost: steps that are recorded give their
result without running, so everything that must not be done twice belongs into a step, and steps come in the same
order each time. Only a step that was going on when the worker died runs again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.jobs.model import MAX_FILE_BYTES, FileTooLarge, Job, JobsError, StepFailed

if TYPE_CHECKING:
    from agent.jobs.running import Run

Work = Callable[["JobContext"], Awaitable[Any]]
_step: ContextVar[str | None] = ContextVar("step", default=None)


@dataclass(slots=True)
class Turn:
    """A step on its way between the work's loop and the engine's, which each wait for the other's half."""

    name: str
    recorded: Future[str | None] = field(default_factory=Future)  # engine: what is recorded, None = run it
    outcome: Future[str] = field(default_factory=Future)  # work: what came out
    kept: Future[None] = field(default_factory=Future)  # engine: that is on disk


class JobContext:
    """One job, being worked on."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def job(self) -> Job:
        return self._run.job

    @property
    def worker(self) -> str:
        """The name of the worker that this runs on."""
        return self._run.worker

    async def step(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """The result of `work`, JSON, recorded before this returns; a recorded one isn't run again.

        Steps of a job run one at a time, in the order in which they were asked for. StepFailed when `work` raises,
        now and for whoever goes on with the job: catch it for what may fail, or return what happened. Cancelled when
        the job was cancelled or belongs to somebody else by now.
        """
        if (outer := _step.get()) is not None:
            raise JobsError(f"step {name!r} inside of step {outer!r}: a step is recorded whole; make them siblings")
        turn = Turn(name)
        self._run.ask(turn)
        text = await asyncio.wrap_future(turn.recorded)
        if text is None:
            try:
                text = await _outcome(name, work)
            finally:
                if text is None:
                    turn.outcome.cancel()
            settle(turn.outcome, text)
            await asyncio.wrap_future(turn.kept)
        outcome = json.loads(text)
        if failed := outcome.get("failed"):
            raise StepFailed(name, failed["kind"], failed["message"])
        return outcome["value"]

    async def send(self, name: str, data: bytes) -> None:
        """Puts a file into the database, compressed, where `Jobs.take` finds it; replaces the one of that name.

        Raises FileTooLarge over MAX_FILE_BYTES. Cancelled when the job belongs to somebody else by now.
        """
        if len(data) > MAX_FILE_BYTES:
            raise FileTooLarge(f"{name} of job {self.job.id}: {len(data)} bytes, at most {MAX_FILE_BYTES} can be sent")
        if not await self._run.keep(name, data):
            self._run.lose()
            await asyncio.sleep(0)  # where the task learns of it
            raise asyncio.CancelledError


async def _outcome(name: str, work: Callable[[], Awaitable[Any]]) -> str:
    token = _step.set(name)
    try:
        return encoded({"value": await work()})
    except Exception as error:  # noqa: BLE001  # whatever a step raises is its outcome, recorded like a result
        return json.dumps({"failed": {"kind": type(error).__name__, "message": str(error)}})
    finally:
        _step.reset(token)


def encoded(value: Any) -> str:
    """As JSON. Raises ValueError or TypeError for what JSON can't say."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def settle(future: Future[Any], value: Any) -> None:
    """Sets a result, unless who waited for it has gone."""
    if not future.done() and future.set_running_or_notify_cancel():
        future.set_result(value)
