"""Telling what a long build does: named steps with elapsed time, and failures that name the step.

A step that takes under two seconds says nothing. Printing is the caller's business: a `Report` is a function.
"""

from __future__ import annotations

import io
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sandbox.base import ImageProblem

QUIET_SECONDS = 2.0
REPEAT_SECONDS = 5.0
TAIL_LINES = 15
TAIL_BYTES = 1 << 18  # of a step's output, which may be endless
WATCH_SECONDS = 1.0
STEP_SECONDS = 3600.0  # as long as an engine's build may be silent


@dataclass(frozen=True, slots=True)
class Progress:
    """One thing to tell: which step, for how long it has run (seconds), and whether it has just ended."""

    step: str
    seconds: float
    done: bool = False
    detail: str = ""  # a line of the step's own output


Report = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """The report of a caller that wants none."""


@contextmanager
def step(name: str, report: Report) -> Iterator[None]:
    """Report `name` once it runs for over two seconds, then every five seconds, and its end if it was reported."""
    began = time.monotonic()
    ended = threading.Event()

    def tick() -> None:
        wait = QUIET_SECONDS
        while not ended.wait(wait):
            report(Progress(name, time.monotonic() - began))
            wait = REPEAT_SECONDS

    ticker = threading.Thread(target=tick, name="progress", daemon=True)
    ticker.start()
    try:
        yield
    finally:
        ended.set()
        ticker.join()
    seconds = time.monotonic() - began
    if seconds > QUIET_SECONDS:
        report(Progress(name, seconds, done=True))


def run_tool(
    argv: Sequence[str], *, what: str, hint: str, env: Mapping[str, str] | None = None, cwd: str | None = None
) -> str:
    """Run a host tool and return its output (both streams); ImageProblem with its last lines when it fails."""
    try:
        done = subprocess.run(
            argv,
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except FileNotFoundError as error:
        raise ImageProblem(f"{what} failed: `{argv[0]}` isn't on this machine.\nTry: {hint}") from error
    output = done.stdout.decode(errors="replace")
    if done.returncode:
        raise ImageProblem(failure(f"{what} failed ({argv[0]} ended with {done.returncode})", output, hint))
    return output


@dataclass(frozen=True, slots=True)
class StepEnd:
    """How a step of a build ended: its exit status, None where it was ended; `why` then says so."""

    status: int | None
    output: str  # the end of it
    why: str = ""


def run_step(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    pass_fds: Sequence[int] = (),
    seconds: float = STEP_SECONDS,
    watch: Callable[[], str] = lambda: "",
) -> StepEnd:
    """Run what a repository says, for so many seconds, while `watch` (asked each second) has no objection."""
    tail = bytearray()
    with subprocess.Popen(
        argv,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=tuple(pass_fds),
    ) as process:
        watcher = _Watcher(process, seconds, watch)
        watcher.start()
        try:
            assert isinstance(process.stdout, io.BufferedReader)
            while data := process.stdout.read1(1 << 16):
                tail += data
                del tail[:-TAIL_BYTES]
            process.wait()
        except BaseException:  # interrupted: nothing of it may go on
            process.kill()
            raise
        finally:
            watcher.ended.set()
            watcher.join()
    return StepEnd(None if watcher.why else process.returncode, tail.decode(errors="replace"), watcher.why)


class _Watcher(threading.Thread):
    """Ends a process that takes too long, or that is objected to."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float, watch: Callable[[], str]) -> None:
        super().__init__(name="watching a step", daemon=True)
        self.ended, self.why = threading.Event(), ""
        self._process, self._watch = process, watch
        self._seconds, self._end = seconds, time.monotonic() + seconds

    def run(self) -> None:
        while not self.ended.wait(min(WATCH_SECONDS, max(0.0, self._end - time.monotonic()))):
            late = time.monotonic() >= self._end
            self.why = f"which took over {self._seconds / 60:.0f} min" if late else self._watch()
            if self.why:
                self._process.kill()
                return


def failure(what: str, output: str, hint: str) -> str:
    """The text of an ImageProblem: what failed, the last lines that were seen, what to try."""
    lines = [line for line in output.splitlines() if line.strip()][-TAIL_LINES:]
    quoted = "".join(f"\n  | {line[:300]}" for line in lines)
    return f"{what}.{quoted}\nTry: {hint}"
