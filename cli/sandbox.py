"""`agent sandbox`: make the base image, list what is there, check the kinds of sandbox, clear away.

Parses, calls `sandbox`, prints. Progress goes to the error stream, results to the output.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.lazy import Entry, LazyGroup

if TYPE_CHECKING:
    from sandbox.images import Recipe, Report

EXIT_FAILED = 1
ENGINES = ("docker", "podman")
KINDS = ("docker", "podman", "bubblewrap", "all")

as_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on the output.")

COMMANDS: dict[str, Entry] = {
    "build": ("cli.sandbox", "build", "Make the base image, or the environment that a repository's tests need."),
    "list": ("cli.sandbox", "list_images", "List the images that were made: in the cache and in the engines."),
    "check": ("cli.sandbox_check", "check", "Measure in a real sandbox whether the hardening holds."),
    "prune": ("cli.sandbox_prune", "prune", "Remove what killed runs left behind, and images over the disk budget."),
    "save": ("cli.sandbox_archive", "save", "Write images to one file, for a machine without a network."),
    "load": ("cli.sandbox_archive", "load", "Take the images of a file that `save` wrote."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def sandbox() -> None:
    """Sandboxes and their images."""


@click.command()
@click.argument("repo", required=False)
@click.option("--kind", type=click.Choice(KINDS), help="What to make it for; default: whatever works here.")
@click.option("--packages", multiple=True, metavar="NAMES", help="More distribution packages, separated by commas.")
@click.option("--suite", help="The release to build from, such as bookworm; default: this machine's own.")
@click.option("--from", "source", type=click.Path(path_type=Path), help="Take the .tar made on another machine.")
@click.option("--force", is_flag=True, help="Build again although it is in the cache, for newer packages.")
@click.option("--dry-run", is_flag=True, help="Of REPO: only say what is seen and what would be made.")
@click.option("--test", is_flag=True, help="Of REPO: run its test command in a sandbox, without network.")
@click.option("--allow-build", is_flag=True, help="Let a REPO that isn't a local folder build its own image.")
@as_json_option
def build(repo: str | None, as_json: bool, **options: Any) -> None:
    """Make the base image, or the environment that the tests of REPO need.

    The base image is made from this machine's package mirror: no registry, no root. REPO is a folder, a git URL or
    owner/name; what its tests need is read from .patchwright.toml, devcontainer.json or Dockerfile, else detected.
    What is made is kept in the cache ($PATCHWRIGHT_CACHE, else ~/.cache/patchwright) and made once.
    """
    packages = tuple(name for text in options["packages"] for name in text.replace(",", " ").split())
    with errors(as_json):
        if repo is None:
            _refuse(options, ("dry_run", "test", "allow_build"), "needs a REPO")
            _build_base(options["kind"], packages, options["suite"], options["source"], options["force"], as_json)
            return
        _refuse(options, ("suite", "source", "force"), "is for the base image, not for a REPO")
        from cli.sandbox_repository import Wanted, build_repository

        if options["kind"] == "all":
            raise click.UsageError("--kind all is for the base image: name one kind for a REPO")
        switches = (options["dry_run"], options["test"], options["allow_build"])
        sys.exit(build_repository(Wanted(repo, options["kind"], packages, *switches, as_json)))


def _refuse(options: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    for name in names:
        if options[name]:
            flag = {"source": "from"}.get(name, name).replace("_", "-")
            raise click.UsageError(f"--{flag} {why}")


def _build_base(
    kind: str | None, packages: tuple[str, ...], suite: str | None, source: Path | None, force: bool, as_json: bool
) -> None:
    from sandbox.images import base_tar, import_tar, recipe
    from sandbox.images.budget import make_room

    began = time.monotonic()
    of = recipe(suite, packages)
    tar = (
        import_tar(source, of, report=report_progress) if source else base_tar(of, report=report_progress, force=force)
    )
    made: dict[str, Any] = {"digest": of.digest, "suite": of.suite, "tar": str(tar)}
    made |= _make(kind, of, force or source is not None)
    for line in make_room():
        click.echo(line, err=True)
    made["seconds"] = round(time.monotonic() - began, 1)
    if as_json:
        click.echo(json.dumps(made, indent=1))
        return
    click.echo(f"base image {made['digest']} ({made['suite']}), {made['seconds']} s")
    for name in ("tar", "docker", "podman", "bubblewrap"):
        if name in made:
            click.echo(f"  {name}: {made[name]}")


def _make(kind: str | None, of: Recipe, force: bool) -> dict[str, str]:
    """Hand the tar to what was asked for: a kind, all that work here, or without a kind the first that works."""
    from sandbox.images import base_image, base_tree, ensure_bwrap
    from sandbox.images.engine import connect, engines

    made = {}
    if kind in ENGINES:
        with closing(connect(kind)) as client:
            made[kind] = base_image(client, of, report=report_progress, replace=force)
    elif kind in (None, "all"):
        for each, client in engines():
            made[each] = base_image(client, of, report=report_progress, replace=force)
            if kind is None:
                break
        if not made:
            click.echo("no image for Docker or Podman: neither answers (`agent doctor` says why)", err=True)
    if kind in ("bubblewrap", "all") or (kind is None and not made):
        ensure_bwrap(report=report_progress)
        made["bubblewrap"] = str(base_tree(of, report=report_progress))
    return made


@click.command("list")
@as_json_option
def list_images(as_json: bool) -> None:
    """List the images that were made: in the cache and in the engines."""
    from sandbox.images import cached_bases
    from sandbox.images.setup_tree import cached_environments

    with errors(as_json):
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
        environments = [str(path) for path in cached_environments()]
    made = _engine_images()
    if as_json:
        click.echo(json.dumps({"cache": cached, "environments": environments, **made}, indent=1))
        return
    for entry in cached:
        days = (time.time() - int(str(entry["made"]))) / 86400
        megabytes = int(str(entry["tar_bytes"])) >> 20
        click.echo(f"cache   base {entry['digest']}  {entry['suite']}  {megabytes} MiB  {days:.0f} days old")
        click.echo(f"        {entry['tree'] or entry['tar']}")
    for path in environments:
        click.echo(f"cache   environment {path}")
    for kind, image in ((kind, image) for kind, images in made.items() for image in images):
        click.echo(f"{kind}  {image['kind']} {', '.join(image['tags']) or '(no tag)'}  {image['bytes'] >> 20} MiB")
    if not cached and not any(made.values()) and not environments:
        click.echo("no images yet; `agent sandbox build` makes the base image")


def _engine_images() -> dict[str, list[dict[str, Any]]]:
    """Our images by the engine's kind; none for an engine that doesn't answer."""
    from sandbox.images.engine import engines, own_images

    found = {kind: [asdict(image) for image in own_images(client)] for kind, client in engines()}
    return {kind: found.get(kind, []) for kind in ENGINES}


def report_progress(what: Any) -> None:
    from sandbox.images import as_lines

    report: Report = as_lines(lambda line: click.echo(line, err=True))
    report(what)


@contextmanager
def errors(as_json: bool) -> Iterator[None]:
    """A failure as a message for people, or as JSON, and exit code 1."""
    from agent.ends import RunProblem
    from sandbox.base import SandboxError

    try:
        yield
    except (SandboxError, RunProblem) as error:
        if as_json:
            click.echo(json.dumps({"error": str(error), "kind": type(error).__name__}, indent=1))
        else:
            click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_FAILED)
