"""Where runs are kept: a folder each, named by start time, holding events, blobs, the bare repository, the patch.

Left out: what the files say (`agent.session`, `agent.checkout`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from agent.ends import InputProblem, Outcome, RunProblem


def home() -> Path:
    """`$PATCHWRIGHT_HOME`, else the user's data folder."""
    if chosen := os.environ.get("PATCHWRIGHT_HOME"):
        return Path(chosen)
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data) / "patchwright"


_kept_in: ContextVar[Path | None] = ContextVar("runs_kept_in", default=None)


@contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Within it, this task's runs are made and looked for in `folder`: an evaluation keeps its own apart."""
    token = _kept_in.set(folder)
    try:
        yield
    finally:
        _kept_in.reset(token)


def runs_folder() -> Path:
    return _kept_in.get() or home() / "runs"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def repository(self) -> Path:
        return self.path / "repository.git"

    @property
    def patch(self) -> Path:
        return self.path / "patch.diff"

    @property
    def blobs(self) -> FileBlobs:
        return FileBlobs(self.path / "blobs")


class FileBlobs:
    """Content-addressed bytes in a folder. A name is the SHA-256 of its content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        path = self._folder / name
        if not path.exists():
            self._folder.mkdir(exist_ok=True)
            partial = self._folder / f".{name}.{os.getpid()}"
            partial.write_bytes(data)
            partial.replace(path)
        return name

    def get(self, name: str) -> bytes:
        """Raises KeyError for a name that isn't there."""
        if not name.isalnum():
            raise KeyError(name)
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            raise KeyError(name) from None


def new_run() -> RunFolder:
    """Make the folder of a new run. Raises RunProblem when it can't be written."""
    name = time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(2)
    path = runs_folder() / name
    try:
        path.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise RunProblem(
            Outcome.STORAGE,
            f"{runs_folder()} can't be written ({error.strerror}): set PATCHWRIGHT_HOME to a folder that can",
        ) from None
    return RunFolder(path)


def all_runs() -> list[RunFolder]:
    """Every run that has a log, the oldest first."""
    if not runs_folder().is_dir():
        return []
    return [RunFolder(path.parent) for path in sorted(runs_folder().glob("*/events.jsonl"))]


def find_run(name: str) -> RunFolder:
    """The run of this id, of a unique part of it, or `last`. Raises InputProblem."""
    runs = all_runs()
    if not runs:
        raise InputProblem(f"no runs in {runs_folder()}: start one with `agent fix REPO ISSUE`")
    if name == "last":
        return runs[-1]
    found = [run for run in runs if run.id == name] or [run for run in runs if name in run.id]
    if len(found) == 1:
        return found[0]
    what = "no run" if not found else f"{len(found)} runs"
    raise InputProblem(f"{what} called {name!r}: `agent runs list` shows them all, `last` is the newest")
