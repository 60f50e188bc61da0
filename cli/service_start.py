"""`agent service start` and `agent service worker`: check the settings, then run the processes.

Left out: the processes themselves (`service.server`, `service.work_process`).
"""

from __future__ import annotations

import logging
import os
import sys

import click

from cli.service_extra import need_service


@click.command()
@click.option("--host", envvar="PATCHWRIGHT_HOST", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", envvar="PATCHWRIGHT_PORT", type=click.IntRange(1, 65535), default=8117, show_default=True)
@click.option("--model", envvar="PATCHWRIGHT_MODEL", help="As for `agent fix`.  [default: http://127.0.0.1:30000]")
@click.option("--runs", envvar="PATCHWRIGHT_RUNS_AT_ONCE", type=click.IntRange(0), default=2, show_default=True,
              help="Runs at a time here; 0 leaves them to workers on other machines.")  # fmt: skip
def start(host: str, port: int, model: str | None, runs: int) -> None:
    """Take webhooks at http://HOST:PORT/webhooks/github and work on what they ask for.

    Both processes are started again when they die; what was going on goes on. One `start` for a database.
    """
    told = {"PATCHWRIGHT_HOST": host, "PATCHWRIGHT_PORT": str(port), "PATCHWRIGHT_RUNS_AT_ONCE": str(runs)}
    _run(["web", "work"], told | ({"PATCHWRIGHT_MODEL": model} if model else {}))


@click.command()
@click.option("--model", envvar="PATCHWRIGHT_MODEL", help="As for `agent fix`.  [default: http://127.0.0.1:30000]")
@click.option("--runs", envvar="PATCHWRIGHT_RUNS_AT_ONCE", type=click.IntRange(1), default=2, show_default=True,
              help="Runs at a time.")  # fmt: skip
def worker(model: str | None, runs: int) -> None:
    """Work on requests that a service on another machine takes; both share a Postgres."""
    told = {"PATCHWRIGHT_RUNS_AT_ONCE": str(runs), "PATCHWRIGHT_DISPATCH": "no"}
    _run(["work"], told | ({"PATCHWRIGHT_MODEL": model} if model else {}))


def _run(names: list[str], told: dict[str, str]) -> None:
    import asyncio

    need_service()
    from service import settings, supervise, work_process
    from service.environment import SettingsProblem
    from service.telemetry import logs

    environment = {**os.environ, **told}
    try:
        logs.set_up(environment)
        if "web" in names:
            settings.from_environment(environment)
        work_process.from_environment(environment)
    except SettingsProblem as problem:
        click.echo(f"Error: {problem} (docs/github-bot.md)", err=True)
        sys.exit(6)
    parts = {"web": supervise.WEB, "work": supervise.WORK}
    if "web" in names:
        click.echo(f"http://{told['PATCHWRIGHT_HOST']}:{told['PATCHWRIGHT_PORT']}/webhooks/github takes webhooks")
    chosen = [(name, parts[name]) for name in names]
    sys.exit(asyncio.run(supervise.supervise(chosen, told, lambda line: logs.tell(logging.WARNING, "process", line))))
