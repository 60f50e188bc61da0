"""Keeps the work folders of bubblewrap's sandboxes as layers, in a mount namespace that nobody else has.

A program of its own (standard library only), one per process that opens sandboxes: it reads a request per line of
JSON and answers each with a line. Everything it mounts lies in memory and in its namespace, so that nothing is left
when it and the sandboxes end, however they end. It ends with its standard input.

As root it mounts as root; else in a user namespace in which the caller is root. What lies in a layer is hostile:
nothing here follows a link or leaves a folder that was opened. Left out: who uses which layer and for how long
(`sandbox.bubblewrap_layers`).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

NOSUID, NODEV, BIND, REC, SLAVE, SHARED = 2, 4, 4096, 16384, 1 << 19, 1 << 20
DETACH = 2
NEW_MOUNTS, NEW_USER = 0x20000, 0x10000000
PR_SET_NAME = 15
MAX_OPTIONS = 4000  # the kernel takes a page of text
MAX_LAYERS = 450  # and 500 layers
_OPENAT2, _BENEATH, _NO_LINKS = 437, 8, 4
_RAISING = stat.S_ISUID | stat.S_ISGID

libc = ctypes.CDLL(None, use_errno=True)
Answer = dict[str, Any]


def _check(result: int | bool, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    data = options.encode() or None
    _check(
        libc.mount(source.encode(), target.encode(), kind and kind.encode(), ctypes.c_ulong(flags), data),
        f"mount of {kind or 'a binding'} on {target}",
    )


def unmount(target: str) -> None:
    _check(libc.umount2(target.encode(), DETACH), f"unmount of {target}")


class Keeper:
    """The requests; names of stores, layers and anchors are paths below the stage, which is the current folder."""

    def __init__(self, stage: str) -> None:
        self.as_root = os.getuid() == 0
        self.stage = stage
        if self.as_root:
            _check(libc.unshare(NEW_MOUNTS), "a mount namespace")
        else:
            _become_root_of_a_namespace()
        mount("none", "/", None, REC | SLAVE)  # what is mounted here stays here; what the host mounts later is seen
        mount("patchwright", stage, "tmpfs", NOSUID | NODEV, "mode=0755,size=4m")
        os.chdir(stage)
        self.probe()

    def probe(self) -> None:
        """Find out by doing: an overlay whose writable layer can say that a folder replaces one below."""
        self.store("probe", 1 << 20, 100, 0)
        for name in ("probe/1", "probe/2"):
            self.layer(name, 0)
        os.mkdir("probe/1/u/d")
        os.mkdir("probe/1/u/d/below")
        os.mkdir("probe/at")
        self._attach("probe/at", ["probe/1"], "probe/2")
        try:
            os.rmdir("probe/at/d/below")
            os.rmdir("probe/at/d")
            os.mkdir("probe/at/d")
            if os.listdir("probe/at/d"):
                raise OSError(0, "a removed folder comes back")
        finally:
            unmount("probe/at")
        self.unstore("probe")

    # -- folders

    def store(self, name: str, size: int, inodes: int, uid: int) -> None:
        """A file system in memory: the bound on all layers in it together."""
        os.mkdir(name)
        options = f"mode=0755,size={size},nr_inodes={inodes},uid={uid},gid={uid}"
        mount("patchwright", name, "tmpfs", NOSUID | NODEV, options)

    def unstore(self, name: str) -> None:
        unmount(name)
        os.rmdir(name)

    def layer(self, name: str, uid: int, like: str | None = None) -> None:
        """An empty layer; the work folder's own mode and time as in the layer below."""
        os.mkdir(name)
        for part in ("u", "w"):
            os.mkdir(f"{name}/{part}", 0o755)
            os.chown(f"{name}/{part}", uid, uid)
        if like is not None:
            found = os.stat(f"{like}/u")
            os.chmod(f"{name}/u", stat.S_IMODE(found.st_mode) & ~_RAISING)
            os.utime(f"{name}/u", ns=(found.st_mtime_ns, found.st_mtime_ns))

    def unlayer(self, name: str) -> None:
        # a hostile tree may be deeper than Python's stack; what can't be removed goes with the store
        subprocess.run(["rm", "-rf", "--one-file-system", name], stdin=subprocess.DEVNULL, check=False)

    def tree(self, name: str, path: str) -> None:
        """Show a root filesystem where everybody can reach it."""
        os.mkdir(name)
        mount(path, name, None, BIND | REC)

    # -- what sandboxes see

    def anchor(self, name: str) -> None:
        """A mount that a sandbox binds; what is mounted on it later shows up inside."""
        os.mkdir(name)
        mount(name, name, None, BIND)
        mount("none", name, None, SHARED)

    def attach(self, anchor: str, lower: list[str], upper: str) -> None:
        self._attach(anchor, lower, upper)

    def detach(self, anchor: str) -> None:
        for _ in range(2):  # the work folder, if it was there, and the anchor itself
            with contextlib.suppress(OSError):
                unmount(anchor)
        os.rmdir(anchor)

    def freeze(self, anchor: str, lower: list[str], upper: str, new: str, uid: int) -> Answer:
        """Let `upper` be read-only from now on below a new layer. Nothing may run in the sandbox meanwhile."""
        if lower and self._untouched(upper, lower[0]):
            return {"frozen": False}
        _refuse_too_many([upper, *lower], new)
        _drop_raising_bits(f"{upper}/u")
        self.layer(new, uid, like=upper)
        try:
            unmount(anchor)
            try:
                self._attach(anchor, [upper, *lower], new)
            except OSError:
                self._attach(anchor, lower, upper)
                raise
        except OSError:
            self.unlayer(new)
            raise
        return {"frozen": True}

    def _untouched(self, upper: str, below: str) -> bool:
        mine, other = os.stat(f"{upper}/u"), os.stat(f"{below}/u")
        same = (mine.st_mode, mine.st_mtime_ns) == (other.st_mode, other.st_mtime_ns)
        return same and not os.listdir(f"{upper}/u")

    def _attach(self, anchor: str, lower: list[str], upper: str) -> None:
        if not lower:
            mount(f"{upper}/u", anchor, None, BIND)
            return
        mount("overlay", anchor, "overlay", NOSUID | NODEV, self._options(lower, upper))

    def _options(self, lower: list[str], upper: str) -> str:
        layers = ":".join(f"{name}/u" for name in lower)
        # without root a renamed folder of a lower layer can't be followed: `rename` then fails with EXDEV
        way = "redirect_dir=on,metacopy=off" if self.as_root else "userxattr"
        return f"lowerdir={layers},upperdir={upper}/u,workdir={upper}/w,xino=on,index=off,{way}"


