"""`agent eval instances`: what a data set holds, and which of its rows can't be used.

Left out: how rows are read (`evals.datasets`). Gold fields are never shown.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from cli.eval_options import BAD_INPUT, SOME_FAILED, choosing, chosen_filter, load, printable, table

if TYPE_CHECKING:
    from evals.instance import Instance


@click.command()
@click.argument("dataset")
@choosing
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line and instance, without gold fields.")
@click.pass_context
def instances(
    ctx: click.Context, /, dataset: str, split: str, as_json: bool, part: str | None, **chosen: tuple[str, ...]
) -> None:
    """List the instances of DATASET: a file (.jsonl, .json, .parquet, also .xz and .gz), a folder of Terminal-Bench
    tasks, or a set on the hub.

    Broken rows are named on stderr. Exit codes: 0; 3 when rows were left out; 6 when there is no such data set.
    """
    wanted = chosen_filter(**chosen, part=part)
    found = load(ctx, dataset, split)
    listed = wanted.apply(found.instances)
    if as_json:
        for one in listed:
            click.echo(json.dumps(_object(one)))
    else:
        head = ("instance", "repository", "difficulty", "fail to pass", "pass to pass")
        lines = table([head, *map(_row, listed)])
        click.echo("\n".join([*lines, f"{len(listed)} of {len(found.instances)} instances"]))
    ctx.exit(BAD_INPUT if not found.instances else SOME_FAILED if found.broken else 0)


def _object(one: Instance) -> dict[str, Any]:
    return {
        "instance_id": one.instance_id,
        "repo": one.repo,
        "base_commit": one.base_commit,
        "version": one.version,
        "difficulty": one.difficulty,
        "schema": one.schema,
        "fail_to_pass": len(one.fail_to_pass),
        "pass_to_pass": len(one.pass_to_pass),
        "image": one.image,
    }


def _row(one: Instance) -> tuple[str, ...]:
    counts = (str(len(one.fail_to_pass)), str(len(one.pass_to_pass)))
    return (one.instance_id, one.repo, printable(one.difficulty) or "-", *counts)
