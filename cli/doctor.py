"""`agent doctor`: what this machine has of what a run needs, what is missing, and the command that gets it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from dataclasses import asdict, dataclass

import click


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `needed` ones decide the exit code."""

    what: str
    ok: bool
    said: str
    todo: str = ""
    needed: bool = False


@click.command()
@click.option("--model", default="http://127.0.0.1:30000", envvar="PATCHWRIGHT_MODEL", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="A JSON array of findings.")
def doctor(model: str, as_json: bool) -> None:
    """What is there, what is missing, and how to get it. Exit code 0 when a run could start."""
    import asyncio

    findings = [_python(), _git(), *_sandboxes(), _runs(), asyncio.run(_model(model)), _embedded()]
    usable = any(f.ok for f in findings if f.what.startswith("sandbox"))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            click.echo(f"{'ok     ' if finding.ok else 'missing'}  {finding.what}: {finding.said}")
            if not finding.ok and finding.todo:
                click.echo(f"         -> {finding.todo}")
    sys.exit(0 if usable and all(finding.ok for finding in findings if finding.needed) else 1)


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer", needed=True)


def _git() -> Finding:
    path = shutil.which("git")
    return Finding("git", bool(path), path or "not on PATH", "apt-get install git", needed=True)


def _sandboxes() -> list[Finding]:
    from sandbox.choose import available

    return [
        Finding(f"sandbox {fact.kind}", fact.usable, fact.said, fact.todo)
        for fact in available()
        if fact.kind != "none"
    ]


def _runs() -> Finding:
    from agent.runs import runs_folder

    folder = runs_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("runs", False, f"{folder}: {error.strerror}", "set PATCHWRIGHT_HOME to a folder", needed=True)
    enough = free > 1 << 30
    return Finding(
        "runs", enough, f"{folder}, {free >> 30} GiB free", "make room, or set PATCHWRIGHT_HOME", needed=True
    )


async def _model(target: str) -> Finding:
    from runtime.models.base import ModelError
    from runtime.models.connect import connect

    try:
        model = await connect(target)
    except ModelError as error:
        return Finding("model", False, str(error), "start a server, or name another with --model", needed=True)
    said = f"{model.name} at {target}, context of {model.context_length} tokens"
    await model.close()
    return Finding("model", True, said, needed=True)


def _embedded() -> Finding:
    there = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
    said = "torch and transformers are installed" if there else "models can't run in this process"
    return Finding("extra embedded", bool(there), said, "pip install 'patchwright[embedded]' (only for checkpoints)")
