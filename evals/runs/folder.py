"""The folder of an evaluation run: where everything lies, what is finished, and who may write.

    manifest.json, instances.jsonl          what is run (gold inside the latter)
    records/<instance>/<attempt>.json       one per attempt that is over
    trajectories/<instance>/<attempt>/      the agent's run: events.jsonl, patch.diff, blobs
    logs/run_evaluation/<run>/<model>/<instance>/   as the official harness leaves them
    predictions.jsonl, <model>.<run>.json   for sb-cli and the official harness
    report.json, report.html, jobs.sqlite

Attempts from the second on have `.attempt-K` behind the run's name, since the official layout knows one per run.
Left out: what the files say (`manifest`, `record`, `official`, `evals.report`).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.runs import home
from evals.instance import Instance, RowBroken, check_id, read_instance
from evals.predictions import write_whole
from evals.reports import model_folder
from evals.rows import read_rows
from evals.runs.record import AttemptKey, AttemptRecord, RecordBroken
from evals.runs.rows import row_line

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
SENT: Final = re.compile(r"(?:log|trajectory)/(?:blobs/)?[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names that a worker may send home, below the attempt's log folder or its trajectory."""


class FolderUnusable(Exception):
    """A run's folder that can't be made, read or written; the message says what to do."""


class RunNameBroken(FolderUnusable):
    """A name that no run can have."""


def evals_home() -> Path:
    return home() / "evals"


def check_run_name(name: str) -> str:
    """`name`, which becomes a folder and a part of file names. RunNameBroken for one that can't be."""
    if not _NAME.fullmatch(name):
        raise RunNameBroken(f"{name[:60]!r} can't name a run: letters, digits and ._+- are allowed, up to 100")
    return name


@dataclass(frozen=True, slots=True)
class EvalFolder:
    """The files of one evaluation run."""

    path: Path

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def instances(self) -> Path:
        return self.path / "instances.jsonl"

    @property
    def database(self) -> str:
        return f"sqlite:///{self.path / 'jobs.sqlite'}"

    def record(self, key: AttemptKey) -> Path:
        return self.path / "records" / check_id(key.instance_id) / f"{key.attempt}.json"

    def trajectory(self, key: AttemptKey) -> Path:
        return self.path / "trajectories" / check_id(key.instance_id) / str(key.attempt)

    def log(self, key: AttemptKey, model: str) -> Path:
        """The official folder of one instance's log. ValueError for a model that can't be a folder."""
        run = of_attempt(key.run, key.attempt)
        return self.path / "logs" / "run_evaluation" / run / model_folder(model) / check_id(key.instance_id)

    def predictions(self, attempt: int) -> Path:
        return self.path / f"{of_attempt('predictions', attempt)}.jsonl"

    def summary(self, model: str, run: str, attempt: int) -> Path:
        return self.path / f"{model_folder(model)}.{of_attempt(run, attempt)}.json"

    # -- what is in them

    def write_instances(self, instances: Iterable[Instance]) -> None:
        write_whole(self.instances, "".join(row_line(instance) + "\n" for instance in instances))

    def read_instances(self) -> tuple[Instance, ...]:
        """The rows that the run was started with. FolderUnusable when they aren't there or aren't whole."""
        if not self.instances.is_file():
            raise FolderUnusable(f"{self.instances} is missing: start the run anew under another name")
        try:
            return tuple(read_instance(raw.value) for raw in read_rows(self.instances))
        except RowBroken as error:
            raise FolderUnusable(f"{self.instances} was changed: {error}") from error

    def write_record(self, record: AttemptRecord) -> None:
        key = AttemptKey(record.run, record.instance_id, record.attempt)
        write_whole(self.record(key), json.dumps(record.to_json(), indent=1, sort_keys=True) + "\n")

    def finished(self, key: AttemptKey) -> AttemptRecord | None:
        """The record of an attempt that is over, else None. RecordBroken when its file says something else."""
        path = self.record(key)
        return _read(path) if path.is_file() else None

    def file_sent(self, key: AttemptKey, model: str, name: str) -> Path:
        """Where a file goes that a worker sent home. ValueError for a name that isn't one of ours."""
        if not SENT.fullmatch(name):
            raise ValueError(f"{name[:80]!r} is no file of an attempt")
        kind, _, rest = name.partition("/")
        return (self.log(key, model) if kind == "log" else self.trajectory(key)) / rest

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time drives a run. FolderUnusable when another one does, or the folder can't be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FolderUnusable(f"{self.path} can't be written ({error.strerror}): name another with --out") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise FolderUnusable(
                f"{self.path.name} is driven by another process: wait for it, help it with `agent eval worker`, or "
                "name another run with --run"
            ) from None
        try:
            yield
        finally:
            os.close(lock)


def of_attempt(name: str, attempt: int) -> str:
    return name if attempt == 1 else f"{name}.attempt-{attempt}"


def read_records(folder: Path) -> list[AttemptRecord]:
    """All that is over, sorted by instance and attempt. RecordBroken names the file that can't be read."""
    found = [_read(path) for path in (folder / "records").glob("*/*.json") if not path.name.startswith(".")]
    return sorted(found, key=lambda record: (record.instance_id, record.attempt))


def _read(path: Path) -> AttemptRecord:
    try:
        data: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RecordBroken(f"{path} can't be read: {error}") from error
    try:
        return AttemptRecord.from_json(data)
    except RecordBroken as error:
        raise RecordBroken(f"{path}: {error}") from error
