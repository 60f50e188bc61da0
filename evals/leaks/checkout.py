"""The audit of a checkout: everything in a sandbox that survives of the future or of the solution.

A program of ours (`evals.leaks.inside`) runs in the sandbox as the agent would, with the same image, user and
checkout; what it prints is data, read strictly. Where gold is looked for, only salted digests of its lines go in, and
the sandbox must be one that no agent ever gets: a second one of the same image and checkout. Left out: opening it.
"""

from __future__ import annotations

from dataclasses import dataclass

from evals.instance import Instance
from evals.leaks.leak import Leak
from sandbox.base import Sandbox


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long and how much an audit may look. What it didn't get to is a leak of kind `not looked at`."""

    seconds: float = 180.0
    files: int = 2_000_000  # names that are seen
    content: int = 2 << 30  # bytes that are searched for gold
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
    isolates, and nothing where it doesn't. The same holds for `network`. With `instance` gold is looked for, so the
    sandbox must be one that no agent ever gets. Raises AuditFailed, SandboxError.
    """
    raise NotImplementedError
