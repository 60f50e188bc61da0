"""The command line of a bubblewrap sandbox: namespaces, the root file system, folders, and who it runs as.

Left out: starting it (`sandbox.bubblewrap`) and what its work folder is made of (`sandbox.bubblewrap_layers`).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox import seccomp
from sandbox.base import SandboxUnavailable
from sandbox.bubblewrap_layers import Keeper, WorkFolder
from sandbox.cgroups import Group
from sandbox.channel import GUEST_ARGV
from sandbox.guest_python import BROUGHT_ARGV, BROUGHT_DIR
from sandbox.policy import GID, HOME, STATE_DIR, UID, USER, Network, SandboxSpec
from sandbox.rooted import find_file, read_file

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OOM_FILE = "/run/memory-events"
HOST_ETC = (
    "alternatives", "ca-certificates.conf", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types",
    "pki", "protocols", "python3", "python3.11", "python3.12", "python3.13", "services", "ssl", "timezone",
)  # fmt: skip
HOST_KEYS = ("ssl/private", "pki/tls/private", "pki/entitlement")  # some groups may read them, and groups are kept
PRIVATE_UIDS = range(1_900_000_000, 1_900_065_536)  # beyond what systems and containers hand out
SMALL_UIDS = range(50_000, 60_000)  # where we are root of a user namespace with few ids ourselves

_MAX_ACCOUNTS = 1 << 20  # bytes

# As root: enter the control group, show folders where the unprivileged user can reach them, give up root.
# $1 user id, $2 and $4 folders or nothing, $3 and $5 where to show them, then group files up to `--`, then the command
_AS_ROOT = """
uid=$1 tree=$2 at=$3 ours=$4 there=$5; shift 5
while [ "$1" != -- ]; do echo $$ > "$1" || exit 70; shift; done; shift
exec unshare --mount --propagation private -- /bin/sh -c '
uid=$1 tree=$2 at=$3 ours=$4 there=$5; shift 5
if [ -n "$tree" ]; then mount --bind "$tree" "$at" || exit 71; fi
if [ -n "$ours" ]; then mount --bind "$ours" "$there" || exit 71; fi
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all -- "$@"
' sh "$uid" "$tree" "$at" "$ours" "$there" "$@"
"""

# As root with layers: the same, in the keeper's mount namespace, where the tree is shown already.
# $1 user id, $2 the namespace, then group files up to `--`, then the command
_AS_ROOT_AT_THE_KEEPER = """
uid=$1 place=$2; shift 2
while [ "$1" != -- ]; do echo $$ > "$1" || exit 70; shift; done; shift
exec nsenter "--mount=$place" -- setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all -- "$@"
"""


@dataclass(frozen=True, slots=True)
class Inside:
    """What the command line is made from."""

    program: Path  # bwrap
    spec: SandboxSpec
    tree: Path | None  # becomes `/`; None: the host's own programs
    group: Group | None
    uid: int  # who root becomes
    work: WorkFolder | None  # None: a memory file system that the sandbox mounts for itself
    brought: Path | None = None  # the interpreter that the tree lacks (`sandbox.guest_python`)


@dataclass(frozen=True, slots=True)
class _Start:
    """Who starts bwrap, in which namespaces, and where the folders are seen from there."""

    prefix: list[str]
    tree: Path | None
    brought: Path | None


def command_line(inside: Inside, fds: list[int]) -> list[str]:
    """The whole command; descriptors that it reads are appended to `fds`."""
    spec, tree = inside.spec, inside.tree
    start = _start(inside)
    arguments = [*_isolation(spec, fds), *_root(spec, start.tree, tree, fds), *_folders(inside)]
    if start.brought is not None:
        arguments += ["--ro-bind", str(start.brought), BROUGHT_DIR]
    if inside.group is not None and inside.group.oom_file is not None:
        arguments += ["--ro-bind", str(inside.group.oom_file), OOM_FILE]
    arguments += ["--remount-ro", "/", "--chdir", spec.workdir]
    # through a descriptor: process 1 inside would show its command line, with paths of the host
    listed = _memory_file("\0".join(arguments).encode() + b"\0", fds)
    guest = GUEST_ARGV if start.brought is None else BROUGHT_ARGV
    return [*start.prefix, str(inside.program), "--args", str(listed), "--", *guest]


def _start(inside: Inside) -> _Start:
    tree, brought, work = inside.tree, inside.brought, inside.work
    if os.getuid() != 0:
        return _Start([] if work is None else _enter_as_user(work.keeper), tree, brought)
    files = [str(file) for file in inside.group.process_files] if inside.group else []
    hidden = [path for path in (tree, brought) if path is not None and not _reachable_for_all(path)]
    if work is not None:
        shown = {path: work.keeper.tree(path) for path in hidden}
        script = [_AS_ROOT_AT_THE_KEEPER, "sh", str(inside.uid), f"/proc/{work.keeper.pid}/ns/mnt"]
    else:
        shown = dict(zip(hidden, _stages(len(hidden)), strict=True))
        script = [_AS_ROOT, "sh", str(inside.uid)]
        for path in (tree, brought):
            script += [str(path), str(shown[path])] if path is not None and path in shown else ["", ""]
    prefix = ["/bin/sh", "-c", *script, *files, "--"]
    return _Start(prefix, tree and shown.get(tree, tree), brought and shown.get(brought, brought))


def _enter_as_user(keeper: Keeper) -> list[str]:
    namespaces = f"/proc/{keeper.pid}/ns"
    return ["nsenter", "--preserve-credentials", f"--user={namespaces}/user", f"--mount={namespaces}/mnt", "--"]


def _isolation(spec: SandboxSpec, fds: list[int]) -> Iterator[str]:
    yield from ("--unshare-user", "--unshare-all", "--uid", str(UID), "--gid", str(GID), "--hostname", "sandbox")
    if spec.network is Network.FULL:
        yield "--share-net"
    yield from ("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv")
    for name, value in {"PATH": PATH, "HOME": HOME, "LANG": "C.UTF-8"}.items():
        yield from ("--setenv", name, value)
    yield from ("--seccomp", str(_memory_file(seccomp.program(allow_tracing=spec.allow_tracing), fds)))


def _root(spec: SandboxSpec, shown: Path | None, tree: Path | None, fds: list[int]) -> Iterator[str]:
    source, listed = (Path("/"), Path("/")) if shown is None or tree is None else (shown, tree)
    host = tree is None
    for entry in sorted(listed.iterdir()):
        name = entry.name
        if name in {"proc", "sys", "dev", "tmp", "run", "home", "root", "mnt", "media", "boot", "lost+found"}:
            continue
        if host and (name in {"etc", "var", "opt", "srv"} or not _is_system(name)):
            continue
        if f"/{name}" == spec.workdir:
            continue
        if name == "etc" and spec.network is Network.FULL:  # with room for files that the tree doesn't have
            yield from ("--dir", "/etc")
            for part in () if entry.is_symlink() else sorted(entry.iterdir()):
                yield from _shown(part, source / "etc" / part.name, f"/etc/{part.name}")
        else:
            yield from _shown(entry, source / name, f"/{name}")
    if host:
        yield from ("--dir", "/etc", "--dir", "/var")
        for name in HOST_ETC:
            yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")
        for folder in (Path("/etc", name) for name in HOST_KEYS):
            if folder.resolve() == folder and folder.is_dir():
                yield from ("--perms", "0555", "--tmpfs", str(folder), "--remount-ro", str(folder))
    for name, text in {**_accounts(tree), **_names(spec)}.items():
        yield from ("--ro-bind-data", str(_memory_file(text.encode(), fds)), f"/etc/{name}")


def _shown(entry: Path, source: Path, at: str) -> Iterator[str]:
    if entry.is_symlink():
        yield from ("--symlink", str(entry.readlink()), at)
    elif entry.is_dir() or at.count("/") > 1:  # no files in the root
        yield from ("--ro-bind", str(source), at)


def _is_system(name: str) -> bool:
    return name in {"usr", "bin", "sbin"} or name.startswith("lib")


def _accounts(tree: Path | None) -> dict[str, str]:
    """/etc files in which the inside's user has a name."""
    user, group = f"{USER}:x:{UID}:{GID}::{HOME}:/bin/bash\n", f"{USER}:x:{GID}:\n"
    hosts = "127.0.0.1 localhost sandbox\n::1 localhost\n"
    if tree is None:
        root, nobody = "root:x:0:0:root:/root:/bin/sh\n", "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
        groups = f"root:x:0:\nnogroup:x:65534:\n{group}"
        return {"passwd": root + nobody + user, "group": groups, "hosts": hosts, "nsswitch.conf": "hosts: files\n"}
    files = {"hosts": hosts} if find_file(tree, "/etc/hosts") else {}
    for name, line in (("passwd", user), ("group", group)):
        said = read_file(tree, f"/etc/{name}", _MAX_ACCOUNTS)
        text = said.decode("utf-8", "replace") if said is not None else ""
        if said is not None and f":{UID}:" not in text:
            files[name] = text + line
    return files


