"""`agent runs`: what runs there are, what happened in one, its patch, its log."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from agent.events import Event
    from agent.runs import RunFolder

DAMAGED = 6  # a run's log that isn't one: bad input


@click.group(invoke_without_command=True)
@click.pass_context
def runs(ctx: click.Context) -> None:
    """List runs, show them, take their patches and logs."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_runs)


def _find(name: str) -> RunFolder:
    from agent.ends import EXIT_CODES, RunProblem
    from agent.runs import find_run

    try:
        return find_run(name)
    except RunProblem as problem:
        click.echo(f"Error: {problem}", err=True)
        sys.exit(EXIT_CODES[problem.outcome])


def _facts(run: RunFolder) -> dict[str, Any]:
    from agent.events import EventLogError, EventType, read_events

    facts: dict[str, Any] = {"run": run.id, "outcome": None, "steps": 0, "tokens": 0, "issue": "", "base": ""}
    try:
        for event in read_events(run.events):
            match event.type:
                case EventType.RUN_STARTED:
                    facts["issue"] = event.data["issue"]["text"].strip().splitlines()[0][:80]
                    facts["base"] = event.data["base"]["commit"]
                case EventType.TURN:
                    facts["steps"] += 1
                    facts["tokens"] += event.data["usage"]["completion"]
                case EventType.RUN_ENDED:
                    facts["outcome"] = event.data["outcome"]
                case EventType.RUN_RESUMED | EventType.FOLLOW_UP:
                    facts["outcome"] = None
                case _:
                    pass
    except (EventLogError, OSError) as error:
        facts["outcome"] = f"unreadable: {error}"
    return facts


@runs.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def list_runs(as_json: bool = False) -> None:
    """All runs, the oldest first."""
    from agent.runs import all_runs

    found = [_facts(run) for run in all_runs()]
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    if not found:
        click.echo("no runs yet: `agent fix REPO ISSUE` starts one")
    for facts in found:
        outcome = facts["outcome"] or "not ended"
        click.echo(
            f"{facts['run']}  {outcome:<14} {facts['steps']:>4} steps {facts['tokens']:>8} tokens  {facts['issue']}"
        )


@runs.command()
@click.argument("run", default="last")
@click.option("--usage", "only_usage", is_flag=True, help="Only the tokens, turn by turn and in all.")
@click.option(
    "--json", "as_json", is_flag=True, help="The events, one JSON object a line; with --usage one object in all."
)
def show(run: str, only_usage: bool, as_json: bool) -> None:
    """What happened in RUN (an id, a part of one, or `last`), and what it cost in tokens.

    The table at the end has a line per turn: how many tokens its prompt had, how many of them the server had cached,
    how many were new, and how many it computed again although they had been computed before, with the reason where
    that is more than the usual few behind its last checkpoint.
    """
    from agent.usage import usage_of
    from cli.usage import usage_lines
    from cli.view import PlainView, print_json

    folder = _find(run)
    events, damage = _readable(folder)
    if not only_usage:
        view = print_json if as_json else PlainView()
        for event in events:
            view(event)
    if only_usage and as_json:
        click.echo(json.dumps({"run": folder.id, **usage_of(events).to_json()}, indent=1))
    elif not as_json:
        for line in usage_lines(usage_of(events)):
            click.echo(line)
    if damage:
        click.echo(f"Error: {damage}; what stands before is shown", err=True)
        sys.exit(DAMAGED)


def _readable(folder: RunFolder) -> tuple[list[Event], str]:
    """The events of a log up to where it is damaged, and what is wrong there."""
    from agent.events import EventLogError, read_events

    events: list[Event] = []
    try:
        for event in read_events(folder.events):
            events.append(event)  # noqa: PERF402 - those before the damage count
    except EventLogError as error:
        return events, str(error)
    except OSError as error:
        return events, f"{folder.events} can't be read ({error.strerror or error})"
    return events, ""


@runs.command()
@click.argument("run", default="last")
@click.option("--json", "as_json", is_flag=True, help="An object with run and patch.")
def diff(run: str, as_json: bool) -> None:
    """The patch of RUN on standard output."""
    folder = _find(run)
    if not folder.patch.exists():
        click.echo(f"Error: run {folder.id} has no patch: `agent runs show {folder.id}` says why", err=True)
        sys.exit(4)
    patch = folder.patch.read_bytes()
    if as_json:
        click.echo(json.dumps({"run": folder.id, "patch": patch.decode("utf-8", "replace")}))
    else:
        sys.stdout.buffer.write(patch)


@runs.command()
@click.argument("run", default="last")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to make.  [default: the run's id]")
@click.option("--json", "as_json", is_flag=True, help="Say where as JSON.")
def export(run: str, out: Path | None, as_json: bool) -> None:
    """Copy RUN's log, patch and messages into a folder that can be handed on."""
    from agent.events import EventLogError
    from agent.trajectory import messages_of

    folder = _find(run)
    try:
        messages = messages_of(folder.events)
    except (EventLogError, OSError) as error:
        click.echo(f"Error: {error}; `agent runs show {folder.id}` shows what can be read", err=True)
        sys.exit(DAMAGED)
    target = out or Path(folder.id)
    if target.exists():
        click.echo(f"Error: {target} is there already: choose another folder with --out", err=True)
        sys.exit(6)
    target.mkdir(parents=True)
    for file in (folder.events, folder.patch):
        if file.exists():
            shutil.copy2(file, target)
    (target / "messages.json").write_text(json.dumps(messages, indent=1, ensure_ascii=False))
    click.echo(json.dumps({"run": folder.id, "folder": str(target)}) if as_json else f"exported to {target}")


@runs.command()
@click.argument("runs_", metavar="[RUN]...", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write, whole or not at all.")
def metrics(runs_: tuple[str, ...], out: Path | None) -> None:
    """Metrics of all runs, or of each RUN, in Prometheus' text format.

    With --out into the folder of the node exporter's textfile collector, say once a minute:
    agent runs metrics --out /var/lib/node_exporter/patchwright.prom
    """
    from agent.events import EventLogError, read_events
    from agent.runs import all_runs
    from runtime.metrics import RunMetrics

    found = RunMetrics()
    for folder in map(_find, runs_) if runs_ else all_runs():
        reader = found.reader()
        try:
            for event in read_events(folder.events):
                reader.take(event.type, event.data)
        except (EventLogError, OSError) as error:
            click.echo(f"Warning: {error}; the rest of this run isn't counted", err=True)
    if out is None:
        click.echo(found.text(), nl=False)
        return
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        partial.write_text(found.text(), encoding="utf-8")
        partial.replace(out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        click.echo(f"Error: {out} can't be written ({error.strerror}): choose another file with --out", err=True)
        sys.exit(9)
