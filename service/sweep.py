"""Deliveries that failed are asked for again: GitHub makes each once, and forgets what nobody took after three days.

At the start and every few minutes the App's deliveries since the last look are listed; those of which no attempt was
answered and that aren't stored here are sent once more, a few times each, with growing pauses. What was stored, and
whose answer got lost, is known by its GUID; one that comes twice all the same is done once (`service.store`). Left
out: webhooks of a single repository with a token, which GitHub shows to its administrators only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from agent.forges.base import ForgeProblem
from agent.forges.github.hooks import AppHooks, Attempted
from service.store import Store, StoreUnavailable

USUAL_PAUSE: Final = 300.0  # seconds between two looks
_FIRST_PAUSE: Final = 15.0  # after a look that found something to be sent again; doubled up to the usual one
_BACK: Final = 3 * 24 * 3600.0  # what GitHub remembers
_OVERLAP: Final = 600.0  # an attempt is listed when it has ended, and clocks differ
_MOST_TRIES: Final = 6  # of one delivery, ours and GitHub's own
_MOST_AT_ONCE: Final = 100
_LOG = logging.getLogger("patchwright.service")


@dataclass(slots=True)
class Sweep:
    """One for a database. `pause`: seconds between two looks when there is nothing to do."""

    hooks: AppHooks
    store: Store
    pause: float = USUAL_PAUSE
    clock: Callable[[], float] = time.time
    _asked: dict[str, tuple[int, float]] = field(default_factory=dict, init=False)  # GUID -> how often, when last
    _seen: float = field(default=0.0, init=False)  # the beginning of the last look

    async def run(self) -> None:
        """Until it is cancelled; a forge or a database that is away is waited for."""
        wait = _FIRST_PAUSE
        while True:
            try:
                pending = await self.once()
            except (ForgeProblem, StoreUnavailable) as problem:
                _LOG.warning("deliveries that failed can't be looked for: %s", problem)
                pending = 0
            wait = min(wait, self.pause) if pending else self.pause
            await asyncio.sleep(wait)
            wait = min(wait * 2, self.pause) if pending else _FIRST_PAUSE

    async def once(self) -> int:
        """One look; how many deliveries are on their way again, or will be asked for at a later look."""
        began = self.clock()
        since = max(self._seen - _OVERLAP, began - _BACK) if self._seen else began - _BACK
        attempts: dict[str, list[Attempted]] = defaultdict(list)
        async for one in self.hooks.since(since):
            attempts[one.guid].append(one)
        failed = [guid for guid, tried in attempts.items() if not any(one.answered for one in tried)]
        stored = await asyncio.to_thread(self.store.known_deliveries, failed)
        lost = [attempts[guid] for guid in reversed(failed) if guid not in stored]
        pending = 0
        for tried in lost:
            pending += await self._again(tried, began, pending < _MOST_AT_ONCE)
        self._seen = began if not pending else self._seen or began - _BACK
        self._asked = {guid: asked for guid, asked in self._asked.items() if asked[1] > began - _BACK}
        return pending

    async def _again(self, tried: list[Attempted], now: float, may: bool) -> bool:
        """Whether one more attempt is under way or will be made."""
        newest = tried[0]
        asked, last = self._asked.get(newest.guid, (0, 0.0))
        if max(asked + 1, len(tried)) >= _MOST_TRIES:
            return False
        if may and now - last >= min(_FIRST_PAUSE, self.pause) * 2**asked - 1.0:
            await self.hooks.again(newest.id)
            self._asked[newest.guid] = (asked + 1, now)
            _LOG.info("delivery %s had failed and is sent again", newest.guid)
        return True
