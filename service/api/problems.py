"""What the API answers where it can't do what is asked: always `{"detail": ...}`, and never what was sent.

FastAPI's own answer to what isn't valid repeats the input, which fails itself for numbers that are no JSON, for halves
of characters, and for what is nested a few hundred levels deep. Left out: other paths, which answer for themselves.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from service.store import StoreUnavailable

_MOST_ERRORS: Final = 20
_MOST_TEXT: Final = 300


class Problem(BaseModel):
    """What is wrong."""

    detail: str


class Mistake(BaseModel):
    """One value that can't be taken, and where it was: `["body", "number"]`."""

    loc: list[str | int]
    msg: str
    type: str


class Invalid(BaseModel):
    """What of the request isn't valid."""

    detail: list[Mistake]


_SAID: Final = {
    400: "The body is no JSON that is read here.",
    401: "No token, or none that is valid.",
    403: "The token lacks the scope.",
    404: "There is no such run or repository.",
    408: "The body took too long.",
    413: "The body is too large.",
    429: "Too many were asked for; `Retry-After` says when to ask again.",
    503: "The service can't do it now; ask again.",
}
_RETRY: Final = {"Retry-After": {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers to describe for an endpoint: these, and those that each of them can give."""
    described: dict[int | str, dict[str, Any]] = {422: {"model": Invalid, "description": "Not valid."}}
    for status in sorted({401, 403, 408, 413, 503, *statuses}):
        headers = {"headers": _RETRY} if status == 429 else {}
        described[status] = {"model": Problem, "description": _SAID[status], **headers}
    return described


def other(kind: str, description: str, **schema: Any) -> dict[int | str, dict[str, Any]]:
    """A good answer that isn't JSON: its media type, and the keywords that describe it."""
    return {200: {"content": {kind: schema}, "description": description}}


def links(where: str, *names: str) -> dict[str, dict[str, Any]]:
    """The operations that take the id of a run that an answer has there (a JSON pointer)."""
    return {name: {"operationId": name, "parameters": {"run_id": f"$response.body#{where}"}} for name in names}


def install(app: FastAPI, router: APIRouter) -> None:
    """Answers problems of the router's endpoints; what is wrong elsewhere stays FastAPI's."""

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        if not _ours(request, router):
            return await request_validation_exception_handler(request, error)
        mistakes = [_mistake(one) for one in error.errors()[:_MOST_ERRORS]]
        return JSONResponse(Invalid(detail=mistakes).model_dump(), 422)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405 and (methods := _methods(request, router)):
            return _said(405, str(error.detail), {"Allow": ", ".join(sorted(methods))})
        return await http_exception_handler(request, error)

    async def away(request: Request, error: Exception) -> Response:
        return _said(503, "the service's database doesn't answer; ask again", {"Retry-After": "5"})

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(StoreUnavailable, away)


def _said(status: int, detail: str, headers: dict[str, str]) -> Response:
    return JSONResponse({"detail": detail}, status, headers)


def _ours(request: Request, router: APIRouter) -> bool:
    return request.url.path.startswith(f"{router.prefix}/")


def _methods(request: Request, router: APIRouter) -> set[str]:
    """All that the path has, for which there are several endpoints."""
    path = request.scope["path"]
    found = [route for route in router.routes if isinstance(route, APIRoute) and route.path_regex.match(path)]
    return {method for route in found for method in route.methods or ()}


def _mistake(error: dict[str, Any]) -> Mistake:
    loc = [part if isinstance(part, int) else _text(str(part)) for part in error["loc"]]
    return Mistake(loc=loc[:20], msg=_text(str(error["msg"])), type=str(error["type"]))


def _text(found: str) -> str:
    """Names in the body are anybody's, too."""
    return found[:_MOST_TEXT].encode("utf-8", "replace").decode()
