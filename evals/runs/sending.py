"""How an attempt's files come home: into the evaluation's folder on the same machine, through the queue from others.

Left out: what is in them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from agent.runs import RunFolder
from agent.step_diffs import NAME as STEPS
from evals.judging.base import OFFICIAL_FILES
from evals.runs.folder import EvalFolder
from evals.runs.record import AttemptKey

if TYPE_CHECKING:
    from agent.jobs import JobContext

MAX_FILE: Final = 256 << 20  # bytes of one file that is brought home; a larger one is cut at its end


class Home(Protocol):
    """Where files go. `name` is one of `folder.SENT`."""

    async def put(self, name: str, data: bytes) -> None: ...


class InFolder:
    """The evaluation's folder is on this machine, and its own process works."""

    def __init__(self, folder: EvalFolder, key: AttemptKey, model: str) -> None:
        self._folder, self._key, self._model = folder, key, model

    async def put(self, name: str, data: bytes) -> None:
        await asyncio.to_thread(write_bytes, self._folder.file_sent(self._key, self._model, name), data)


class ThroughQueue:
    """It is elsewhere, or another process looks after it: the queue keeps files until that one takes them."""

    def __init__(self, context: JobContext) -> None:
        self._context = context

    async def put(self, name: str, data: bytes) -> None:
        await self._context.send(name, data)


async def bring_trajectory(run: Path, home: Home) -> None:
    """The log, the patch, the steps' diffs and the blobs of an agent's run."""
    folder = RunFolder(run)
    for name, path in (
        ("events.jsonl", folder.events),
        ("patch.diff", folder.patch),
        (STEPS, run / STEPS),
        *((f"blobs/{path.name}", path) for path in sorted((run / "blobs").glob("*"))),
    ):
        await _put(home, f"trajectory/{name}", path)


async def bring_log(log: Path, home: Home) -> None:
    """The five official files of a judged attempt."""
    for name in OFFICIAL_FILES:
        await _put(home, f"log/{name}", log / name)


async def _put(home: Home, name: str, path: Path) -> None:
    if path.is_file() and not path.name.startswith("."):
        await home.put(name, await asyncio.to_thread(_read, path))


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.partial")
    scratch.write_bytes(data)
    scratch.replace(path)


def read_patch(path: Path) -> str:
    """A patch as text that keeps bytes which are no UTF-8; "" where there is no file."""
    return path.read_bytes().decode("utf-8", "surrogateescape") if path.is_file() else ""


def patches_left(folder: EvalFolder, key: AttemptKey, model: str) -> Iterator[str]:
    """The attempt's patch from wherever it was left."""
    for path in (folder.log(key, model) / "patch.diff", folder.trajectory(key) / "patch.diff"):
        if path.is_file():
            yield read_patch(path)
