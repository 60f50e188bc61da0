"""The dashboard's part of the app: its routes, and what a browser is shown when something goes wrong.

Left out: the pages (a module each).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi import Request as Http
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from service.dashboard import evaluations, login, queue, runs, static
from service.dashboard.access import LoginNeeded
from service.dashboard.frame import HEADERS, local, page
from service.dashboard.model_health import HealthWatch
from service.dashboard.run import routes as run
from service.store import StoreUnavailable
from service.webhooks.rates import RateLimit

Handler = Callable[[Http, Exception], Awaitable[Response]]

_PROGRAMS: Final = ("/api/", "/webhooks/", "/healthz", "/readyz", "/metrics", "/static/", "/mcp")
ROUTERS: Final = (static.router, login.router, runs.router, run.router, queue.router, evaluations.router)
_TITLES: Final = {
    400: "That can't be read",
    403: "That isn't allowed",
    404: "There is no such page",
    405: "That can't be done here",
    413: "That is too much",
    422: "That can't be asked",
    429: "Too many attempts",
}


def join(app: FastAPI) -> None:
    """Adds the dashboard to an app whose state has `settings`, `runs` and, while it runs, `store`.

    What goes wrong for programs is answered as it was before: join it last.
    """
    app.state.failed_logins = RateLimit(login.FAILURES)
    app.state.model_health = HealthWatch(app.state.settings.dashboard.model)
    app.include_router(_router())
    app.add_exception_handler(LoginNeeded, _login_needed)
    for kind, shown in _SHOWN.items():
        app.add_exception_handler(kind, _for_people(shown, app.exception_handlers.get(kind)))


def _for_people(shown: Handler, before: Any) -> Handler:
    async def answer(http: Http, error: Exception) -> Response:
        if not http.url.path.startswith(_PROGRAMS):
            return await shown(http, error)
        if before is None:
            return PlainTextResponse("Internal Server Error", 500)
        answered: Response = await before(http, error)
        return answered

    return answer


def _router() -> APIRouter:
    made = APIRouter(include_in_schema=False)
    for part in ROUTERS:
        made.include_router(part)
    return made


async def _login_needed(http: Http, _: Exception) -> Response:
    """To the login page, and back from there; a part of a page that asked makes the whole page go."""
    then = local(http) if http.method == "GET" else "/"
    if http.headers.get("hx-request"):
        return Response(status_code=401, headers={**HEADERS, "HX-Refresh": "true"})
    if _came_over(http):
        return await page(http, "again.html", then=login.address(then))
    return RedirectResponse(login.address(then), 303, HEADERS)


def _came_over(http: Http) -> bool:
    """Whether a link on another site led here: then the browser kept the cookie back, and we ask for it ourselves."""
    said = http.headers
    elsewhere = said.get("sec-fetch-site") in ("cross-site", "same-site")
    return http.method == "GET" and elsewhere and said.get("sec-fetch-mode") == "navigate"


async def _refused(http: Http, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return await _error(http, error.status_code, str(error.detail), dict(error.headers or {}))


async def _unreadable(http: Http, _: Exception) -> Response:
    return await _error(http, 422, "the address holds something that this page doesn't know")


async def _no_store(http: Http, _: Exception) -> Response:
    return await _error(http, 503, "the service's database doesn't answer; this page works again when it does")


async def _broken(http: Http, _: Exception) -> Response:
    """The error itself goes on to the server's log."""
    return await _error(http, 500, "the service's log says what happened; what was going on goes on")


_SHOWN: Final[dict[type[Exception], Handler]] = {
    HTTPException: _refused,
    RequestValidationError: _unreadable,
    StoreUnavailable: _no_store,
    Exception: _broken,
}


async def _error(http: Http, status: int, what: str, headers: dict[str, str] | None = None) -> Response:
    title = _TITLES.get(status, "Something went wrong")
    answer = await page(http, "error.html", status=status, code=status, title=title, what=what)
    for name, value in (headers or {}).items():
        answer.headers.setdefault(name, value)
    return answer