def _names(spec: SandboxSpec) -> dict[str, str]:
    """/etc files by which this machine finds names; only for who may use its network."""
    if spec.network is not Network.FULL:
        return {}
    found = {name: Path("/etc", name) for name in ("resolv.conf", "hosts", "nsswitch.conf")}
    return {name: path.read_text("utf-8", "replace") for name, path in found.items() if path.is_file()}


def _folders(inside: Inside) -> Iterator[str]:
    limits = inside.spec.limits
    yield from ("--proc", "/proc", "--dev", "/dev")
    yield from _tmpfs("/dev/shm", limits.shm_bytes, "1777")  # noqa: S108
    yield from ("--remount-ro", "/dev")
    yield from _tmpfs("/tmp", limits.tmp_bytes, "1777")  # noqa: S108
    yield from _tmpfs(HOME, limits.home_bytes, "0755")
    yield from _tmpfs(STATE_DIR, limits.state_bytes, "0700")
    if inside.work is None:
        yield from _tmpfs(inside.spec.workdir, limits.workdir_bytes, "0755")
    else:
        yield from ("--bind", str(inside.work.path), inside.spec.workdir)


def _tmpfs(path: str, size: int, mode: str) -> tuple[str, ...]:
    return ("--perms", mode, "--size", str(size), "--tmpfs", path)


def _memory_file(data: bytes, fds: list[int]) -> int:
    fd = os.memfd_create("patchwright", 0)
    fds.append(fd)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _stages(count: int) -> list[Path]:
    """Standard folders to show others in, in a mount namespace that nobody else has."""
    folders = [Path("/mnt"), Path("/media"), Path("/srv"), Path("/opt")]
    there = [folder for folder in folders if folder.is_dir() and not folder.is_symlink()]
    if len(there) < count:
        raise SandboxUnavailable("This machine has too few of /mnt, /media, /srv and /opt; make an empty /mnt, /media.")
    return there[:count]


def _reachable_for_all(tree: Path) -> bool:
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in (tree, *tree.parents))


def private_uid() -> int:
    """An id that owns nothing; another one for each sandbox, so that limits per user are limits per sandbox."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = (int(word) for word in line.split())
        if first <= PRIVATE_UIDS[0] and first + count > PRIVATE_UIDS[-1]:
            return secrets.choice(PRIVATE_UIDS)
    return secrets.choice(SMALL_UIDS)
