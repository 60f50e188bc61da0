"""Who may stop what goes on, and who is greeted while their wish waits: known before a job of theirs has begun.

A comment can be written by anybody who may read, so a `stop` is only heeded once the forge has said who its person
is. Left out: stopping (`service.dispatch`), work (`service.bot.admission` asks again, when it begins), and closing,
which the forge allows or not by itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.forges.base import Forge, ForgeProblem
from service.bot.asking import OURS, NotAllowed, check, rules_of
from service.store import Request

_REMEMBERED: Final = 60.0  # seconds that an answer holds: somebody who says it often costs one question a minute
_MOST: Final = 10_000
NOBODY: Final = "the account that asked is gone"


@dataclass(slots=True)
class Allowed:
    """Answers of the forge, by repository and person."""

    forge: Forge
    _known: dict[tuple[int, int], tuple[float, str]] = field(default_factory=dict)

    async def refusal(self, request: Request, ends: Sequence[Request] = ()) -> str:
        """Why the person of a request may not ask here; empty where they may. Raises ForgeProblem.

        `ends`: what a request would stop; whoever asked for all of it may.
        """
        person = request.asked_by
        if person is None:
            return NOBODY
        own = bool(ends) and all(one.asked_by is not None and one.asked_by.id == person.id for one in ends)
        if person.id == OURS or own:
            return ""
        key, now = (request.repository_id, person.id), time.monotonic()
        told, why = self._known.get(key, (-_REMEMBERED, ""))
        if now - told >= _REMEMBERED:
            why = await self._asked(request)
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = now, why
        return why

    async def _asked(self, request: Request) -> str:
        try:
            slug = await self.forge.name_of(request.repository_id, request.slug)
            repository = await self.forge.repository(slug)
            await check(self.forge, repository, request.asked_by, (await rules_of(self.forge, repository)).bot)
        except NotAllowed as refusal:
            return str(refusal)
        except ForgeProblem as problem:
            if problem.again:
                raise
            return str(problem)
        return ""
