"""`agent service`: the table of its commands. Each lies in a module of its own.

Left out: what they do (docs/github-bot.md).
"""

from __future__ import annotations

import click

from cli.lazy import Entry, LazyGroup

COMMANDS: dict[str, Entry] = {
    "start": ("cli.service_start", "start", "Take webhooks and work on them: web process and worker."),
    "app": ("cli.service_app", "app", "Register the bot as a GitHub App."),
    "backup": ("cli.service_backup", "backup", "Write all that the service knows into one file."),
    "demo": ("cli.service_demo", "demo", "Watch the bot work without GitHub."),
    "mcp": ("cli.service_mcp", "mcp", "Let an editor have issues solved by a service."),
    "once": ("cli.service_once", "once", "Work on one event in the foreground: for workflows."),
    "prune": ("cli.service_prune", "prune", "Remove what is older than is kept."),
    "restore": ("cli.service_backup", "restore", "Put a backup where there is nothing yet."),
    "token": ("cli.service_token", "token", "Make, list and revoke tokens for the API."),
    "worker": ("cli.service_start", "worker", "Work on requests of a service on another machine."),
}


@click.command("service", cls=LazyGroup, table=COMMANDS)
def service() -> None:
    """The GitHub bot: issues come in by webhooks, draft pull requests go out.

    It is set up by environment variables: docs/github-bot.md.
    """
