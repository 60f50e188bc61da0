"""Who may use the API: `Authorization: Bearer pw_...`, and a scope for each endpoint.

Nothing else counts as a token, cookies least of all: a page that somebody is led to can't ask in their name. Who has
none is told so before the body is read. Left out: making tokens (`agent service token`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from enum import StrEnum
from typing import Annotated, Any

from fastapi import HTTPException, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.store import Store
from service.store.tokens import ApiToken, check_token

_BEARER = HTTPBearer(auto_error=False, scheme_name="token", description="`agent service token make NAME` prints one.")


class ApiScope(StrEnum):
    """What a token allows."""

    READ = "runs:read"
    WRITE = "runs:write"  # submit and cancel


class Guarded(APIRoute):
    """An endpoint that looks at a request only if a token comes with it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            request.state.token = await _token(request)
            return await answer(request)

        return guarded


async def _token(request: Request) -> ApiToken:
    given = request.headers.getlist("authorization")
    kind, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    store: Store = request.app.state.store
    found = await asyncio.to_thread(check_token, store, token.strip()) if kind.lower() == "bearer" else None
    if found is None:
        raise HTTPException(401, "a token is needed: Authorization: Bearer pw_...", {"WWW-Authenticate": "Bearer"})
    return found


def needs(scope: ApiScope) -> Callable[..., Awaitable[ApiToken]]:
    """A dependency that gives the token of a request that has this scope."""

    async def token(
        request: Request,
        _: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],  # so that it is described
    ) -> ApiToken:
        found: ApiToken = request.state.token
        if scope not in found.scopes:
            raise HTTPException(403, f"this token lacks the scope {scope}")
        return found

    return token
