"""Runs one server and ends it, with all that it started, when this program's stdin closes.

A process of its own between `agent model serve` and a server: its stdin is a pipe that the kernel closes even when
the command is killed with no chance to clean up. It adopts whatever the server leaves behind, so that nothing
outlives it. Standard library only, run by path: `python -I keeper.py GRACE_SECONDS COMMAND...`. What is left out:
everything about models; readiness and messages are `runtime.serving.process`'s.

End of stdin: SIGTERM to the server, SIGKILL to all that is left after the grace. SIGTERM or SIGINT: at once. What
the killed had in shared memory goes with them: SGLang's and vLLM's processes leave up to gigabytes there.
The exit code is the server's, or 128 plus the number of the signal that ended it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
SHARED_MEMORY = "/dev/shm/"  # noqa: S108
LEFTOVERS = 2.0  # seconds for what is still there when the server itself has ended


def main(argv: list[str]) -> int:
    grace, memory = float(argv[0]), set[str]()
    others = {str(path) for path in Path(SHARED_MEMORY).glob("*")}  # what is there already is somebody else's
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    hurry, wake = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os.write(wake, b"x"))
    try:
        server = subprocess.Popen(
            argv[1:],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )
    except OSError as error:
        print(f"{argv[1]}: {error.strerror}", file=sys.stderr, flush=True)
        return 127
    ended = os.pidfd_open(server.pid)
    waiting = _first_of([sys.stdin.fileno(), hurry, ended], None)
    if sys.stdin.fileno() in waiting and ended not in waiting:
        memory |= shared_memory(_alive())
        server.terminate()  # and not its group: servers end their own processes in order, or take that for a crash
        deadline = time.monotonic() + grace
        while ended not in waiting and hurry not in waiting and (left := deadline - time.monotonic()) > 0:
            waiting = _first_of([hurry, ended], left)
        deadline = min(deadline, time.monotonic() + LEFTOVERS)
        while hurry not in waiting and any(_alive()) and time.monotonic() < deadline:
            _reap_others(server.pid)
            time.sleep(0.05)
    memory |= shared_memory(_alive())
    _kill_all(server)
    code = server.wait()
    remove_shared_memory(memory - others)
    return code if code >= 0 else 128 - code


def _first_of(files: list[int], seconds: float | None) -> set[int]:
    """The files that can be read; of a pipe, its end counts."""
    poll = select.poll()
    for file in files:
        poll.register(file, select.POLLIN | select.POLLHUP)
    return {file for file, _ in poll.poll(None if seconds is None else seconds * 1000)}


def _kill_all(server: subprocess.Popen[bytes]) -> None:
    """SIGKILL to every descendant until there is none; what loses its parent becomes our own child."""
    while alive := tuple(_alive()):
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        _reap_others(server.pid)
        time.sleep(0.01)


def shared_memory(pids: Iterable[int]) -> set[str]:
    """Files of shared memory that these processes have mapped."""
    found: set[str] = set()
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/maps").read_bytes().decode(errors="replace").splitlines()
        except OSError:
            continue
        names = (line[line.index(SHARED_MEMORY) :] for line in lines if SHARED_MEMORY in line)
        found |= {name for name in names if not name.endswith(" (deleted)")}
    return found


def remove_shared_memory(names: Iterable[str]) -> None:
    for name in names:
        with suppress(OSError):
            Path(name).unlink()


def _reap_others(server: int) -> None:
    """Collect adopted children that have ended; the server itself is left to its Popen."""
    for pid, parent, state in _processes():
        if parent == os.getpid() and state == "Z" and pid != server:
            os.waitpid(pid, 0)


def _alive() -> Iterator[int]:
    """Descendants of this process that haven't ended."""
    found = list(_processes())
    family = {os.getpid()}
    grown = True
    while grown:
        more = {pid for pid, parent, _ in found if parent in family} - family
        family |= more
        grown = bool(more)
    yield from (pid for pid, _, state in found if pid in family and pid != os.getpid() and state != "Z")


def _processes() -> Iterator[tuple[int, int, str]]:
    """Number, parent and state of every process."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_bytes().decode(errors="replace")
        except OSError:
            continue
        state, parent = stat.rpartition(")")[2].split()[:2]
        yield int(entry.name), int(parent), state


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
