"""Kind `none`: the guest as a plain child process of ours. No isolation whatever; only when asked for by name.

What the model runs can read and write whatever the user can. The same guest, limits per command and protocol as
elsewhere. Left out: everything that a border would need.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sandbox.base import SandboxUnavailable
from sandbox.channel import BOOTSTRAP
from sandbox.machine import GuestSandbox
from sandbox.pipes import ProcessStream, spawn
from sandbox.policy import QUIET_ENV, SandboxSpec
from sandbox.scratch import remove_folder, scratch_folder

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
    state_dir: Path
    own_workdir: Path | None
    kind: str = "none"

    async def stop(self) -> None:
        """The guest ends what it started when its stdin ends; it gets a moment for that before it is killed."""
        self.stream.close()
        await self.stream.wait_or_kill(5.0)
        for folder in (self.state_dir, self.own_workdir):
            if folder is not None:
                remove_folder(folder)

    async def post_mortem(self) -> str:
        code = await self.stream.wait_or_kill(1.0)
        return f"its guest process was ended by {_status(code)}"


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
    state = scratch_folder("state")
    argv: Sequence[str] = (sys.executable, "-I", "-S", "-c", BOOTSTRAP)
    environment = _environment(spec)
    machine: LocalMachine | None = None
    try:
        stream, channel = await spawn(argv, environment)
        machine = LocalMachine(stream, state, own)
        sandbox = GuestSandbox(
            machine,
            channel,
            replace(spec, folder=None),
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
        for folder in (state, own):
            if folder is not None:
                remove_folder(folder)
        raise
    return sandbox


def _environment(spec: SandboxSpec) -> Mapping[str, str]:
    kept = {name: os.environ[name] for name in PASSED if name in os.environ}
    return {**kept, **QUIET_ENV, **spec.env}
