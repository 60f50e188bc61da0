"""`agent model check`: probe a server and print what it does, check by check."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from runtime.models.probe import Check, Report

_STYLES = {"ok": "green", "differs": "yellow", "failed": "red"}
EXIT_DIFFERS = 3
EXIT_UNREACHABLE = 7


@click.command()
@click.argument("url", envvar="PATCHWRIGHT_MODEL")
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    default=2048,
    show_default=True,
    help="Most tokens for the turn that thinks and calls.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(url: str, max_tokens: int, as_json: bool) -> None:
    """See what the model server at URL does, by a few short requests.

    Checked are ids in and out, the stream, hits in the prefix cache against what is expected of it, thinking, a
    tool call, abort, the context length, and the served tokenizer and template against ours. URL can be anything
    that `agent fix --model` takes.

    A result is ok, differs (from what runs need or expect), not offered (the server has no way to show it), not
    shown (the model didn't write what it was asked for, as one with random weights) or failed.

    Exits with 0 when nothing differs or failed, 3 when something does, 7 when there is no server to ask.
    """
    import asyncio

    try:
        report = asyncio.run(_probe(url, max_tokens, as_json))
    except KeyboardInterrupt:
        sys.exit(130)
    if report is None:
        sys.exit(EXIT_UNREACHABLE)
    sys.exit(0 if report.ok else EXIT_DIFFERS)


async def _probe(url: str, max_tokens: int, as_json: bool) -> Report | None:
    import json

    from runtime.models.base import ModelError
    from runtime.models.probe import probe

    try:
        report = await probe(url, on_check=None if as_json else _print, most_tokens=max_tokens)
    except ModelError as error:
        click.echo(json.dumps({"target": url, "ok": False, "error": str(error)}) if as_json else f"Error: {error}",
                   err=not as_json)  # fmt: skip
        return None
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=1))
        return report
    host = report.host
    served = " ".join(filter(None, (host["engine"], host["version"])))
    click.echo(f"\n{host['name']} ({served}), {host['context']} tokens of context; {', '.join(host['features'])}")
    for note in host["notes"]:
        click.secho(note, fg="yellow")
    return report


def _print(found: Check) -> None:
    from runtime.models.probe import WIDEST_NAME

    result = click.style(f"{found.result:<11}", fg=_STYLES.get(found.result))
    click.echo(f"{found.name:<{WIDEST_NAME}}  {result}  {_visible(found.seen)}")


def _visible(text: str) -> str:
    """Without control characters: what a server says must not drive the user's terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
