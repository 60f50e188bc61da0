"""Where an instance's code comes from: a folder of clones, a bundled task, else GitHub.

In the folder `<instance_id>` goes before `<owner>__<name>` and `<owner>/<name>` (`.git` may follow): it is code that
stands for a base commit that can't be had, such as a source distribution put under git, and its HEAD is taken. What is
fetched from GitHub stays in the cache, one repository for all instances of a project; each commit is fetched once.

Left out: the scrubbed checkout that a sandbox gets (`agent.checkout`).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.checkout import HISTORY_DEPTH
from agent.git import GitError, git, git_line
from agent.sources.repositories import github_url
from evals.environments.base import EnvironmentUnavailable, Tell
from evals.instance import Instance
from sandbox.images.cache import cache_dir

_FETCH_SECONDS: Final = 1800.0
_POLL: Final = 0.2
_TIP: Final = "tip"


@dataclass(frozen=True, slots=True)
class Code:
    """A repository and the commit in it. `said`: what kind of code that is, for the facts."""

    repository: str
    commit: str
    said: str

    @property
    def folder(self) -> Path | None:
        """The repository's folder, None for one that lies elsewhere."""
        return None if "://" in self.repository else Path(self.repository)


async def code_of(instance: Instance, repositories: Path | None, tell: Tell) -> Code:
    """The instance's code, fetched if need be; with its bug, where the row brings one. EnvironmentUnavailable."""
    code = await _without_bug(instance, repositories, tell)
    if not instance.patch_breaks or code.folder is None:
        return code
    from evals.environments.bugs import with_bug

    folder, commit = await with_bug(instance, code.folder, code.commit)
    return Code(str(folder), commit, f"{code.said} with the row's bug")


async def _without_bug(instance: Instance, repositories: Path | None, tell: Tell) -> Code:
    if instance.rest.get("bundled"):
        return await _bundled(instance)
    if repositories is not None:
        if not repositories.is_dir():
            raise EnvironmentUnavailable(f"{repositories} is no folder: name the one that holds the clones")
        if found := await _in_folder(instance, repositories):
            return found
    return await _fetched(instance, repositories, tell)


async def _bundled(instance: Instance) -> Code:
    from evals.mini.repositories import RepositoryFailed, bundled_repository
    from evals.mini.tasks import TaskBroken

    try:
        folder = await asyncio.to_thread(bundled_repository, instance)
    except (RepositoryFailed, TaskBroken) as problem:
        raise EnvironmentUnavailable(f"the bundled task {instance.instance_id} can't be had: {problem}") from problem
    return Code(str(folder), instance.base_commit, "bundled")


def names_of(instance: Instance) -> tuple[str, ...]:
    """What an instance's repository may be called in a folder of clones: first the stand-in, then its project."""
    project = instance.repo.replace("/", "__")
    return (instance.instance_id, f"{instance.instance_id}.git", project, f"{project}.git", instance.repo)


async def _in_folder(instance: Instance, repositories: Path) -> Code | None:
    for name in names_of(instance):
        folder = repositories / name
        if not folder.is_dir():
            continue
        stands_in = name.removesuffix(".git") == instance.instance_id
        if not (wanted := "HEAD" if stands_in else instance.base_commit):
            continue  # a row without a commit, such as SWE-smith's, whose code has a repository of its own
        try:
            commit = await git_line("rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}", at=folder, foreign=True)
        except GitError as error:
            raise EnvironmentUnavailable(_lacks(instance, folder, wanted, error)) from None
        return Code(str(folder), commit, "stand-in" if stands_in else "base commit")
    return None


def _lacks(instance: Instance, folder: Path, wanted: str, error: GitError) -> str:
    said = f" ({error.stderr.strip()})" if error.stderr.strip() else ""
    if wanted == "HEAD":
        return (
            f"{folder}, which stands for the code of {instance.instance_id}, is no git repository with a commit{said}"
        )
    return (
        f"{folder} doesn't hold {wanted}, the base commit of {instance.instance_id}{said}: fetch it "
        f"(`git -C {folder} fetch origin {wanted}`), or put other code for it into "
        f"{folder.parent}/{instance.instance_id}"
    )


async def _fetched(instance: Instance, repositories: Path | None, tell: Tell) -> Code:
    if not instance.base_commit and not instance.patch_breaks:
        raise EnvironmentUnavailable(
            f"{instance.instance_id} names no base commit, so its code is the HEAD of a repository of its own: clone "
            f"it into a folder as {instance.instance_id} and name that folder with --repositories"
        )
    bare = cache_dir() / "repositories" / f"{instance.repo.replace('/', '__')}.git"
    url, commit = f"{github_url()}/{instance.repo}.git", instance.base_commit or "HEAD"
    try:
        bare.parent.mkdir(parents=True, exist_ok=True)
        await _fetch(bare, url, commit, tell)
    except (GitError, TimeoutError) as error:
        said = error.stderr if isinstance(error, GitError) else f"no answer in {_FETCH_SECONDS:g} s"
        where = f"not in {repositories} (as {' or '.join(names_of(instance)[:3:2])}), and " if repositories else ""
        raise EnvironmentUnavailable(
            f"the code of {instance.instance_id} can't be had: it is {where}not to be fetched from {url} at {commit}: "
            f"{_last_line(said)}. Check the network, or name a folder of clones with --repositories; "
            "PATCHWRIGHT_GITHUB_URL names another host",
            again=_may_pass(said),
        ) from None
    except OSError as error:
        raise EnvironmentUnavailable(
            f"{bare.parent} can't be written ({error.strerror}): set PATCHWRIGHT_CACHE to a folder that can", again=True
        ) from error
    if instance.base_commit:
        return Code(str(bare), commit, "base commit")
    # SWE-smith: a mirror for each commit of a project, whose HEAD it is
    return Code(str(bare), await git_line("rev-parse", "--verify", f"refs/heads/{_TIP}", at=bare), "mirror's HEAD")


async def _fetch(bare: Path, url: str, commit: str, tell: Tell) -> None:
    """Alone: two fetches into one repository would quarrel about its shallow file."""
    async with _alone(bare.with_suffix(".lock")):
        if not (bare / "HEAD").is_file():
            await git("init", "--quiet", "--bare", "--template=", str(bare))
        ref = f"refs/heads/{_TIP if commit == 'HEAD' else commit}"
        try:
            await git_line("rev-parse", "--verify", "--quiet", f"{ref}^{{tree}}", at=bare)
            return
        except GitError:
            tell(f"fetching {url} at {commit[:12]}")
        # the user's own settings count here: they may name a proxy, or who has the password
        async with asyncio.timeout(_FETCH_SECONDS):
            await git(
                "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--update-shallow",
                f"--depth={HISTORY_DEPTH}", url, f"{commit}:{ref}", at=bare, own_config=False, protocols=None,
            )  # fmt: skip


@asynccontextmanager
async def _alone(lock: Path) -> AsyncIterator[None]:
    """Hold a lock among all processes; the kernel drops it when its holder dies."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)


def _may_pass(said: str) -> bool:
    """Whether it was the network, which may come back, and not that there is nothing by that name."""
    gone = ("not found", "not our ref", "Authentication failed", "terminal prompts disabled", "could not read Username")
    return not any(sign in said for sign in gone)


def _last_line(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "git said nothing"
