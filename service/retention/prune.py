"""Everything that is older than is kept, forgotten: by `agent service prune`, and once a day by the service itself.

Safe while the service works, and to be killed at any point: what is left is found by the next. Left out: what single
kinds of things are (`service.retention.rows`, `service.retention.folders`).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from agent.jobs import Jobs, JobsError
from service.environment import Environment, SettingsProblem
from service.retention.folders import Removed, prune_mirrors, prune_runs
from service.retention.rows import prune_rows, text_of
from service.store import ACTIVE, Store, StoreUnavailable
from service.store.engine import writing
from service.store.receiving import now as now_text
from service.store.tables import AUDIT
from service.telemetry.logs import tell

KEEP_DAYS: Final = 90
_PRUNED: Final = "pruned"
_DAY: Final = timedelta(days=1)
_LOOK_EVERY: Final = 1800.0  # seconds between two looks whether a day has passed
_AGE: Final = re.compile(r"(\d{1,5})([hdw])", re.ASCII)
_UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went, or would go: folders with their sizes, and rows by kind."""

    folders: tuple[Removed, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.folders)

    def to_json(self) -> dict[str, Any]:
        folders = [{"what": one.what, "name": one.name, "bytes": one.bytes} for one in self.folders]
        return {"folders": folders, "rows": dict(self.rows), "bytes": self.bytes}


def age(text: str) -> timedelta:
    """`90d`, `12h`, `4w`. Raises ValueError."""
    form = _AGE.fullmatch(text.strip())
    if form is None:
        raise ValueError(f"{text!r} is no age: give hours, days or weeks, such as 12h, 90d or 4w")
    return int(form[1]) * _UNITS[form[2]]


def kept_for(environment: Mapping[str, str]) -> timedelta | None:
    """How long the service keeps things by itself; None: for ever. Raises SettingsProblem."""
    days = Environment(environment).number("PATCHWRIGHT_KEEP_DAYS", KEEP_DAYS)
    if days > 36500:
        raise SettingsProblem(f"PATCHWRIGHT_KEEP_DAYS is {days}; give 0 to keep everything")
    return timedelta(days=days) if days else None


async def prune(
    store: Store, jobs: Jobs, folder: Path, older_than: timedelta, *, keep: int | None = None, dry_run: bool = False
) -> Pruned:
    """Of the database, and of this machine's `folder` of runs and mirrors. Raises StoreUnavailable, JobsError."""
    folders = await asyncio.to_thread(prune_folders, store, folder, older_than, keep, dry_run=dry_run)
    return Pruned(tuple(folders), await _rows(store, jobs, older_than, dry_run=dry_run))


def prune_folders(
    store: Store, folder: Path, older_than: timedelta, keep: int | None = None, *, dry_run: bool = False
) -> list[Removed]:
    before = (datetime.now(UTC) - older_than).timestamp()
    runs = prune_runs(store, folder / "runs", before, keep, dry_run=dry_run)
    return runs + prune_mirrors(store, folder / "mirrors", before, dry_run=dry_run)


async def _rows(store: Store, jobs: Jobs, older_than: timedelta, *, dry_run: bool) -> dict[str, int]:
    now = datetime.now(UTC)
    rows = await asyncio.to_thread(lambda: prune_rows(store, now - older_than, now, dry_run=dry_run))
    active = {one.id for one in await asyncio.to_thread(store.in_state, ACTIVE)}
    ended = await jobs.forget_ended((now - older_than).timestamp(), active, dry_run=dry_run)
    return {**rows, "jobs": ended}


async def daily(store: Store, jobs: Jobs, folder: Path, older_than: timedelta, machine: str) -> None:
    """Once a day, until it is cancelled: one process for the database, and one of each machine for its folders."""
    while True:
        try:
            if await asyncio.to_thread(elected, store, f"folders of {machine}"):
                gone = await asyncio.to_thread(prune_folders, store, folder, older_than)
                freed = Pruned(tuple(gone))
                tell(logging.INFO, "pruned", f"{len(gone)} folders went", folders=len(gone), bytes=freed.bytes)
            if await asyncio.to_thread(elected, store, "rows"):
                rows = await _rows(store, jobs, older_than, dry_run=False)
                tell(logging.INFO, "pruned", f"{sum(rows.values())} rows went", rows=str(rows))
        except (StoreUnavailable, JobsError, OSError, sa.exc.SQLAlchemyError) as problem:
            tell(logging.WARNING, "prune failed", f"what is old stays until tomorrow: {problem}")
        await asyncio.sleep(_LOOK_EVERY)


def elected(store: Store, what: str, every: timedelta = _DAY) -> bool:
    """Whether this process is the one that does it now: the first that asks after a day has passed."""
    columns = AUDIT.c
    mine = sa.and_(columns.what == _PRUNED, columns.about == what)
    recent = sa.select(columns.seq).where(mine, columns.at > text_of(datetime.now(UTC) - every)).limit(1)
    row = {"at": now_text(), "who": "service", "what": _PRUNED, "about": what, "data": "{}"}
    with writing(store.engine) as connection:
        if connection.execute(recent).first() is not None:
            return False
        connection.execute(sa.delete(AUDIT).where(mine))
        connection.execute(sa.insert(AUDIT), row)
        return True
