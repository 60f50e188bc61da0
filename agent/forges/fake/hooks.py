"""Webhooks as GitHub sends them: signed, each with its delivery id, once; sent again only by hand."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2

PATIENCE = 10.0  # seconds that an answer may take


@dataclass(frozen=True)
class Attempt:
    """One attempt at a delivery; GitHub's API shows each as a delivery of its own, with the same GUID."""

    id: int
    at: float  # seconds since the epoch
    duration: float
    status: int | None  # None: no answer
    redelivery: bool


@dataclass
class Delivery:
    """One delivery. `status`: the answer to its last attempt; None: there was none."""

    id: int
    guid: str
    event: str
    action: str
    url: str
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    status: int | None = None
    attempts: int = 0
    log: list[Attempt] = field(default_factory=list)
    installation: int | None = None
    repository: int | None = None


class Hooks:
    """Sends deliveries in the background, in no particular order."""

    def __init__(self) -> None:
        self.sent: list[Delivery] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._http: httpx2.AsyncClient | None = None
        self._tried = 0

    def send(self, url: str, secret: str, event: str, payload: dict[str, Any], target: tuple[str, int]) -> Delivery:
        body = json.dumps(payload, separators=(",", ":")).encode()
        guid = str(uuid.uuid4())
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/fake",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": guid,
            "X-GitHub-Hook-ID": "1",
            "X-GitHub-Hook-Installation-Target-Type": target[0],
            "X-GitHub-Hook-Installation-Target-ID": str(target[1]),
            "X-Hub-Signature-256": f"sha256={signature}",
        }
        delivery = Delivery(len(self.sent) + 1, guid, event, str(payload.get("action", "")), url, body, headers)
        delivery.installation = payload.get("installation", {}).get("id")
        delivery.repository = payload.get("repository", {}).get("id")
        self.sent.append(delivery)
        self.redeliver(delivery)
        return delivery

    def redeliver(self, delivery: Delivery) -> None:
        """Send it again, with the same id and body."""
        task = asyncio.get_running_loop().create_task(self._attempt(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def tried(self) -> Iterator[tuple[Attempt, Delivery]]:
        """All attempts, the newest first."""
        yield from sorted(
            ((attempt, one) for one in self.sent for attempt in one.log), key=lambda pair: pair[0].id, reverse=True
        )

    def failed(self) -> list[Delivery]:
        return [one for one in self.sent if one.attempts and (one.status is None or one.status >= 400)]

    async def settled(self) -> None:
        """Wait until every delivery under way was answered or given up."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.aclose()

    async def _attempt(self, delivery: Delivery) -> None:
        if self._http is None:
            self._http = httpx2.AsyncClient(timeout=PATIENCE, trust_env=False)
        began = time.time()
        try:
            answer = await self._http.post(delivery.url, content=delivery.body, headers=delivery.headers)
            delivery.status = answer.status_code
        except httpx2.HTTPError:
            delivery.status = None
        delivery.attempts += 1
        self._tried += 1
        again = delivery.attempts > 1
        delivery.log.append(Attempt(self._tried, began, round(time.time() - began, 2), delivery.status, again))
