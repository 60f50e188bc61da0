"""Where built things are kept between runs, and how they get there whole or not at all.

Everything is written to a temporary folder next to its final name and renamed at the end, under a lock that the
kernel drops when its holder dies, so neither a half tree nor a stale lock can stay behind.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sandbox.base import ImageProblem
from sandbox.images.progress import Report, step
from sandbox.scratch import remove_folder

_UNFINISHED = ".unfinished-"


def cache_dir(env: Mapping[str, str] | None = None) -> Path:
    """`$PATCHWRIGHT_CACHE`, else `$XDG_CACHE_HOME/patchwright`, else `~/.cache/patchwright`. Not created."""
    env = os.environ if env is None else env
    if chosen := env.get("PATCHWRIGHT_CACHE"):
        return Path(chosen).expanduser().absolute()
    if xdg := env.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser().absolute() / "patchwright"
    return Path.home() / ".cache" / "patchwright"


def images_dir() -> Path:
    """The cache's folder of base images, created."""
    return _folder(cache_dir() / "images")


def tools_dir() -> Path:
    """The cache's folder of programs that were fetched for the user, created."""
    return _folder(cache_dir() / "tools")


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageProblem(
            f"the cache folder {path} can't be made: {error.strerror}.\n"
            "Try: set PATCHWRIGHT_CACHE to a folder that you may write to."
        ) from error
    return path


@contextmanager
def locked(folder: Path, name: str, report: Report) -> Iterator[None]:
    """Hold the lock `name` of a cache folder; waits for another build of the same thing and says so."""
    descriptor = os.open(folder / f".{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode().strip() or "unknown"
            with step(f"waiting for another build of the same image (process {owner})", report):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def unfinished(folder: Path, name: str) -> Iterator[Path]:
    """A scratch folder for building `name`, removed at the end; the caller renames what is done out of it.

    Call it under `locked(folder, name)`: what an interrupted build of the same name left is removed first.
    """
    for stale in folder.glob(f"{_UNFINISHED}{name}-*"):
        remove_tree(stale)
    scratch = Path(tempfile.mkdtemp(prefix=f"{_UNFINISHED}{name}-", dir=folder))
    try:
        yield scratch
    finally:
        remove_tree(scratch)


@contextmanager
def alone(lock: Path) -> Iterator[bool]:
    """Hold a lock where nobody else does; whether that was so. Never waits."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def abandoned() -> list[tuple[Path, Path]]:
    """Scratch folders of builds that were killed, each with the lock that its builder would hold."""
    folder = cache_dir() / "images"
    found = []
    for path in folder.glob(f"{_UNFINISHED}*-*"):
        lock = folder / f".{path.name.removeprefix(_UNFINISHED).rpartition('-')[0]}.lock"
        if path.is_dir() and not is_locked(lock):
            found.append((path, lock))
    return found


def is_locked(lock: Path) -> bool:
    """Whether somebody holds it now."""
    if not lock.exists():
        return False
    with alone(lock) as got:
        return not got


def remove_tree(path: Path) -> None:
    """Remove a folder, however deep a build made it and whatever its own user may not read. Raises OSError."""
    if path.is_dir():
        remove_folder(path)
    if path.is_dir():
        raise OSError(errno.ENOTEMPTY, "it can't be removed; look at whose it is, and remove it by hand", str(path))
