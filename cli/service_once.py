"""`agent service once`: what a workflow of the repository runs: one event from its file, then an exit code.

Left out: the work (`service.once`).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.service_extra import need_service

if TYPE_CHECKING:
    from service.once import Done, Event


@click.command()
@click.option("--event", "file", envvar="GITHUB_EVENT_PATH", type=click.Path(path_type=Path, dir_okay=False),
              required=True, help="File with the event's JSON.  [env: GITHUB_EVENT_PATH]")  # fmt: skip
@click.option("--event-name", envvar="GITHUB_EVENT_NAME", required=True, help="[env: GITHUB_EVENT_NAME]")
@click.option("--repository", envvar="GITHUB_REPOSITORY", required=True,
              help="The workflow's own; nothing else is touched.  [env: GITHUB_REPOSITORY]")  # fmt: skip
@click.option("--issue", type=click.IntRange(1), help="The issue, where a person started the workflow by hand.")
@click.option("--output", envvar="GITHUB_OUTPUT", type=click.Path(path_type=Path, dir_okay=False),
              help="File that gets `result` and `pull-request` in a line each.  [env: GITHUB_OUTPUT]")  # fmt: skip
def once(file: Path, event_name: str, repository: str, issue: int | None, output: Path | None) -> None:
    """Work on one event in the foreground: the bot without a service, for a workflow of the repository itself.

    Set up by the environment variables of docs/github-bot.md, with PATCHWRIGHT_GITHUB_TOKEN for GitHub; no webhook
    secret is needed. Exit codes: 0 a pull request, an answer, or nothing was asked; 4 no change; 5, 7 and 8 as for
    `agent fix`; 6 settings or event can't be used; 10 who asked may not; 11 it failed at GitHub.
    """
    need_service()
    from service.once import Event

    try:
        payload = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        click.echo(f"Error: {file} holds no event's JSON ({type(error).__name__})", err=True)
        sys.exit(6)
    done = _work(Event(event_name, payload, repository, issue, os.environ.get("GITHUB_RUN_ID", "1")))
    if output is not None:
        with output.open("a", encoding="utf-8") as told:
            told.write(f"result={done.result}\npull-request={done.pull or ''}\n")
    number = f" #{done.pull}" if done.pull else ""
    click.echo(f"{done.result}{number}{': ' if done.why else ''}{' '.join(done.why.split())}")
    sys.exit(done.code)


def _work(event: Event) -> Done:
    import asyncio

    from agent.forges.base import ForgeProblem
    from service import work_process
    from service.environment import SettingsProblem
    from service.once import EventProblem, myself
    from service.once import once as work
    from service.store import StoreError

    environment = {"PATCHWRIGHT_GITHUB_API": os.environ.get("GITHUB_API_URL", ""), **os.environ}
    try:
        settings, me = work_process.from_environment(environment), myself(environment)
        for name in ("PATCHWRIGHT_GITHUB_TOKEN", "GITHUB_TOKEN"):  # no process that is started here has a use for it
            os.environ.pop(name, None)
        return asyncio.run(work(settings, me, event))
    except (SettingsProblem, EventProblem) as problem:
        click.echo(f"Error: {problem}", err=True)
        sys.exit(6)
    except (ForgeProblem, StoreError) as problem:
        click.echo(f"Error: {problem}", err=True)
        sys.exit(11)
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
