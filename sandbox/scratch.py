"""Temporary folders on the host that can be found again when the process that made them was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from sandbox.owner import is_gone, owner

_PREFIX = "patchwright-"


def scratch_folder(what: str) -> Path:
    """A new private folder whose name says what it is for and whose it is. `what` has no dash."""
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{what}-{owner()}-"))


def prune_scratch() -> int:
    """Remove the folders of processes that are gone; returns how many went."""
    stale = [path for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*") if _is_stale(path)]
    for path in stale:
        remove_folder(path)
    return len(stale)


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it, read-only folders too; what can't be removed stays."""
    for folder, _, _ in os.walk(path):
        if not os.access(folder, os.W_OK | os.X_OK):
            with contextlib.suppress(OSError):
                Path(folder).chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)


def _is_stale(path: Path) -> bool:
    """A folder of this user (anybody may make names in /tmp) and of an owner that has ended."""
    try:
        mine = path.lstat().st_uid == os.getuid() and path.is_dir() and not path.is_symlink()
    except OSError:
        return False
    return mine and is_gone(path.name.removeprefix(_PREFIX).partition("-")[2].rpartition("-")[0])
