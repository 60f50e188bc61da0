"""`agent service prune`: parses, opens what is needed, calls `service.retention`, prints.

Left out: what goes and what stays (`service.retention`).
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from cli.service_extra import need_service

if TYPE_CHECKING:
    from datetime import timedelta

    from sandbox.leftovers import Leftover
    from service.retention.prune import Pruned

BAD_INPUT = 6
UNAVAILABLE = 9


@click.command()
@click.option("--older-than", metavar="AGE", help="Such as 90d, 12h or 4w.  [default: PATCHWRIGHT_KEEP_DAYS, or 90d]")
@click.option("--keep-per-repository", "keep", metavar="N", type=click.IntRange(0),
              help="Also remove younger runs beyond the newest N that no conversation may go on with.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--json", "as_json", is_flag=True, help="An object with folders, rows, leftovers and bytes.")
def prune(older_than: str | None, keep: int | None, dry_run: bool, as_json: bool) -> None:
    """Remove what is older than is kept: runs that ended, unused mirrors, deliveries, what requests said, jobs.

    Safe while the service works, which does the same once a day. What killed runs left behind goes as well, as with
    `agent sandbox prune`.
    """
    pruned, left = _pruned(older_than, keep, dry_run)
    if as_json:
        leftovers = [{"what": one.what, "name": one.name, "bytes": one.bytes} for one in left]
        click.echo(json.dumps({"dry_run": dry_run, **pruned.to_json(), "leftovers": leftovers}, indent=1))
        return
    _print(pruned, left, dry_run)


def _pruned(older_than: str | None, keep: int | None, dry_run: bool) -> tuple[Pruned, list[Leftover]]:
    import asyncio

    need_service()
    from agent.jobs import JobsError, open_jobs
    from sandbox.leftovers import sweep
    from service.environment import SettingsProblem
    from service.retention.prune import prune as prune_all
    from service.settings import database_of, jobs_database, runs_folder
    from service.store import Store, StoreError
    from service.worker import APPLICATION

    async def pruned(horizon: timedelta) -> Pruned:
        database = database_of(os.environ)
        store = await asyncio.to_thread(Store.open, database.reveal())
        try:
            jobs = jobs_database(database).reveal()
            async with open_jobs(jobs, {}, application=APPLICATION, worker=False) as queue:
                folder = runs_folder().parent
                return await prune_all(store, queue, folder, horizon, keep=keep, dry_run=dry_run)
        finally:
            store.close()

    try:
        found = asyncio.run(pruned(_horizon(older_than)))
    except (SettingsProblem, ValueError) as problem:
        click.echo(f"Error: {problem}", err=True)
        sys.exit(BAD_INPUT)
    except (StoreError, JobsError) as problem:
        click.echo(f"Error: {problem}", err=True)
        sys.exit(UNAVAILABLE)
    return found, sweep(dry_run=dry_run, told=lambda problem: click.echo(f"Error: {problem}", err=True))


def _horizon(older_than: str | None) -> timedelta:
    from datetime import timedelta

    from service.retention.prune import KEEP_DAYS, age, kept_for

    return age(older_than) if older_than else kept_for(os.environ) or timedelta(days=KEEP_DAYS)


def _print(pruned: Pruned, left: list[Leftover], dry_run: bool) -> None:
    from sandbox.images.budget import human

    went = "would go" if dry_run else "removed"
    for what in ("runs", "mirrors"):
        found = [one for one in pruned.folders if one.what == what]
        if found:
            click.echo(f"{what}: {len(found)} {went}, {human(sum(one.bytes for one in found))}")
        if dry_run:
            click.echo("".join(f"  {one.name}\n" for one in found), nl=False)
    for what, count in pruned.rows.items():
        if count:
            click.echo(f"{what}: {count} {went}")
    if left:
        click.echo(f"left by killed runs: {len(left)} {went}, {human(sum(one.bytes for one in left))}")
    if not (pruned.folders or left or any(pruned.rows.values())):
        click.echo("nothing is older than is kept")
