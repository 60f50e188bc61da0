"""Namespaces through bubblewrap: for users without root and machines without a container engine.

Started by root, it first becomes a user that nothing on the host belongs to, so that no file of the host is
writable and per-user limits hold. Left out: where base trees come from (`sandbox.images`).
"""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox import cgroups, seccomp
from sandbox.base import ImageProblem, SandboxUnavailable
from sandbox.channel import GUEST_ARGV, Message
from sandbox.machine import GuestSandbox
from sandbox.pipes import ProcessStream, spawn
from sandbox.policy import BASE_IMAGE, GID, HOME, HOST_IMAGE, STATE_DIR, UID, USER, Network, SandboxSpec

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OOM_FILE = "/run/memory-events"
HOST_ETC = (
    "alternatives", "ca-certificates.conf", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types",
    "pki", "protocols", "python3", "python3.11", "python3.12", "python3.13", "services", "ssl", "timezone",
)  # fmt: skip
PRIVATE_UIDS = range(1_900_000_000, 1_900_065_536)  # beyond what systems and containers hand out
SMALL_UIDS = range(50_000, 60_000)  # where we are root of a user namespace with few ids ourselves

# As root: enter the control group, show the tree where the unprivileged user can reach it, give up root.
# $1 user id, $2 tree or nothing, $3 where to show it, $4 the program, then its arguments up to `--`, then group files
_AS_ROOT = """
uid=$1 tree=$2 at=$3; shift 3
while [ "$1" != -- ]; do echo $$ > "$1" || exit 70; shift; done; shift
exec unshare --mount --propagation private -- /bin/sh -c '
uid=$1 tree=$2 at=$3; shift 3
if [ -n "$tree" ]; then mount --bind "$tree" "$at" || exit 71; fi
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all -- "$@"
' sh "$uid" "$tree" "$at" "$@"
"""


@dataclass(slots=True)
class BubblewrapMachine:
    stream: ProcessStream
    group: cgroups.Group | None
    kind: str = "bubblewrap"

    async def stop(self) -> None:
        self.stream.close()
        await self.stream.wait_or_kill(0.0)
        if self.group is not None:
            await asyncio.to_thread(self.group.remove)

    async def post_mortem(self) -> str:
        code = await self.stream.wait_or_kill(1.0)
        if self.group is not None and self.group.oom_kills():
            return "its processes were ended because the memory limit was reached"
        return f"its processes were ended (status {code})"


async def open_bubblewrap(spec: SandboxSpec) -> GuestSandbox:
    """A sandbox in namespaces of its own. Raises SandboxUnavailable or ImageProblem."""
    program = _bwrap()
    tree = find_tree(spec.image)
    group = cgroups.make_group(spec.limits)
    machine: BubblewrapMachine | None = None
    fds: list[int] = []
    try:
        command = _command(program, spec, tree, group, fds)
        stream, channel = await spawn(command, {"PATH": PATH}, pass_fds=fds)
        machine = BubblewrapMachine(stream, group)
        sandbox = GuestSandbox(
            machine, channel, spec, workdir=spec.workdir, state_dir=STATE_DIR, reopen=open_bubblewrap
        )
        await sandbox.start(_config(spec, group, tree))
    except BaseException:  # whatever ended the start, cancellation too: leave no process and no group
        if machine is not None:
            await machine.stop()
        elif group is not None:
            group.remove()
        raise
    finally:
        for fd in fds:
            os.close(fd)
    return sandbox


def find_tree(image: str | None) -> Path | None:
    """The folder that becomes `/`; None for the host's own programs. Raises ImageProblem."""
    if image in (None, "", BASE_IMAGE):
        from sandbox.images import find_base_tree

        return find_base_tree()
    if image == HOST_IMAGE:
        return None
    tree = Path(str(image)).expanduser().absolute()
    if not (tree / "usr" / "bin").is_dir():
        raise ImageProblem(
            f"{tree} is no folder with a root filesystem (it has no usr/bin). Build one with `agent sandbox build`, "
            f"or use the image `{HOST_IMAGE}`, which is this machine's own programs."
        )
    return tree


def _bwrap() -> str:
    from sandbox.images import find_bwrap

    program = find_bwrap()
    if program is None:
        raise SandboxUnavailable(
            "bubblewrap is not installed. Install it (`apt-get install bubblewrap`, `dnf install bubblewrap`), "
            "or use Docker."
        )
    return str(program)


def _config(spec: SandboxSpec, group: cgroups.Group | None, tree: Path | None) -> Message:
    from sandbox.images import read_environment

    limits = spec.limits
    rlimits = {"core": 0, "nofile": limits.open_files}
    release = tuple(int(part) for part in platform.release().split(".")[:2])
    if os.getuid() == 0 or release >= (5, 14):  # older kernels count the user's processes outside as well
        rlimits["nproc"] = limits.processes
    config: Message = {
        "env": {"PATH": PATH, **(read_environment(tree) if tree else {}), **spec.environment()},
        "rlimits": rlimits,
        "spool_bytes": limits.state_bytes // 2,
    }
    if group is None:
        return {**config, "watch_memory": limits.memory, "watch_processes": limits.processes}
    return {**config, "oom_files": [OOM_FILE]}


