"""What the database forgets: deliveries, what ended requests said, sessions, counted runs. In batches, each a short
transaction, so that deliveries that come in meanwhile don't wait.

A request's row stays for ever, with what makes its id: a delivery that comes again after years is known by it. Left
out: folders (`service.retention.folders`), and the queue's own rows (`agent.jobs`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from service.store import ACTIVE, Store
from service.store.engine import reading, writing
from service.store.model import wish_from_json, wish_to_json
from service.store.sessions import IDLE, LONGEST, TICKET
from service.store.tables import AUDIT, DELIVERIES, REQUESTS, SESSIONS, THREADS, TICKETS
from service.telemetry.ended import RUN_ENDED

REDELIVERY: Final = timedelta(days=30)
"""GitHub delivers again for three days; a person with a copy, for longer. Then a delivery is known by its request."""
BATCH: Final = 500
_MOST_BATCHES: Final = 2000
_R: Final = REQUESTS.c
_D: Final = DELIVERIES.c


def text_of(moment: datetime) -> str:
    """As times are kept."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def prune_rows(store: Store, before: datetime, now: datetime, *, dry_run: bool = False) -> dict[str, int]:
    """How many rows of each kind went, or would go. Raises StoreUnavailable; what went before then is gone."""
    old, redelivery = text_of(before), text_of(min(before, now - REDELIVERY))
    idle, longest = text_of(now - IDLE), text_of(now - LONGEST)
    counts = {
        "deliveries": _delete(store, DELIVERIES, _D.guid, _D.received < redelivery, dry_run),
        "counted runs": _delete(
            store, AUDIT, AUDIT.c.seq, sa.and_(AUDIT.c.what == RUN_ENDED, AUDIT.c.at < old), dry_run
        ),
        "sessions": _delete(
            store, SESSIONS, SESSIONS.c.hash, sa.or_(SESSIONS.c.seen < idle, SESSIONS.c.created < longest), dry_run
        ),
        "tickets": _delete(store, TICKETS, TICKETS.c.hash, TICKETS.c.created < text_of(now - TICKET), dry_run),
    }
    carried = prune_carried(store, old, dry_run=dry_run)
    return {**counts, "carried runs": carried, "details of requests": _scrub(store, old, dry_run)}


def prune_carried(store: Store, before: str, *, dry_run: bool = False) -> int:
    """Runs that are kept in the database for machines that share no disk; their conversations begin anew then."""
    if not sa.inspect(store.engine).has_table("carried"):
        return 0
    query = sa.text("SELECT folder, run FROM carried WHERE changed < :before ORDER BY folder")
    with reading(store.engine) as connection:
        found = [(str(row.folder), str(row.run)) for row in connection.execute(query, {"before": before})]
    return sum(_forget_carried(store, folder, run, before, dry_run=dry_run) for folder, run in found)


def _forget_carried(store: Store, folder: str, run: str, before: str, *, dry_run: bool) -> bool:
    """Whether it goes: not while anything asks for it."""
    repository, number = (int(part) for part in folder.split("-")[:2])
    told = {"folder": folder, "before": before}
    with writing(store.engine) as connection:
        which = sa.and_(THREADS.c.repository_id == repository, THREADS.c.number == number)
        pull = connection.execute(sa.select(THREADS.c.pull).where(which)).scalar()
        numbers = [number, *([pull] if pull else [])]
        asked = sa.and_(_R.repository_id == repository, _R.number.in_(numbers))
        active = asked & _R.state.in_([state.value for state in ACTIVE])
        if connection.execute(sa.select(_R.seq).where(active).limit(1)).first() is not None:
            return False
        if dry_run:
            return True
        gone = connection.execute(
            sa.text("DELETE FROM carried WHERE folder = :folder AND changed < :before"), told
        ).rowcount
        if gone:
            connection.execute(sa.text("DELETE FROM run_parts WHERE folder = :folder"), {"folder": folder})
            connection.execute(sa.update(THREADS).where(which, THREADS.c.run == run).values(run=None))
        return bool(gone)


def _delete(store: Store, table: sa.Table, key: sa.Column[Any], where: sa.ColumnElement[bool], dry_run: bool) -> int:
    if dry_run:
        return _count(store, table, where)
    some = sa.select(key).where(where).limit(BATCH)
    return _batches(store, lambda connection: connection.execute(sa.delete(table).where(key.in_(some))).rowcount)


def _scrub(store: Store, before: str, dry_run: bool) -> int:
    """Takes people's words out of requests that ended: what was said to the bot, and why it ended as it did."""
    says = sa.or_(_R.why != "", _R.wish.not_like('%"text": ""%'))
    where = sa.and_(_R.state.not_in([state.value for state in ACTIVE]), _R.ended < before, says)
    if dry_run:
        return _count(store, REQUESTS, where)

    def some(connection: sa.Connection) -> int:
        rows = connection.execute(sa.select(_R.seq, _R.wish).where(where).limit(BATCH)).all()
        for row in rows:
            found = wish_from_json(row.wish)
            kept = wish_to_json(type(found)(**{**_fields(found), "text": ""}))
            connection.execute(sa.update(REQUESTS).where(_R.seq == row.seq).values(wish=kept, why=""))
        return len(rows)

    return _batches(store, some)


def _fields(wish: Any) -> dict[str, Any]:
    return {name: getattr(wish, name) for name in wish.__slots__}


def _batches(store: Store, some: Callable[[sa.Connection], int]) -> int:
    total = 0
    for _ in range(_MOST_BATCHES):
        with writing(store.engine) as connection:
            count = some(connection)
        total += count
        if count < BATCH:
            break
    return total


def _count(store: Store, table: sa.Table, where: sa.ColumnElement[bool]) -> int:
    with reading(store.engine) as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(where)).scalar() or 0)
