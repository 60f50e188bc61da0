"""The tables as queries see them. What makes them are the migrations; a test holds the two against each other.

Times are text in UTC, of equal length within a column, so that text compares as time does.
"""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()
_BIG = sa.BigInteger

DELIVERIES = sa.Table(
    "deliveries",
    METADATA,
    sa.Column("guid", sa.Text, primary_key=True),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("repository_id", _BIG, nullable=False),
    sa.Column("object_kind", sa.Text, nullable=False),
    sa.Column("object_id", _BIG, nullable=False),
    sa.Column("object_version", sa.Text, nullable=False),
    sa.Column("takes_back", sa.Boolean, nullable=False),
    sa.Column("request", sa.Text),
    sa.Column("received", sa.Text, nullable=False),
)

REQUESTS = sa.Table(
    "requests",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("repository_id", _BIG, nullable=False),
    sa.Column("slug", sa.Text, nullable=False),
    sa.Column("installation", _BIG),
    sa.Column("number", _BIG, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("wish", sa.Text, nullable=False),
    sa.Column("object_kind", sa.Text, nullable=False),
    sa.Column("object_id", _BIG, nullable=False),
    sa.Column("object_version", sa.Text, nullable=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("asked_by", _BIG),
    sa.Column("asked_by_login", sa.Text, nullable=False),
    sa.Column("asked_by_bot", sa.Boolean, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("run", sa.Text),
    sa.Column("pull", _BIG),
    sa.Column("created", sa.Text, nullable=False),
    sa.Column("changed", sa.Text, nullable=False),
    sa.Column("ended", sa.Text),
)

THREADS = sa.Table(
    "threads",
    METADATA,
    sa.Column("repository_id", _BIG, primary_key=True),
    sa.Column("number", _BIG, primary_key=True),
    sa.Column("slug", sa.Text, nullable=False),
    sa.Column("run", sa.Text),
    sa.Column("branch", sa.Text),
    sa.Column("pull", _BIG),
    sa.Column("status_comment", _BIG),
    sa.Column("helped", sa.Boolean, nullable=False),
    sa.Column("changed", sa.Text, nullable=False),
    sa.Column("attempt", _BIG, nullable=False),
    sa.Column("head", sa.Text),
    sa.Column("asked_by", sa.Text),
    sa.Column("checks_followed", _BIG, nullable=False),
)

API_TOKENS = sa.Table(
    "api_tokens",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("created", sa.Text, nullable=False),
    sa.Column("expires", sa.Text),
    sa.Column("revoked", sa.Text),
)

SESSIONS = sa.Table(
    "sessions",
    METADATA,
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("token", sa.Text, nullable=False),
    sa.Column("created", sa.Text, nullable=False),
    sa.Column("seen", sa.Text, nullable=False),
)

TICKETS = sa.Table(
    "tickets",
    METADATA,
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("token", sa.Text, nullable=False),
    sa.Column("created", sa.Text, nullable=False),
)

CARRIED = sa.Table(
    "carried",
    METADATA,
    sa.Column("folder", sa.Text, primary_key=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("changed", sa.Text, nullable=False),
)

RUN_PARTS = sa.Table(
    "run_parts",
    METADATA,
    sa.Column("folder", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("part", _BIG, primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)

AUDIT = sa.Table(
    "audit",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("about", sa.Text, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
)