# -- the command line


def _command(
    program: str, spec: SandboxSpec, tree: Path | None, group: cgroups.Group | None, fds: list[int]
) -> list[str]:
    """The whole command; descriptors that it reads are appended to `fds`."""
    shown = tree
    prefix: list[str] = []
    if os.getuid() == 0:
        hidden = tree is not None and not _reachable_for_all(tree)
        shown = _stage() if hidden else tree
        files = [str(file) for file in group.process_files] if group else []
        prefix = ["/bin/sh", "-c", _AS_ROOT, "sh", str(_private_uid()), str(tree) if hidden else "", str(shown), *files]
        prefix += ["--"]
    arguments = [*_isolation(spec, fds), *_root(spec, shown, tree, fds), *_folders(spec)]
    if group is not None and group.oom_file is not None:
        arguments += ["--ro-bind", str(group.oom_file), OOM_FILE]
    arguments += ["--remount-ro", "/", "--chdir", spec.workdir]
    # through a descriptor: process 1 inside would show its command line, with paths of the host
    listed = _memory_file("\0".join(arguments).encode() + b"\0", fds)
    return [*prefix, program, "--args", str(listed), "--", *GUEST_ARGV]


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
            for part in sorted(entry.iterdir()):
                yield from _shown(part, source / "etc" / part.name, f"/etc/{part.name}")
        else:
            yield from _shown(entry, source / name, f"/{name}")
    if host:
        yield from ("--dir", "/etc", "--dir", "/var")
        for name in HOST_ETC:
            yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")
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
    files = {"hosts": hosts} if (tree / "etc/hosts").is_file() else {}
    for name, line in (("passwd", user), ("group", group)):
        path = tree / "etc" / name
        text = path.read_text("utf-8", "replace") if path.is_file() else ""
        if path.is_file() and f":{UID}:" not in text:
            files[name] = text + line
    return files


def _names(spec: SandboxSpec) -> dict[str, str]:
    """/etc files by which this machine finds names; only for who may use its network."""
    if spec.network is not Network.FULL:
        return {}
    found = {name: Path("/etc", name) for name in ("resolv.conf", "hosts", "nsswitch.conf")}
    return {name: path.read_text("utf-8", "replace") for name, path in found.items() if path.is_file()}


def _folders(spec: SandboxSpec) -> Iterator[str]:
    limits = spec.limits
    yield from ("--proc", "/proc", "--dev", "/dev")
    yield from _tmpfs("/dev/shm", limits.shm_bytes, "1777")  # noqa: S108
    yield from ("--remount-ro", "/dev")
    yield from _tmpfs("/tmp", limits.tmp_bytes, "1777")  # noqa: S108
    yield from _tmpfs(HOME, limits.home_bytes, "0755")
    yield from _tmpfs(STATE_DIR, limits.state_bytes, "0700")
    yield from _tmpfs(spec.workdir, limits.workdir_bytes, "0755")


def _tmpfs(path: str, size: int, mode: str) -> tuple[str, ...]:
    return ("--perms", mode, "--size", str(size), "--tmpfs", path)


def _memory_file(data: bytes, fds: list[int]) -> int:
    fd = os.memfd_create("patchwright", 0)
    fds.append(fd)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _stage() -> Path:
    """An empty standard folder to show a tree in, in a mount namespace that nobody else has."""
    for folder in (Path("/mnt"), Path("/media"), Path("/srv"), Path("/opt")):
        if folder.is_dir() and not folder.is_symlink():
            return folder
    raise SandboxUnavailable("This machine has none of /mnt, /media, /srv and /opt; make an empty /mnt.")


def _reachable_for_all(tree: Path) -> bool:
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in (tree, *tree.parents))


def _private_uid() -> int:
    """An id that owns nothing; another one for each sandbox, so that limits per user are limits per sandbox."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = (int(word) for word in line.split())
        if first <= PRIVATE_UIDS[0] and first + count > PRIVATE_UIDS[-1]:
            return secrets.choice(PRIVATE_UIDS)
    return secrets.choice(SMALL_UIDS)


# -- is it there


def why_not() -> str | None:
    """None when bubblewrap works here, else why it doesn't and what to do."""
    try:
        program = _bwrap()
    except SandboxUnavailable as error:
        return str(error)
    command = [program, "--unshare-all", "--ro-bind", "/", "/", "true"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not start: {error}."
    if done.returncode == 0:
        missing = [tool for tool in ("unshare", "setpriv", "mount") if shutil.which(tool) is None]
        if os.getuid() == 0 and missing:
            return f"{', '.join(missing)} not found; install util-linux."
        return None
    return (
        f"bubblewrap can't make namespaces here: {done.stderr.decode('utf-8', 'replace').strip()}. Allow them "
        "(`sysctl -w kernel.unprivileged_userns_clone=1`, on Ubuntu also "
        "`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`), or use Docker."
    )
