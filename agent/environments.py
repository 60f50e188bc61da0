"""A repository's files and what it says about its machine, outside of a run: for building an environment ahead.

Left out: runs, which have their repository already (`agent.machine`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.config import CONFIG_FILE, RepositoryConfig, parse_config, read_config
from agent.git import GitError, git_line
from agent.machine import unpack_base
from agent.sources import repositories
from sandbox.scratch import scratch


@dataclass(frozen=True, slots=True)
class Checkout:
    """Files of a repository in a folder that nobody changes, and whose they are."""

    folder: Path
    config: RepositoryConfig
    local: bool  # the user's own folder: what it asks for may be built


@asynccontextmanager
async def checked_out(repository: str, revision: str | None = None) -> AsyncIterator[Checkout]:
    """The files of a commit (default: HEAD); a folder that isn't under git is taken as it is.

    Raises InputProblem.
    """
    path = Path(repository).expanduser()
    if path.is_dir() and not await _is_under_git(path):
        file = path / CONFIG_FILE
        text = file.read_text("utf-8", "replace") if file.is_file() else ""
        yield Checkout(path.resolve(), parse_config(text), True)
        return
    found = await repositories.resolve(repository)
    with scratch("environment") as folder:
        bare, files = folder / "repository.git", folder / "files"
        files.mkdir()
        base = await repositories.fetch_base(found, bare, revision, allow_dirty=True)
        await unpack_base(bare, files)
        yield Checkout(files, await read_config(bare, base.commit), found.folder is not None)


async def _is_under_git(path: Path) -> bool:
    try:
        await git_line("rev-parse", "--git-dir", at=path, foreign=True)
    except GitError:
        return False
    return True
