"""Temporary folders on the host that can be found again when the process that made them was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sandbox.owner import boot_time, is_elsewhere, is_gone, owner

_PREFIX = "patchwright-"
_CLOCK_STEPS = 3600.0  # seconds by which a clock may have been wrong while the machine started


def scratch_folder(what: str) -> Path:
    """A new private folder whose name says what it is for and whose it is. `what` has no dash."""
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{what}-{owner()}-"))


@contextlib.contextmanager
def scratch(what: str) -> Iterator[Path]:
    """Such a folder for as long as it is needed."""
    folder = scratch_folder(what)
    try:
        yield folder
    finally:
        remove_folder(folder)


def stale_folders() -> list[Path]:
    """The folders of processes that are gone."""
    return [path for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*") if _is_stale(path)]


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it; what can't be removed stays."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(path, ignore_errors=True)
    if path.is_dir() and not path.is_symlink():  # read-only folders in it, or more levels than Python can walk
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*command, "--", str(path)], stderr=subprocess.DEVNULL, check=False)


def _is_stale(path: Path) -> bool:
    """A folder of this user (anybody may make names in /tmp) whose owner has ended, by a reboot if not before."""
    try:
        found = path.lstat()
        mine = found.st_uid == os.getuid() and path.is_dir() and not path.is_symlink()
    except OSError:
        return False
    text = path.name.removeprefix(_PREFIX).partition("-")[2].rpartition("-")[0]
    return mine and (is_gone(text) or (is_elsewhere(text) and found.st_mtime < boot_time() - _CLOCK_STEPS))
