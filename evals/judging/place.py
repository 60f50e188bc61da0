"""The fresh sandbox that a patch is judged in: no network, the base commit's checkout with a scrubbed history.

Left out: what is done in it (`judge`), and making images ready (`evals.environments`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.checkout import Base
from agent.ends import InputProblem
from agent.git import GitError
from agent.sources.repositories import fetch_base, resolve
from agent.worktree import Worktree
from evals.grading.logs import MAX_LOG
from evals.judging.base import JudgingFailed
from sandbox.base import FileProblem, ImageProblem, Sandbox, SandboxError
from sandbox.policy import MIB, Limits, Network, SandboxSpec
from sandbox.scratch import scratch

if TYPE_CHECKING:
    from evals.environments.base import InstanceEnvironment

LIMITS: Final = Limits(processes=2048, state_bytes=MAX_LOG + 256 * MIB)
"""The state folder holds the log and the patch beside git's index."""

# pip finds no index, and is told so at once. Builds use what is installed: nothing could be fetched for them.
OFFLINE: Final = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "false", "PIP_RETRIES": "0"}
_KEEP_OUT: Final = """
if [ -f {state}/git/info/exclude ]; then mkdir -p .git/info && cat {state}/git/info/exclude >>.git/info/exclude; fi
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A sandbox whose work folder is at the base commit."""

    sandbox: Sandbox
    base: Base

    @property
    def variables(self) -> dict[str, str]:
        """What keeps git off the user's own settings where the sandbox isolates nothing."""
        if self.sandbox.kind != "none":
            return {}
        return {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": self.state("gitconfig")}

    def state(self, name: str) -> str:
        """A path of ours, out of the patch's reach until its code runs."""
        return f"{self.sandbox.state_dir}/judging/{name}"


@asynccontextmanager
async def fresh_place(environment: InstanceEnvironment, labels: dict[str, str]) -> AsyncIterator[Place]:
    """Open it, and close it in any case. JudgingFailed when it can't be had."""
    with scratch("judging") as folder:
        try:
            repository = await resolve(environment.repository)
            base = await fetch_base(repository, folder / "base.git", environment.base_commit, allow_dirty=True)
        except InputProblem as problem:
            far = "://" in environment.repository
            raise JudgingFailed(f"the base commit can't be had: {problem}", again=far) from None
        except (GitError, OSError) as problem:
            raise JudgingFailed(f"the base commit can't be put by: {problem}", again=True) from problem
        sandbox = await _opened(environment, labels)
        try:
            try:
                await _filled(sandbox, Worktree(sandbox, folder / "base.git", base))
            except (SandboxError, GitError, OSError) as problem:
                raise JudgingFailed(f"the checkout failed: {problem}", again=True) from problem
            yield Place(sandbox, base)
        finally:
            await sandbox.close()


async def _opened(environment: InstanceEnvironment, labels: dict[str, str]) -> Sandbox:
    from sandbox.choose import open_sandbox
    from sandbox.images import enter

    spec = SandboxSpec(
        image=environment.image or None,
        workdir=environment.workdir,
        limits=LIMITS,
        env=OFFLINE,
        labels=labels,
        network=Network.NONE,
    )
    try:
        sandbox = await open_sandbox(environment.kind, spec)
    except ImageProblem as problem:
        raise JudgingFailed(f"the image {environment.image!r} can't be used: {problem}", again=False) from problem
    except SandboxError as problem:
        raise JudgingFailed(f"no sandbox: {problem}", again=True) from problem
    try:
        if sandbox.kind != "none":
            await enter(sandbox)
    except SandboxError as problem:
        await sandbox.close()
        raise JudgingFailed(f"the image {environment.image!r} can't be used: {problem}", again=True) from problem
    except BaseException:  # cancelled: a sandbox that nobody gets must not stay
        await sandbox.close()
        raise
    return sandbox


async def _filled(sandbox: Sandbox, worktree: Worktree) -> None:
    """The checkout; what the image puts beside it is no part of it for `git clean` either."""
    await worktree.fill()
    result = await sandbox.run(_KEEP_OUT.format(state=sandbox.state_dir), cwd=sandbox.workdir)
    if result.exit_code:
        raise FileProblem(
            f"the checkout's exclude file can't be written: {result.output.decode('utf-8', 'replace')[-400:]}",
            path=sandbox.workdir,
        )
