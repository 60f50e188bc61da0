"""Telling what a long build does: named steps with elapsed time, and failures that name the step.

A step that takes under two seconds says nothing. Printing is the caller's business: a `Report` is a function.
"""

from __future__ import annotations

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


def failure(what: str, output: str, hint: str) -> str:
    """The text of an ImageProblem: what failed, the last lines that were seen, what to try."""
    lines = [line for line in output.splitlines() if line.strip()][-TAIL_LINES:]
    quoted = "".join(f"\n  | {line[:300]}" for line in lines)
    return f"{what}.{quoted}\nTry: {hint}"
