"""A set-up as a root folder for bubblewrap: its commands run over an overlay, so the base is never written to.

Each command gets a mount namespace in which the base lies below a writable layer, and a sandbox in it: the caller's
own id as root, without a capability outside, the host's network and nothing of the host's files. What the layer has
gathered is then laid over hard links to the base, as a folder of its own. Where overlays can't be had, the base is
copied instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sandbox import seccomp
from sandbox.base import ImageProblem
from sandbox.images.bounds import bounds, disk_watch
from sandbox.images.build_settings import CA_IN_IMAGE, BuildSettings, build_settings, serving_wheels
from sandbox.images.bwrap import ensure_bwrap
from sandbox.images.cache import cache_dir, images_dir, locked, remove_tree, unfinished
from sandbox.images.detect.base import SETUP_VERSION, SYSTEM_PATH, Setup, Step
from sandbox.images.detect.tree import Tree
from sandbox.images.dockerfile import advice
from sandbox.images.progress import Progress, Report, failure, run_step, run_tool, silent, step
from sandbox.images.setup_context import FINISH, environment, setup_context
from sandbox.rooted import find_file

_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID")  # over the caller's own id only
_OF_THE_HOST = ("/etc/resolv.conf", "/etc/hosts")
_SPACE = "check the free space of the cache folder (PATCHWRIGHT_CACHE moves it); then run it again."
_BOUNDED = "a set-up that ends by itself, asks for nothing, and takes less."
# $1: lower, $2: upper, $3: work, $4: where; then the command
_OVERLAY = (
    'mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3,userxattr" "$4" || exit 70; shift 4; exec "$@"'
)
_NO_OVERLAY = 70
_OPAQUE = "user.overlay.opaque"


@dataclass(frozen=True, slots=True)
class _Layer:
    """Where a set-up writes: an overlay's parts below `folder`, or a whole copy."""

    base: Path
    folder: Path
    overlay: bool

    @property
    def upper(self) -> Path:
        return self.folder / "upper"

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def written(self) -> Path:
        """What a path below shows up in the root when it is put here."""
        return self.upper if self.overlay else self.root

    def command(self, inner: list[str]) -> list[str]:
        own = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private", "--"]
        if not self.overlay:
            return [*own, *inner]
        parts = [str(self.base), str(self.upper), str(self.folder / "work"), str(self.root)]
        return [*own, "/bin/sh", "-c", _OVERLAY, "sh", *parts, *inner]


