"""The HTTP server: uvicorn, in one process, with deadlines that it doesn't have by itself.

A client that sends its headers byte by byte, or nothing at all, is cut off. `python -m service.server` serves the app
with the settings of the environment. Left out: TLS and names, which the reverse proxy in front has, and the worker.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.app import create_app
from service.settings import ServiceSettings, SettingsProblem, from_environment
from service.telemetry import logs
from service.telemetry.traces import Traces

_HEADER_BYTES: Final = 32 * 1024
_STOP_SECONDS: Final = 10


class Guarded(H11Protocol):
    """A connection whose requests have to come to the end of their headers in time."""

    def __init__(self, *args: Any, seconds: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seconds = seconds
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        if self._between_requests() and self._deadline is None:
            self._watch()
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._unwatch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        self._deadline = self.loop.call_later(self._seconds, self._cut_off)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut_off(self) -> None:
        self._deadline = None
        if self._between_requests():
            self.transport.abort()


def server(settings: ServiceSettings, traces: Traces | None = None) -> uvicorn.Server:
    """A server that isn't started; `await it.serve()` serves until SIGINT or SIGTERM."""
    config = uvicorn.Config(
        create_app(settings, traces),
        host=settings.host,
        port=settings.port,
        http=functools.partial(Guarded, seconds=settings.header_seconds),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_config=None,  # its records go where all of this process's go
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.connections,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    return uvicorn.Server(config)


def main() -> None:
    try:
        redact = logs.set_up(os.environ)
        settings = from_environment(os.environ)
    except SettingsProblem as problem:
        sys.exit(f"patchwright service: {problem}")
    server(settings, Traces.open(os.environ, "web", redact)).run()


if __name__ == "__main__":
    main()
