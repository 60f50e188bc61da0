"""The Python that a sandbox brings along where the image has none that can run the guest, and a git for our scripts.

A folder made once from the base image, named by what is in it, shown read-only outside of every folder that commands
can write to. It is started by its own loader, which is told where the libraries are on the command line: no variable
is set for it, so commands inherit none, and it runs over glibc, musl or an empty image alike. Left out: what is in it
(`sandbox.guest_python_make`) and how an engine gets it (`sandbox.guest_python_volume`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.base import ImageProblem
from sandbox.channel import GUEST_ARGV
from sandbox.guest_python_make import GIT, LIBRARIES, LOADER, PYTHON, digest, machine_of, make
from sandbox.rooted import find_file

if TYPE_CHECKING:
    from sandbox.images.progress import Report

BROUGHT_DIR = "/run/patchwright-guest"  # where a sandbox shows the folder
FORMAT = 2  # raise it when the same base image would give another folder
_DIGEST = "digest"
_failed_until = [0.0]  # seconds of the monotonic clock
_START = (f"{BROUGHT_DIR}/{LOADER}", "--inhibit-cache", "--library-path", f"{BROUGHT_DIR}/{LIBRARIES}")
BROUGHT_ARGV = (*_START, f"{BROUGHT_DIR}/{PYTHON}", *GUEST_ARGV[1:])
OURS = f"{BROUGHT_DIR}/commands"  # for the end of the PATH of our own scripts, never of the model's: git, python3


@dataclass(frozen=True, slots=True)
class Bundle:
    """The interpreter's folder on this machine. `machine` is the processor that it is for, as `uname -m` says it."""

    folder: Path
    digest: str
    machine: str


def bundle(report: Report | None = None) -> Bundle:
    """The interpreter, made when it isn't in the cache: 2 s, and 20 s more where there is no base image yet.

    Raises ImageProblem.
    """
    from sandbox.images.cache import images_dir, locked, remove_tree, unfinished
    from sandbox.images.progress import silent, step

    report = report or silent
    tar = _base(report)
    name = f"guest-python-{tar.stem.removeprefix('base-')}-{FORMAT}"
    target = images_dir() / name
    if _is_fresh(target, tar):
        return _read(target)
    with locked(images_dir(), name, report), unfinished(images_dir(), name) as scratch:
        if _is_fresh(target, tar):
            return _read(target)  # another process has just made it
        try:
            with step("making the interpreter for images without Python", report):
                made = make(tar, scratch)
                _add_commands(made)
                (made / _DIGEST).write_text(digest(made))
                _open_for_all(made)
        except OSError as error:
            raise ImageProblem(
                f"the interpreter for images without Python can't be made: {error}.\n"
                "Try: check the free space of the cache folder (PATCHWRIGHT_CACHE moves it)."
            ) from error
        os.utime(made)
        if target.is_dir():
            target.rename(scratch / "replaced")
        made.rename(target)
        remove_tree(scratch / "replaced")
    return _read(target)


def _open_for_all(made: Path) -> None:
    """Another user than this one reads it, whatever this one's files are open for by habit."""
    (made / _DIGEST).chmod(0o644)
    for folder in (made, *(path for path in made.rglob("*") if path.is_dir())):
        folder.chmod(0o755)


def obtainable() -> bool:
    """Whether `bundle` gives one. A failure, which may have taken long, counts for this process's next ten minutes."""
    if time.monotonic() < _failed_until[0]:
        return False
    try:
        bundle()
    except ImageProblem:
        _failed_until[0] = time.monotonic() + 600.0
        return False
    return True


def _add_commands(made: Path) -> None:
    """Programs by their names, for scripts of ours in a shell of the image's."""
    folder = made / Path(OURS).name
    folder.mkdir()
    for program in (PYTHON, GIT):
        path = folder / Path(program).name
        path.write_text(f'#!/bin/sh\nexec {" ".join(_START)} {BROUGHT_DIR}/{program} "$@"\n')
        path.chmod(0o755)


def tree_python(tree: Path, path: str) -> bool:
    """Whether a root folder has a `python3` on this PATH. Links are followed as they lead inside."""
    return any(find_file(tree, f"{folder}/python3") for folder in path.split(":"))


def without_loader_settings(image: Mapping[str, str], ours: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Variables for the interpreter's start, and those that commands get on top, from the image's and ours.

    What the image or a caller says to the image's loader (`LD_PRELOAD`, `GLIBC_TUNABLES`) is for the image's
    programs: ours would load libraries that were made for another C library.
    """
    both = {**image, **ours}
    kept = {name: value for name, value in both.items() if name.startswith(("LD_", "GLIBC_", "MALLOC_"))}
    plain = {name: value for name, value in ours.items() if name not in kept}
    return {**plain, **dict.fromkeys(kept, "")}, kept


def is_known(image: str) -> bool:
    """Whether an image (by its id) was seen to need the interpreter on this machine."""
    return _marker(image).exists()


def remember(image: str) -> None:
    """Note that an image needs it, so that its next sandbox isn't first tried without."""
    with suppress(OSError):  # a cache that can't be written to costs a container each time, nothing else
        _marker(image).touch()


def _marker(image: str) -> Path:
    from sandbox.images.cache import cache_dir

    return cache_dir() / "images" / f".no-python-{image.removeprefix('sha256:')[:24]}"


def _base(report: Report) -> Path:
    """The tar to make it from: this machine's base image, another one that is there, or a new one."""
    from sandbox.images.base_image import base_tar, cached_bases
    from sandbox.images.cache import images_dir
    from sandbox.images.recipe import recipe

    plain = images_dir() / f"base-{recipe().digest}.tar"
    if plain.is_file():
        return plain
    cached = cached_bases()
    return cached[0].tar if cached else base_tar(report=report)


def _is_fresh(target: Path, tar: Path) -> bool:
    return target.is_dir() and target.stat().st_mtime >= tar.stat().st_mtime


def _read(folder: Path) -> Bundle:
    return Bundle(folder, (folder / _DIGEST).read_text(), machine_of(folder / LOADER))
