"""Folders that are older than is kept: of runs that ended, and mirrors that nobody used.

The conversation forgets its run before the folder goes, so whoever is killed between the two leaves a folder that the
next prune finds, and never a conversation whose run is gone. A folder leaves its place by one rename. Left out: rows
(`service.retention.rows`), and what sandboxes left (`sandbox.leftovers`).
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from sandbox.leftovers import folder_bytes
from sandbox.scratch import remove_folder
from service.store import ACTIVE, Store
from service.store.engine import writing
from service.store.receiving import now
from service.store.tables import REQUESTS, THREADS
from service.webhooks.model import ASKS_FOR_WORK, WishKind

_NAME: Final = re.compile(r"(\d{1,19})-(\d{1,19})-(\d{1,9})", re.ASCII)
_LEAVING: Final = ".leaving"
_R: Final = REQUESTS.c
_T: Final = THREADS.c


@dataclass(frozen=True, slots=True)
class Removed:
    """A folder that went, or would go."""

    what: str  # runs, mirrors
    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class _Attempt:
    """The folder of an attempt at an issue. `used`: when its run wrote something last, seconds since the epoch."""

    path: Path
    repository: int
    number: int
    used: float


def prune_runs(store: Store, runs: Path, before: float, keep: int | None, *, dry_run: bool = False) -> list[Removed]:
    """Removes what was last used before a time, and beyond the newest `keep` of a repository what isn't needed.

    Runs of requests that wait or go on stay; younger than `before`, so does the last run of a conversation that isn't
    closed. Raises StoreUnavailable.
    """
    if not dry_run:
        _clear(runs)
    found = sorted(_attempts(runs), key=lambda one: (one.used, one.path.name), reverse=True)
    seen: dict[int, int] = {}
    removed = []
    for one in found:
        seen[one.repository] = place = seen.get(one.repository, 0) + 1
        old, too_many = one.used < before, keep is not None and place > keep
        if (old or too_many) and _may_go(store, one, even_last=old, dry_run=dry_run) and not _in_use(one.path):
            removed.append(Removed("runs", one.path.name, folder_bytes(one.path)))
            if not dry_run:
                _remove(one.path, runs)
    return removed


def prune_mirrors(store: Store, mirrors: Path, before: float, *, dry_run: bool = False) -> list[Removed]:
    """Removes copies of repositories that nothing was fetched into since; they are made again where they are needed."""
    if not dry_run:
        _clear(mirrors)
    removed = []
    for bare in sorted(mirrors.glob("*.git")):
        if not bare.stem.isdigit() or _last_used(bare, ("FETCH_HEAD", "HEAD", "refs", "objects")) >= before:
            continue
        size = folder_bytes(bare)  # before the transaction, which all who write wait for
        with _held(mirrors / f"{bare.stem}.lock") as mine, writing(store.engine) as connection:
            active = sa.select(_R.seq).where(_R.repository_id == int(bare.stem), _is_active()).limit(1)
            if not mine or connection.execute(active).first() is not None:
                continue
            removed.append(Removed("mirrors", bare.name, size))
            if not dry_run:
                _leave(bare, mirrors)
    if not dry_run:
        _clear(mirrors)
    return removed


def _attempts(runs: Path) -> Iterator[_Attempt]:
    for path in runs.iterdir() if runs.is_dir() else ():
        form = _NAME.fullmatch(path.name)
        if form and path.is_dir() and not path.is_symlink():
            logs = [str(log.relative_to(path)) for log in path.glob("*/events.jsonl")]
            yield _Attempt(path, int(form[1]), int(form[2]), _last_used(path, logs or ["."]))


def _last_used(folder: Path, names: list[str] | tuple[str, ...]) -> float:
    times = [0.0]
    for name in names:
        try:
            times.append((folder / name).stat().st_mtime)
        except OSError:
            continue
    return max(times)


def _is_active() -> sa.ColumnElement[bool]:
    return _R.state.in_([state.value for state in ACTIVE])


def _may_go(store: Store, one: _Attempt, *, even_last: bool, dry_run: bool) -> bool:
    """Whether nothing needs it; then its conversation has forgotten it, before anybody else could ask for it."""
    with writing(store.engine) as connection:
        which = sa.and_(_T.repository_id == one.repository, _T.number == one.number)
        thread = connection.execute(sa.select(_T.run, _T.pull).where(which)).first()
        numbers = [one.number, *([thread.pull] if thread and thread.pull else [])]
        asked = sa.and_(_R.repository_id == one.repository, _R.number.in_(numbers))
        if connection.execute(sa.select(_R.seq).where(asked, _is_active()).limit(1)).first() is not None:
            return False
        last = thread is not None and bool(thread.run) and (one.path / thread.run).is_dir()
        if last and not even_last and not _closed(connection, asked):
            return False
        if last and not dry_run:
            connection.execute(sa.update(THREADS).where(which).values(run=None, changed=now()))
        return True


def _closed(connection: sa.Connection, asked: sa.ColumnElement[bool]) -> bool:
    """Whether the issue or our pull request was closed, and nothing asked for since."""

    def newest(kinds: list[str]) -> str:
        return str(connection.execute(sa.select(sa.func.max(_R.at)).where(asked, _R.kind.in_(kinds))).scalar() or "")

    closed = newest([WishKind.CLOSED.value])
    return bool(closed) and closed >= newest([kind.value for kind in ASKS_FOR_WORK])


def _in_use(attempt: Path) -> bool:
    """Whether a process has a log of it open: a request that was stopped is still being put away."""
    for log in attempt.glob("*/events.jsonl"):
        with _held(log, make=False) as mine:
            if not mine:
                return True
    return False


@contextmanager
def _held(file: Path, *, make: bool = True) -> Iterator[bool]:
    """Whether the file's lock could be had at once; it is held meanwhile."""
    try:
        lock = os.open(file, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0), 0o600)
    except FileNotFoundError:
        yield True
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(lock)


def _remove(path: Path, among: Path) -> None:
    _leave(path, among)
    _clear(among)


def _leave(path: Path, among: Path) -> None:
    leaving = among / _LEAVING
    leaving.mkdir(exist_ok=True, mode=0o700)
    try:
        path.rename(leaving / f"{path.name}-{secrets.token_hex(4)}")
    except FileNotFoundError:  # another machine that shares the folder was quicker
        return


def _clear(among: Path) -> None:
    """Also what an earlier prune was killed over."""
    leaving = among / _LEAVING
    for path in leaving.iterdir() if leaving.is_dir() else ():
        remove_folder(path)
