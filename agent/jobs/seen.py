"""Who works on a queue, for those who only look: one query, without the engine and without making anything.

Left out: opening a queue (`agent.jobs.opening`).
"""

from __future__ import annotations

import time
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from agent.jobs.model import WorkerSeen

_QUERY = sa.text(
    "SELECT name, machine, pid, last_seen, running FROM patchwright_workers WHERE application = :app ORDER BY name"
)


def workers_seen(database: str, application: str) -> list[WorkerSeen] | None:
    """All workers that haven't closed or been found lost, by name. None: the database can't be asked, or isn't there.

    `database` as `open_jobs` takes it.
    """
    url = sa.make_url(database)
    if url.get_backend_name() == "sqlite":
        if not url.database or not Path(url.database).is_file():
            return None
        engine = sa.create_engine(url, connect_args={"timeout": 2})
    else:
        engine = sa.create_engine(url.set(drivername="postgresql+psycopg"), connect_args={"connect_timeout": 3})
    try:
        with engine.connect() as connection:
            found = connection.execute(_QUERY, {"app": application})
            return [WorkerSeen(row[0], row[1], int(row[2]), float(row[3]), int(row[4])) for row in found]
    except SQLAlchemyError:  # looking is worth no error: who can't be asked is shown so
        return None
    finally:
        engine.dispose()


def age(worker: WorkerSeen) -> float:
    """Seconds since its last heartbeat, if the clocks here and of the database agree."""
    return max(0.0, time.time() - worker.last_seen)
