"""The audit of a checkout: everything in a sandbox that survives of the future or of the solution.

A program of ours (`evals.leaks.inside`) runs in the sandbox as the agent would, with the same image, user and
checkout; what it prints is data, read strictly. Where gold is looked for, only salted digests of its lines go in, and
the sandbox must be one that no agent ever gets: a second one of the same image and checkout. Left out: opening it
(`evals.leaks.own`).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from evals.instance import Instance
from evals.leaks.gold import endings, marks
from evals.leaks.leak import USES, AuditFailed, Leak, LeakKind, printable
from sandbox.base import CommandEnd, CommandResult, Sandbox
from sandbox.guest_python import OURS

_MODULES: Final = (
    "report", "repository", "history", "lines", "project", "copies", "machine", "files", "main",
)  # fmt: skip
"""Each after those that it imports."""
_BOOT: Final = """
import json, sys, types
given = json.load(sys.stdin)
for name, source in given["modules"]:
    sys.modules[name] = module = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
sys.modules["evals.leaks.inside.main"].main(given["settings"])
"""
_MOST_OUTPUT: Final = 2 << 20
_GRACE: Final = 30.0  # seconds that the program may take to end after its time is over


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long and how much an audit may look. What it didn't get to is a leak of kind `not looked at`."""

    seconds: float = 300.0
    files: int = 2_000_000  # names that are seen
    content: int = 4 << 30  # bytes that are searched for gold
    findings: int = 200


async def audit_checkout(
    sandbox: Sandbox,
    workdir: str,
    base_commit: str,
    *,
    instance: Instance | None = None,
    roots: tuple[str, ...] | None = None,
    network: bool | None = None,
    bounds: Bounds | None = None,
) -> tuple[Leak, ...]:
    """What survives in `sandbox`, whose work folder is a checkout of `base_commit`; empty when nothing does.

    `roots` are the folders that are searched beside the work folder; None is the whole file system where the sandbox
    isolates, and nothing where it doesn't. `network`: whether ways out and other processes are looked at; None as
    for `roots`. With `instance` gold is looked for, so the sandbox must be one that no agent ever gets. Raises
    AuditFailed, SandboxError.
    """
    isolated = sandbox.kind != "none"
    bounds = bounds or Bounds()
    salt = secrets.token_bytes(16)
    settings = {
        "workdir": workdir,
        "base": base_commit,
        "roots": list(roots if roots is not None else ("/",) if isolated else ()),
        "network": isolated if network is None else network,
        "names": [instance.repo] if instance else [],
        "version": instance.version if instance else "",
        "salt": salt.hex(),
        "endings": endings(instance) if instance else [],
        "lines": _digests(marks(instance), salt) if instance else {},
        "seconds": bounds.seconds,
        "files": bounds.files,
        "content": bounds.content,
        "findings": bounds.findings,
    }
    given = json.dumps({"modules": _sources(), "settings": settings}).encode()
    script = f'PATH="$PATH:{OURS}"; exec python3 -I -S -c "$0"'
    result = await sandbox.run(
        ["/bin/sh", "-c", script, _BOOT],
        cwd="/",
        timeout=bounds.seconds + _GRACE,
        max_output=_MOST_OUTPUT,
        stdin=given,
    )
    return _read(result, workdir)


def _sources() -> list[tuple[str, str]]:
    folder = Path(__file__).with_name("inside")
    return [(f"evals.leaks.inside.{name}", (folder / f"{name}.py").read_text("utf-8")) for name in _MODULES]


def _digests(lines: tuple[str, ...], salt: bytes) -> dict[str, int]:
    """Digest -> length in bytes of each line."""
    encoded = [line.encode() for line in lines]
    return {hashlib.blake2b(line, key=salt, digest_size=16).hexdigest(): len(line) for line in encoded}


def _read(result: CommandResult, workdir: str) -> tuple[Leak, ...]:
    """The findings, each checked: whoever answers there may be a program of the image."""
    output = result.output.decode("utf-8", "replace")
    if result.end is not CommandEnd.EXITED or result.exit_code or result.dropped_bytes:
        raise AuditFailed(
            f"the audit of {workdir} didn't end well ({result.end}, {result.exit_code}): "
            f"{printable(output[-600:], 600)}; the image needs git and python3 3.6 or newer"
        )
    try:
        said = json.loads(output)
        if "failed" in said:
            raise AuditFailed(f"nothing can be said of {workdir}: {printable(str(said['failed']), 600)}")
        leaks = [_leak(found["kind"], found["where"], found["what"]) for found in said["findings"]]
        more = [_leak(kind, "elsewhere", f"and {int(count)} more of this kind") for kind, count in said["more"].items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditFailed(f"the audit of {workdir} answered what no audit answers: {error!r}") from error
    return (*leaks, *more)


def _leak(kind: Any, where: Any, what: Any) -> Leak:
    known = LeakKind(kind)
    return Leak(known, printable(str(where), 300), printable(str(what), 400), USES[known])
