"""Somebody who looks into a run's sandbox when the agent has ended and before it is closed: evaluations do.

What they see there, a patch can't show: ignored files, what lies outside of the work folder, programs that run. The
work tree is kept before, so nothing that is done then gets into the patch. Left out: what is looked at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from agent.ends import LoopEnded
from sandbox.base import Sandbox

Look = Callable[[Sandbox, LoopEnded, bool], Awaitable[None]]
"""(the sandbox, how the loop ended, whether the run had been resumed)"""
_look: ContextVar[Look | None] = ContextVar("last look", default=None)


@contextmanager
def looked_at(look: Look) -> Iterator[None]:
    """Runs that end while this is open, in this task, are looked at."""
    token = _look.set(look)
    try:
        yield
    finally:
        _look.reset(token)


async def last_look(sandbox: Sandbox, ended: LoopEnded, *, resumed: bool) -> None:
    """Let them look. Whatever they raise ends the run."""
    if (look := _look.get()) is not None:
        await look(sandbox, ended, resumed)