def setup_tree(
    base: Path, setup: Setup, tree: Tree | None, workdir: str, *, report: Report, whole: bool = False, test: str = ""
) -> Path:
    """Apply a set-up to a root folder; returns the new folder, which is made once. Raises ImageProblem."""
    with setup_context(setup, tree, workdir, whole=whole, test=test) as context:
        name = f"environment-{_digest(base, setup, context, workdir)}"
        folder = images_dir()
        target = folder / name
        with locked(folder, name, report):
            if target.is_dir():
                os.utime(target)  # the order in which unused ones are removed
                return target
            with unfinished(folder, name) as scratch:
                try:
                    made = _make(base, setup, context, workdir, scratch, report)
                finally:
                    _unlock(scratch)
                note = {"base": base.name, "steps": [one.name for one in setup.steps], "test": test}
                target.with_suffix(".json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
                made.rename(target)
    return target


def cached_environments() -> list[Path]:
    """The folders that set-ups made, the last used first. Other processes make and remove some meanwhile."""
    found: dict[Path, float] = {}
    for path in (cache_dir() / "images").glob("environment-*"):
        with suppress(FileNotFoundError):
            if path.is_dir():
                found[path] = path.stat().st_mtime
    return sorted(found, key=lambda path: -found[path])


def remove_environment(path: Path) -> None:
    """Remove one of them from the cache."""
    with locked(images_dir(), path.name, silent):
        path.with_suffix(".json").unlink(missing_ok=True)
        remove_tree(path)


def _digest(base: Path, setup: Setup, context: Path, workdir: str) -> str:
    """By the base's packages and their versions, the commands, and each file that they see."""
    status = base / "var/lib/dpkg/status"
    known = status.read_bytes() if status.is_file() else str(base.stat().st_mtime_ns).encode()
    said = json.dumps([SETUP_VERSION, base.name, workdir, [one.command for one in setup.steps], setup.env])
    digest = hashlib.sha256(known + said.encode())
    for path in sorted(context.rglob("*")):
        kind = "link" if path.is_symlink() else "file" if path.is_file() else "folder"
        digest.update(f"\0{path.relative_to(context)}\0{kind}\0{stat.S_IMODE(path.lstat().st_mode) & 0o111}\0".encode())
        digest.update(os.fsencode(path.readlink()) if kind == "link" else path.read_bytes() if kind == "file" else b"")
    return digest.hexdigest()[:12]


def _make(base: Path, setup: Setup, context: Path, workdir: str, scratch: Path, report: Report) -> Path:
    layer = _layer(base, scratch)
    work = layer.written / workdir.lstrip("/")
    if not work.resolve().is_relative_to(layer.written.resolve()):  # `..`, or a link in a copy of the base
        raise ImageProblem(f"the work folder {workdir} leads out of the image.\nTry: a plain path, such as /workspace.")
    shutil.copytree(context, work, symlinks=True, dirs_exist_ok=True)
    settings = build_settings(os.environ)
    for reason in settings.left_out:
        report(Progress(f"not passed into the build: {reason}", 0.0))
    with serving_wheels(settings) as arguments:
        env = {"PATH": SYSTEM_PATH, "HOME": "/root", "LANG": "C.UTF-8", **arguments, **settings.proxies}
        env |= environment(setup, workdir)
        steps = (*setup.steps, FINISH)
        for number, one in enumerate(steps, 1):
            with step(one.name, report):
                _run(layer, one, f"{number}/{len(steps)}", env, workdir, settings)
    with step("laying it over the base", report):
        return _flatten(layer, scratch)


def _layer(base: Path, scratch: Path) -> _Layer:
    layer = _Layer(base, scratch, overlay=True)
    for name in ("upper", "work", "root", "tmp"):
        (scratch / name).mkdir()
    layer.upper.chmod(0o755)
    if subprocess.run(layer.command(["true"]), capture_output=True, check=False).returncode == 0:
        return layer
    run_tool(["cp", "-a", "--reflink=auto", f"{base}/.", str(layer.root)], what="copying the base", hint=_SPACE)
    return _Layer(base, scratch, overlay=False)


def _run(layer: _Layer, one: Step, place: str, env: Mapping[str, str], workdir: str, settings: BuildSettings) -> None:
    with tempfile.TemporaryFile() as filters:
        filters.write(seccomp.program(allow_tracing=True))
        filters.seek(0)
        command = layer.command(_sandbox(layer, one, env, workdir, settings, filters.fileno()))
        own = {"PATH": os.environ.get("PATH", SYSTEM_PATH)}  # of the program that is process 1 inside
        with bounds() as bound:
            ended = run_step(
                bound.command(command), env=own, pass_fds=[filters.fileno()], watch=disk_watch(layer.folder)
            )
            why = f", {ended.why}" if ended.why else bound.said()
    if ended.status != 0:
        status = "" if why else f" (status {ended.status})"
        what = f"building the environment failed at step {place} `{one.name}`{status}{why}"
        raise ImageProblem(failure(what, ended.output, _BOUNDED if why else advice(ended.output)))


def _sandbox(
    layer: _Layer, one: Step, env: Mapping[str, str], workdir: str, settings: BuildSettings, filters: int
) -> list[str]:
    command = [str(ensure_bwrap()), "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if settings.network == "none":
        command.append("--unshare-net")
    command += [
        "--die-with-parent",
        "--new-session",
        "--hostname",
        "build",
        "--seccomp",
        str(filters),
        "--cap-drop",
        "ALL",
    ]
    command += [word for name in _CAPABILITIES for word in ("--cap-add", name)]
    command += ["--bind", str(layer.root), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run"]
    command += ["--bind", str(layer.folder / "tmp"), "/tmp"]  # noqa: S108  (inside)
    command += [word for name in _OF_THE_HOST for word in ("--ro-bind-try", name, name)]
    if settings.ca_bundle is not None:
        command += ["--ro-bind", str(settings.ca_bundle.resolve()), CA_IN_IMAGE]
    command += ["--clearenv", *(word for name, value in env.items() for word in ("--setenv", name, value))]
    return [*command, "--chdir", workdir, "--", "/bin/sh", "-ec", one.command]


def _unlock(scratch: Path) -> None:
    """An overlay leaves a folder that its owner may not read, and so could not remove."""
    for folder in (scratch / "work").glob("*"):
        folder.chmod(0o700)


# -- from an overlay's upper layer to a folder of its own


def _flatten(layer: _Layer, scratch: Path) -> Path:
    """A root folder that shares every unchanged file with the base."""
    for name in (CA_IN_IMAGE, *_OF_THE_HOST):  # what was mounted over an empty file
        path = layer.written / name.lstrip("/")
        if find_file(layer.written, name) == path and not path.stat().st_size:
            path.unlink()
    _open_for_all(layer.written)
    if not layer.overlay:
        return layer.root
    target = scratch / "tree"
    try:
        run_tool(["cp", "-al", str(layer.base), str(target)], what="linking the base", hint=_SPACE)
    except ImageProblem:  # another file system, or files of somebody else
        shutil.rmtree(target, ignore_errors=True)
        run_tool(["cp", "-a", "--reflink=auto", str(layer.base), str(target)], what="copying the base", hint=_SPACE)
    _merge(layer.upper, target)
    target.chmod(0o755)
    return target


def _merge(upper: Path, target: Path) -> None:
    """Lay a folder of an overlay's upper layer over a folder. Files are moved, the base's never written to."""
    for entry in sorted(upper.iterdir()):
        there = target / entry.name
        mode = entry.lstat().st_mode
        if stat.S_ISDIR(mode):
            if _is_opaque(entry) or there.is_symlink() or not there.is_dir():
                _remove(there)
                there.mkdir()
            _merge(entry, there)
            there.chmod(stat.S_IMODE(mode))
            continue
        _remove(there)
        if not _is_whiteout(entry):
            entry.rename(there)


def _is_opaque(folder: Path) -> bool:
    try:
        return os.getxattr(folder, _OPAQUE) == b"y"
    except OSError:
        return False


def _is_whiteout(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _open_for_all(folder: Path) -> None:
    """Readable for the id that sandboxes run as; no set-user-id bits; no special files but whiteouts."""
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where, name)
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
                wider = 0o555 if stat.S_ISDIR(mode) or mode & 0o100 else 0o444
                path.chmod((stat.S_IMODE(mode) | wider | 0o200) & ~(stat.S_ISUID | stat.S_ISGID))
            elif not stat.S_ISLNK(mode) and not _is_whiteout(path):
                path.unlink()
