"""A copy of what a service knows, in one file: its databases as they were at one moment, and its runs.

`FILE` is a tar, compressed by gzip, with `manifest.json` (SHA-256 and size of each member) at its end. The requests'
database is copied before the queue's: so a request that is queued in the copy has its job in the copy, and a job that
came in between finds its request when it is delivered again. Of each conversation the last run is whole, so that it
can go on; of earlier ones the log and the patch are kept. Left out: Postgres (`pg_dump` copies it), mirrors (they are
fetched again), secrets (they are the environment's), restoring (`service.retention.restore`).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from service.store import Store
from service.store.engine import reading
from service.store.receiving import now
from service.store.tables import THREADS

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
REQUESTS: Final = "service.sqlite"
JOBS: Final = "service-jobs.sqlite"
RUNS: Final = "runs"
_SMALL: Final = ("events.jsonl", "patch.diff")


class BackupProblem(Exception):
    """A backup that can't be written or read; the message says what to do."""


@dataclass(slots=True)
class Written:
    """What is in a backup: files and their bytes, before compression."""

    files: dict[str, dict[str, str | int]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(int(one["bytes"]) for one in self.files.values())


def backup(
    store: Store, database: str, jobs: str, runs: Path, file: Path, told: Callable[[str], None] = lambda name: None
) -> Written:
    """Writes `file`, whole or not at all, readable by its owner alone. `told` hears of each database that is copied.

    Raises BackupProblem, StoreUnavailable.
    """
    if file.exists():
        raise BackupProblem(f"{file} is there already: give another name, or remove it")
    partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    written = Written()
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT, compresslevel=6) as archive:
                for url, name in ((database, REQUESTS), (jobs, JOBS)):  # in this order
                    _add_database(archive, written, url, name)
                    told(name)
                for source, name in _of_runs(store, runs):
                    _add_file(archive, written, source, f"{RUNS}/{name}")
                manifest = {"format": FORMAT, "made": now(), "schema": store.schema(), "files": written.files}
                _add_bytes(archive, MANIFEST, json.dumps(manifest, indent=1).encode())
            out.flush()
            os.fsync(out.fileno())
        partial.rename(file)
    except OSError as error:
        raise BackupProblem(f"{file} can't be written ({error.strerror}): give a folder with room for it") from error
    finally:
        partial.unlink(missing_ok=True)
    return written


def _add_database(archive: tarfile.TarFile, written: Written, url: str, name: str) -> None:
    found = sa.make_url(url)
    if found.get_backend_name() != "sqlite" or not found.database or not Path(found.database).exists():
        return
    with tempfile.TemporaryDirectory(prefix="patchwright-backup-", dir=Path(found.database).parent) as folder:
        copy = Path(folder) / name
        with (
            closing(sqlite3.connect(f"file:{found.database}?mode=ro", uri=True, timeout=60)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)  # one moment's state, while others write
            target.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
        _add_file(archive, written, copy, name)


def _of_runs(store: Store, runs: Path) -> Iterator[tuple[Path, str]]:
    """Files of runs: of a log, what is in it now; then what it names, so all that it names is there."""
    with reading(store.engine) as connection:
        last = {str(run) for run in connection.scalars(sa.select(THREADS.c.run).where(THREADS.c.run.is_not(None)))}
    newest: dict[str, Path] = {}
    for attempt in sorted(runs.glob("*-*-*"), key=lambda one: one.stat().st_mtime):
        newest[attempt.name.rpartition("-")[0]] = attempt
    for attempt in sorted(runs.glob("*-*-*")):
        for run in sorted(one for one in attempt.iterdir() if one.is_dir()):
            whole = run.name in last or attempt in newest.values()
            first = [run / name for name in _SMALL]
            rest = sorted(run.rglob("*")) if whole else []
            for path in (*first, *(one for one in rest if one not in first)):
                if path.is_file() and not path.is_symlink() and run / "work" not in path.parents:
                    yield path, str(path.relative_to(runs))
        for path in sorted(attempt.glob("*.md")):
            yield path, str(path.relative_to(runs))


def _add_file(archive: tarfile.TarFile, written: Written, source: Path, name: str) -> None:
    """A file as long as it is now, however it grows meanwhile; one that is gone by now is left out."""
    try:
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            with tempfile.SpooledTemporaryFile(max_size=8 * 1024 * 1024) as copy:
                digest, rest = hashlib.sha256(), size
                while rest and (data := file.read(min(rest, 1024 * 1024))):
                    digest.update(data)
                    copy.write(data)
                    rest -= len(data)
                size -= rest
                copy.seek(0)
                archive.addfile(_member(name, size, os.fstat(file.fileno()).st_mtime), copy)
    except FileNotFoundError:
        return
    written.files[name] = {"sha256": digest.hexdigest(), "bytes": size}


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    archive.addfile(_member(name, len(data), 0.0), io.BytesIO(data))


def _member(name: str, size: int, changed: float) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, changed
    return member
