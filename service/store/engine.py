"""The connection to SQLite or Postgres, and transactions that write: one at a time, durable when they end.

Left out: what is written. Waiting for a database that is gone is the callers', too.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

_BUSY_SECONDS: Final = 10
_LOOK_SECONDS: Final = 0.002  # between two looks whether another process has written by now
_LOCK: Final = 0x70617463  # of an advisory lock of Postgres: who writes requests. The application's own number
_WRITES: Final = "patchwright_writes"
_SQLITE_OUTAGES: Final = frozenset({"BUSY", "LOCKED", "IOERR", "CANTOPEN", "FULL", "READONLY"})


class StoreError(Exception):
    """Something about the service's database."""


class StoreUnavailable(StoreError):
    """The database didn't answer; the same may succeed later."""


def open_engine(url: str) -> sa.Engine:
    """Opens `sqlite:///PATH` or `postgresql://...`. Raises StoreError for another kind of database."""
    found = sa.make_url(url)
    if found.get_backend_name() == "sqlite":
        return _sqlite(found)
    if found.get_backend_name() == "postgresql":
        return _postgres(found)
    raise StoreError(f"a database of kind {found.get_backend_name()!r}: give sqlite:///PATH or postgresql://...")


def _sqlite(url: sa.URL) -> sa.Engine:
    if not url.database or url.database == ":memory:":
        raise StoreError("requests have to outlive the process: give SQLite a file, sqlite:///PATH")
    file = Path(url.database)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)  # private issues' words are in it; SQLite gives its other files the same rights
    engine = sa.create_engine(url, connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def opened(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the module would begin transactions late and by itself
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # a commit is on the disk: an answer may follow
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begun(connection: sa.Connection) -> None:
        # a transaction that reads first and then writes would fail if another wrote in between
        if connection.get_execution_options().get(_WRITES):
            _begin_to_write(connection.connection.dbapi_connection)
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def _begin_to_write(connection: Any) -> None:
    """SQLite itself looks again after pauses of up to 0.1 s while another process writes: long for an answer."""
    until = time.monotonic() + _BUSY_SECONDS
    connection.execute("PRAGMA busy_timeout=0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise OperationalError("BEGIN IMMEDIATE", None, error) from error
                time.sleep(_LOOK_SECONDS)
    finally:
        connection.execute(f"PRAGMA busy_timeout={_BUSY_SECONDS * 1000}")


def checkpoint_aside(engine: sa.Engine) -> None:
    """From now on no commit of this process waits until the write-ahead log is put back into the database.

    Whoever says so calls `checkpoint` now and then, or the log grows. Nothing changes on Postgres.
    """
    if engine.dialect.name != "sqlite":
        return

    @sa.event.listens_for(engine, "connect")
    def opened(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA wal_autocheckpoint=0").close()

    engine.dispose()


def checkpoint(engine: sa.Engine) -> None:
    """Puts back what nobody reads or writes at the moment; holds nobody up. Raises StoreUnavailable."""
    if engine.dialect.name != "sqlite":
        return
    with _reachable(engine):
        connection = engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)").close()
        except sqlite3.OperationalError as error:  # it comes from below SQLAlchemy
            raise _unavailable(engine, error) from error
        finally:
            connection.close()


def _postgres(url: sa.URL) -> sa.Engine:
    timeouts = f"-c lock_timeout={_BUSY_SECONDS}s -c idle_in_transaction_session_timeout=60s"
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        connect_args={"connect_timeout": _BUSY_SECONDS, "options": timeouts},
    )


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction in which nobody else writes: what it reads stays true until it ends.

    Raises StoreUnavailable when the database didn't answer.
    """
    with _reachable(engine), engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        yield connection


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that only reads. Raises StoreUnavailable."""
    with _reachable(engine), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def _reachable(engine: sa.Engine) -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise _unavailable(engine, error) from error
    except DBAPIError as error:
        if _is_outage(error):
            raise _unavailable(engine, error) from error
        raise


def _is_outage(error: DBAPIError) -> bool:
    """Whether trying again can help. SQLite reports mistakes in a statement as the same kind of error."""
    name = getattr(error.orig, "sqlite_errorname", None)
    if name is not None:
        return str(name).removeprefix("SQLITE_").split("_")[0] in _SQLITE_OUTAGES
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)


def _unavailable(engine: sa.Engine, error: Exception) -> StoreUnavailable:
    where = engine.url.render_as_string(hide_password=True)
    said = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
    return StoreUnavailable(
        f"the service's database {where} doesn't answer ({said}); look whether it is up, then retry"
    )
