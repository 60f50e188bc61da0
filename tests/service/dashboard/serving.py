"""The real web process's server for the dashboard's tests, in a thread of this process, so that a browser can look."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from agent.forges.base import Secret
from service.dashboard.settings import DashboardSettings
from service.server import server
from service.settings import ServiceSettings
from service.store import Store
from tests.service.dashboard.seeds import session

ORIGIN = "Origin"


def settings(folder: Path, **more: Any) -> ServiceSettings:
    """Of a service that keeps everything in `folder`; `more`: of the dashboard."""
    told = {"evaluations": folder / "evals", "forge": "https://forge.example", **more}
    database = Secret(f"sqlite:///{folder}/service.sqlite")
    return ServiceSettings(
        database, (Secret("s" * 20),), port=0, runs=folder / "runs", dashboard=DashboardSettings(**told)
    )


@dataclass
class Dashboard:
    """A running service."""

    url: str
    store: Store
    folder: Path
    state: Any
    """The app's."""

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def evaluations(self) -> Path:
        return self.folder / "evals"

    def client(self, cookie: str = "", **headers: str) -> httpx2.Client:
        """A visitor; `cookie` is a session's secret. Redirects are not followed."""
        own = {"Cookie": f"patchwright={cookie}"} if cookie else {}
        return httpx2.Client(base_url=self.url, headers={**own, **headers}, timeout=60)

    def visitor(self, *scopes: str) -> httpx2.Client:
        """Somebody who is logged in and whose browser says where forms come from."""
        return self.client(session(self.store, list(scopes or ("runs:read",))), **{ORIGIN: self.url})


@contextmanager
def dashboard(folder: Path, **more: Any) -> Iterator[Dashboard]:
    one = server(settings(folder, **more))
    one.capture_signals = _no_signals  # type: ignore[method-assign,assignment]
    thread = threading.Thread(target=lambda: _run(one), daemon=True)
    thread.start()
    while not one.started and thread.is_alive():
        thread.join(0.01)
    assert one.started, "the server didn't start"
    port = one.servers[0].sockets[0].getsockname()[1]
    state = one.config.app.state  # type: ignore[union-attr]
    try:
        yield Dashboard(f"http://127.0.0.1:{port}", state.store, folder, state)
    finally:
        one.should_exit = True
        thread.join(60)


def _run(one: uvicorn.Server) -> None:
    """On the loop that it has in earnest."""
    with asyncio.Runner(loop_factory=one.config.get_loop_factory()) as runner:
        runner.run(one.serve())


@contextmanager
def _no_signals() -> Iterator[None]:
    """They are the tests' own."""
    yield
