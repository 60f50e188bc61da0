"""Namespaces through bubblewrap: for users without root and machines without a container engine.

Started by root, it first becomes a user that nothing on the host belongs to, so that no file of the host is
writable and per-user limits hold. The work folder is made of layers in memory where they can be mounted, so that a
snapshot costs no more than what was changed and a fork shares what it begins with; else it is a memory file system
and snapshots are copies. Left out: the command line (`sandbox.bubblewrap_command`), the layers
(`sandbox.bubblewrap_layers`), and where base trees come from (`sandbox.images`).
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sandbox import cgroups, guest_python
from sandbox.base import ImageProblem, SandboxDied, SandboxUnavailable
from sandbox.bubblewrap_command import OOM_FILE, PATH, Inside, command_line, private_uid
from sandbox.bubblewrap_layers import Keeper, LayersUnavailable, Stack, Store, WorkFolder, keeper_for, work_folder
from sandbox.channel import Message
from sandbox.machine import GuestSandbox
from sandbox.pipes import ProcessStream, spawn
from sandbox.policy import BASE_IMAGE, HOST_IMAGE, STATE_DIR, SandboxSpec
from sandbox.snapshots import Copy, Frozen, Kept, filled, uncut

_needs_ours: set[Path] = set()  # trees that were seen to have no Python that can run the guest, or no git


class NoGuest(Exception):
    """A tree turned out to need our interpreter."""


@dataclass(slots=True)
class BubblewrapMachine:
    stream: ProcessStream
    group: cgroups.Group | None
    spec: SandboxSpec
    work: WorkFolder | None
    ended_with: int | None = None  # the status, where we know no other reason for the end
    kind: str = "bubblewrap"

    async def stop(self) -> None:
        self.stream.close()
        await self.stream.wait_or_kill(0.0)
        await uncut(asyncio.to_thread(self._clear))

    def _clear(self) -> None:
        if self.group is not None:
            self.group.remove()
        if self.work is not None:
            self.work.close()

    async def post_mortem(self) -> str:
        code = await self.stream.wait_or_kill(1.0)
        if self.group is not None and self.group.oom_kills():
            return "its processes were ended because the memory limit was reached"
        self.ended_with = code
        return f"its processes were ended (status {code})"

    async def freeze(self) -> Frozen | None:
        """None where there are no layers, and while a command's process lives: it would go on in the frozen one."""
        if self.work is None or not _only_the_guest(self.stream.pid):
            return None
        frozen = FrozenLayers(self.work.keeper, self.spec)
        try:
            await uncut(asyncio.to_thread(frozen.take, self.work))
        except LayersUnavailable:  # too many, or no room: a copy may still be had
            return None
        except BaseException:
            await frozen.drop()
            raise
        return frozen

    async def successor(self, kept: Kept) -> GuestSandbox:
        store = self.work.store if self.work is not None else None
        if isinstance(kept, Copy):
            return await filled(await _open(self.spec, store=store), kept)
        assert isinstance(kept, FrozenLayers)
        return await _open(self.spec, lower=kept.stack, store=store)

    async def succeed(self, old: BubblewrapMachine) -> None:
        await old.stop()


@dataclass(slots=True)
class FrozenLayers:
    """A state as layers that nobody writes to any more."""

    keeper: Keeper
    spec: SandboxSpec
    stack: Stack = ()

    def take(self, work: WorkFolder) -> None:
        self.stack = work.freeze()

    async def fork(self) -> GuestSandbox:
        return await _open(self.spec, lower=self.stack)

    async def drop(self) -> None:
        stack, self.stack = self.stack, ()
        await uncut(asyncio.to_thread(self.keeper.leave, stack))


async def open_bubblewrap(spec: SandboxSpec) -> GuestSandbox:
    """A sandbox in namespaces of its own. Raises SandboxUnavailable, ImageProblem or SandboxDied."""
    try:
        return await _open(spec)
    except NoGuest:
        return await _open(spec)  # with our interpreter: it is known now that the tree needs it


