"""`agent sandbox save` and `load`: images in one file, for machines without a network.

Parses, calls `sandbox`, prints. Progress goes to the error stream, results to the output.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cli.sandbox import as_json_option, errors, report_progress

kind_option = click.option(
    "--kind", type=click.Choice(["docker", "podman"]), help="The engine.  [default: the first that answers]"
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("images", nargs=-1)
@kind_option
@as_json_option
def save(file: Path, images: tuple[str, ...], kind: str | None, as_json: bool) -> None:
    """Write images to one FILE: the named ones (see `list`), else all that were made here."""
    from sandbox.images.archive import save as save_images

    with errors(as_json):
        _print(save_images(file, images, kind=kind, report=report_progress), file, as_json)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@kind_option
@as_json_option
def load(file: Path, kind: str | None, as_json: bool) -> None:
    """Take the images of a FILE that `save` wrote: into the engine if there is one, and into the cache."""
    from sandbox.images.archive import load as load_images

    with errors(as_json):
        _print(load_images(file, kind=kind, report=report_progress), file, as_json)


def _print(archived: Any, file: Path, as_json: bool) -> None:
    held = {"engine": archived.docker, "bubblewrap": archived.trees, "base": archived.bases}
    if as_json:
        click.echo(json.dumps({"file": str(file), "bytes": file.stat().st_size, **held}, indent=1))
        return
    click.echo(f"{file}: {file.stat().st_size >> 20} MiB")
    for kind, names in held.items():
        for name in names:
            click.echo(f"  {kind}: {name}")
