"""`agent sandbox`: make the base image, list what is there, check the kinds of sandbox, clear away.

Parses, calls `sandbox`, prints. Progress goes to the error stream, results to the output.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sandbox.images import Recipe, Report

EXIT_FAILED = 1
KINDS = ("docker", "bubblewrap", "all")

as_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on the output.")


@click.group()
def sandbox() -> None:
    """Sandboxes and their base images."""


@sandbox.command()
@click.option("--kind", type=click.Choice(KINDS), help="What to make it for; default: whatever works here.")
@click.option("--packages", multiple=True, metavar="NAMES", help="More distribution packages, separated by commas.")
@click.option("--suite", help="The release to build from, such as bookworm; default: this machine's own.")
@click.option("--from", "source", type=click.Path(path_type=Path), help="Take the .tar made on another machine.")
@click.option("--force", is_flag=True, help="Build again although it is in the cache, for newer packages.")
@as_json_option
def build(
    kind: str | None, packages: tuple[str, ...], suite: str | None, source: Path | None, force: bool, as_json: bool
) -> None:
    """Make the base image from this machine's package mirror: no registry, no root.

    What it makes is kept in the cache ($PATCHWRIGHT_CACHE, else ~/.cache/patchwright) and made once.
    """
    from sandbox.images import base_tar, import_tar, recipe

    began = time.monotonic()
    with _errors(as_json):
        of = recipe(suite, (name for text in packages for name in text.replace(",", " ").split()))
        tar = import_tar(source, of, report=_report) if source else base_tar(of, report=_report, force=force)
        made: dict[str, Any] = {"digest": of.digest, "suite": of.suite, "tar": str(tar)}
        made |= _make(kind, of, force or source is not None)
        made["seconds"] = round(time.monotonic() - began, 1)
    if as_json:
        click.echo(json.dumps(made, indent=1))
        return
    click.echo(f"base image {made['digest']} ({made['suite']}), {made['seconds']} s")
    for name in ("tar", "docker", "bubblewrap"):
        if name in made:
            click.echo(f"  {name}: {made[name]}")


def _make(kind: str | None, of: Recipe, force: bool) -> dict[str, str]:
    """Hand the tar to Docker and bubblewrap. Without a kind, an engine that isn't there is no error."""
    from sandbox.base import SandboxUnavailable
    from sandbox.images import base_image, base_tree, ensure_bwrap
    from sandbox.images.engine import connect

    made = {}
    if kind in (None, "docker", "all"):
        try:
            client = connect()
        except SandboxUnavailable as error:
            if kind is not None:
                raise
            click.echo(f"no image for Docker: {error}", err=True)
        else:
            made["docker"] = base_image(client, of, report=_report, replace=force)
            client.close()
    if kind in ("bubblewrap", "all") or (kind is None and not made):
        ensure_bwrap(report=_report)
        made["bubblewrap"] = str(base_tree(of, report=_report))
    return made


@sandbox.command("list")
@as_json_option
def list_images(as_json: bool) -> None:
    """List the images that were made: in the cache and in the Docker engine."""
    from sandbox.images import cached_bases

    with _errors(as_json):
        cached = [
            {
                "digest": base.digest,
                "suite": base.suite,
                "packages": list(base.packages),
                "tar": str(base.tar),
                "tar_bytes": base.tar_bytes,
                "tree": str(base.tree) if base.tree else None,
                "made": int(base.made),
            }
            for base in cached_bases()
        ]
    engine = _engine_images()
    if as_json:
        click.echo(json.dumps({"cache": cached, "docker": engine}, indent=1))
        return
    for entry in cached:
        days = (time.time() - int(str(entry["made"]))) / 86400
        megabytes = int(str(entry["tar_bytes"])) >> 20
        click.echo(f"cache   base {entry['digest']}  {entry['suite']}  {megabytes} MiB  {days:.0f} days old")
        click.echo(f"        {entry['tree'] or entry['tar']}")
    for image in engine:
        click.echo(f"docker  {image['kind']} {', '.join(image['tags']) or '(no tag)'}  {image['bytes'] >> 20} MiB")
    if not cached and not engine:
        click.echo("no images yet; `agent sandbox build` makes the base image")