async def _open(spec: SandboxSpec, *, lower: Stack = (), store: Store | None = None) -> GuestSandbox:
    """With a work folder over `lower`, in a store that exists already or a new one."""
    program = _bwrap()
    tree = find_tree(spec.image)
    brought = await asyncio.to_thread(_brought, tree)
    keeper, why_copies = await _layers(program, tree)
    below = lower[0].store if lower else store
    uid = below.uid if below is not None and below.uid else private_uid()
    group = cgroups.make_group(spec.limits)
    work: WorkFolder | None = None
    machine: BubblewrapMachine | None = None
    fds: list[int] = []
    try:
        if keeper is not None:
            work = work_folder(keeper, spec.limits, uid, lower=lower, store=store)
        command = command_line(Inside(program, spec, tree, group, uid, work, brought), fds)
        stream, channel = await spawn(command, {"PATH": PATH}, pass_fds=fds)
        machine = BubblewrapMachine(stream, group, spec, work)
        sandbox = GuestSandbox(
            machine, channel, spec, workdir=spec.workdir, state_dir=STATE_DIR, reopen=open_bubblewrap
        )
        await sandbox.start(_config(spec, group, tree))
        if brought is None and not sandbox.facts.get("git") and await asyncio.to_thread(_can_bring, tree):
            raise NoGuest
        if work is not None:
            work.appear()
        sandbox.facts["snapshots"] = "layers" if work is not None else f"copies: {why_copies}"
    except BaseException as error:  # whatever ended the start, cancellation too: leave no process, group or mount
        if machine is not None:
            await machine.stop()
        else:
            await uncut(asyncio.to_thread(_remove, group, work))
        gave_up = isinstance(error, SandboxDied) and machine is not None and machine.ended_with in range(128)
        if gave_up and brought is None and await asyncio.to_thread(_can_bring, tree):
            raise NoGuest from error
        raise
    finally:
        for fd in fds:
            os.close(fd)
    return sandbox


def _remove(group: cgroups.Group | None, work: WorkFolder | None) -> None:
    if group is not None:
        group.remove()
    if work is not None:
        work.close()


async def _layers(program: Path, tree: Path | None) -> tuple[Keeper | None, str]:
    """This process's keeper of layers, or why there is none."""
    if shutil.which("nsenter") is None:
        return None, "nsenter not found; install util-linux"
    try:
        return await asyncio.to_thread(keeper_for, [program, *([tree] if tree else [])]), ""
    except LayersUnavailable as problem:
        return None, str(problem)


def _only_the_guest(pid: int) -> bool:
    """Whether nothing lives below bwrap but its first process inside and the guest, as the kernel counts."""
    for _ in range(2):
        children = _children(pid)
        if children is None or len(children) != 1:
            return False
        pid = children[0]
    return _children(pid) == []


def _children(pid: int) -> list[int] | None:
    """None when the kernel doesn't say."""
    try:
        tasks = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
        return [int(word) for task in tasks for word in task.read_text().split()]
    except OSError:
        return None


def _brought(tree: Path | None) -> Path | None:
    """Our interpreter's folder, for a tree that can't run the guest by itself. Raises ImageProblem."""
    root = tree or Path("/")
    if root in _needs_ours or not guest_python.tree_python(root, PATH):
        return guest_python.bundle().folder
    return None


def _can_bring(tree: Path | None) -> bool:
    """Note that a tree needs our interpreter, where that can be had."""
    if not guest_python.obtainable():
        return False
    _needs_ours.add(tree or Path("/"))
    return True


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


def _bwrap() -> Path:
    from sandbox.images import find_bwrap

    program = find_bwrap()
    if program is None:
        raise SandboxUnavailable(
            "bubblewrap is not installed. Install it (`apt-get install bubblewrap`, `dnf install bubblewrap`), "
            "or use Docker."
        )
    return program


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


# -- is it there


def why_not() -> str | None:
    """None when bubblewrap works here, else why it doesn't and what to do."""
    try:
        program = _bwrap()
    except SandboxUnavailable as error:
        return str(error)
    command = [str(program), "--unshare-all", "--ro-bind", "/", "/", "true"]
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
