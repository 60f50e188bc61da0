"""What the commands of `agent eval` share: options that choose instances, and text made fit for a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from evals.datasets import Dataset, Filter

ALL_GRADED = 0
SOME_FAILED = 3
BAD_INPUT = 6  # as "bad input" of a run

Command = TypeVar("Command", bound=Callable[..., Any])


def choosing(command: Command) -> Command:
    """The options --instance, --repo, --difficulty and --slice; they reach the command as `chosen`."""
    for option in (
        click.option("--slice", "part", metavar="A:B", help="A part of what the other choices leave: 10, 5:20, ::7."),
        click.option("--difficulty", "difficulties", multiple=True, help="Only of this difficulty. Repeatable; globs."),
        click.option("--repo", "repos", multiple=True, help="Only of this repository. Repeatable; globs."),
        click.option("--instance", "ids", multiple=True, help="Only this instance. Repeatable; globs: 'django__*'."),
        click.option("--split", default="", help="The split of a set on the hub, where it isn't the usual one."),
    ):
        command = option(command)
    return command


def chosen_filter(
    ids: tuple[str, ...], repos: tuple[str, ...], difficulties: tuple[str, ...], part: str | None
) -> Filter:
    """The filter that the options describe; click.BadParameter for a slice that is none."""
    from evals.datasets import Filter, parse_slice

    try:
        return Filter(ids, repos, difficulties, parse_slice(part) if part else slice(None))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--slice") from error


def load(ctx: click.Context, source: str, split: str) -> Dataset:
    """The data set, with its broken rows named on stderr; ends the command when there is none."""
    from evals.datasets import load_dataset
    from evals.rows import DatasetUnusable

    try:
        dataset = load_dataset(source, split=split)
    except DatasetUnusable as error:
        click.echo(str(error), err=True)
        ctx.exit(BAD_INPUT)
    for row in dataset.broken:
        click.echo(f"{printable(source)}: {printable(str(row))}; left out", err=True)
    return dataset


def printable(text: str) -> str:
    """`text` with everything that could steer a terminal written out."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns as wide as they need to be; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
