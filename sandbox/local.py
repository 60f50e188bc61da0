"""Kind `none`: the guest as a plain child process of ours. No isolation whatever; only when asked for by name.

What the model runs can read and write whatever the user can. The same guest, limits per command and protocol as
elsewhere. Left out: everything that a border would need.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sandbox.base import SandboxError, SandboxUnavailable
from sandbox.channel import BOOTSTRAP
from sandbox.machine import GuestSandbox
from sandbox.owner import owner
from sandbox.pipes import ProcessStream, spawn
from sandbox.policy import QUIET_ENV, SandboxSpec
from sandbox.scratch import remove_folder, scratch_folder
from sandbox.snapshots import Copy, Frozen, Kept, filled

WARNING = (
    "No isolation: commands run as you, on this machine, and can read and change everything that you can. "
    "Use --sandbox docker or --sandbox bubblewrap for code that you don't trust."
)

# The user's tools must be found, but keys and tokens have no business in a model's commands.
PASSED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "VIRTUAL_ENV",
    "CONDA_PREFIX", "JAVA_HOME", "GOPATH", "GOROOT", "CARGO_HOME", "RUSTUP_HOME", "NVM_DIR", "SSL_CERT_FILE",
)  # fmt: skip


@dataclass(slots=True)
class LocalMachine:
    stream: ProcessStream
    spec: SandboxSpec
    workdir: Path
    state_dir: Path
    own_workdir: Path | None
    aside: Path | None = None  # what is to be the work folder when this machine takes another one's place
    kind: str = "none"

    async def stop(self) -> None:
        """The guest ends what it started when its stdin ends; it gets a moment for that before it is killed."""
        self.stream.close()
        await self.stream.wait_or_kill(5.0)
        for folder in (self.state_dir, self.own_workdir, self.aside):
            if folder is not None:
                remove_folder(folder)

    async def post_mortem(self) -> str:
        code = await self.stream.wait_or_kill(1.0)
        return f"its guest process was ended by {_status(code)}"

    async def freeze(self) -> Frozen | None:
        return None

    async def successor(self, kept: Kept) -> GuestSandbox:
        assert isinstance(kept, Copy), "nothing is ever frozen here"
        try:
            aside = Path(tempfile.mkdtemp(prefix=f"patchwright-work-{owner()}-", dir=self.workdir.parent))
        except OSError as error:
            raise SandboxError(
                f"Going back replaces the work folder {self.workdir} as a whole, and nothing can be made next to it: "
                f"{error}. Choose a work folder in a folder that you may write to."
            ) from error
        return await filled(await _open(self.spec, self.workdir, None, aside), kept, str(aside))

    async def succeed(self, old: LocalMachine) -> None:
        """End what runs there, then exchange the folders: at every moment the path names a whole one."""
        assert self.aside is not None
        self.own_workdir, old.own_workdir = old.own_workdir, None
        await old.stop()
        _exchange(self.aside, self.workdir)
        remove_folder(self.aside)
        self.aside = None


def _exchange(one: Path, other: Path) -> None:
    """Exchange two folders at once; where the file system can't, one after the other."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2") and libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2) == 0:
        return
    away = Path(tempfile.mkdtemp(prefix=f"patchwright-work-{owner()}-", dir=other.parent))
    if other.exists():
        other.rename(away)
    one.rename(other)
    if away.exists():
        away.rename(one)


def _status(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


async def open_local(spec: SandboxSpec) -> GuestSandbox:
    """A sandbox without walls, in `spec.folder` or in a new temporary folder that goes with it."""
    if sys.platform != "linux":
        raise SandboxUnavailable("Running without isolation works on Linux only; use --sandbox docker.")
    own = None if spec.folder else scratch_folder("work")
    workdir = own or Path(spec.folder or "").resolve()
    if not workdir.is_dir():
        raise SandboxUnavailable(f"{workdir} is not a folder; give one that exists, or none for a new one.")
    return await _open(replace(spec, folder=None), workdir, own)


async def _open(spec: SandboxSpec, workdir: Path, own: Path | None, aside: Path | None = None) -> GuestSandbox:
    """`own` and `aside` are the sandbox's to remove, whatever happens."""
    argv: Sequence[str] = (sys.executable, "-I", "-S", "-c", BOOTSTRAP)
    environment = _environment(spec)
    machine: LocalMachine | None = None
    state: Path | None = None
    try:
        state = scratch_folder("state")
        stream, channel = await spawn(argv, environment)
        machine = LocalMachine(stream, spec, workdir, state, own, aside)
        sandbox = GuestSandbox(
            machine,
            channel,
            spec,
            workdir=str(workdir),
            state_dir=str(state),
            reopen=open_local,
            warning=WARNING,
        )
        await sandbox.start(
            {
                "env": environment,
                "rlimits": {"core": 0},
                "spool_bytes": spec.limits.state_bytes // 2,
                "watch_memory": spec.limits.memory,
                "watch_processes": spec.limits.processes,
            }
        )
    except BaseException:  # whatever ended the start, cancellation too: leave no process and no folder
        if machine is not None:
            await machine.stop()
        for folder in (state, own, aside):
            if folder is not None:
                remove_folder(folder)
        raise
    return sandbox


def _environment(spec: SandboxSpec) -> Mapping[str, str]:
    kept = {name: os.environ[name] for name in PASSED if name in os.environ}
    return {**kept, **QUIET_ENV, **spec.env}
