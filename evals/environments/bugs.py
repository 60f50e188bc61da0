"""Code with the bug of a SWE-smith row in it, which is what an agent begins with.

Such a row's patch makes the bug. Its code comes without the bug (a mirror's main branch, an image) or with it (the base
commit of newer rows is that of the bug). Either way the agent gets one commit without a parent, because the commit
before the bug is the solution. Left out: where code comes from (`code`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from agent.git import GitError, git, git_line, object_format
from evals.environments.base import EnvironmentUnavailable
from evals.instance import Instance
from sandbox.images.cache import cache_dir

_NOBODY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (
        ("NAME", "Patchwright"), ("EMAIL", "patchwright@localhost"), ("DATE", "1700000000 +0000"),
    )
}  # fmt: skip


async def with_bug(instance: Instance, repository: Path, commit: str) -> tuple[Path, str]:
    """A bare repository in the cache with the bug's commit alone, and that commit: the same for the same row and code.

    EnvironmentUnavailable when the bug neither fits the code nor is there. Raises GitError, OSError.
    """
    name = hashlib.sha256(f"{commit}\0{instance.patch}".encode("utf-8", "surrogateescape")).hexdigest()[:12]
    wanted = cache_dir() / "bugs" / f"{instance.instance_id}-{name}.git"
    if not wanted.is_dir():
        wanted.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=wanted.parent))
        try:
            await _make(instance, repository, commit, scratch / "made.git")
            try:
                (scratch / "made.git").rename(wanted)
            except OSError:
                if not wanted.is_dir():  # else another process was quicker, and made the very same
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return wanted, await git_line("rev-parse", "--verify", "refs/heads/main", at=wanted)


async def _make(instance: Instance, source: Path, commit: str, bare: Path) -> None:
    names = await object_format(source, foreign=True)
    await git(
        "init", "--quiet", "--bare", "--template=", "--initial-branch=main", f"--object-format={names}", str(bare)
    )
    objects = await git_line("rev-parse", "--path-format=absolute", "--git-path", "objects", at=source, foreign=True)
    borrowed = bare / "objects" / "info" / "alternates"
    borrowed.parent.mkdir(parents=True, exist_ok=True)
    borrowed.write_bytes(os.fsencode(objects) + b"\n")
    index = {"GIT_INDEX_FILE": str(bare / "index")}
    await git("read-tree", f"{commit}^{{tree}}", at=bare, env=index)
    patch = instance.patch.encode("utf-8", "surrogateescape")
    patch += b"" if patch.endswith(b"\n") else b"\n"
    if not await _applies(bare, index, patch, "--reverse"):
        if not await _applies(bare, index, patch):
            raise EnvironmentUnavailable(
                f"{instance.instance_id}: the row's patch, which makes the bug, neither fits {source} at {commit[:12]} "
                "nor is it there already: that isn't the code of the row"
            )
        await git("apply", "--cached", "--whitespace=nowarn", "-", at=bare, env=index, stdin=patch)
    tree = (await git("write-tree", at=bare, env=index)).decode().strip()
    made = (await git("commit-tree", tree, at=bare, env=_NOBODY, stdin=b"Base\n")).decode().strip()
    await git("update-ref", "refs/heads/main", made, at=bare)
    await git("repack", "-a", "-d", "-q", at=bare)  # what was borrowed becomes its own
    borrowed.unlink()
    (bare / "index").unlink(missing_ok=True)


async def _applies(bare: Path, index: dict[str, str], patch: bytes, *how: str) -> bool:
    try:
        await git("apply", "--cached", "--check", "--whitespace=nowarn", *how, "-", at=bare, env=index, stdin=patch)
    except GitError:
        return False
    return True
