"""Code and diffs coloured by kind of token, for text that may be hostile: cut off, it is shown without colours.

The colouring itself is done in a process of its own (`highlight_worker`), which a text that takes too long doesn't
survive; the next one gets a new one. What comes back are classes and pieces of the text, never markup. Calls block:
make them in a thread. Left out: what the classes look like (`static/run.css`).
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOST_TEXT: Final = 60_000  # characters of one text that is coloured
MOST_LINE: Final = 1_000  # characters of a line in it
MOST_LINES: Final = 3_000
KINDS: Final = frozenset({"", "com", "str", "num", "kw", "fn", "bi", "de", "ins", "del"})
_WORKER: Final = Path(__file__).with_name("highlight_worker.py")
_PATIENCE: Final = 30.0  # seconds for one answer, whatever else the machine does

Token = tuple[str, str]  # (class, text)
Lines = tuple[tuple[Token, ...], ...]


@dataclass(slots=True)
class Budget:
    """What one page may cost in texts that are too hard."""

    failures: int = 3


class _WorkerGone(Exception):
    """It ended over a text, or doesn't answer."""


class Highlighter:
    """One process, begun when it is needed and ended with this. For any number of threads; one text at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ending: weakref.finalize[[subprocess.Popen[bytes]], Highlighter] | None = None

    def lines(self, name: str, text: str, budget: Budget | None = None) -> Lines | None:
        """The text's lines in tokens; `name` is a file's. None: show it without colours."""
        if not _bearable(text) or (budget is not None and budget.failures <= 0):
            return None
        with self._lock:
            try:
                found = self._asked(json.dumps([name[-200:], text]).encode() + b"\n")
            except (_WorkerGone, OSError):
                self._end()
                if budget is not None:
                    budget.failures -= 1
                return None
        return _checked(found, text)

    def close(self) -> None:
        with self._lock:
            self._end()

    def _asked(self, line: bytes) -> object:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(_WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, env={}, bufsize=0,
            )  # fmt: skip
            self._ending = weakref.finalize(self, _end, self._process)
            assert self._process.stdin is not None
            os.set_blocking(self._process.stdin.fileno(), False)
            _exchange(self._process, b"")  # it says that it is ready
        try:
            found: object = json.loads(_exchange(self._process, line))
        except (ValueError, RecursionError):
            raise _WorkerGone from None
        return found

    def _end(self) -> None:
        self._process = None
        if self._ending is not None:
            self._ending()  # once


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.wait()


def _exchange(process: subprocess.Popen[bytes], line: bytes) -> bytes:
    """Write a line, read a line. Raises _WorkerGone."""
    assert process.stdin is not None and process.stdout is not None
    writes, reads, until = process.stdin.fileno(), process.stdout.fileno(), time.monotonic() + _PATIENCE
    ready, answer = select.poll(), bytearray()
    ready.register(reads, select.POLLIN)
    if line:
        ready.register(writes, select.POLLOUT)
    while not answer.endswith(b"\n"):
        left = until - time.monotonic()
        happened = ready.poll(max(0.0, left * 1000)) if left > 0 else []
        if not happened:
            raise _WorkerGone
        for place, _ in happened:
            if place == writes:
                line = line[os.write(writes, line[:65536]) :]
                if not line:
                    ready.unregister(writes)
            elif more := os.read(reads, 1 << 16):
                answer += more
            else:
                raise _WorkerGone
    return bytes(answer)


def _bearable(text: str) -> bool:
    if not text or len(text) > MOST_TEXT:
        return False
    lines = text.split("\n")
    return len(lines) <= MOST_LINES and max(map(len, lines)) <= MOST_LINE


def _checked(found: object, text: str) -> Lines | None:
    """What the process said, if it is the text and nothing else, with classes of ours."""
    if not isinstance(found, list):
        return None
    lines = tuple(tuple((str(kind), str(part)) for kind, part in line) for line in found)
    same = "\n".join("".join(part for _, part in line) for line in lines) == text
    return lines if same and all(kind in KINDS for line in lines for kind, _ in line) else None
