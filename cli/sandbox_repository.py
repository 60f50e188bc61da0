"""`agent sandbox build REPO`: says what was seen in a repository and what was chosen, and makes its environment.

Parses, calls `agent` and `sandbox`, prints. Progress goes to the error stream, results to the output.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from agent.environments import Checkout
    from sandbox.images import Environment, ImageConfig

EXIT_FAILED = 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """One `agent sandbox build REPO`."""

    repository: str
    kind: str | None
    packages: tuple[str, ...]
    dry_run: bool
    test: bool
    allow_build: bool
    as_json: bool


def build_repository(wanted: Wanted) -> int:
    """Returns the exit code: 1 when the tests were asked for and failed. Raises SandboxError or RunProblem."""
    import asyncio

    return asyncio.run(_build(wanted))


async def _build(wanted: Wanted) -> int:
    from agent.environments import checked_out

    async with checked_out(wanted.repository) as files:
        said = files.config.sandbox
        from sandbox.images import ImageConfig

        packages = tuple(sorted({*said.packages, *wanted.packages}))
        config = ImageConfig(said.image, said.dockerfile, said.setup, packages)
        if wanted.dry_run:
            _print_choices(wanted, files, config)
            return 0
        return await _make(wanted, files, config)


def _print_choices(wanted: Wanted, files: Checkout, config: ImageConfig) -> None:
    from sandbox.images import choices
    from sandbox.images.detect import Tree

    tried = choices(files.folder, config)
    tree = Tree(files.folder)
    if wanted.as_json:
        shown = [found.to_json() | {"digest": found.setup.digest(tree)} for found in tried]
        click.echo(json.dumps({"choices": shown}, indent=1))
        return
    for number, found in enumerate(tried):
        if number:
            click.echo("\nif that can't be had:")
        for line in found.lines():
            click.echo(line)
        if found.setup.steps:
            click.echo(f"depends on: {len(found.setup.inputs)} files, digest {found.setup.digest(tree)}")


async def _make(wanted: Wanted, files: Checkout, config: ImageConfig) -> int:
    from sandbox.choose import choose
    from sandbox.images import environment_for, run_tests

    began = time.monotonic()
    said = files.config.sandbox
    kind = await choose(wanted.kind or "auto")
    made = await environment_for(
        kind,
        context=files.folder,
        config=config,
        workdir=said.workdir if "workdir" in said.model_fields_set else None,
        may_build=files.local or wanted.allow_build,
        progress=lambda line: click.echo(line, err=True),
    )
    if command := files.config.test.command:
        made = replace(made, detection=replace(made.detection, test=command))
    result = _described(kind, made) | {"seconds": round(time.monotonic() - began, 1)}
    if wanted.test:
        done = await run_tests(kind, made, files.folder, timeout=files.config.test.timeout)
        output = done.output.decode("utf-8", "replace")
        result["tests"] = {"exit_code": done.exit_code, "end": done.end, "seconds": round(done.seconds, 1)}
        click.echo(output, err=True)
    _print_made(wanted, result)
    return EXIT_FAILED if wanted.test and result["tests"]["exit_code"] else 0


def _described(kind: str, made: Environment) -> dict[str, Any]:
    return {"kind": kind, "image": made.image, "workdir": made.workdir, "detection": made.detection.to_json()}


def _print_made(wanted: Wanted, result: dict[str, Any]) -> None:
    if wanted.as_json:
        click.echo(json.dumps(result, indent=1))
        return
    click.echo(f"{result['kind']} image: {result['image']} ({result['seconds']} s)")
    click.echo(f"work folder: {result['workdir']}")
    if command := result["detection"]["test"]:
        click.echo(f"test command: {command}")
    if wanted.test:
        tests = result["tests"]
        click.echo(f"tests: exit status {tests['exit_code']} ({tests['end']}, {tests['seconds']} s)")
