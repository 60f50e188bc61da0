"""The real router of SGLang before servers that a test has started. `scripts/clients.sh` installs it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from runtime.models.detect import Server
from runtime.models.detect_router import workers_of
from runtime.models.http_client import open_transport
from runtime.serving.process import ServerProcess
from runtime.serving.recipes import Address, Programs, router_command
from tests.runtime.serving.test_process import free_port

SCRIPT = Path(__file__).parents[2] / "scripts" / "clients.sh"


@cache
def router_python() -> str | None:
    """The python that has `sglang_router`: the one in PATCHWRIGHT_ROUTER_PYTHON, or that of the clients."""
    if named := os.environ.get("PATCHWRIGHT_ROUTER_PYTHON"):
        return named
    done = subprocess.run([SCRIPT, "path"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


@asynccontextmanager
async def routed(workers: Sequence[str], folder: Path) -> AsyncIterator[str]:
    """The URL of a router before servers at these URLs, as `agent model serve` starts it."""
    python = router_python()
    if python is None:
        pytest.skip("sglang-router isn't installed: run scripts/clients.sh")
    command = router_command(workers, Address(port=free_port()), Programs(router_python=python))
    metrics = ("--prometheus-port", str(free_port()))  # its own is fixed, and tests run side by side
    command = replace(command, argv=(*command.argv[:3], *metrics, *command.argv[3:]))
    router = await ServerProcess.start(command, folder)
    try:
        await router.ready(120, lambda *_: None)
        await _registered(command.address.url, len(workers))
        yield command.address.url
    finally:
        await router.stop()


async def _registered(url: str, count: int) -> None:
    """The router is healthy before it knows its servers; wait for them."""
    server = Server(open_transport(url, idle_timeout=30), url)
    try:
        async with asyncio.timeout(60):
            while not (known := await workers_of(server)) or known.count < count:
                await asyncio.sleep(0.1)
    finally:
        await server.transport.close()
