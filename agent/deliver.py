"""Handing a patch over: a file, a branch, or the user's work tree; each only when asked for.

A branch is added without touching the user's checkout or index. Left out: pull requests.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from agent import checkout, follow_up
from agent.checkout import Base
from agent.ends import InputProblem, Outcome, RunProblem
from agent.events import Event, EventLog, EventType
from agent.git import GitError, git, git_line
from agent.runs import RunFolder


async def check_branch(repository: Path | None, branch: str) -> None:
    """Raises InputProblem for a branch that can't be made, before any work is spent on it."""
    if repository is None:
        raise InputProblem("--branch needs a local repository: clone it first, or use --out FILE")
    try:
        await git("check-ref-format", "--branch", branch)
    except GitError:
        raise InputProblem(f"{branch!r} is no name that git allows for a branch") from None
    try:
        await git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", at=repository, foreign=True)
    except GitError:
        return
    raise InputProblem(f"{repository} already has a branch {branch!r}: choose another name or delete it")


def check_out(file: Path) -> None:
    """Raises InputProblem for a file that can't be written, before any work is spent on it."""
    folder = file.expanduser().absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputProblem(f"{file} can't be written: {folder} is no folder that you may write to")
    if file.is_dir():
        raise InputProblem(f"{file} is a folder: --out names the patch's file")


@dataclass(frozen=True, slots=True)
class Work:
    """What a run has to hand over, and the log that says what of it was handed over before."""

    log: EventLog
    folder: RunFolder
    base: Base
    tree: str

    def before(self, key: str) -> Event | None:
        """The last delivery of this kind."""
        return next((event for event in reversed(self.log.of_type(EventType.DELIVERED)) if key in event.data), None)


async def as_branch(work: Work, repository: Path, branch: str, issue: str, summary: str) -> None:
    """The work as a branch, once; after a follow-up as one more commit on it."""
    before = work.before("branch")
    if before and not follow_up.after(work.log, before):
        return
    message = await commit_message(work.folder.repository, work.base, work.tree, issue, summary, work.folder.id)
    onto = before.data["commit"] if before else None
    commit = await to_branch(work.folder.repository, work.base, work.tree, repository, branch, message, onto)
    work.log.append(EventType.DELIVERED, branch=branch, commit=commit)


async def as_changes(work: Work, repository: Path) -> None:
    """The work in the user's checkout, once; after a follow-up what it changed since."""
    before = work.before("applied")
    if before and not follow_up.after(work.log, before):
        return
    patch = work.folder.patch
    if before:
        patch = work.folder.path / "since.diff"
        since = await checkout.diff(work.folder.repository, before.data["tree"], work.tree)
        patch.write_bytes(since.encode("utf-8", "surrogateescape"))
    if patch.stat().st_size:  # git takes an empty patch for a damaged one
        await to_worktree(repository, patch)
    work.log.append(EventType.DELIVERED, applied=str(repository), tree=work.tree)


async def to_branch(
    bare: Path, base: Base, tree: str, repository: Path, branch: str, message: str, onto: str | None = None
) -> str:
    """Commit the tree on top of the base and add it to the user's repository as a branch. Returns the commit.

    `onto` is the commit of ours that the branch is at, if it is there already. As objects and a name: a fetch would
    read addresses and helpers out of the repository's configuration.
    """
    identity, parent = await _identity(repository), onto or base.commit
    commit = (
        await git("commit-tree", tree, "-p", parent, "-F", "-", at=bare, stdin=message.encode(), env=identity)
    ).decode().strip()  # fmt: skip
    await git("update-ref", f"refs/heads/patchwright/{commit[:12]}", commit, at=bare)
    try:
        pack = await git("pack-objects", "--revs", "--stdout", "-q", at=bare, stdin=f"{commit}\n^{parent}\n".encode())
        await git("unpack-objects", "-q", at=repository, stdin=pack, foreign=True)
        names = (f"refs/heads/{branch}", commit, onto or "0" * len(commit))
        await git("update-ref", "-m", "Patchwright", *names, at=repository, env=identity, foreign=True)
    except GitError as error:
        raise RunProblem(Outcome.STORAGE, f"the branch {branch!r} could not be added: {error.stderr}") from None
    return commit


async def _identity(repository: Path) -> dict[str, str]:
    """The user's git identity, as commits in their repository would have it, else a neutral one."""
    found = {}
    for key, fallback in (("name", "Patchwright"), ("email", "patchwright@localhost")):
        try:
            value = await git_line("config", f"user.{key}", at=repository, own_config=False, foreign=True)
        except GitError:
            value = fallback
        for role in ("AUTHOR", "COMMITTER"):
            found[f"GIT_{role}_{key.upper()}"] = value or fallback
    return found


async def to_worktree(repository: Path, patch: Path) -> None:
    """Apply the patch to the user's checkout: all of it or nothing. Raises RunProblem."""
    try:
        await git("apply", "--whitespace=nowarn", str(patch.resolve()), at=repository, foreign=True)
    except GitError as error:
        raise RunProblem(
            Outcome.STORAGE,
            f"the patch does not apply to {repository} as it is now: {error.stderr}. It lies in {patch}",
        ) from None


def to_file(patch: str, file: Path) -> None:
    file.expanduser().write_bytes(patch.encode("utf-8", "surrogateescape"))


async def commit_message(bare: Path, base: Base, tree: str, issue: str, summary: str, run: str) -> str:
    """Subject from the issue's first line, then what the model said it changed."""
    subject = next((line.strip(" #") for line in issue.splitlines() if line.strip(" #")), "Solve the issue")
    files = await checkout.changed_files(bare, base.tree, tree)
    return f"{subject[:72]}\n\n{summary.strip()}\n\n{len(files)} file(s) changed by Patchwright run {run}.\n"
