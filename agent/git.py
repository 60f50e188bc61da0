"""Plain git on the host, run so that neither the user's settings nor a repository's can change what it does.

Only plumbing on bare repositories of ours, and reading (or adding a branch to) the user's. Repository content
is never checked out on the host. A repository that isn't ours may name programs in its configuration: `foreign`
switches them off, one by one as they are found there. Left out: git inside the sandbox (`agent.worktree`).
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
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
    "-c", "maintenance.auto=false",
    "-c", "submodule.recurse=false",
    "-c", "protocol.ext.allow=never",
    "-c", "safe.directory=*",
)  # fmt: skip

# Settings by which a repository names a program (or says that one has to succeed), and what is put in their place.
# Names are as git lists them: section and variable in small letters, what is between them as it was written.
_PROGRAMS = tuple(
    (re.compile(pattern, re.DOTALL), value)
    for pattern, value in (
        (r"filter\..*\.(clean|smudge|process)", ""),
        (r"(filter|hook)\..*\.(required|enabled)", "false"),
        (r"diff\..*\.(command|textconv)|diff\.external|merge\..*\.driver|hook\..*\.command", "true"),
        (r"core\.(sshcommand|gitproxy|editor|askpass|alternaterefscommand)", "true"),
        (r"(gpg|gpg\..*)\.(program|defaultkeycommand)|gc\.recentobjectshook", "true"),
        (r"credential\.(.*\.)?helper", ""),
        (r"remote\..*\.(uploadpack|receivepack)", "true"),
        (r"remote\..*\.promisor", "false"),
    )
)
_LONGEST = 7200.0  # seconds for a git without bounds of its own, such as the first fetch of a large repository
_NO_PROTOCOL = "none"  # no helper of git's is called that


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one git that reads what others made."""

    memory: int = 2 << 30  # bytes
    seconds: float = 600.0


class GitError(Exception):
    """A git command failed; `stderr` is what it said."""

    def __init__(self, arguments: Sequence[str], code: int, stderr: str) -> None:
        self.code = code
        self.stderr = stderr.strip()
        super().__init__(f"git {' '.join(arguments[:6])} failed ({code}): {self.stderr[-800:]}")


def environment(
    extra: Mapping[str, str] | None = None, *, own_config: bool = True, protocols: str | None = None
) -> dict[str, str]:
    """Environment for git: no prompts, English, and the user's configuration only where it is wanted.

    `protocols`: the ways (joined by colons) in which it may reach another repository; None: git's own rules.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    kept.update(GIT_TERMINAL_PROMPT="0", LC_ALL="C", GIT_OPTIONAL_LOCKS="0", GIT_NO_LAZY_FETCH="1")
    for name in ("GIT_SSL_CAINFO", "GIT_SSH_COMMAND", "GIT_SSH"):
        if value := os.environ.get(name):
            kept[name] = value
    if own_config:
        kept.update(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL="/dev/null")
    if protocols is not None:
        kept["GIT_ALLOW_PROTOCOL"] = protocols
    kept.update(extra or {})
    return kept


async def git(
    *arguments: str,
    at: Path | None = None,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    own_config: bool = True,
    foreign: bool = False,
    protocols: str | None = "file",
    bounds: Bounds | None = None,
) -> bytes:
    """Run git and return its standard output. `at` becomes `-C`. Raises GitError.

    `foreign`: the repository at `at` isn't ours. No program that it names is run, and nothing is fetched for it.
    `bounds`: what it reads on its standard input isn't ours.
    """
    if foreign and at is not None:
        env = {**(await _disarmed(at)), **(env or {})}
        protocols = _NO_PROTOCOL
    return await _run(arguments, at, stdin, environment(env, own_config=own_config, protocols=protocols), bounds)


async def _run(
    arguments: Sequence[str],
    at: Path | None,
    stdin: bytes | None,
    env: Mapping[str, str],
    bounds: Bounds | None = None,
) -> bytes:
    where = ("-C", str(at)) if at else ()
    process = await asyncio.create_subprocess_exec(
        "git", *NEUTRAL, *where, *arguments,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )  # fmt: skip
    seconds = bounds.seconds if bounds is not None else _LONGEST
    try:
        if bounds is not None:
            with suppress(ProcessLookupError):  # it has ended without reading anything
                resource.prlimit(process.pid, resource.RLIMIT_DATA, (bounds.memory, bounds.memory))
        async with asyncio.timeout(seconds):
            out, err = await process.communicate(stdin)
    except (asyncio.CancelledError, TimeoutError) as ended:
        process.kill()
        await process.wait()
        if isinstance(ended, TimeoutError):
            raise GitError(arguments, -9, f"it took more than {seconds:.0f} s") from None
        raise
    if process.returncode:
        raise GitError(arguments, process.returncode, err.decode("utf-8", "replace"))
    return out


async def _disarmed(at: Path) -> dict[str, str]:
    """Environment that puts something harmless in the place of each program that a repository's settings name.

    As variables, not as `-c`: a name with `=` in it could slip through there.
    """
    env = environment(protocols=_NO_PROTOCOL)
    listed = await _run(("config", "--list", "--includes", "--name-only", "-z"), at, None, env)
    names = {os.fsdecode(name) for name in listed.split(b"\0") if name}
    return _as_environment((name, value) for name in sorted(names) if (value := _harmless(name)) is not None)


def _harmless(name: str) -> str | None:
    """What a setting is replaced with; None where it runs nothing."""
    return next((value for pattern, value in _PROGRAMS if pattern.fullmatch(name)), None)


def _as_environment(settings: Iterable[tuple[str, str]]) -> dict[str, str]:
    env: dict[str, str] = {}
    count = 0
    for name, value in settings:
        env |= {f"GIT_CONFIG_KEY_{count}": name, f"GIT_CONFIG_VALUE_{count}": value}
        count += 1
    return {**env, "GIT_CONFIG_COUNT": str(count)}


async def git_line(*arguments: str, at: Path | None = None, own_config: bool = True, foreign: bool = False) -> str:
    """Standard output of a git command as one stripped string."""
    output = await git(*arguments, at=at, own_config=own_config, foreign=foreign)
    return output.decode("utf-8", "surrogateescape").strip()


async def object_format(at: Path, *, foreign: bool = False) -> str:
    """`sha1` or `sha256`: what a repository names its objects by."""
    return await git_line("rev-parse", "--show-object-format", at=at, foreign=foreign)
