"""Databases for the service's tests, on SQLite and, marked so, on a Postgres of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store import Store
from tests.jobs.conftest import Postgres, postgres

__all__ = ["postgres"]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/service.sqlite"
    server: Postgres = request.getfixturevalue("postgres")
    return new_database(server)


def new_database(server: Postgres) -> str:
    """DBOS makes its database by itself; ours is the operator's to make."""
    import sqlalchemy as sa

    url = sa.make_url(server.new_database())
    admin = sa.create_engine(url.set(drivername="postgresql+psycopg", database="postgres"))
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f"CREATE DATABASE {url.database}"))
    admin.dispose()
    return url.render_as_string(hide_password=False)


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    opened = Store.open(database)
    yield opened
    opened.close()
