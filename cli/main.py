"""The `agent` command: subcommands by name, each loaded only when it is asked for, so that help stays quick.

Left out: what the subcommands do; each lies in a module of its own and calls one function of a lower floor.
"""

from __future__ import annotations

import sys

import click

from cli.lazy import Entry, LazyGroup

COMMANDS: dict[str, Entry] = {
    "fix": ("cli.fix", "fix", "Solve an issue in a repository and hand over a verified patch."),
    "resume": ("cli.fix", "resume", "Go on with a run that was cut off."),
    "runs": ("cli.runs", "runs", "List runs, show them, take their patches and logs."),
    "eval": ("cli.eval", "evaluate", "Run and grade SWE-bench and its kin, report and compare."),
    "service": ("cli.service", "service", "The GitHub bot: webhooks in, draft pull requests out."),
    "model": ("cli.model", "model", "Models, and the servers that serve them."),
    "sandbox": ("cli.sandbox", "sandbox", "Sandboxes and their base images."),
    "doctor": ("cli.doctor", "doctor", "What is there, what is missing, and how to get it."),
}


class _Version:
    """The installed version, looked up only when it is printed."""

    def __str__(self) -> str:
        from importlib.metadata import version

        return version("patchwright")


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"patchwright {_Version()}")
        ctx.exit()


@click.command(
    cls=LazyGroup,
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: docs/exit-codes.md. Settings may also come from the environment: docs/configuration.md.",
)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show it.")
def cli() -> None:
    """Patchwright: an issue goes in, a verified patch comes out, and nothing leaves your machines."""


def main() -> None:
    """Entry point of the console script."""
    try:
        cli()
    except BrokenPipeError:
        sys.exit(141)


if __name__ == "__main__":
    main()
