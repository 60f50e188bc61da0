"""`agent sandbox check`: measure the hardening of every kind of sandbox that works here, as a table or as JSON.

Parses, calls `sandbox.check`, prints.
"""

from __future__ import annotations

import json
import sys
import textwrap
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from cli.sandbox import EXIT_FAILED, as_json_option

if TYPE_CHECKING:
    from sandbox.check import Finding
    from sandbox.policy import SandboxSpec

KINDS = ("docker", "podman", "bubblewrap", "all")
WIDTH = 58


@dataclass(frozen=True, slots=True)
class Checked:
    """One kind: not usable here (then `said` is why), or measured."""

    kind: str
    usable: bool
    said: str
    todo: str
    seconds: float = 0.0
    findings: tuple[Finding, ...] = ()

    @property
    def held(self) -> bool:
        from sandbox.check import Held

        return all(finding.held in (Held.YES, Held.UNSEEN) for finding in self.findings)


@click.command()
@click.option("--kind", type=click.Choice(KINDS), default="all", show_default=True, help="Which to check.")
@click.option("--image", help="Docker image, or folder with a root file system; it needs python3.  [default: the base]")
@click.option("--runtime", envvar="PATCHWRIGHT_RUNTIME", help="OCI runtime of the container engine, such as runsc.")
@as_json_option
def check(kind: str, image: str | None, runtime: str | None, as_json: bool) -> None:
    """Measure in a real sandbox whether each line of the hardening holds.

    Opens a sandbox of each kind that works here, tries from inside what must not work, and looks at it from this
    machine. Exit code 1 when a line doesn't hold in one of them, or when none works.
    """
    from sandbox.policy import SandboxSpec

    checked = list(_all(kind, SandboxSpec(image=image, runtime=runtime)))
    if as_json:
        click.echo(json.dumps([asdict(each) | {"held": each.held} for each in checked], indent=1))
    else:
        for each in checked:
            _show(each)
    good = any(each.usable for each in checked) and all(each.held for each in checked)
    sys.exit(0 if good else EXIT_FAILED)


def _all(kind: str, spec: SandboxSpec) -> Any:
    from sandbox.choose import available

    for fact in available():
        if fact.kind == "none" or kind not in ("all", fact.kind):
            continue
        if not fact.usable:
            yield Checked(fact.kind, False, fact.said, fact.todo)
        else:
            yield _measure(fact.kind, fact.said, spec)


def _measure(kind: str, said: str, spec: SandboxSpec) -> Checked:
    import asyncio

    from sandbox.base import SandboxError
    from sandbox.check import check as measure

    async def work() -> list[Finding]:
        image = spec.image or await _image(kind)
        return await measure(kind, replace(spec, image=image))

    began = time.monotonic()
    try:
        findings = asyncio.run(work())
    except SandboxError as error:
        return Checked(kind, False, str(error), "")
    return Checked(kind, True, said, "", round(time.monotonic() - began, 1), tuple(findings))


async def _image(kind: str) -> str | None:
    """The base image, made where it isn't there; of Podman the one that it has."""
    from sandbox.images import resolve_image

    if kind == "podman":
        return None
    return await resolve_image(kind, progress=lambda line: click.echo(line, err=True))


def _show(checked: Checked) -> None:
    click.echo(f"{checked.kind}: {checked.said}")
    if checked.todo:
        click.echo(f"  -> {checked.todo}")
    if not checked.usable:
        click.echo("")
        return
    width = max(len(finding.line) for finding in checked.findings)
    for finding in checked.findings:
        policy, seen = (textwrap.wrap(text, WIDTH) for text in (finding.policy, finding.seen))
        for row in range(max(len(policy), len(seen))):
            left = f"{finding.held:<9}{finding.line:<{width}}" if row == 0 else " " * (9 + width)
            cells = (lines[row] if row < len(lines) else "" for lines in (policy, seen))
            click.echo(f"  {left}  {next(cells):<{WIDTH}}  {next(cells)}".rstrip())
    bad = [finding.line for finding in checked.findings if finding.held in ("no", "weaker")]
    click.echo(f"  {'every line holds' if not bad else 'not held: ' + ', '.join(bad)} ({checked.seconds} s)\n")
