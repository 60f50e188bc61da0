"""`agent sandbox prune`: what killed runs left, and images over the disk budget. Parses, calls `sandbox`, prints."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from cli.sandbox import EXIT_FAILED, as_json_option, errors

if TYPE_CHECKING:
    from sandbox.images.budget import Outcome
    from sandbox.leftovers import Leftover


@click.command()
@click.option("--images", is_flag=True, help="Also remove every image that can be made again and isn't in use.")
@click.option("--budget", metavar="SIZE", help="Of the disk for images: 40G, 500M, 20% or none; default: the setting.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@as_json_option
def prune(images: bool, budget: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove what killed runs left behind, and images over the disk budget.

    Of the images, those go first that were used longest ago; never one that a sandbox, a container or a build uses,
    one that a kept image was made from, or the newest base.
    """
    with errors(as_json):
        from sandbox.images.budget import NOTHING, RECENT, budget_for, enforce
        from sandbox.leftovers import sweep

        bound = NOTHING if images else budget_for(budget)
        problems: list[str] = []
        gone = sweep(dry_run=dry_run, told=problems.append)
        kept = enforce(bound, dry_run=dry_run, recent=0.0 if images or budget else RECENT)
        interpreters = _interpreters() if images and not dry_run else 0
    if as_json:
        click.echo(json.dumps({**_document(gone, kept, interpreters, dry_run), "problems": problems}, indent=1))
    else:
        _print(gone, kept, interpreters, dry_run)
    for problem in problems:
        click.echo(f"Error: {problem}", err=True)
    if problems:
        sys.exit(EXIT_FAILED)


def _interpreters() -> int:
    """The guest's interpreters in the engines; made again where they are needed."""
    from sandbox.guest_python_volume import remove_volumes
    from sandbox.images.engine import engines

    return sum(remove_volumes(client) for _, client in engines())


def _document(gone: list[Leftover], kept: list[Outcome], interpreters: int, dry_run: bool) -> dict[str, Any]:
    removed = [{"what": one.what, "name": one.name, "bytes": one.bytes} for one in gone]
    evicted = [one for store in kept for one in store.evicted]
    removed += [{"what": f"{one.store} image", "name": one.name, "bytes": one.bytes} for one in evicted]
    return {
        "dry_run": dry_run,
        "removed": removed,
        "interpreters": interpreters,
        "bytes": sum(int(str(one["bytes"])) for one in removed),
        "images": {store.store: {"bytes": store.after, "budget": store.limit} for store in kept},
    }


def _print(gone: list[Leftover], kept: list[Outcome], interpreters: int, dry_run: bool) -> None:
    from sandbox.images.budget import human

    went = "would go" if dry_run else "removed"
    for what, count in sorted(Counter(one.what for one in gone).items()):
        size = sum(one.bytes for one in gone if one.what == what)
        click.echo(f"{what}: {count} {went}, {human(size)}")
        if dry_run:
            click.echo("".join(f"  {one.name}\n" for one in gone if one.what == what), nl=False)
    evicted = [one for store in kept for one in store.evicted]
    for image in evicted:
        click.echo(f"image {image.name} ({image.store}): {went}, {human(image.bytes)}")
    if interpreters:
        click.echo(f"interpreters for images without Python: {interpreters} {went}")
    if not (gone or evicted or interpreters):
        click.echo("nothing was left behind")
    for store in kept:
        bound = f" of {human(store.limit)}" if store.limit else ""
        click.echo(f"{store.store}: images take {human(store.after)}{bound}")
