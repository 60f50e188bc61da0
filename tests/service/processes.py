"""The web process as a service starts it, on a port of its own choosing; a database with requests in every state."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from agent.events import EventLog, EventType
from agent.forges.base import Person
from service.store import State, Store
from service.store.tokens import make_token
from service.webhooks.model import Delivery, ObjectKey, ObjectKind, Wish, WishKind

SECRET = "a-webhook-secret-of-the-tests"
SLUG, REPOSITORY = "octo/calc", 77
_PATIENCE = 120.0


@dataclass(frozen=True)
class Web:
    """A running `service.server`. `said`: the file that both its streams go to."""

    url: str
    port: int
    pid: int
    said: Path


@contextmanager
def web_process(folder: Path, database: str, **more: str) -> Iterator[Web]:
    """Starts it, waits until it is ready, and ends it with the block."""
    environment = {
        **os.environ, "PATCHWRIGHT_HOME": str(folder / "home"), "PATCHWRIGHT_DATABASE": database,
        "PATCHWRIGHT_WEBHOOK_SECRET": SECRET, "PATCHWRIGHT_PORT": "0", **more,
    }  # fmt: skip
    said = folder / "web.log"
    with said.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "service.server"], env=environment, stdout=log, stderr=log)
    try:
        port = _port(process, said)
        yield Web(f"http://127.0.0.1:{port}", port, process.pid, said)
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        finally:
            process.kill()


def _port(process: subprocess.Popen[bytes], said: Path) -> int:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if process.poll() is not None:
            raise AssertionError(f"the web process ended with {process.returncode}: {said.read_text()}")
        for port in listening(process.pid):
            try:
                if httpx2.get(f"http://127.0.0.1:{port}/readyz", timeout=30).status_code == 200:
                    return port
            except httpx2.TransportError:
                pass
        time.sleep(0.05)
    raise AssertionError(f"the web process isn't ready: {said.read_text()}")


def listening(pid: int) -> list[int]:
    """The TCP ports that a process listens on, as Linux says."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(str(descriptor.readlink()))
        except OSError:
            continue  # closed meanwhile
    rows = [row.split() for row in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return [int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]


@dataclass(frozen=True)
class Seeded:
    """A database with requests in every state; runs, of which one goes on, and tokens for the API."""

    database: str
    home: Path
    ids: dict[State, str]
    reader: str
    writer: str


def seed(folder: Path, database: str) -> Seeded:
    """Requests on issues 1 to 7, in the order of `State`; those that run or are done have run folders."""
    store = Store.open(database)
    states = list(State)
    received = store.receive([_asked(number) for number in range(1, len(states) + 1)])
    ids = {state: one.request or "" for state, one in zip(states, received, strict=True)}
    for number, (state, key) in enumerate(ids.items(), 1):
        run = f"20260101-00000{number}-abcd"
        if state in (State.RUNNING, State.DONE, State.FAILED):
            _run(folder / "home" / "service" / "runs" / f"{REPOSITORY}-{number}-1" / run, state)
        if state is not State.WAITING:
            store.change(key, state, why="why not?", run=run, pull=40 + number)
    tokens = [make_token(store, "test", scopes).reveal() for scopes in (["runs:read"], ["runs:read", "runs:write"])]
    store.close()
    return Seeded(database, folder / "home", ids, *tokens)


def _asked(number: int) -> Delivery:
    at = f"2026-01-01T00:00:{number:02}Z"
    key = ObjectKey(ObjectKind.ISSUE, number, at)
    wish = Wish(WishKind.FIX, number)
    return Delivery(f"g{number}", "issues", "labeled", REPOSITORY, SLUG, 1, Person(5, "mia"), key, at, wish)


def _run(folder: Path, state: State) -> None:
    folder.mkdir(parents=True)
    (folder / "patch.diff").write_text("diff --git a/x b/x\n")
    log = EventLog(folder / "events.jsonl")
    log.append(EventType.RUN_STARTED, base={"commit": "c" * 40, "notes": []})
    if state is not State.RUNNING:
        log.append(EventType.PATCH, tree="t", bytes=3, files=[["M", "calc/ops.py"], ["A", "\udc80 \u202e.py"]])
        log.append(EventType.RUN_ENDED, outcome="verified", exit_code=0, message="")
    log.close()
