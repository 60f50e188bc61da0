"""A service of several processes for tests: the web's and any number of workers, each to be killed or frozen alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from agent.forges.fake.acts import FakeForge
from agent.forges.fake.core import FakeApp

SECRET = "a-webhook-secret-of-some-length"
PATIENCE = 600.0  # seconds that anything may take on a machine that has other things to do


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


@dataclass
class Process:
    """One command of the service, with the processes that it supervises."""

    name: str
    popen: subprocess.Popen[bytes]
    frozen: list[int] = field(default_factory=list)

    def parts(self) -> list[int]:
        """The supervised processes that live."""
        found = subprocess.run(
            ["ps", "-o", "pid=,stat=,args=", "--ppid", str(self.popen.pid)], capture_output=True, text=True, check=False
        )
        rows = [row.split(None, 2) for row in found.stdout.splitlines()]
        return [int(pid) for pid, state, args in rows if "service." in args and not state.startswith("Z")]

    def kill(self) -> None:
        """As a machine that loses its power: the supervisor first, which would start the others again."""
        parts = self.parts()
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()
        _signal(parts + self.frozen, signal.SIGKILL)

    def freeze(self) -> None:
        self.frozen = self.parts()
        _signal(self.frozen, signal.SIGSTOP)

    def thaw(self) -> None:
        _signal(self.frozen, signal.SIGCONT)
        self.frozen = []

    def stop(self) -> int:
        """Its exit code, after an orderly end."""
        self.thaw()
        self.popen.terminate()
        return self.popen.wait(PATIENCE)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@dataclass
class Fleet:
    """Settings that its processes share. `homes`: whether each worker has a PATCHWRIGHT_HOME of its own."""

    folder: Path
    forge: FakeForge
    app: FakeApp
    database: str
    model: str
    port: int
    settings: dict[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)

    def start(self, *arguments: str, home: str = "home", **more: str) -> Process:
        """`agent service ARGUMENTS`, not waited for."""
        key = self.folder / "app.pem"
        key.write_text(self.app.key)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PATCHWRIGHT_", "GITHUB_"))}
        environment = {
            **kept, "PATCHWRIGHT_HOME": str(self.folder / home), "PATCHWRIGHT_WEBHOOK_SECRET": SECRET,
            "PATCHWRIGHT_GITHUB_API": self.forge.api, "PATCHWRIGHT_GITHUB_APP_ID": str(self.app.id),
            "PATCHWRIGHT_GITHUB_APP_KEY_FILE": str(key), "PATCHWRIGHT_SANDBOX": "none", "PATCHWRIGHT_MAX_STEPS": "20",
            "PATCHWRIGHT_DATABASE": self.database, "PATCHWRIGHT_MODEL": self.model, **self.settings, **more,
        }  # fmt: skip
        command = [sys.executable, "-m", "cli.main", "service", *arguments]
        process = Process(arguments[0], subprocess.Popen(command, env=environment))
        self.processes.append(process)
        return process

    def web(self, runs: int = 0, **more: str) -> Process:
        return self.start("start", "--port", str(self.port), "--runs", str(runs), **more)

    def worker(self, home: str = "home", runs: int = 1, **more: str) -> Process:
        return self.start("worker", "--runs", str(runs), home=home, **more)

    async def ready(self) -> None:
        """The web process answers."""
        async with httpx2.AsyncClient() as client, asyncio.timeout(PATIENCE):
            while True:
                try:
                    if (await client.get(f"http://127.0.0.1:{self.port}/readyz")).status_code == 200:
                        return
                except httpx2.TransportError:
                    pass
                await asyncio.sleep(0.1)

    def logs(self) -> list[Path]:
        """Of all runs, in all homes."""
        return sorted(self.folder.glob("home*/service/runs/*/*/events.jsonl"))

    def clear(self) -> None:
        for process in self.processes:
            if process.popen.poll() is None:
                process.kill()


@contextmanager
def cleared(fleet: Fleet) -> Iterator[Fleet]:
    """Whatever lives still is killed in the end."""
    try:
        yield fleet
    finally:
        fleet.clear()


async def until(seen: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """What `seen` gives once that is something. Looking is quick: it happens in this loop."""
    try:
        async with asyncio.timeout(seconds):
            while not (found := seen()):
                await asyncio.sleep(0.05)
            return found
    except TimeoutError:
        raise AssertionError(f"{what} did not come within {seconds:.0f} s") from None


def kinds(log: Path) -> list[str]:
    """The types of a log's events, whole lines only."""
    lines = log.read_bytes().split(b"\n")[:-1]
    return [json.loads(line)["type"] for line in lines]
