"""`/api/v1` of a service, asked for an editor; what goes wrong is told in words that say what to do.

Answers are bounded and untrusted: a service passes on what repositories and models say. Left out: the tools
(`service.mcp.server`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2

from service.mcp.settings import McpSettings

MOST_PATCH: Final = 400_000  # bytes: a patch that is longer isn't for reading
_MOST_ANSWER: Final = 2_000_000
_SECONDS: Final = 60.0
_RUN = re.compile(r"r[0-9a-f]{24}")


class Refused(Exception):
    """What the service didn't do, and what to do next. Holds no token."""


class Service:
    """One service's API. Every method raises Refused."""

    def __init__(self, http: httpx2.AsyncClient, url: str) -> None:
        self._http, self._url = http, url

    async def submit(self, repository: str, number: int, text: str) -> dict[str, Any]:
        return _object(await self._ask("POST", "/runs", {"repository": repository, "number": number, "text": text}))

    async def run(self, run: str) -> dict[str, Any]:
        return _object(await self._ask("GET", f"/runs/{_checked(run)}"))

    async def cancel(self, run: str) -> dict[str, Any]:
        return _object(await self._ask("POST", f"/runs/{_checked(run)}/cancel"))

    async def patch(self, run: str) -> str:
        return (await self._ask("GET", f"/runs/{_checked(run)}/patch")).decode("utf-8", "replace")

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        """The body of a good answer, cut to what is taken of one."""
        found = bytearray()
        try:
            async with self._http.stream(method, f"/api/v1{path}", json=body) as answer:
                async for chunk in answer.aiter_bytes():
                    found += chunk
                    if len(found) > _MOST_ANSWER:
                        break
        except httpx2.HTTPError as error:
            raise Refused(
                f"the service at {self._url} doesn't answer ({type(error).__name__}): "
                "is it running, and is PATCHWRIGHT_URL its address?"
            ) from None
        if not answer.is_success:
            raise Refused(_why(answer.status_code, bytes(found)))
        return bytes(found)


@asynccontextmanager
async def asking(settings: McpSettings) -> AsyncIterator[Service]:
    """A service to ask, until the block ends. Redirects aren't followed: the token is this address's."""
    bearer = {"Authorization": f"Bearer {settings.token.reveal()}"}
    async with httpx2.AsyncClient(base_url=settings.url, headers=bearer, timeout=_SECONDS) as http:
        yield Service(http, settings.url)


def _checked(run: str) -> str:
    if not _RUN.fullmatch(run):
        raise Refused(f"{run[:80]!r} is no run's id: `fix` gives one, `r` and 24 digits")
    return run


def _object(body: bytes) -> dict[str, Any]:
    import json

    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refused("what answers at PATCHWRIGHT_URL isn't the service's API: give the service's own address")
    return found


_NEXT: Final = {
    401: "the service doesn't know the token: make one there (`agent service token make NAME --write`) and put it into "
    "the file that PATCHWRIGHT_TOKEN_FILE names",
    403: "the token may only read: make one with --write (`agent service token make NAME --write`)",
    429: "too many runs were asked for: wait a minute",
}


def _why(status: int, body: bytes) -> str:
    if status in _NEXT:
        return _NEXT[status]
    try:
        detail = _object(body).get("detail")
    except Refused:
        detail = None
    said = f": {str(detail)[:500]}" if detail else ""
    return f"the service answered {status}{said}"
