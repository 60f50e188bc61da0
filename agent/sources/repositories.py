"""Where a repository comes from: a folder, a git URL, or `owner/name` on GitHub. The source is only ever read.

Left out: GitHub App tokens; a plain `GITHUB_TOKEN` is used for GitHub's own host and goes to git through its
environment, never into a URL or a configuration file.
"""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agent import checkout
from agent.checkout import Base
from agent.ends import InputProblem
from agent.git import GitError, git_line

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")
_URL = re.compile(r"(https?|ssh|git|file)://\S+|[\w.-]+@[\w.-]+:\S+")


@dataclass(frozen=True, slots=True)
class Repository:
    """A resolved repository. `folder` is set for a local one, `slug` (owner/name) when GitHub hosts it."""

    url: str
    folder: Path | None = None
    slug: str | None = None


def github_url() -> str:
    return os.environ.get("PATCHWRIGHT_GITHUB_URL", "https://github.com").rstrip("/")


async def resolve(text: str) -> Repository:
    """What REPO means. Raises InputProblem for something that is none of the three forms."""
    path = Path(text).expanduser()
    if path.exists():
        return await _local(path)
    if _URL.fullmatch(text):
        parts = urlsplit(text)
        if parts.password or (parts.scheme in ("http", "https") and parts.username):
            raise InputProblem(
                "the repository's URL holds a login, a password or a token, which would be written into the log: "
                "use a credential helper or GITHUB_TOKEN instead"
            )
        return Repository(text, slug=slug_of(text))
    if _NAME.fullmatch(text):
        return Repository(f"{github_url()}/{text}.git", slug=text)
    raise InputProblem(f"{text!r} is no folder, no git URL and no owner/name: give one of these as REPO")


async def _local(path: Path) -> Repository:
    if not path.is_dir():
        raise InputProblem(f"{path} is a file: REPO is the repository's folder")
    try:
        bare = await git_line("rev-parse", "--is-bare-repository", at=path, foreign=True) == "true"
        top = path if bare else Path(await git_line("rev-parse", "--show-toplevel", at=path, foreign=True))
    except GitError as error:
        if "not a git repository" not in error.stderr:
            raise InputProblem(f"git can't read the repository {path}: {error.stderr}") from None
        raise InputProblem(
            f"{path} is not a git repository: run `git init`, add the files and commit them first"
        ) from None
    await _check_place(path, top)
    try:
        remote = await git_line("remote", "get-url", "origin", at=top, foreign=True)
    except GitError:
        remote = ""
    return Repository(str(top), folder=top.resolve(), slug=slug_of(remote))


async def _check_place(path: Path, top: Path) -> None:
    """A repository may say that its files lie in any folder of the machine, where a patch would then be applied."""
    where = await git_line("rev-parse", "--absolute-git-dir", at=path, foreign=True)
    try:
        there = await git_line("rev-parse", "--absolute-git-dir", at=top, foreign=True)
    except GitError:
        there = ""
    if where != there:
        raise InputProblem(
            f"the configuration of {path} puts its files into {top}, which is another repository's or nobody's: "
            "unset core.worktree there, or give a clone of it as REPO"
        )


def slug_of(url: str) -> str | None:
    """`owner/name` of a GitHub remote in any of its spellings, else None."""
    host = re.escape(urlsplit(github_url()).netloc)
    found = re.fullmatch(rf"(?:https?://|ssh://git@|git@){host}[/:]({_NAME.pattern}?)(?:\.git)?/?", url)
    return found[1] if found else None


async def fetch_base(repository: Repository, bare: Path, revision: str | None, *, allow_dirty: bool) -> Base:
    """The base commit in a new bare repository of the run. Raises InputProblem."""
    try:
        if repository.folder:
            commit = await checkout.local_commit(repository.folder, revision or "HEAD", allow_dirty=allow_dirty)
            return await checkout.take_base(bare, str(repository.folder), commit)
        return await checkout.take_base(bare, repository.url, revision, env=_credentials(repository))
    except GitError as error:
        raise InputProblem(
            f"{repository.url} can't be fetched: {error.stderr.splitlines()[-1] if error.stderr else error}. "
            "Check the address, your access and the network"
        ) from None


def _credentials(repository: Repository) -> dict[str, str]:
    token = os.environ.get("GITHUB_TOKEN")
    if not token or not repository.slug or not repository.url.startswith(github_url()):
        return {}
    basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{github_url()}/.extraheader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
    }
