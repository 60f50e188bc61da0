"""A receiver of webhooks on the loopback that keeps what it gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent.forges.fake.server import loopback_socket


@dataclass
class Receiver:
    """`answers`: the statuses of the next answers, 202 after those. `got`: headers and body of each delivery."""

    url: str
    answers: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def events(self) -> list[tuple[str, str]]:
        """Event and action of each delivery."""
        return [(headers["x-github-event"], json.loads(body).get("action", "")) for headers, body in self.got]

    def payload(self, event: str, action: str) -> Any:
        """The last payload of that kind."""
        kinds = self.events()
        return json.loads(self.got[len(kinds) - 1 - kinds[::-1].index((event, action))][1])


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    listening = loopback_socket(0)
    kept = Receiver(f"http://127.0.0.1:{listening.getsockname()[1]}/webhooks/github")

    async def take(request: Request) -> Response:
        kept.got.append((dict(request.headers), await request.body()))
        return Response(status_code=kept.answers.pop(0) if kept.answers else 202)

    app = Starlette(routes=[Route("/webhooks/github", take, methods=["GET", "POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment,method-assign]
    serving = asyncio.get_running_loop().create_task(server.serve(sockets=[listening]))
    try:
        yield kept
    finally:
        server.should_exit = True
        await serving
        listening.close()
