"""Bodies of bounded size and duration, for every endpoint: counted while they come, whatever their headers say.

A refused request's connection is closed, since the rest of its body would be taken for the next one. Left out: headers,
which end before the app is asked (`service.server`).
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CLOSE: Final = {"Connection": "close"}


class BodyLimits:
    """ASGI middleware. `most`: bytes of one body; `at_once`: of all that are being read or answered."""

    def __init__(self, app: ASGIApp, *, most: int, at_once: int, seconds: float) -> None:
        self._app, self._most, self._at_once, self._seconds = app, most, at_once, seconds
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        if length.isdigit() and len(length) < 20 and int(length) > self._most:
            refused = JSONResponse({"detail": self._too_large()}, 413, _CLOSE)
            await refused(scope, receive, send)
            return
        reader = _Reader(self, receive)
        try:
            await self._app(scope, reader.receive, send)
        finally:
            self._held -= reader.size

    def _too_large(self) -> str:
        return f"the body is larger than {self._most} bytes"

    def hold(self, size: int, count: int) -> None:
        """Counts `count` more bytes of a body that has `size` with them. Raises HTTPException."""
        self._held += count
        if size > self._most:
            raise HTTPException(413, self._too_large(), _CLOSE)
        if self._held > self._at_once:
            raise HTTPException(503, "too many large bodies at once; send it again", {**_CLOSE, "Retry-After": "5"})


class _Reader:
    """One request's body."""

    def __init__(self, limits: BodyLimits, receive: Receive) -> None:
        self._limits, self._receive = limits, receive
        self._until = time.monotonic() + limits._seconds
        self._more = True
        self.size = 0

    async def receive(self) -> Message:
        if not self._more:  # what comes now is the client's leaving, whenever it does
            return await self._receive()
        try:
            async with asyncio.timeout(self._until - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "the body took too long", _CLOSE) from None
        body = message.get("body", b"")
        self.size += len(body)
        self._more = message.get("more_body", False)
        self._limits.hold(self.size, len(body))
        return message
