"""An App's webhook deliveries as GitHub remembers them, three days or so back; and having one sent again.

GitHub doesn't repeat a delivery that failed. Only the App itself may ask, with its JWT. Left out: which are to be sent
again (`service.sweep`), and webhooks of single repositories, which want a token of somebody who administers them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.forges.base import ForgeProblem, Secret
from agent.forges.github.auth import AppAuth, Ask
from agent.forges.github.client import Client, Pace

_PATH = "/app/hook/deliveries"


@dataclass(frozen=True, slots=True)
class Attempted:
    """One attempt at a delivery. `guid` is shared by all attempts at it; `at`: seconds since the epoch, GitHub's."""

    id: int
    guid: str
    at: float
    answered: bool  # with a status that GitHub takes for success


@dataclass
class JwtAuth:
    """For what only the App itself is told. See `agent.forges.github.auth.Auth`."""

    app: AppAuth
    _key: int = 0

    async def token(self, slug: str | None, ask: Ask) -> Secret:
        return self.app.jwt(self.app.keys[self._key])

    def refused(self, slug: str | None, token: Secret) -> bool:
        self._key = (self._key + 1) % len(self.app.keys)
        return len(self.app.keys) > 1

    async def app_login(self, ask: Ask) -> str | None:
        return await self.app.app_login(ask)

    def account(self, slug: str | None) -> str:
        return ""


class AppHooks:
    """The deliveries of one App's webhook. Both calls raise ForgeProblem."""

    def __init__(self, app: AppAuth, base: str, pace: Pace | None = None) -> None:
        self._client = Client(base, JwtAuth(app), pace)

    async def close(self) -> None:
        await self._client.close()

    async def since(self, at: float, most: int = 50) -> AsyncIterator[Attempted]:
        """The attempts of `at` and later, the newest first; of at most so many hundred."""
        following: str | None = f"{_PATH}?per_page=100"
        for _ in range(most):
            if following is None:
                return
            answer = await self._client.get(following, slug=None)
            for record in answer.data if isinstance(answer.data, list) else []:
                attempt = _read(record)
                if attempt.at < at:
                    return
                yield attempt
            following = answer.links.get("next")

    async def again(self, attempt: int) -> None:
        """Have the delivery of an attempt sent once more; that it was is seen in a new attempt only."""
        await self._client.request("POST", f"{_PATH}/{int(attempt)}/attempts", slug=None, repeatable=True)


def _read(record: Any) -> Attempted:
    try:
        at = datetime.fromisoformat(record["delivered_at"].replace("Z", "+00:00")).timestamp()
        return Attempted(int(record["id"]), str(record["guid"]), at, str(record["status"]).upper() == "OK")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ForgeProblem("GitHub's answer holds no delivery: check the address of the API") from None
