"""Commits of a bare repository of ours, and their way to a branch on a forge, never over somebody else's commits.

Git runs with the neutral settings of `agent.git`; the token comes in variables (`GitAccess`), so that it is in no
address, configuration, argument or message. Left out: the forge's own API (`agent.forges.base`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agent.forges.base import ForgeProblem, GitAccess, Moved
from agent.git import GitError, git, git_line

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REFUSED = re.compile(r"returned error: (401|403|404)|Authentication failed|could not read Username|not found")
_MOVED = re.compile(r"\((stale info|fetch first|non-fast-forward|needs force|remote ref updated since checkout)\)")
_RULED_OUT = re.compile(r"\[remote rejected\].*?\((.*)\)")
_RACED = re.compile(r"cannot lock ref|failed to update ref|incorrect old value|reference already exists")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a commit is by."""

    name: str
    email: str


def with_trailers(message: str, co_authors: Sequence[Identity]) -> str:
    """A commit message that ends with a `Co-authored-by` line for each.

    The address has to be the forge's own for that account (`Forge.address`): a made-up one may be a stranger's.
    """
    lines = [f"Co-authored-by: {_plain(who.name)} <{_plain(who.email)}>" for who in co_authors]
    return message.rstrip() + "\n" + ("\n" + "\n".join(lines) + "\n" if lines else "")


def _plain(text: str) -> str:
    return re.sub(r"[\x00-\x1f<>]", "", text).strip()


async def commit(
    bare: Path, tree: str, parents: Sequence[str], message: str, author: Identity, co_authors: Sequence[Identity] = ()
) -> str:
    """A commit of a tree in our bare repository; its id. Raises ForgeProblem."""
    env = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", _plain(author.name)), ("EMAIL", _plain(author.email)))
    }
    text = with_trailers(message, co_authors)
    over = [word for parent in parents for word in ("-p", parent)]
    try:
        made = await git("commit-tree", tree, *over, "-F", "-", at=bare, stdin=text.encode(), env=env)
    except GitError as error:
        raise ForgeProblem(f"the commit could not be made in {bare}: {error.stderr}") from None
    return made.decode().strip()


async def tip(access: GitAccess, branch: str) -> str | None:
    """The commit that a branch is at on the forge; None if there is no such branch. Raises ForgeProblem."""
    ref = await _ref(branch)
    try:
        out = await git("ls-remote", access.url, ref, env=access.env, protocols=_protocol(access))
    except GitError as error:
        raise _problem(access, f"the branch {branch!r} could not be looked up", error) from None
    found = [line.split("\t") for line in out.decode("utf-8", "replace").splitlines()]
    return next((sha for sha, name in found if name == ref), None)


async def fetch(access: GitAccess, bare: Path, ref: str, depth: int | None = None) -> str:
    """Fetch what a branch, or a full ref or commit id, names into our bare repository; the commit.

    Raises ForgeProblem.
    """
    wanted = ref if ref.startswith("refs/") or _SHA.fullmatch(ref) else await _ref(ref)
    how = ("--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", *([f"--depth={depth}"] if depth else []))
    # By a digest: a branch `a` that was fetched once would be in the way of a later `a/b`.
    kept = f"refs/patchwright/fetched/{hashlib.sha256(wanted.encode()).hexdigest()[:32]}"
    try:
        await git("fetch", "-q", *how, access.url, f"+{wanted}:{kept}", at=bare, env=access.env,
                  protocols=_protocol(access))  # fmt: skip
        return await git_line("rev-parse", "--verify", f"{kept}^{{commit}}", at=bare)
    except GitError as error:
        raise _problem(access, f"{ref!r} could not be fetched", error) from None


async def push(access: GitAccess, bare: Path, commit: str, branch: str, expected: str | None) -> None:
    """Set a branch on the forge to a commit of our bare repository, if it is where we left it.

    `expected`: the commit that we last pushed there; None: the branch doesn't exist yet. A branch that is at `commit`
    already is a success, so a push can be repeated. Raises Moved for a branch that somebody else changed, else
    ForgeProblem.
    """
    ref = await _ref(branch)
    for sha in (commit, *([expected] if expected else [])):
        if not _SHA.fullmatch(sha):
            raise ForgeProblem(f"{sha[:80]!r} is no commit's id: nothing was pushed to {branch!r}")
    lease = f"--force-with-lease={ref}:{expected or ''}"
    try:
        await git("push", "--no-verify", "--no-signed", "--recurse-submodules=no", lease, access.url,
                  f"{commit}:{ref}", at=bare, env=access.env, protocols=_protocol(access))  # fmt: skip
    except GitError as error:
        raise await _push_problem(access, commit, branch, expected, error) from None


async def _push_problem(
    access: GitAccess, commit: str, branch: str, expected: str | None, error: GitError
) -> ForgeProblem:
    if _MOVED.search(error.stderr) or _RACED.search(error.stderr):
        there = await tip(access, branch)
        if there == commit:  # another push of the same commit was faster
            return Moved(f"{branch!r} was pushed by somebody else at the same time: push again", again=True)
        return Moved(
            f"{branch!r} was left alone: it is at {_short(there)}, and we left it at {_short(expected)}. Somebody else "
            "pushed to it; fetch their commits and build on them, or use another branch"
        )
    if found := _RULED_OUT.search(error.stderr):
        return ForgeProblem(
            f"{access.url} doesn't take {branch!r}: {found[1]}. Look at the repository's rules for branches"
        )
    return _problem(access, f"{branch!r} could not be pushed", error)


def _problem(access: GitAccess, what: str, error: GitError) -> ForgeProblem:
    if _REFUSED.search(error.stderr):
        return ForgeProblem(
            f"{what}: {access.url} doesn't let us ({_last(error)}). The token may have expired, or may lack the "
            "permission `contents: write`",
        )
    return ForgeProblem(f"{what}: {access.url}: {_last(error)}", again=True)


def _last(error: GitError) -> str:
    return error.stderr.strip().splitlines()[-1][:400] if error.stderr.strip() else f"git ended with {error.code}"


def _short(sha: str | None) -> str:
    return sha[:12] if sha else "no commit"


async def _ref(branch: str) -> str:
    try:
        await git("check-ref-format", f"refs/heads/{branch}")
    except (GitError, ValueError):
        raise ForgeProblem(f"{branch[:100]!r} is no name that git allows for a branch") from None
    if branch.startswith("-"):
        raise ForgeProblem(f"{branch[:100]!r} is no name that git allows for a branch")
    return f"refs/heads/{branch}"


def _protocol(access: GitAccess) -> str:
    return urlsplit(access.url).scheme
