"""`agent eval report`: a run's records as a page, a page for each trajectory, and JSON.

Left out: what stands in them (`evals.report`).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from cli.eval_options import BAD_INPUT, printable, table

STORAGE = 9  # as "storage failed" of a run
_QUIET_SECONDS = 2.0


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--open", "look", is_flag=True, help="Show the page in the browser.")
@click.option("--json", "as_json", is_flag=True, help="Print the report, as in report.json.")
@click.pass_context
def report(ctx: click.Context, folder: Path, look: bool, as_json: bool) -> None:
    """Write the report of the evaluation run in FOLDER, which may still be going on.

    Into FOLDER go report.json, report.html, and a page beside each trajectory. The page stands by itself: no request
    leaves it. The same records give the same report.

    Exit codes: 0 it is written; 6 FOLDER holds no run; 9 it can't be written.
    """
    from evals.report.folder import NoRun, summary_lines, write_report
    from evals.runs.record import RecordBroken

    try:
        found = write_report(folder, _Progress())
    except (NoRun, RecordBroken) as error:
        click.echo(f"Error: {printable(str(error))}", err=True)
        ctx.exit(BAD_INPUT)
    except OSError as error:
        click.echo(f"Error: {folder} can't be written ({error.strerror or error}): make room or take a copy", err=True)
        ctx.exit(STORAGE)
    page = folder / "report.html"
    if as_json:
        click.echo(json.dumps(found, indent=1, sort_keys=True))
    else:
        rows: list[tuple[str, ...]] = [(name, printable(value)) for name, value in summary_lines(found)]
        click.echo("\n".join(table(rows)))
        click.echo(f"\n{page}")
    if look:
        click.launch(page.resolve().as_uri())


class _Progress:
    """How many pages are written, once that takes a while."""

    def __init__(self) -> None:
        self._started = self._told = time.monotonic()

    def __call__(self, done: int, of: int) -> None:
        now = time.monotonic()
        live = sys.stderr.isatty()
        if done == of:
            if live and self._told > self._started:
                click.echo("\r\x1b[K", err=True, nl=False)
        elif now - self._started > _QUIET_SECONDS and now - self._told > (0.2 if live else 10):
            self._told = now
            start = "\r" if live else ""
            click.echo(f"{start}trajectory {done + 1} of {of}", err=True, nl=not live)
