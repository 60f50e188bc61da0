"""The work folder that a task begins with: in its image for new sandboxes, and as a commit that patches start from.

There need be no repository in such a task, and files that git can't keep (empty folders, repositories within, what is
ignored) belong to it too. So the image keeps the folder whole and puts it into each new sandbox before the checkout;
the commit only says what has changed since. Left out: making the image (`environment`).
"""

from __future__ import annotations

import asyncio
import os
import shlex
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from agent.git import git, git_line
from sandbox.images.cache import cache_dir
from sandbox.images.detect.base import PREFIX
from sandbox.images.setup_context import ENTER
from sandbox.policy import STATE_DIR

START: Final = f"{PREFIX}/start"
"""In an image: the work folder's files."""
PLACE: Final = f"{STATE_DIR}/terminal"
"""In a sandbox: what /tests and /logs lead to, since its root can't be written to."""
MAX_TRACKED: Final = 32 << 20
"""Bytes of a file that patches follow; larger ones are there, and in no patch."""
LINKS: Final = {
    "/tests": f"{PLACE}/tests",
    "/solution": f"{PLACE}/solution",  # only `agent eval gold` puts anything there
    "/oracle": f"{PLACE}/solution",
    "/logs/verifier": f"{PLACE}/verifier",
    "/logs/agent": f"{PLACE}/agent",
    "/logs/artifacts": f"{PLACE}/artifacts",
}
_NOBODY: Final = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (
        ("NAME", "Patchwright"), ("EMAIL", "patchwright@localhost"), ("DATE", "1700000000 +0000"),
    )
}  # fmt: skip


class StartFailed(Exception):
    """The work folder can't be taken over; the message says why."""


@dataclass(frozen=True, slots=True)
class Start:
    """A work folder's files on this machine, and which of them no patch follows (relative, sorted)."""

    folder: Path
    left_out: tuple[str, ...]


def look_at(folder: Path) -> Start:
    """Look through the files. StartFailed for a folder that is a repository itself."""
    if (folder / ".git").exists():
        raise StartFailed(
            "its work folder is a git repository itself, whose history would not be the task's own here: a sandbox "
            "brings a repository of its own for the work folder"
        )
    found: list[str] = []
    for where, folders, files in os.walk(folder):
        here = Path(where)
        for name in list(folders):
            if (here / name / ".git").exists():
                found.append((here / name).relative_to(folder).as_posix())
                folders.remove(name)
        for name in files:
            path = here / name
            if path.is_symlink():
                continue
            if not path.is_file() or path.stat().st_size > MAX_TRACKED:
                found.append(path.relative_to(folder).as_posix())
    return Start(folder, tuple(sorted(found)))


def image_lines(workdir: str, left_out: Iterable[str]) -> str:
    """A shell script that makes an image ready, run as its root: the work folder is kept, and the places for tests are
    led to where a sandbox can write."""
    start, work, enter = shlex.quote(START), shlex.quote(workdir), shlex.quote(ENTER)
    exclude = "".join(f"/{_pattern(name)}\n" for name in left_out)
    lines = [
        f"mkdir -p {PREFIX} {work} /logs",
        f"rm -rf {start} && cp -a {work} {start} && chmod -R a+rX,u+w {start}",
        f"printf %s {shlex.quote(exclude)} >{PREFIX}/exclude",
        f"printf %s {shlex.quote(_ENTER)} >{enter} && chmod 755 {enter}",
        *(f"rm -rf {link} && ln -s {target} {link}" for link, target in LINKS.items()),
        f"chmod a+rx {PREFIX} /logs && chmod a+r {PREFIX}/exclude",
    ]
    return " &&\n".join(lines)


_ENTER: Final = f"""#!/bin/sh
# $1: a sandbox's work folder, $2: its state folder. Run when it is opened, before the checkout.
cd "$1" || exit
mkdir -p .git/info "$2/git/info" || exit
cat {PREFIX}/exclude >>.git/info/exclude
cat {PREFIX}/exclude >>"$2/git/info/exclude"
cp -RPp {START}/. . || exit
"""


def _pattern(name: str) -> str:
    """A path as git's exclude files have it."""
    return "".join(f"\\{char}" if char in "*?[]\\ !#" else char for char in name)


def unpack(tar: IO[bytes], folder: Path) -> Path:
    """An engine's archive of a work folder, as data: no device, no link or path that leads out. StartFailed."""
    try:
        with tarfile.open(fileobj=tar, mode="r:") as archive:
            members = archive.getmembers()
            top = members[0].name.split("/")[0] if members else ""
            for member in members:
                if member.isfile() or member.isdir() or member.issym() or member.islnk():
                    _extract(archive, member, folder)
    except (tarfile.TarError, OSError) as error:
        raise StartFailed(f"its work folder can't be unpacked: {error}") from error
    return folder / top


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    try:
        archive.extract(member, folder, filter="data")
    except tarfile.FilterError:
        # A link out of the work folder stays what it is in the sandbox; here it would lead into this machine.
        return


async def repository_of(start: Start, name: str) -> tuple[Path, str]:
    """A bare repository in the cache with one commit of the files, and the commit: the same for the same files."""
    bare = cache_dir() / "terminal" / f"{name}.git"
    await asyncio.to_thread(bare.parent.mkdir, parents=True, exist_ok=True)
    if not (bare / "HEAD").is_file():
        await git("init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(bare))
    index = {"GIT_INDEX_FILE": str(bare / f"index-{os.getpid()}"), "GIT_WORK_TREE": str(start.folder)}
    at = ("--git-dir", str(bare))
    names = [f":(exclude,literal){path}" for path in start.left_out]
    try:
        settings = ("-c", "core.bare=false", "-c", "core.autocrlf=false", "-c", "core.fileMode=true")
        await git(*at, *settings, "add", "--force", "--all", "--", ".", *names, env=index)
        tree = (await git(*at, "write-tree", env=index)).decode().strip()
    finally:
        Path(index["GIT_INDEX_FILE"]).unlink(missing_ok=True)
    commit = (await git(*at, "commit-tree", tree, env=_NOBODY, stdin=b"The task's work folder\n")).decode().strip()
    await git(*at, "update-ref", "refs/heads/main", commit)
    return bare, await git_line("rev-parse", "refs/heads/main", at=bare)
