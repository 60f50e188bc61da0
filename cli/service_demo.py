"""`agent service demo`: the bot's story on a stand-in for GitHub, on this machine alone.

Left out: the story (`service.demo`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option("--model", help="A model as for `agent fix`, instead of the scripted one.")
@click.option("--sandbox", type=click.Choice(["auto", "docker", "podman", "bubblewrap", "none"]), default="auto",
              show_default=True, help="Where commands run.")  # fmt: skip
@click.option("--port", type=click.IntRange(1, 65535), default=8117, show_default=True, help="Of the service.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False),
              help="Where everything is kept.  [default: one that is removed at the end]")  # fmt: skip
@click.option("--once", is_flag=True, help="End when the story is told.")
def demo(model: str | None, sandbox: str, port: int, folder: Path | None, once: bool) -> None:
    """Watch the bot work without GitHub: label, draft pull request, review, further commit.

    A stand-in for GitHub with issues, webhooks and git over HTTP runs on the loopback; its pages are printed.
    """
    import asyncio
    import tempfile

    try:
        from service.demo import demo as tell
    except ImportError as error:
        click.echo(f"Error: the service needs more packages ({error}): pip install 'patchwright[service]'", err=True)
        sys.exit(6)
    with tempfile.TemporaryDirectory(prefix="patchwright-demo-", ignore_cleanup_errors=True) as made:
        place = (folder or Path(made)).absolute()
        place.mkdir(parents=True, exist_ok=True)
        try:
            code = asyncio.run(tell(place, port, model, sandbox, once=once, say=click.echo))
        except TimeoutError as error:
            click.echo(f"Error: {error}; what the service said is above", err=True)
            code = 1
    sys.exit(code)
