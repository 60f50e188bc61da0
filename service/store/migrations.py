"""The steps from an empty database to the newest schema. A step is never changed once it was released: add one.

Each runs in a transaction of its own together with its number in `schema_version`, so a killed upgrade goes on where
it was. Steps only add: the program of the step before keeps working beside it, so that a service of several processes
can be upgraded one at a time. Left out: ways back; a backup is the way back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from service.store.engine import StoreError, writing

Step = Sequence[str]

FIRST: Final[Step] = (
    """CREATE TABLE deliveries (
        guid TEXT PRIMARY KEY, event TEXT NOT NULL, action TEXT NOT NULL, repository_id BIGINT NOT NULL,
        object_kind TEXT NOT NULL, object_id BIGINT NOT NULL, object_version TEXT NOT NULL,
        takes_back BOOLEAN NOT NULL, request TEXT, received TEXT NOT NULL)""",
    "CREATE INDEX deliveries_object ON deliveries (repository_id, object_kind, object_id)",
    "CREATE INDEX deliveries_received ON deliveries (received)",
    """CREATE TABLE requests (
        seq {serial}, id TEXT NOT NULL UNIQUE, repository_id BIGINT NOT NULL, slug TEXT NOT NULL,
        installation BIGINT, number BIGINT NOT NULL, kind TEXT NOT NULL, wish TEXT NOT NULL,
        object_kind TEXT NOT NULL, object_id BIGINT NOT NULL, object_version TEXT NOT NULL, at TEXT NOT NULL,
        asked_by BIGINT, asked_by_login TEXT NOT NULL, asked_by_bot BOOLEAN NOT NULL,
        state TEXT NOT NULL, why TEXT NOT NULL, run TEXT, pull BIGINT,
        created TEXT NOT NULL, changed TEXT NOT NULL, ended TEXT,
        UNIQUE (repository_id, object_kind, object_id, object_version, kind))""",
    "CREATE INDEX requests_state ON requests (state, seq)",
    "CREATE INDEX requests_thread ON requests (repository_id, number)",
    """CREATE TABLE threads (
        repository_id BIGINT NOT NULL, number BIGINT NOT NULL, slug TEXT NOT NULL, run TEXT, branch TEXT, pull BIGINT,
        status_comment BIGINT, helped BOOLEAN NOT NULL, changed TEXT NOT NULL, PRIMARY KEY (repository_id, number))""",
    """CREATE TABLE api_tokens (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, hash TEXT NOT NULL, scopes TEXT NOT NULL, created TEXT NOT NULL,
        expires TEXT, revoked TEXT)""",
    """CREATE TABLE audit (
        seq {serial}, at TEXT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, about TEXT NOT NULL,
        data TEXT NOT NULL)""",
)
THREADS_WORKED_ON: Final[Step] = (
    "ALTER TABLE threads ADD COLUMN attempt BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE threads ADD COLUMN head TEXT",
    "ALTER TABLE threads ADD COLUMN asked_by TEXT",
    "ALTER TABLE threads ADD COLUMN checks_followed BIGINT NOT NULL DEFAULT 0",
    "CREATE INDEX threads_pull ON threads (repository_id, pull)",
)
SESSIONS: Final[Step] = (
    "CREATE TABLE sessions (hash TEXT PRIMARY KEY, token TEXT NOT NULL, created TEXT NOT NULL, seen TEXT NOT NULL)",
    "CREATE TABLE tickets (hash TEXT PRIMARY KEY, token TEXT NOT NULL, created TEXT NOT NULL)",
)
CARRIED_RUNS: Final[Step] = (
    "CREATE TABLE carried (folder TEXT PRIMARY KEY, run TEXT NOT NULL, owner TEXT NOT NULL, changed TEXT NOT NULL)",
    """CREATE TABLE run_parts (folder TEXT NOT NULL, name TEXT NOT NULL, part BIGINT NOT NULL, data {bytes} NOT NULL,
        PRIMARY KEY (folder, name, part))""",
)
STEPS: Final[tuple[Step, ...]] = (FIRST, THREADS_WORKED_ON, SESSIONS, CARRIED_RUNS)
_BYTES: Final = {"sqlite": "BLOB", "postgresql": "BYTEA"}
_SERIAL: Final = {"sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT", "postgresql": "SERIAL PRIMARY KEY"}


class SchemaTooNew(StoreError):
    """A newer program has been here."""


def version_of(connection: sa.Connection) -> int:
    """The schema's version; 0 for an empty database."""
    if not sa.inspect(connection).has_table("schema_version"):
        return 0
    found = connection.execute(sa.text("SELECT max(version) FROM schema_version")).scalar()
    return int(found or 0)


def migrate(engine: sa.Engine, steps: Sequence[Step] = STEPS) -> int:
    """Brings the schema to the newest version and gives it. Several processes may do so at once.

    Raises SchemaTooNew.
    """
    serial, kind_of_bytes = _SERIAL[engine.dialect.name], _BYTES[engine.dialect.name]
    while True:
        with writing(engine) as connection:
            version = version_of(connection)
            if version > len(steps):
                raise SchemaTooNew(
                    f"the database has schema {version} and this program knows {len(steps)} at most; "
                    "upgrade the program, or restore the backup from before the upgrade"
                )
            if version == len(steps):
                return version
            if version == 0:
                connection.execute(sa.text("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY)"))
            for statement in steps[version]:
                connection.execute(sa.text(statement.format(serial=serial, bytes=kind_of_bytes)))
            connection.execute(sa.text("INSERT INTO schema_version VALUES (:version)"), {"version": version + 1})
