"""A sandbox that died in mid-run is replaced: the files are as after the last answered call, and the model is told.

Without it every further call would fail and the model would go on writing turns about a dead machine. It is done a
few times only: what kills a sandbox again and again is better looked at by a person. Left out: the transcript, which
a sandbox's death doesn't touch, and deaths while a patch is verified.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable

from agent import nudges
from agent.ends import End, LoopEnded
from agent.events import EventLog, EventType
from agent.session import Session
from agent.worktree import Worktree
from sandbox.base import Sandbox, SandboxDied
from tools.base import Observation, ToolContext

MOST = 2  # times that a run's sandbox is replaced, counted anew when the run is resumed


class Revival:
    """Replaces the sandbox of one run's tools and work tree, and ends the last one."""

    def __init__(
        self, log: EventLog, worktree: Worktree, context: ToolContext, open_sandbox: Callable[[], Awaitable[Sandbox]]
    ) -> None:
        self._log = log
        self._worktree = worktree
        self._context = context
        self._open = open_sandbox

    async def __call__(self, session: Session, call: str, died: SandboxDied) -> tuple[Observation, LoopEnded | None]:
        """The answer to the call that the sandbox died in, and the run's end when it has died too often.

        The call is answered in both cases, so that a resumed run doesn't begin with what ended the last one.
        """
        earlier = self._earlier()
        self._log.append(EventType.SANDBOX_DIED, call=call, why=str(died), replaced=earlier < MOST)
        self._context.state = copy.deepcopy(session.tool_state)
        answer = Observation(nudges.sandbox_died(str(died)), failed=True)
        if earlier >= MOST:
            return answer, LoopEnded(
                End.SANDBOX,
                f"the sandbox died {earlier + 1} times, last in a call of {call}: {died} The work up to that call is "
                f"kept. See what the calls did (`agent runs show {self._log.run_id}`) and what memory the machine has "
                f"left; `agent resume {self._log.run_id}` goes on",
            )
        await self._replace(session.tree)
        return answer, None

    def _earlier(self) -> int:
        """How often it has died since the run was started or resumed."""
        resumed = self._log.last(EventType.RUN_RESUMED)
        since = resumed.seq if resumed else -1
        return sum(event.seq > since for event in self._log.of_type(EventType.SANDBOX_DIED))

    async def _replace(self, tree: str) -> None:
        await self._context.sandbox.close()
        sandbox = await self._open()
        try:
            await self._worktree.move(sandbox, tree)
        except BaseException:  # a sandbox that is half filled must not be taken for the work
            await sandbox.close()
            raise
        self._context.sandbox = sandbox

    async def close(self) -> None:
        """End the sandbox that is in use now."""
        await self._context.sandbox.close()
