"""Plain git on the host, run so that neither the user's settings nor a repository's can change what it does.

Only plumbing on bare repositories of ours, and reading (or adding a branch to) the user's. Repository content
is never checked out on the host. Left out: git inside the sandbox (`agent.worktree`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

# Settings that a hostile or merely unusual configuration could use to run programs or to change output.
NEUTRAL = (
    "-c", "core.fsmonitor=false",
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.pager=cat",
    "-c", "core.quotePath=true",
    "-c", "core.attributesFile=/dev/null",
    "-c", "core.excludesFile=/dev/null",
    "-c", "diff.noprefix=false",
    "-c", "diff.mnemonicPrefix=false",
    "-c", "gc.auto=0",
    "-c", "protocol.ext.allow=never",
    "-c", "safe.directory=*",
)  # fmt: skip


class GitError(Exception):
    """A git command failed; `stderr` is what it said."""

    def __init__(self, arguments: Sequence[str], code: int, stderr: str) -> None:
        self.code = code
        self.stderr = stderr.strip()
        super().__init__(f"git {' '.join(arguments[:6])} failed ({code}): {self.stderr[-800:]}")


def environment(extra: Mapping[str, str] | None = None, *, own_config: bool = True) -> dict[str, str]:
    """Environment for git: no prompts, English, and the user's configuration only where it is wanted."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    kept.update(GIT_TERMINAL_PROMPT="0", LC_ALL="C", GIT_OPTIONAL_LOCKS="0", GIT_NO_LAZY_FETCH="1")
    for name in ("GIT_SSL_CAINFO", "GIT_SSH_COMMAND", "GIT_SSH"):
        if value := os.environ.get(name):
            kept[name] = value
    if own_config:
        kept.update(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL="/dev/null")
    kept.update(extra or {})
    return kept


async def git(
    *arguments: str,
    at: Path | None = None,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    own_config: bool = True,
) -> bytes:
    """Run git and return its standard output. `at` becomes `-C`. Raises GitError."""
    where = ("-C", str(at)) if at else ()
    process = await asyncio.create_subprocess_exec(
        "git", *NEUTRAL, *where, *arguments,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(env, own_config=own_config),
    )  # fmt: skip
    try:
        out, err = await process.communicate(stdin)
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise GitError(arguments, process.returncode, err.decode("utf-8", "replace"))
    return out


async def git_line(*arguments: str, at: Path | None = None, own_config: bool = True) -> str:
    """Standard output of a git command as one stripped string."""
    output = await git(*arguments, at=at, own_config=own_config)
    return output.decode("utf-8", "surrogateescape").strip()