@sandbox.command()
@click.option("--kind", type=click.Choice(KINDS), default="all", show_default=True, help="Which to check.")
@as_json_option
def check(kind: str, as_json: bool) -> None:
    """Open a sandbox of each kind that works here and run a command in it. Exit code 1 when none works."""
    import asyncio

    from sandbox.choose import available

    findings = []
    for fact in available():
        if fact.kind == "none" or kind not in ("all", fact.kind):
            continue
        finding = {"kind": fact.kind, "usable": fact.usable, "said": fact.said, "todo": fact.todo}
        findings.append(finding | (asyncio.run(_try_out(fact.kind)) if fact.usable else {}))
    if as_json:
        click.echo(json.dumps(findings, indent=1))
    else:
        for finding in findings:
            click.echo(f"{'ok     ' if finding['usable'] else 'missing'}  {finding['kind']}: {finding['said']}")
            if finding["todo"]:
                click.echo(f"         -> {finding['todo']}")
    sys.exit(0 if any(finding["usable"] for finding in findings) else EXIT_FAILED)


async def _try_out(kind: str) -> dict[str, Any]:
    from sandbox.base import SandboxError
    from sandbox.choose import open_sandbox
    from sandbox.images import resolve_image
    from sandbox.policy import SandboxSpec

    try:
        image = await resolve_image(kind, progress=lambda line: click.echo(line, err=True))
        began = time.monotonic()
        box = await open_sandbox(kind, SandboxSpec(image=image))
        try:
            result = await box.run("python3 --version && git --version && rg --version | sed -n 1p")
        finally:
            await box.close()
    except SandboxError as error:
        return {"usable": False, "said": str(error)}
    seconds = round(time.monotonic() - began, 2)
    said = ", ".join(result.output.decode(errors="replace").split("\n")).rstrip(", ")
    return {"usable": result.exit_code == 0, "said": f"{said} (opened, used and closed in {seconds} s)"}


@sandbox.command()
@click.option("--images", is_flag=True, help="Also remove images that can be made again, but for the newest base.")
@as_json_option
def prune(images: bool, as_json: bool) -> None:
    """Remove what killed runs left behind."""
    from sandbox.choose import prune as prune_leftovers

    with _errors(as_json):
        removed = dict(prune_leftovers())
        if images:
            removed["images"] = _prune_images()
    if as_json:
        click.echo(json.dumps(removed))
        return
    for what, count in removed.items():
        click.echo(f"{what}: {count} removed")


def _prune_images() -> int:
    from sandbox.base import SandboxUnavailable
    from sandbox.images import recipe
    from sandbox.images.base_image import cached_bases, remove_base
    from sandbox.images.engine import connect, remove_own_images

    keep = recipe().digest
    old = [base for base in cached_bases() if base.digest != keep]
    for base in old:
        remove_base(base)
    try:
        client = connect()
    except SandboxUnavailable:
        return len(old)
    gone = remove_own_images(client, keep)
    client.close()
    return len(old) + gone


def _engine_images() -> list[dict[str, Any]]:
    """Our images in the engine; none where no engine answers."""
    from sandbox.base import SandboxUnavailable
    from sandbox.images.engine import connect, own_images

    try:
        client = connect()
    except SandboxUnavailable:
        return []
    found = own_images(client)
    client.close()
    return [{"id": image.id, "kind": image.kind, "tags": list(image.tags), "bytes": image.bytes} for image in found]


def _report(what: Any) -> None:
    from sandbox.images import as_lines

    report: Report = as_lines(lambda line: click.echo(line, err=True))
    report(what)


@contextmanager
def _errors(as_json: bool) -> Iterator[None]:
    """A failure as a message for people, or as JSON, and exit code 1."""
    from sandbox.base import SandboxError

    try:
        yield
    except SandboxError as error:
        if as_json:
            click.echo(json.dumps({"error": str(error), "kind": type(error).__name__}, indent=1))
        else:
            click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_FAILED)
