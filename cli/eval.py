"""`agent eval`: data sets and grading. Each subcommand lies in a module of its own.

Left out: running the agent on instances, which has no command yet (docs/evaluation.md says what stands).
"""

from __future__ import annotations

import click

from cli.lazy import Entry, LazyGroup

COMMANDS: dict[str, Entry] = {
    "regrade": (
        "cli.eval_regrade",
        "regrade",
        "Grade saved test logs as the official harness does, without containers.",
    ),
    "instances": ("cli.eval_instances", "instances", "List a data set's instances, and what is wrong with its rows."),
}


@click.command("eval", cls=LazyGroup, table=COMMANDS)
def evaluate() -> None:
    """SWE-bench and its kin: data sets, and verdicts that equal the official ones."""
