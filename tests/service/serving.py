"""The real web server for tests: in this process on a port of its own, and deliveries as a forge sends them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from agent.forges.base import Secret
from service.server import server
from service.settings import ServiceSettings
from service.store import Store
from service.webhooks import sign
from service.webhooks.intake import Intake
from tests.service.expected import ME

SECRET = b"a secret of the tests' own"


def settings(database: str, **more: Any) -> ServiceSettings:
    secrets = (Secret(SECRET.decode()),)
    return ServiceSettings(Secret(database), **{"webhook_secrets": secrets, "me": ME, "port": 0, **more})


@dataclass
class Served:
    """A running server, and its parts to look into."""

    port: int
    store: Store
    intake: Intake
    client: httpx2.AsyncClient

    async def send(self, body: bytes, **headers: str) -> httpx2.Response:
        return await self.client.post("/webhooks/github", content=body, headers=headers)

    async def deliver(self, event: str, guid: str, payload: Any, secret: bytes = SECRET) -> httpx2.Response:
        body = json.dumps(payload).encode()
        return await self.send(body, **headers(event, guid, body, secret))


def headers(event: str, guid: str, body: bytes, secret: bytes = SECRET) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": guid,
        "X-Hub-Signature-256": sign(secret, body),
    }


@asynccontextmanager
async def serving(given: ServiceSettings) -> AsyncIterator[Served]:
    one = server(given)
    task = asyncio.create_task(one._serve())  # serve() would take the tests' signal handlers
    while not one.started:
        await asyncio.sleep(0.01)
        if task.done():
            await task
    port = one.servers[0].sockets[0].getsockname()[1]
    state = one.config.app.state  # type: ignore[union-attr]
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        try:
            yield Served(port, state.store, state.intake, client)
        finally:
            one.should_exit = True
            await task
