"""A backup put where there is nothing yet: checked whole beside its place, then moved there.

Names in the archive are anybody's until they are checked: only plain files, only below the places that a backup has.
Left out: Postgres (`pg_restore`), and anything of a service that is there already.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import sqlalchemy as sa

from service.retention.backup import FORMAT, JOBS, MANIFEST, REQUESTS, RUNS, BackupProblem
from service.store import Store
from service.store.engine import writing
from service.store.tables import THREADS

_MOST_MANIFEST: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Restored:
    """How many files came, and how many conversations begin anew because their run wasn't whole."""

    files: int
    bytes: int
    forgotten: int


def restore(file: Path, database: str, jobs: str, runs: Path) -> Restored:
    """Raises BackupProblem, and then nothing is where it wasn't before; StoreError for a newer schema."""
    targets = {REQUESTS: _file_of(database), JOBS: _file_of(jobs)}
    _check_empty([*(one for one in targets.values() if one), runs])
    runs.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staging = runs.parent / f".restoring-{secrets.token_hex(4)}"
    staging.mkdir(mode=0o700)
    try:
        files = _unpack(file, staging)
        if REQUESTS in files and targets[REQUESTS] is None:
            raise BackupProblem(f"{file} holds SQLite databases, and PATCHWRIGHT_DATABASE names another: unset it")
        (staging / RUNS).mkdir(exist_ok=True, mode=0o700)
        for bare in (staging / RUNS).glob("*/*/repository.git"):
            for needed in ("objects", "refs"):  # git knows a repository by them, and archives hold no empty folders
                (bare / needed).mkdir(exist_ok=True, mode=0o700)
        if runs.is_dir():
            runs.rmdir()  # it is empty
        (staging / RUNS).rename(runs)
        for name in (JOBS, REQUESTS):  # the requests last: without them nothing begins
            target = targets[name]
            if name in files and target is not None:
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                shutil.move(staging / name, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Restored(len(files), sum(files.values()), _forget_missing(database, runs))


def _file_of(url: str) -> Path | None:
    found = sa.make_url(url)
    return Path(found.database) if found.get_backend_name() == "sqlite" and found.database else None


def _check_empty(places: list[Path]) -> None:
    for place in places:
        there = any(place.iterdir()) if place.is_dir() else place.exists()
        if there:
            raise BackupProblem(f"{place} is there already: restore into an empty PATCHWRIGHT_HOME")


def _unpack(file: Path, into: Path) -> dict[str, int]:
    """The files and their sizes, each as the manifest says. Raises BackupProblem."""
    digests: dict[str, tuple[str, int]] = {}
    manifest: dict[str, Any] | None = None
    try:
        with tarfile.open(file, "r:gz") as archive:
            for member in archive:
                name = _checked(member)
                source = archive.extractfile(member)
                assert source is not None
                if name == MANIFEST:
                    if member.size > _MOST_MANIFEST:
                        raise BackupProblem(f"{file} isn't a backup: its manifest has {member.size} bytes")
                    manifest = json.loads(source.read())
                    continue
                if name in digests:
                    raise BackupProblem(f"{file} isn't a backup: it holds {name} twice")
                digests[name] = _write(source, into / name, member.mtime), member.size
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise BackupProblem(f"{file} can't be read as a backup ({error}): take another copy of it") from error
    _compare(file, manifest, digests)
    return {name: size for name, (_, size) in digests.items()}


def _checked(member: tarfile.TarInfo) -> str:
    path = PurePosixPath(member.name)
    top = path.parts[0] if path.parts else ""
    plain = str(path) == member.name and ".." not in path.parts and not path.is_absolute() and "\0" not in member.name
    known = member.name in (REQUESTS, JOBS, MANIFEST) or (top == RUNS and len(path.parts) > 1)
    if not (member.isreg() and plain and known):
        raise BackupProblem(f"the archive holds {member.name!r}, which no backup has: nothing of it was taken")
    return member.name


def _write(source: Any, target: Path, changed: float) -> str:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest = hashlib.sha256()
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        while data := source.read(1024 * 1024):
            digest.update(data)
            out.write(data)
    os.utime(target, (changed, changed))  # how old a run is, is seen by its log
    return digest.hexdigest()


def _compare(file: Path, manifest: dict[str, Any] | None, found: dict[str, tuple[str, int]]) -> None:
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise BackupProblem(f"{file} has no manifest: it was cut off, or is no backup")
    if manifest.get("format") != FORMAT:
        raise BackupProblem(f"{file} has format {manifest.get('format')!r} and this program reads {FORMAT}: upgrade it")
    said = {name: (one.get("sha256"), one.get("bytes")) for name, one in manifest["files"].items()}
    wrong = sorted(name for name in said.keys() | found.keys() if said.get(name) != found.get(name))
    if wrong:
        raise BackupProblem(f"{file} is damaged: {wrong[0]} isn't as its manifest says ({len(wrong)} such files)")


def _forget_missing(database: str, runs: Path) -> int:
    """Conversations whose run isn't whole here begin anew when somebody asks them to go on."""
    store = Store.open(database)
    columns = THREADS.c
    try:
        with writing(store.engine) as connection:
            rows = connection.execute(
                sa.select(columns.repository_id, columns.number, columns.run).where(columns.run.is_not(None))
            ).all()
            gone = [row for row in rows if not _whole(runs, row.repository_id, row.number, row.run)]
            for row in gone:
                which = sa.and_(columns.repository_id == row.repository_id, columns.number == row.number)
                connection.execute(sa.update(THREADS).where(which).values(run=None))
    finally:
        store.close()
    return len(gone)


def _whole(runs: Path, repository: int, number: int, run: str) -> bool:
    return any((one / run / "repository.git" / "HEAD").is_file() for one in runs.glob(f"{repository}-{number}-*"))
