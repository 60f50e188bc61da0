"""A part that PATCHWRIGHT_REQUIRE names and that is missing ends the run; elsewhere its tests skip with a reason."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.browser.chromium import browser
from tests.servers.sglang import (
    servers_folder,
    sglang_chains,
    sglang_chains_server,
    sglang_demo,
    sglang_demo_server,
    sglang_hybrid,
    sglang_hybrid_server,
    sglang_installed,
)
from tests.servers.shared import Server
from tests.shared_data import SHARED

__all__ = [
    "browser",
    "servers_folder",
    "sglang_chains",
    "sglang_chains_server",
    "sglang_demo",
    "sglang_demo_server",
    "sglang_hybrid",
    "sglang_hybrid_server",
    "sglang_installed",
]

SERVERS = {
    "sglang": "scripts/sglang-cpu.sh",
    "llamacpp": "scripts/llama-server.sh",
    "vllm": "scripts/vllm-cpu.sh",
    "evals": "scripts/swebench.sh",
    "postgres": "scripts/postgres.sh",
    "browser": "scripts/browser.sh",
}
CLIENTS = "scripts/clients.sh"  # also the router; their tests carry the mark `sglang` or `heavy`
SERVER_SECONDS = 900  # a test that starts a real server, on a machine that is busy with others


def pytest_sessionstart(session: pytest.Session) -> None:
    required = set(filter(None, os.environ.get("PATCHWRIGHT_REQUIRE", "").split(",")))
    if "shared" in required and not SHARED.is_dir():
        pytest.exit(f"the shared cases are required and not at {SHARED}", returncode=1)
    chosen = str(session.config.option.markexpr)
    for mark, script in SERVERS.items():
        if mark in required and _chosen(mark, chosen) and not _installed(script):
            pytest.exit(f"{mark} is required and not installed: run {script}", returncode=1)
    asks_clients = any(_chosen(mark, chosen) for mark in ("sglang", "heavy"))
    if "clients" in required and asks_clients and not _installed(CLIENTS):
        pytest.exit(f"the clients are required and not installed: run {CLIENTS}", returncode=1)
    if "torch" in required and _chosen("torch", chosen):
        missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
        if missing:
            pytest.exit(f"required and not installed: {', '.join(missing)}", returncode=1)


def _chosen(mark: str, expression: str) -> bool:
    """Whether the Makefile's way to write `-m` asks for tests with this mark."""
    asked, _, excluded = expression.partition("and not (")
    return mark in asked.replace(f"not {mark}", "") and mark not in excluded


def _installed(script: str) -> bool:
    """Whether it says so; what shares a venv with the tests is looked for in the one that runs them."""
    environment = {**os.environ, "VENV": sys.prefix}
    asked = subprocess.run(
        [Path(__file__).parents[1] / script, "path"], capture_output=True, env=environment, check=False
    )
    return asked.returncode == 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("sglang") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SERVER_SECONDS))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows what the real servers that it used had to say."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Server):
                report.sections.append((f"log of {name}", value.log_tail()))
    return report
