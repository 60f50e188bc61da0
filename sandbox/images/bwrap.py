"""Finding bubblewrap, or fetching it for a user who can't install packages. Starts no sandbox."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from sandbox.base import ImageProblem, SandboxUnavailable
from sandbox.images.apt import private_apt
from sandbox.images.cache import cache_dir, locked, tools_dir, unfinished
from sandbox.images.progress import Report, run_tool, silent, step
from sandbox.images.recipe import host_suite

_INSTALL = "install the package `bubblewrap` as root (`apt-get install bubblewrap`), or use Docker."


def find_bwrap() -> Path | None:
    """`bwrap` on PATH, else the one that an earlier `ensure_bwrap` fetched."""
    if found := shutil.which("bwrap"):
        return Path(found)
    fetched = cache_dir() / "tools/bubblewrap" / "usr/bin/bwrap"
    return fetched if fetched.is_file() else None


def ensure_bwrap(*, report: Report = silent) -> Path:
    """A `bwrap` that starts, fetched into the cache from the machine's own mirror where none is installed.

    Needs no root. Raises SandboxUnavailable when it can't be had.
    """
    if found := find_bwrap():
        return found
    folder = tools_dir()
    try:
        with locked(folder, "bubblewrap", report):
            if found := find_bwrap():
                return found
            with unfinished(folder, "bubblewrap") as scratch, step("fetching bubblewrap", report):
                unpacked = _fetch(scratch)
                unpacked.rename(folder / "bubblewrap")
    except ImageProblem as problem:
        raise SandboxUnavailable(f"bubblewrap isn't installed and couldn't be fetched: {problem}") from problem
    return folder / "bubblewrap" / "usr/bin/bwrap"


def _fetch(scratch: Path) -> Path:
    apt = private_apt(scratch / "apt", host_suite())
    for arguments in (["update", "-q"], ["download", "-q", "bubblewrap"]):
        run_tool(
            ["apt-get", *arguments],
            what=f"apt-get {arguments[0]}",
            hint=_INSTALL,
            env=apt.environment,
            cwd=str(scratch),
        )
    unpacked = scratch / "unpacked"
    for deb in scratch.glob("bubblewrap_*.deb"):
        run_tool(["dpkg-deb", "-x", str(deb), str(unpacked)], what=f"unpacking {deb.name}", hint=_INSTALL)
    program = unpacked / "usr/bin/bwrap"
    if not program.is_file():
        raise ImageProblem(f"the package `bubblewrap` holds no bwrap.\nTry: {_INSTALL}")
    _check_starts(program)
    return unpacked


def _check_starts(program: Path) -> None:
    done = subprocess.run([program, "--version"], capture_output=True, check=False)
    if done.returncode:
        seen = done.stderr.decode(errors="replace").strip()
        raise ImageProblem(f"the fetched bwrap doesn't start on this machine: {seen}\nTry: {_INSTALL}")
