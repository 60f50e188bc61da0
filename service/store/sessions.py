"""Sessions of people who look at the dashboard, and tickets that begin one. Both are random, and kept as hashes only.

A session stands for an API token and ends with it, after a week in which nobody came, and after 30 days in any case.
Left out: cookies and forms (`service.dashboard.access`).
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from agent.forges.base import Secret
from service.store.engine import reading, writing
from service.store.receiving import now
from service.store.store import Store
from service.store.tables import API_TOKENS, SESSIONS, TICKETS
from service.store.tokens import ApiToken, valid

IDLE: Final = timedelta(days=7)
LONGEST: Final = timedelta(days=30)
TICKET: Final = timedelta(minutes=10)
_NOTED: Final = timedelta(hours=1)  # how stale `seen` may be, so that looking seldom writes
_S = SESSIONS.c


def begin_session(store: Store, token: str) -> Secret:
    """A new session for the token with this id; the only time that it is seen. Old sessions are cleared away."""
    made, moment = secrets.token_urlsafe(32), now()
    over = sa.or_(_S.seen < _ago(IDLE), _S.created < _ago(LONGEST))
    with writing(store.engine) as connection:
        connection.execute(sa.delete(SESSIONS).where(over))
        row = {"hash": _hash(made), "token": token, "created": moment, "seen": moment}
        connection.execute(sa.insert(SESSIONS), row)
    return Secret(made)


def check_session(store: Store, given: str) -> ApiToken | None:
    """The token that a session stands for, if both are still valid. Notes that somebody came."""
    joined = sa.select(API_TOKENS, _S.seen).join(SESSIONS, _S.token == API_TOKENS.c.id)
    mine = _S.hash == _hash(given)
    with reading(store.engine) as connection:
        row = connection.execute(joined.where(mine, _S.seen >= _ago(IDLE), _S.created >= _ago(LONGEST))).first()
    if row is None:
        return None
    if row.seen < _ago(_NOTED):
        with writing(store.engine) as connection:
            connection.execute(sa.update(SESSIONS).where(mine).values(seen=now()))
    return valid(row._mapping)


def end_session(store: Store, given: str) -> None:
    with writing(store.engine) as connection:
        connection.execute(sa.delete(SESSIONS).where(_S.hash == _hash(given)))


def make_ticket(store: Store, token: str) -> Secret:
    """What begins one session for the token with this id, within ten minutes."""
    made = secrets.token_urlsafe(32)
    with writing(store.engine) as connection:
        connection.execute(sa.delete(TICKETS).where(TICKETS.c.created < _ago(TICKET)))
        connection.execute(sa.insert(TICKETS), {"hash": _hash(made), "token": token, "created": now()})
    return Secret(made)


def use_ticket(store: Store, given: str) -> ApiToken | None:
    """The token that a ticket stands for; the ticket is gone then. None for one that is used up, too old, or none."""
    mine = sa.and_(TICKETS.c.hash == _hash(given), TICKETS.c.created >= _ago(TICKET))
    joined = sa.select(API_TOKENS).join(TICKETS, TICKETS.c.token == API_TOKENS.c.id)
    with writing(store.engine) as connection:
        row = connection.execute(joined.where(mine)).first()
        connection.execute(sa.delete(TICKETS).where(TICKETS.c.hash == _hash(given)))
    return valid(row._mapping) if row else None


def _hash(given: str) -> str:
    return hashlib.sha256(given.encode("utf-8", "replace")).hexdigest()  # 256 random bits need no salt


def _ago(time: timedelta) -> str:
    return (datetime.now(UTC) - time).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
