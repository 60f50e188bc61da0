"""Where metrics are had: `GET /metrics` of the web process, and a port of a worker's own where it is asked for.

Always with a token in the web process: behind a reverse proxy every client has the proxy's address, so an address
proves nothing. Left out: what is counted.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from agent.forges.base import Secret
from service.environment import SettingsProblem
from service.store import StoreUnavailable
from service.store.tokens import check_token
from service.telemetry.logs import tell
from service.telemetry.settings import MetricsSettings

if TYPE_CHECKING:
    from service.telemetry.metrics import WebMetrics

SCOPE: Final = "runs:read"


async def answer(request: Request, metrics: WebMetrics, settings: MetricsSettings) -> Response:
    """The web process's metrics, for whoever has the token of metrics or one of the API's that may read."""
    try:
        allowed = await _allowed(request, settings.token)
    except StoreUnavailable:
        allowed = False  # the token of metrics is checked without the database, and says that it is away
    if not allowed:
        return PlainTextResponse(
            "a token is needed: Authorization: Bearer ...",
            401,
            {"WWW-Authenticate": "Bearer", "Cache-Control": "no-store"},
        )
    return Response(await asyncio.to_thread(metrics.text), headers=_HEADERS)


async def _allowed(request: Request, token: Secret | None) -> bool:
    given = request.headers.getlist("authorization")
    if len(given) != 1:
        return False
    if _is_token(given[0], token):
        return True
    kind, _, value = given[0].partition(" ")
    found = await asyncio.to_thread(check_token, request.app.state.store, value.strip()) if kind == "Bearer" else None
    return found is not None and SCOPE in found.scopes


def _is_token(header: str, token: Secret | None) -> bool:
    kind, _, value = header.partition(" ")
    given = value.strip().encode("utf-8", "surrogateescape")
    return token is not None and kind.lower() == "bearer" and hmac.compare_digest(given, token.reveal().encode())


_HEADERS: Final = {
    "Content-Type": "text/plain; version=0.0.4; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


class WorkServer:
    """`GET /metrics` of a worker, in a thread until it is closed. Raises SettingsProblem for a port that is taken."""

    def __init__(self, settings: MetricsSettings, text: Callable[[], bytes]) -> None:
        def app(environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
            header = environ.get("HTTP_AUTHORIZATION", "")
            if settings.token is not None and not _is_token(header, settings.token):
                start("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Type", "text/plain")])
                return [b"a token is needed: Authorization: Bearer ...\n"]
            if environ.get("REQUEST_METHOD") != "GET" or environ.get("PATH_INFO") != "/metrics":
                start("404 Not Found", [("Content-Type", "text/plain")])
                return [b"metrics are at /metrics\n"]
            start("200 OK", list(_HEADERS.items()))
            return [text()]

        assert settings.port is not None
        try:
            self._server = make_server(settings.host, settings.port, app, _Threads, _Silent)
        except OSError as error:
            raise SettingsProblem(
                f"PATCHWRIGHT_WORKER_METRICS_PORT is {settings.port}, which can't be listened on ({error.strerror}); "
                "give each worker of a machine its own"
            ) from None
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()
        tell(logging.INFO, "metrics served", f"metrics at http://{settings.host}:{self.port}/metrics")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    timeout = 10.0  # seconds for a client that says nothing

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        pass
