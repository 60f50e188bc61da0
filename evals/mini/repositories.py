"""A bundled task's git repository, made once in the cache: the same commit ids on every machine.

The commits are written by `git fast-import` from the task's own data, without a work tree, so no setting of the user,
no clock and no file system can change them. A repository is made in a scratch folder and moved into its place in one
step, so that several processes may ask at once and a killed one leaves nothing half done.

Left out: what the tasks are (`tasks`).
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.git import NEUTRAL, environment
from evals.instance import Instance
from evals.mini.tasks import Commit, Task, TaskBroken, read_task
from sandbox.images.cache import cache_dir

_BRANCH: Final = "refs/heads/main"


class RepositoryFailed(Exception):
    """The repository can't be made: git is missing or the cache can't be written. The message says which."""


def bundled_repository(instance: Instance) -> Path:
    """A bare repository with the history of a bundled instance; its branch `main` is at the instance's base commit.

    TaskBroken for an instance that isn't bundled, or whose files give another commit than its row says.
    """
    folder = instance.rest.get("bundled")
    if not folder:
        raise TaskBroken(f"{instance.instance_id} is no bundled task: it has no field `bundled`")
    return repository(read_task(Path(str(folder)).name))


def repository(task: Task) -> Path:
    """The repository of a task, made if it isn't there."""
    stream = fast_import_stream(task)
    wanted = cache_dir() / "mini" / f"{task.id}-{hashlib.sha256(stream).hexdigest()[:12]}.git"
    if not wanted.is_dir():
        _make(wanted, stream)
    found = head(wanted)
    if found != task.base_commit:
        raise TaskBroken(f"{task.id} has the commit {found}, and its row says {task.base_commit}: freeze it again")
    return wanted


def head(repository: Path) -> str:
    """The commit that the branch `main` of a bare repository is at."""
    return _git("-C", str(repository), "rev-parse", "--verify", _BRANCH).decode().strip()


def _make(wanted: Path, stream: bytes) -> None:
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=wanted.parent))
    except OSError as error:
        raise RepositoryFailed(
            f"{wanted.parent} can't be written ({error.strerror}): set PATCHWRIGHT_CACHE to a folder that can"
        ) from error
    try:
        made = scratch / "made.git"
        _git("init", "--quiet", "--bare", "--template=", "--object-format=sha1", "--initial-branch=main", str(made))
        _git("-C", str(made), "fast-import", "--quiet", "--done", stdin=stream)
        try:
            made.rename(wanted)
        except OSError:
            if not wanted.is_dir():  # else another process was quicker, and made the very same
                raise
    except OSError as error:
        raise RepositoryFailed(f"the repository {wanted} can't be made: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _git(*arguments: str, stdin: bytes | None = None) -> bytes:
    try:
        done = subprocess.run(
            ["git", *NEUTRAL, *arguments],
            input=stdin if stdin is not None else b"",
            capture_output=True,
            env=environment(),
            check=False,
        )
    except FileNotFoundError as error:
        raise RepositoryFailed("git isn't installed, and the tasks of the mini set are git repositories") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[-400:]
        raise RepositoryFailed(f"git {' '.join(arguments[:4])} failed ({done.returncode}): {said}")
    return done.stdout


def fast_import_stream(task: Task) -> bytes:
    """The whole history as `git fast-import` reads it."""
    parts: list[bytes] = []
    for number, commit in enumerate(task.commits, 1):
        parts += _commit(number, commit, task.executable)
    return b"".join([*parts, b"done\n"])


def _commit(number: int, commit: Commit, executable: frozenset[str]) -> Iterator[bytes]:
    yield f"commit {_BRANCH}\nmark :{number}\n".encode()
    for role in ("author", "committer"):
        yield f"{role} {commit.author} {commit.date}\n".encode()
    yield _data(commit.message.encode())
    if number > 1:
        yield f"from :{number - 1}\n".encode()
    for path, content in sorted(commit.files.items()):
        yield f"M {'100755' if path in executable else '100644'} inline {path}\n".encode()
        yield _data(content)
    yield b"\n"


def _data(content: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(content), content)
