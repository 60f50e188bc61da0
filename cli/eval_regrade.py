"""`agent eval regrade`: saved logs to verdicts, as JSON lines or a table.

Left out: the grading (`evals.regrade`).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cli.eval_options import ALL_GRADED, BAD_INPUT, SOME_FAILED, choosing, chosen_filter, load, printable, table

if TYPE_CHECKING:
    from evals.regrade import Outcome
    from evals.saved_logs import SavedLog

QUIET_SECONDS: Final = 2.0


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--dataset", required=True, help="The data set of these logs: a file, or a set on the hub.")
@click.option(
    "--semantics",
    default="auto",
    show_default=True,
    help="Whose rules: 5 (swebench 5.0.2), 4.1 (4.1.0), or those that each log was written for.",
)
@click.option("--official", is_flag=True, help="Let the official package's own functions judge; slower.")
@click.option("--log-parser", "parser", default="", help="A parser for all logs, as parse_log_pytest.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Also write report.json files in the official layout here."
)
@choosing
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line and log, as in the official report.")
@click.pass_context
def regrade(
    ctx: click.Context,
    /,
    folder: Path,
    dataset: str,
    semantics: str,
    official: bool,
    parser: str,
    out: Path | None,
    split: str,
    as_json: bool,
    part: str | None,
    **chosen: tuple[str, ...],
) -> None:
    """Grade the logs below FOLDER, saved in the official layout: .../<model>/<instance_id>/test_output.txt.

    No container is started. A log that gets no verdict is named, with `"resolved": null` and `error` in JSON.
    Exit codes: 0 every log has a verdict; 3 some have none; 6 there is nothing to grade, or no data set.
    """
    from evals.grading.semantics import Semantics
    from evals.regrade import regrade as grade
    from evals.saved_logs import find_logs

    try:
        rules = Semantics.named(semantics)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--semantics") from error
    wanted = chosen_filter(**chosen, part=part)
    if not folder.is_dir():
        click.echo(f"there is no folder {folder}: give one with saved logs below it", err=True)
        ctx.exit(BAD_INPUT)
    found = load(ctx, dataset, split)
    filtered = {one.instance_id for one in wanted.apply(found.instances)}
    all_chosen = len(filtered) == len(found.instances)
    logs = [log for log in find_logs(folder) if all_chosen or log.instance_id in filtered]
    if not logs:
        click.echo(f"no test_output.txt of these instances lies below {folder}", err=True)
        ctx.exit(BAD_INPUT)
    outcomes = list(_shown(grade(logs, found.by_id(), rules, official=official, parser=parser), logs, as_json))
    if out is not None:
        _write(out, outcomes)
    if not as_json:
        click.echo("\n".join(_page(outcomes)))
    failed = sum(one.report is None for one in outcomes)
    ctx.exit(SOME_FAILED if failed else ALL_GRADED)


def _shown(outcomes: Iterable[Outcome], logs: list[SavedLog], as_json: bool) -> Iterator[Outcome]:
    """Each outcome as it comes: its JSON line, its error on stderr, and how far it is once that takes a while."""
    started = told = time.monotonic()
    live = sys.stderr.isatty()
    for count, one in enumerate(outcomes, 1):
        if as_json:
            click.echo(json.dumps(one.row()))
        if one.error:
            where = f"{one.model}/{one.instance_id}"
            click.echo(f"{_wiped(live)}{printable(where)}: not graded: {printable(one.error)}", err=True)
        now = time.monotonic()
        if now - started > QUIET_SECONDS and now - told > (0.2 if live else 10):
            told = now
            click.echo(f"{_wiped(live)}graded {count} of {len(logs)}", err=True, nl=not live)
        yield one
    if live and told > started:
        click.echo(_wiped(live), err=True, nl=False)


def _wiped(live: bool) -> str:
    return "\r\x1b[K" if live else ""


def _write(out: Path, outcomes: list[Outcome]) -> None:
    from evals.reports import write_report

    for one in outcomes:
        if one.report is not None:
            write_report(out, one.model, one.instance_id, one.report)


def _page(outcomes: list[Outcome]) -> Iterator[str]:
    head = ("instance", "model", "resolved", "fail to pass", "pass to pass", "remark")
    yield from table([head, *map(_row, outcomes)])
    resolved = sum(one.resolved is True for one in outcomes)
    failed = sum(one.report is None for one in outcomes)
    releases = sorted({one.semantics.release for one in outcomes if one.semantics is not None})
    rules = f" by the rules of swebench {' and '.join(releases)}" if releases else ""
    yield f"{resolved} of {len(outcomes)} resolved{rules}" + (f"; {failed} not graded" if failed else "")


def _row(one: Outcome) -> tuple[str, ...]:
    names = (printable(one.instance_id), printable(one.model))
    if one.report is None:
        return (*names, "-", "-", "-", "not graded")
    lists = one.report.get("tests_status")
    counts = ("-", "-")
    if lists is not None:
        counts = (_counted(lists["FAIL_TO_PASS"]), _counted(lists["PASS_TO_PASS"]))
    remark = "" if lists is not None else "the log shows no valid run"
    reason = one.report.get("infra_failure_reason", "")
    return (*names, "yes" if one.resolved else "no", *counts, f"{remark} ({reason})" if reason else remark)


def _counted(lists: dict[str, list[str]]) -> str:
    passed = len(lists["success"])
    return f"{passed}/{passed + len(lists['failure'])}"
