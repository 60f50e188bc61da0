"""`agent eval compare`: two runs on the same instances, and what can be concluded.

Left out: the numbers (`evals.report.comparison`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from cli.eval_options import BAD_INPUT, printable, table

STORAGE: Final = 9
_MOST_NAMED: Final = 12


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="Also write a page to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def compare(ctx: click.Context, a: Path, b: Path, page: Path | None, as_json: bool) -> None:
    """Say whether run B resolves more instances than run A, and how sure that is.

    A and B are folders of evaluation runs, or somebody else's results: a summary of the official harness
    (MODEL.RUN.json), a folder with such summaries of one model, or a folder with its report.json files.

    Paired by instance; with several attempts an instance counts with the share that is resolved. Instances without a
    verdict on one side are left out and named. Runs are told apart where an exact test (McNemar's, with one attempt
    each) gives p < 0.05 and the bootstrap interval of the difference leaves out zero.

    Exit codes: 0 compared, whatever the result; 6 one of them holds no results, or they have no instance in common;
    9 the page can't be written.
    """
    from evals.report.comparison import compare as compared
    from evals.report.folder import NoRun
    from evals.report.sides import read_side
    from evals.runs.record import RecordBroken

    try:
        found = compared(read_side(a), read_side(b))
    except (NoRun, RecordBroken) as error:
        click.echo(f"Error: {printable(str(error))}", err=True)
        ctx.exit(BAD_INPUT)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        click.echo("\n".join(_lines(found)))
    if page is not None:
        from evals.predictions import write_whole
        from evals.report.comparison_page import comparison_page

        try:
            write_whole(page, comparison_page(found))
        except OSError as error:
            click.echo(f"Error: {page} can't be written ({error.strerror or error}): name another file", err=True)
            ctx.exit(STORAGE)


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    from evals.report.comparison import power_words, verdict
    from evals.report.numbers import count, interval, percent

    head = ("", "run", "model", "resolved", "attempts", "rate", "95 % interval")
    rows: list[tuple[str, ...]] = [head]
    for key in ("a", "b"):
        one = found[key]
        names = (printable(one["name"]), printable(", ".join(one["models"])))
        numbers = (count(one["resolved"]), count(one["attempts"]), percent(one["rate"]))
        rows.append((key.upper(), *names, *numbers, interval(one["low"], one["high"])))
    yield from table(rows)
    yield ""
    yield verdict(found)
    yield from power_words(found)
    yield ""
    yield from _flips(found["flips"])
    if used := list(_usage(found["usage"])):
        yield from ("", *table(used))
    yield from _apart(found)


def _flips(flips: Mapping[str, Any]) -> Iterator[str]:
    for key, title in (("gained", "B resolves more often"), ("lost", "A resolves more often")):
        names = [printable(one["instance_id"]) for one in flips[key]]
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        yield f"{title}: {len(names)}" + (f" ({', '.join(names[:_MOST_NAMED])}{more})" if names else "")


def _usage(usage: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    from evals.report.comparison_page import MEASURE_NAMES

    if usage:
        yield ("mean per attempt", "A", "B", "B - A", "95 % interval", "")
    for key, one in usage.items():
        name, shown = MEASURE_NAMES[key]
        low, high = one["interval"]
        word = "cannot be told apart" if low <= 0 <= high else ""
        yield (name, shown(one["a"]), shown(one["b"]), shown(one["difference"]), f"{shown(low)} to {shown(high)}", word)


def _apart(found: Mapping[str, Any]) -> Iterator[str]:
    """What isn't in the comparison, and what else than the model differs."""
    left_out = found["left_out"]
    named = {"no_verdict": "without a verdict on one side", "only_a": "only in A", "only_b": "only in B"}
    said = [f"{len(left_out[key])} {name}" for key, name in named.items() if left_out[key]]
    if said:
        yield from ("", f"left out: {', '.join(said)} (named with --json and --html)")
    settings = found["settings"]
    if settings is None:
        yield from ("", "one of them has no manifest: how they were made can't be compared")
    elif settings:
        yield from ("", "made differently:")
        for name, a, b in settings[:_MOST_NAMED]:
            yield f"  {printable(name)}: {printable(a[:60])} -> {printable(b[:60])}"
        if len(settings) > _MOST_NAMED:
            yield f"  and {len(settings) - _MOST_NAMED} more"
