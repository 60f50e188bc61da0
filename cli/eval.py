"""`agent eval`: the table of its commands. Each lies in a module of its own.

Left out: what they do (docs/evaluation.md).
"""

from __future__ import annotations

import click

from cli.lazy import Entry, LazyGroup

COMMANDS: dict[str, Entry] = {
    "run": ("cli.eval_run", "run", "Run the agent on a data set's instances, grade and report; or go on with a run."),
    "worker": ("cli.eval_run", "worker", "Work on runs that another machine drives."),
    "grade": ("cli.eval_grade", "grade", "Grade anyone's predictions in the same environments."),
    "regrade": ("cli.eval_regrade", "regrade", "Grade saved test logs again, without containers."),
    "report": ("cli.eval_report", "report", "Write the report of a run: a page, and JSON."),
    "compare": ("cli.eval_compare", "compare", "Two runs side by side: what differs, and whether it may be chance."),
    "power": ("cli.eval_power", "power", "How many instances would tell two rates apart."),
    "instances": ("cli.eval_instances", "instances", "List a data set's instances, and what is wrong with its rows."),
    "audit": (
        "cli.eval_audit",
        "audit",
        "What a checkout leaks of the answer, and which attempts went looking for it.",
    ),
    "gold": ("cli.eval_gold", "gold", "Check environments with the known answers; find tests that flicker."),
}


@click.command("eval", cls=LazyGroup, table=COMMANDS)
def evaluate() -> None:
    """SWE-bench and its kin: runs, verdicts that equal the official ones, and what can be concluded.

    To begin with: `agent eval run mini --model scripted`.
    """
