"""One real server for a whole test run: started by whoever asks first, shared by all workers, gone with the last.

Each user holds a shared lock on a file for as long as it uses the server. A small guard process waits for the
exclusive lock, which it gets only when no user is left, however they ended, and then kills the server's process group.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.serving.keeper import remove_shared_memory, shared_memory

LOG_LINES = 60


class ServerFailed(Exception):
    """A server that didn't come up; the message has the end of its log."""


@dataclass(frozen=True)
class Launch:
    """How to start a server and see that it is ready."""

    command: Callable[[int], Sequence[str]]  # for a port of 127.0.0.1
    environment: Mapping[str, str]  # in addition to this process's
    health: str = "/health"  # answers 200 when the server is ready
    seconds: float = 600.0  # to be ready in


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    pid: int  # also of its process group
    started: str  # when, as the kernel tells it: a process of the same id may be another
    log: Path

    def log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])


@contextmanager
def shared(folder: Path, launch: Launch) -> Iterator[Server]:
    """The server of this folder, started when it isn't running. Raises `ServerFailed`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "users").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        with (folder / "starting").open("w") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            server = _running(folder) or _start(folder, launch)
        try:
            yield server
        finally:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # somebody else uses it, or the guard is ending it already
            else:
                kill(server.pid, server.started)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def kill(pid: int, started: str) -> None:
    """End a process group, when it is still the one that was started then, and wait until it has gone.

    What it had in shared memory goes, too.
    """
    if start_of(pid) != started:
        return
    memory = shared_memory(_group(pid))
    os.killpg(pid, signal.SIGKILL)
    for _ in range(500):
        if start_of(pid) != started:
            break
        time.sleep(0.01)
    boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    since = int(boot.split()[1]) + int(started) / os.sysconf("SC_CLK_TCK") - 1
    remove_shared_memory(name for name in memory if os.path.exists(name) and os.stat(name).st_ctime >= since)


def _group(leader: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getpgid(int(entry.name)) == leader:
                yield int(entry.name)
        except ProcessLookupError:
            continue


def start_of(pid: int) -> str | None:
    """When a process was started, in the kernel's ticks. None: there is none, or it only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _running(folder: Path) -> Server | None:
    try:
        known = json.loads((folder / "server.json").read_text())
    except FileNotFoundError:
        return None
    server = Server(known["url"], known["pid"], known["started"], folder / "log")
    return server if start_of(server.pid) == server.started else None


def _start(folder: Path, launch: Launch) -> Server:
    port = free_port()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            launch.command(port),
            env={**os.environ, **launch.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = start_of(process.pid)
    server = Server(f"http://127.0.0.1:{port}", process.pid, started or "", folder / "log")
    guard = [sys.executable, "-m", "tests.servers.guard", str(folder / "users"), str(server.pid), server.started]
    subprocess.Popen(guard, cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait(process, server, launch)
    except BaseException:  # whatever ends the wait, an interrupt too, the server must not stay behind
        kill(server.pid, server.started)
        raise
    known = {"url": server.url, "pid": server.pid, "started": server.started}
    (folder / "server.json").write_text(json.dumps(known))
    return server


def _wait(process: subprocess.Popen[bytes], server: Server, launch: Launch) -> None:
    deadline = time.monotonic() + launch.seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerFailed(f"The server ended with {process.returncode} at its start:\n{server.log_tail()}")
        try:
            with urllib.request.urlopen(server.url + launch.health, timeout=5) as response:
                if response.status == 200:
                    return
        except OSError:  # refused, reset, 503, too slow: not ready yet
            pass
        time.sleep(0.3)
    raise ServerFailed(f"The server wasn't ready in {launch.seconds:g} s:\n{server.log_tail()}")
