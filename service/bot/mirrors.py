"""A bare repository on this machine per repository of the forge: what runs start from and what is pushed from.

The token is used here alone, in git's environment, so no run, no sandbox and no log ever sees it. One process at a
time works on a mirror. Left out: what a run does with a commit (`agent.checkout` copies it into the run's own).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.checkout import HISTORY_DEPTH
from agent.forges import commits
from agent.forges.base import Forge
from agent.git import GitError, git, git_line


@dataclass(frozen=True, slots=True)
class Mirrors:
    """All mirrors of this machine; `folder` holds one per repository id, which renaming doesn't change."""

    folder: Path
    forge: Forge

    def path(self, repository_id: int) -> Path:
        return self.folder / f"{repository_id}.git"

    async def bring(self, slug: str, repository_id: int, ref: str) -> str:
        """Fetch a branch or a commit; returns the commit. Raises ForgeProblem."""
        async with self._held(repository_id) as bare:
            return await commits.fetch(await self.forge.git_access(slug), bare, ref, HISTORY_DEPTH)

    async def ensure(self, slug: str, repository_id: int, commit: str) -> None:
        """Fetch a commit unless it is there: another machine may have begun with it. Raises ForgeProblem."""
        try:
            await git("cat-file", "-e", f"{commit}^{{commit}}", at=self.path(repository_id))
        except (GitError, OSError):
            await self.bring(slug, repository_id, commit)

    async def tree_of(self, repository_id: int, commit: str) -> str:
        return await git_line("rev-parse", "--verify", f"{commit}^{{tree}}", at=self.path(repository_id))

    async def publish(
        self, slug: str, repository_id: int, run: Path, commit: str, branch: str, expected: str | None
    ) -> None:
        """Push a commit that lies in a run's repository. Raises ForgeProblem; Moved where others pushed meanwhile."""
        async with self._held(repository_id) as bare:
            await take(bare, run, commit)
            await commits.push(await self.forge.git_access(slug), bare, commit, branch, expected)

    @asynccontextmanager
    async def _held(self, repository_id: int) -> AsyncIterator[Path]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        bare = self.path(repository_id)
        lock = os.open(self.folder / f"{repository_id}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
            if not (bare / "HEAD").exists():
                await git("init", "--quiet", "--bare", "--initial-branch=main", "--template=", str(bare))
            yield bare
        finally:
            os.close(lock)


async def take(bare: Path, source: Path, commit: str) -> None:
    """Objects of a commit from one of our repositories on this machine into another. Raises GitError."""
    try:
        await git("cat-file", "-e", f"{commit}^{{commit}}", at=bare)
    except GitError:
        where = f"file://{source.resolve()}"
        name = f"refs/patchwright/taken/{commit}"
        await git("update-ref", name, commit, at=source)
        await git("fetch", "--quiet", "--no-tags", "--update-shallow", where, f"+{name}:{name}", at=bare)
