"""The audit of what an agent would get from us: a commit checked out in a sandbox that is opened for this and closed.

No agent ever runs in this sandbox, so gold may be looked for in it. Left out: the audit (`evals.leaks.checkout`), and
what is done about its findings (`evals.environments.closing`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from agent import config, machine
from agent.machine import Machine
from agent.runs import RunFolder
from agent.sources import repositories
from agent.worktree import Worktree
from evals.instance import Instance
from evals.leaks.checkout import Bounds, audit_checkout
from evals.leaks.leak import Leak
from sandbox.base import Sandbox
from sandbox.scratch import scratch

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Audited:
    """One audit: of what, and what survives there."""

    commit: str
    kind: str
    image: str
    workdir: str
    leaks: tuple[Leak, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Opened:
    """A sandbox with a checkout as an agent gets it."""

    sandbox: Sandbox
    commit: str
    place: Machine


@asynccontextmanager
async def opened(
    repository: str,
    revision: str,
    *,
    kind: str = "auto",
    image: str | None = None,
    workdir: str | None = None,
    progress: Tell = lambda line: None,
) -> AsyncIterator[Opened]:
    """A commit checked out as a run does, in a sandbox of this kind and image that is closed behind it.

    Raises SandboxError, and agent.ends.RunProblem for a repository or revision that isn't there.
    """
    found = await repositories.resolve(repository)
    with scratch("audit") as folder:
        run = RunFolder(folder)
        base = await repositories.fetch_base(found, run.repository, revision, allow_dirty=True)
        settings = await config.read_config(run.repository, base.commit)
        local = found.folder is not None
        place = await machine.prepare(kind, image, settings, run, progress, may_build=local, workdir=workdir)
        sandbox = await place.open("audit")
        try:
            await Worktree(sandbox, run.repository, base).fill()
            yield Opened(sandbox, base.commit, place)
        finally:
            await sandbox.close()


async def audit_own(
    repository: str,
    revision: str,
    *,
    kind: str = "auto",
    image: str | None = None,
    workdir: str | None = None,
    instance: Instance | None = None,
    bounds: Bounds | None = None,
    progress: Tell = lambda line: None,
) -> Audited:
    """Check a commit out as a run does, in a sandbox of this kind and image, and audit it.

    Raises AuditFailed, and what `opened` raises.
    """
    began = time.monotonic()
    async with opened(repository, revision, kind=kind, image=image, workdir=workdir, progress=progress) as its:
        leaks = await audit_checkout(its.sandbox, its.sandbox.workdir, its.commit, instance=instance, bounds=bounds)
        place = its.place
    return Audited(its.commit, place.kind, place.image, place.workdir, leaks, round(time.monotonic() - began, 2))
