"""How the web process writes to SQLite: no commit waits for a checkpoint, and a writer elsewhere is waited for."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store import Store, StoreUnavailable
from service.store.engine import checkpoint, checkpoint_aside

TEXT = {"text": "x" * 100_000}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "service.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{file}")
    yield opened
    opened.close()


def test_commits_leave_the_log_to_a_checkpoint_of_its_own(store: Store, file: Path) -> None:
    checkpoint_aside(store.engine)
    checkpoint(store.engine)
    before = file.stat().st_size
    for _ in range(60):  # some fifteen hundred pages
        store.note("ann", "writes", "much", TEXT)
    assert file.stat().st_size == before
    checkpoint(store.engine)
    assert file.stat().st_size > before + 5_000_000
    assert len(store.notes(100)) == 60


def test_who_writes_elsewhere_is_waited_for(store: Store, file: Path) -> None:
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    noted = threading.Thread(target=store.note, args=("ann", "writes", "later"))
    noted.start()
    assert store.notes() == []  # readers don't wait
    other.execute("COMMIT")
    noted.join(60)
    assert [one["about"] for one in store.notes()] == ["later"]
    other.close()


def test_a_writer_that_never_ends_makes_the_database_unavailable(
    store: Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.engine._BUSY_SECONDS", 0)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="database is locked"):
        store.note("ann", "writes", "never")
    other.execute("COMMIT")
    other.close()
