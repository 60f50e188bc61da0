"""`agent service backup` and `agent service restore`: parse, call `service.retention`, print.

Left out: what is in a backup (`service.retention.backup`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from cli.service_extra import need_service

if TYPE_CHECKING:
    from service.retention.restore import Restored

BAD_INPUT = 6
UNAVAILABLE = 9


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(file: Path) -> None:
    """Write all that the service knows into FILE, a .tar.gz, while it works.

    Requests, jobs and tokens' hashes; the runs' logs and patches, and of each conversation the last run whole. No
    secrets: these are the environment's. A Postgres is copied by pg_dump; then FILE holds the runs.
    """
    need_service()
    from sandbox.images.budget import human
    from service.retention.backup import BackupProblem
    from service.retention.backup import backup as write
    from service.settings import database_of, jobs_database, runs_folder
    from service.store import Store, StoreError

    database = database_of(os.environ)
    url = database.reveal()
    try:
        store = Store.open(url)
        try:
            written = write(store, url, jobs_database(database).reveal(), runs_folder(), file)
        finally:
            store.close()
    except BackupProblem as problem:
        _fail(problem, BAD_INPUT)
    except StoreError as problem:
        _fail(problem, UNAVAILABLE)
    click.echo(f"{file}: {len(written.files)} files, {human(written.bytes)} before compression")
    if not url.startswith("sqlite:"):
        click.echo("The database isn't in it: pg_dump --format=custom copies it, before this file is made.", err=True)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def restore(file: Path) -> None:
    """Put the backup FILE into an empty PATCHWRIGHT_HOME, each file checked; then start the service.

    What was queued is done, what was going on goes on. Stop the service that the backup is of: both would work.
    """
    need_service()
    from sandbox.images.budget import human

    done = _restored(file)
    click.echo(f"restored {done.files} files, {human(done.bytes)}")
    if done.forgotten:
        click.echo(
            f"{done.forgotten} conversations begin anew when they are asked to go on: their runs aren't whole here"
        )


def _restored(file: Path) -> Restored:
    from service.retention.backup import BackupProblem
    from service.retention.restore import restore as put
    from service.settings import database_of, jobs_database, runs_folder
    from service.store import StoreError

    database = database_of(os.environ)
    try:
        return put(file, database.reveal(), jobs_database(database).reveal(), runs_folder())
    except BackupProblem as problem:
        _fail(problem, BAD_INPUT)
    except StoreError as problem:
        _fail(problem, UNAVAILABLE)


def _fail(problem: object, code: int) -> NoReturn:
    click.echo(f"Error: {problem}", err=True)
    sys.exit(code)
