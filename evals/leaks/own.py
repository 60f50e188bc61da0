"""The audit of what an agent would get from us: a commit checked out in a sandbox that is opened for this and closed.

No agent ever runs in this sandbox, so gold may be looked for in it. Left out: the audit (`evals.leaks.checkout`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from agent import config, machine
from agent.runs import RunFolder
from agent.sources import repositories
from agent.worktree import Worktree
from evals.instance import Instance
from evals.leaks.checkout import Bounds, audit_checkout
from evals.leaks.leak import Leak
from sandbox.scratch import scratch


@dataclass(frozen=True, slots=True)
class Audited:
    """One audit: of what, and what survives there."""

    commit: str
    kind: str
    image: str
    workdir: str
    leaks: tuple[Leak, ...]
    seconds: float


async def audit_own(
    repository: str,
    revision: str,
    *,
    kind: str = "auto",
    image: str | None = None,
    instance: Instance | None = None,
    bounds: Bounds | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Audited:
    """Check a commit out as a run does, in a sandbox of this kind and image, and audit it.

    Raises AuditFailed, SandboxError, and agent.ends.RunProblem for a repository or revision that isn't there.
    """
    began = time.monotonic()
    found = await repositories.resolve(repository)
    with scratch("audit") as folder:
        run = RunFolder(folder)
        base = await repositories.fetch_base(found, run.repository, revision, allow_dirty=True)
        settings = await config.read_config(run.repository, base.commit)
        place = await machine.prepare(kind, image, settings, run, progress, may_build=found.folder is not None)
        sandbox = await place.open("audit")
        try:
            await Worktree(sandbox, run.repository, base).fill()
            leaks = await audit_checkout(sandbox, sandbox.workdir, base.commit, instance=instance, bounds=bounds)
        finally:
            await sandbox.close()
    return Audited(base.commit, place.kind, place.image, place.workdir, leaks, round(time.monotonic() - began, 2))
