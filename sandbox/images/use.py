"""Which images are in use, and when each was last used: a small file each in the cache.

Its time is the last use; whoever uses the image now holds a shared lock on it, which the kernel drops when its holder
dies. Recording costs an `open` and a `utime`, and any number of processes may do so at once. Left out: what an engine
knows by itself, which is whether a container uses an image.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from pathlib import Path

from sandbox.images.cache import cache_dir

_FOLDER = ".used"


class Use:
    """A use of one image, until it is released or the process ends."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Safe to call twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def hold(kind: str, image: str) -> Use:
    """Say that an image is used now: `kind` of sandbox and a tag or a root folder.

    Waits for a removal of it that is under way. A cache that can't be written keeps no record.
    """
    path = _file(kind, image)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return Use(None)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.utime(descriptor)
    except OSError:
        os.close(descriptor)
        return Use(None)
    return Use(descriptor)


def touch(kind: str, image: str) -> None:
    """Record a use that is over."""
    hold(kind, image).release()


def last_use(kind: str, image: str) -> float:
    """Seconds since 1970; 0.0 where no use is recorded."""
    with contextlib.suppress(OSError):
        return _file(kind, image).stat().st_mtime
    return 0.0


def lock_file(kind: str, image: str) -> Path:
    """What a removal has to hold alone. Its folder exists afterwards."""
    path = _file(kind, image)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _file(kind: str, image: str) -> Path:
    """A root folder is known by its name in the cache; a tag by itself and the engine's kind."""
    said = Path(image).name if kind == "bubblewrap" else f"{kind} {image if ':' in image else image + ':latest'}"
    return cache_dir() / "images" / _FOLDER / hashlib.sha256(said.encode()).hexdigest()[:16]