def _refuse_too_many(lower: list[str], upper: str) -> None:
    length = sum(len(name) + 3 for name in lower) + 2 * len(upper) + 120
    if len(lower) > MAX_LAYERS or length > MAX_OPTIONS:
        raise OSError(7, "more layers than an overlay takes")


def _become_root_of_a_namespace() -> None:
    uid, gid = os.getuid(), os.getgid()
    _check(libc.unshare(NEW_USER | NEW_MOUNTS), "a user namespace")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _drop_raising_bits(root: str) -> None:
    """Take set-user-id and set-group-id bits off everything; mounts ignore them, and a snapshot has none."""
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    folders = [b"."]
    try:
        while folders:
            folder = folders.pop()
            fd = _open_below(top, folder)
            try:
                folders += [folder + b"/" + name for name in _drop_in_folder(fd)]
            finally:
                os.close(fd)
    finally:
        os.close(top)


def _drop_in_folder(fd: int) -> list[bytes]:
    """The names of the folders in it, once nothing in it raises."""
    found = []
    with os.scandir(fd) as entries:
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                found.append(os.fsencode(entry.name))
            if mode & _RAISING and not stat.S_ISLNK(mode):
                one = os.open(entry.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=fd)
                try:
                    os.chmod(f"/proc/self/fd/{one}", stat.S_IMODE(mode) & ~_RAISING)
                finally:
                    os.close(one)
    return found


def _open_below(top: int, path: bytes) -> int:
    """A folder below an open one, through no link whatever."""
    how = struct.pack("QQQ", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, 0, _BENEATH | _NO_LINKS)
    fd = libc.syscall(_OPENAT2, top, path, how, len(how))
    _check(fd < 0, "a folder of the layer")
    return int(fd)


def _requests(keeper: Keeper) -> dict[str, Callable[..., Answer | None]]:
    names = ("store", "unstore", "layer", "unlayer", "tree", "anchor", "attach", "detach", "freeze")
    return {name: getattr(keeper, name) for name in names}


def main() -> None:
    libc.prctl(PR_SET_NAME, b"patchwright-fs", 0, 0, 0)
    try:
        keeper = Keeper(sys.argv[1])
    except OSError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    print(json.dumps({"pid": os.getpid(), "as_root": keeper.as_root}), flush=True)
    requests = _requests(keeper)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = requests[name](*arguments) or {}
        except OSError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
