"""Databases of every released schema open, with what is in them; a newer one than the program's is refused."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.store import SchemaTooNew, State, Store, StoreError
from service.store.engine import open_engine
from service.store.migrations import FIRST, STEPS, migrate
from service.store.tables import METADATA
from service.store.tokens import check_token
from service.webhooks import Wish, WishKind

pytestmark = pytest.mark.heavy

FIXTURES = Path(__file__).parent / "fixtures"


def written_by(schema: int, folder: Path) -> str:
    """A database that a program with that schema wrote, as it was."""
    with sqlite3.connect(folder / "old.sqlite") as connection:
        connection.executescript((FIXTURES / f"schema_{schema}.sql").read_text())
    connection.close()
    return f"sqlite:///{folder}/old.sqlite"


@pytest.fixture
def schema_1(tmp_path: Path) -> str:
    return written_by(1, tmp_path)


@pytest.mark.parametrize("schema", range(1, len(STEPS) + 1))
def test_a_database_of_every_schema_opens_with_all_that_is_in_it(schema: int, tmp_path: Path) -> None:
    store = Store.open(written_by(schema, tmp_path))
    assert store.schema() == len(STEPS)
    label, ended = store.of_thread(7001, 17)
    assert (label.wish, label.state, label.run) == (Wish(WishKind.FIX, 17), State.RUNNING, "run-1")
    assert (ended.wish.kind, ended.state) == (WishKind.CLOSED, State.WAITING)
    assert [one.id for one in store.to_end(ended)] == [label.id]
    thread = store.thread(7001, 17)
    assert thread is not None
    assert (thread.branch, thread.status_comment) == ("patchwright/17-totals", 550099)
    assert (thread.attempt, thread.asked_by) == ((2, "mia") if schema > 1 else (0, None))
    assert store.notes()[0]["what"] == "submitted"
    token = check_token(store, "pw_00112233aabb_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
    assert token is not None
    assert token.scopes == {"runs:read"}
    store.close()


def test_a_step_adds_to_what_is_there(schema_1: str) -> None:
    engine = open_engine(schema_1)
    steps = (FIRST, ("ALTER TABLE threads ADD COLUMN color TEXT", "UPDATE threads SET color = 'red'"))
    assert migrate(engine, steps) == 2
    assert migrate(engine, steps) == 2
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT branch, color FROM threads")).one() == (
            "patchwright/17-totals",
            "red",
        )
    engine.dispose()
    with pytest.raises(SchemaTooNew, match="has schema 2 and this program knows 1"):
        migrate(engine, (FIRST,))
    engine.dispose()


def test_a_step_that_fails_changes_nothing(database: str) -> None:
    engine = open_engine(database)
    migrate(engine)
    with pytest.raises(sa.exc.DBAPIError):
        migrate(engine, (*STEPS, ("CREATE TABLE half (a TEXT)", "INSERT INTO nowhere VALUES (1)")))
    assert not sa.inspect(engine).has_table("half")
    assert migrate(engine) == len(STEPS)
    engine.dispose()


def test_the_migrations_make_what_the_queries_expect(database: str) -> None:
    store = Store.open(database)
    seen = sa.inspect(store.engine)
    assert set(seen.get_table_names()) == {*METADATA.tables, "schema_version"}
    for name, table in METADATA.tables.items():
        made = {column["name"]: column["nullable"] for column in seen.get_columns(name)}
        keys = set(seen.get_pk_constraint(name)["constrained_columns"])
        assert set(made) == set(table.columns.keys())
        assert keys == set(table.primary_key.columns.keys())
        for column in table.columns:
            assert column.primary_key or made[column.name] == column.nullable, f"{name}.{column.name}"
    store.close()


def test_several_processes_may_open_an_empty_database_at_once(database: str) -> None:
    problems: list[BaseException] = []

    def opens() -> None:
        try:
            Store.open(database).close()
        except Exception as problem:  # noqa: BLE001
            problems.append(problem)

    threads = [threading.Thread(target=opens) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/x"])
def test_what_doesnt_last_or_isnt_known_is_refused(url: str) -> None:
    with pytest.raises(StoreError):
        Store.open(url)
