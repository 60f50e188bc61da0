"""Steps of a job at a forge that may be away: tried again later, each try recorded, a last failure told in words.

Left out: steps themselves (`agent.jobs`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from agent.ends import RunProblem
from agent.forges.base import ForgeProblem
from agent.git import GitError
from agent.jobs import JobContext
from service.store import StoreUnavailable

TRIES = 6
_FIRST_PAUSE = 5.0  # seconds; doubled each time, unless the forge says how long
_LONGEST_PAUSE = 900.0


class StepProblem(Exception):
    """A step that failed for good. The message may hold words that aren't ours."""


class Steps:
    """The steps of one job."""

    def __init__(self, job: JobContext, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._job, self._pause = job, pause

    @property
    def id(self) -> str:
        return self._job.job.id

    async def value(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """The recorded result of `work`, JSON. Raises StepProblem; what may succeed later is tried `TRIES` times."""

        async def once(number: int) -> dict[str, Any]:
            tried: dict[str, Any] = await self._job.step(
                name if number == 1 else f"{name}, try {number}", lambda: _outcome(work)
            )
            return tried

        return await self._tried(once)

    async def anew(self, work: Callable[[], Awaitable[None]]) -> None:
        """`work` for whoever has the job now, unrecorded: what concerns this machine alone. Raises StepProblem."""
        await self._tried(lambda _: _outcome(work))

    async def do(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """`work`, whose result is nobody's business. Raises StepProblem."""

        async def done() -> None:
            await work()

        await self.value(name, done)

    async def _tried(self, once: Callable[[int], Awaitable[dict[str, Any]]]) -> Any:
        wait = _FIRST_PAUSE
        for number in range(1, TRIES + 1):
            outcome = await once(number)
            if "value" in outcome:
                return outcome["value"]
            if not outcome["again"] or number == TRIES:
                raise StepProblem(outcome["failed"])
            await self._pause(min(outcome["after"] or wait, _LONGEST_PAUSE))
            wait *= 2
        raise AssertionError("unreachable")


async def _outcome(work: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    try:
        return {"value": await work()}
    except ForgeProblem as problem:
        return {"failed": str(problem), "again": problem.again, "after": problem.after}
    except StoreUnavailable as problem:
        return {"failed": str(problem), "again": True, "after": None}
    except (RunProblem, GitError) as problem:
        return {"failed": str(problem), "again": False, "after": None}
