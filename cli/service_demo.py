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
@click.option("--no-open", is_flag=True, help="Print the dashboard's address only, and don't open it in a browser.")
def demo(model: str | None, sandbox: str, port: int, folder: Path | None, once: bool, no_open: bool) -> None:
    """Watch the bot work without GitHub: label, draft pull request, review, further commit.

    A stand-in for GitHub with issues, webhooks and git over HTTP runs on the loopback; its pages are printed, and so is
    an address that logs you in to the dashboard, once.
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
            show = _nowhere if no_open or once else _open
            code = asyncio.run(tell(place, port, model, sandbox, once=once, say=click.echo, show=show))
        except TimeoutError as error:
            click.echo(f"Error: {error}; what the service said is above", err=True)
            code = 1
    sys.exit(code)


def _nowhere(_: str) -> None:
    pass


def _open(address: str) -> None:
    """In the browser of whoever sits here; not in one that would take the terminal over, nor for a program."""
    import os
    import threading
    import webbrowser

    desktop = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.stdout.isatty() and desktop:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
