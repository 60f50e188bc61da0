"""`agent service demo`: the bot's story on a stand-in for GitHub, on this machine alone.

Left out: the story (`service.demo`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import click

from cli.service_extra import need_service

_USUAL_PORT: Final = 8117
_KEPT: Final = frozenset(
    f"PATCHWRIGHT_{name}" for name in ("CACHE", "API_KEY", "DISK_BUDGET", "BUILD_NETWORK", "IMAGE")
)


@click.command()
@click.option("--model", help="A model as for `agent fix`, instead of the scripted one.")
@click.option("--sandbox", type=click.Choice(["auto", "docker", "podman", "bubblewrap", "none"]), default="auto",
              show_default=True, help="Where commands run.")  # fmt: skip
@click.option("--port", type=click.IntRange(1, 65535), help="Of the service.  [default: 8117, or any if that is taken]")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False),
              help="Where everything is kept.  [default: one that is removed at the end]")  # fmt: skip
@click.option("--once", is_flag=True, help="End when the story is told.")
@click.option("--no-open", is_flag=True, help="Print the dashboard's address only, and don't open it in a browser.")
def demo(model: str | None, sandbox: str, port: int | None, folder: Path | None, once: bool, no_open: bool) -> None:
    """Watch the bot work without GitHub: label, draft pull request, review, further commit.

    A stand-in for GitHub with issues, webhooks and git over HTTP runs on the loopback; its pages are printed, and so is
    an address that logs you in to the dashboard, once.
    """
    import asyncio
    import tempfile

    need_service()
    from service.demo import demo as tell

    at = _port(port)
    _forget_settings()
    with tempfile.TemporaryDirectory(prefix="patchwright-demo-", ignore_cleanup_errors=True) as made:
        place = (folder or Path(made)).absolute()
        place.mkdir(parents=True, exist_ok=True)
        try:
            show = _nowhere if no_open or once else _open
            code = asyncio.run(tell(place, at, model, sandbox, once=once, say=click.echo, show=show))
        except TimeoutError as error:
            click.echo(f"Error: {error}; what the service said is above", err=True)
            code = 1
    sys.exit(code)


def _port(wanted: int | None) -> int:
    """One that is free now; the usual one, unless another was asked for."""
    import socket

    for port in (wanted or _USUAL_PORT, 0):
        try:
            with socket.create_server(("127.0.0.1", port), reuse_port=False) as found:
                free: int = found.getsockname()[1]
        except OSError as error:
            if wanted is not None:
                click.echo(f"Error: port {port} can't be had ({error.strerror}): name another --port", err=True)
                sys.exit(6)
            click.echo(f"Port {port} is taken; the service gets another one.")
            continue
        return free
    click.echo("Error: this machine has no free port", err=True)
    sys.exit(6)


def _forget_settings() -> None:
    """A service that is set up in this shell has nothing to do with the demo's."""
    for name in [name for name in os.environ if name.startswith("PATCHWRIGHT_") and name not in _KEPT]:
        del os.environ[name]


def _nowhere(_: str) -> None:
    pass


def _open(address: str) -> None:
    """In the browser of whoever sits here; not in one that would take the terminal over, nor for a program."""
    import threading
    import webbrowser

    desktop = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.stdout.isatty() and desktop:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
