"""Who may use the API: `Authorization: Bearer pw_...`, and a scope for each endpoint.

Left out: making tokens (`agent service token`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum

from fastapi import HTTPException, Request

from service.store import Store
from service.store.tokens import ApiToken, check_token


class ApiScope(StrEnum):
    """What a token allows."""

    READ = "runs:read"
    WRITE = "runs:write"  # submit and cancel


def needs(scope: ApiScope) -> Callable[[Request], Awaitable[ApiToken]]:
    """A dependency that gives the token of a request that has this scope."""

    async def token(request: Request) -> ApiToken:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        store: Store = request.app.state.store
        found = await asyncio.to_thread(check_token, store, given.strip()) if kind.lower() == "bearer" else None
        if found is None:
            raise HTTPException(401, "a token is needed: Authorization: Bearer pw_...", {"WWW-Authenticate": "Bearer"})
        if scope not in found.scopes:
            raise HTTPException(403, f"this token lacks the scope {scope}")
        return found

    return token
