"""What a sandbox may use and what is closed to it, as data; every kind of sandbox reads it from here.

Left out: how a container or a namespace is told so (`sandbox.docker`, `sandbox.bubblewrap`) and the system-call
filter's program (`sandbox.seccomp`).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

BASE_IMAGE = "patchwright/base:latest"
HOST_IMAGE = "host"  # bubblewrap only: this machine's own /usr, read-only

USER, UID, GID = "agent", 1000, 1000  # who commands run as inside
HOME = "/home/agent"
STATE_DIR = "/run/patchwright"

OPEN_TIMEOUT = 120.0  # seconds until a sandbox must have answered for the first time
FILE_TIMEOUT = 120.0  # seconds for a file call, of any size
KILL_GRACE = 2.0  # seconds between TERM and KILL


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what runs inside; sizes in bytes."""

    memory: int = 4 * GIB  # of the processes; what lies in the folders below comes on top
    cpus: float = 2.0
    processes: int = 512  # threads count as processes
    open_files: int = 4096
    workdir_bytes: int = 4 * GIB
    tmp_bytes: int = GIB
    home_bytes: int = GIB
    state_bytes: int = 256 * MIB
    shm_bytes: int = 64 * MIB
    files: int = 1_000_000  # files and folders in each of them

    @property
    def folder_bytes(self) -> int:
        """All writable folders together; they live in memory, so they count against the kernel's limit."""
        return self.workdir_bytes + self.tmp_bytes + self.home_bytes + self.state_bytes + self.shm_bytes

    @property
    def total_memory(self) -> int:
        """The kernel's limit: full folders never take memory from the processes' share."""
        return self.memory + self.folder_bytes


PROXY_PORT = 31280  # on the sandbox's own loopback, with the network `registries`
CA_FILE = "ca.crt"  # in the state folder, with the network `registries`: whom this machine trusts
CONNECTIONS = 64  # to package indexes, at once
WINDOW = 256 * KIB  # of bytes on their way in each direction of a connection

# Prompts, pagers and editors would wait for somebody who isn't there. Python: unbuffered, so that a command that
# is ended at its deadline still shows what it printed; no .pyc files, because an edit within the same second and
# of the same size would run the old code, and because they would litter the work tree.
QUIET_ENV: Mapping[str, str] = MappingProxyType(
    {
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        "MANPAGER": "cat",
        "SYSTEMD_PAGER": "cat",
        "EDITOR": ":",
        "VISUAL": ":",
        "GIT_EDITOR": ":",
        "GIT_SEQUENCE_EDITOR": ":",
        "GIT_TERMINAL_PROMPT": "0",
        "DEBIAN_FRONTEND": "noninteractive",
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "npm_config_yes": "true",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TERM": "dumb",
        "LANG": "C.UTF-8",
    }
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the hardening: what holds in every kind that isolates. `sandbox.check` measures each by its name."""

    name: str
    promise: str
    without_group: str = ""  # where no control group can be made: what holds instead


HARDENING: tuple[Line, ...] = (
    Line("network", "none; only a loopback of its own, and no socket of the host"),
    Line("user", "not root, inside and on the host"),
    Line("files' owner", "what is made inside belongs to that user, never to the host's root"),
    Line("capabilities", "all dropped, in every set"),
    Line("new privileges", "refused: set-user-id programs don't raise"),
    Line("system calls", "filtered: no mounts, namespaces, tracing, keyrings, bpf, modules, io_uring, foreign sockets"),
    Line("root filesystem", "read-only"),
    Line("writable folders", "work folder, /tmp, home, /dev/shm and our state folder, in memory; no others"),
    Line("disk", "each writable folder is of bounded size"),
    Line("inodes", "each writable folder holds a bounded number of files", "as many as the kernel allows by itself"),
    Line("devices", "only what every program needs: null, zero, full, random, terminals of its own"),
    Line("kernel settings", "/proc/sys, /sys and the like can't be written"),
    Line("processes", "bounded; threads count"),
    Line("memory", "bounded by the kernel, without swap", "the guest looks five times a second and kills the largest"),
    Line("CPU", "bounded by the kernel", "not bounded"),
    Line("open files", "bounded for each process; no core files"),
    Line("wall time", "every command has a deadline, and all that it started ends there"),
    Line("output", "bounded for each command, however much it writes"),
    Line("environment", "the image's and ours, nothing of the host"),
    Line("host paths", "none but the image's own files, read-only"),
    Line("engine socket", "no socket of a container engine inside"),
    Line("labels", "what could outlive its owner carries the owner's name, so that `prune` finds it"),
)


class Network(StrEnum):
    """What a sandbox can reach. Anything but `none` is the user's choice, never a repository's."""

    NONE = "none"  # a loopback of its own, nothing else
    REGISTRIES = "registries"  # the package indexes, through a proxy of ours that allows no other place
    FULL = "full"  # whatever the engine's or the host's own network reaches


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """One request of a sandbox to a package index, when it has ended; refused ones too."""

    method: str  # empty for what was no request
    target: str  # host:port
    allowed: bool
    why: str  # it was refused or cut off
    address: str  # that was connected to
    seconds: float
    sent: int  # bytes of all requests that were open meanwhile
    received: int


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What to open. The same spec opens the forks of a sandbox."""

    image: str | None = None  # Docker: a tag; bubblewrap: a folder or `host`; None: the base image
    workdir: str = "/workspace"
    limits: Limits = Limits()
    env: Mapping[str, str] = field(default_factory=dict)  # added for every command
    labels: Mapping[str, str] = field(default_factory=dict)  # shown by the engine, e.g. {"run": id}
    folder: str | None = None  # kind `none` only: an existing folder to work in instead of a new one
    network: Network = Network.NONE
    on_request: Callable[[NetworkRequest], None] | None = field(default=None, compare=False)  # `registries` only
    runtime: str | None = None  # Docker, Podman: an OCI runtime that the engine knows (runsc, kata-runtime)
    allow_tracing: bool = False  # ptrace for debuggers and sanitizers
    answer_grace: float = 30.0  # seconds that the guest may be late with an answer before the sandbox counts as dead

    def __post_init__(self) -> None:
        check_workdir(self.workdir)

    def environment(self) -> dict[str, str]:
        """What a command finds besides the image's own variables."""
        own = {"HOME": HOME, "USER": USER, "LOGNAME": USER, "TMPDIR": "/tmp"}  # noqa: S108
        return {**QUIET_ENV, **own, **self.env}


def check_workdir(workdir: str) -> None:
    """Raises ValueError for a path that no work folder may have; what makes images puts files there, too."""
    if not workdir.startswith("/") or os.path.normpath(workdir) != workdir or workdir.startswith("//"):
        raise ValueError(f"workdir must be a plain absolute path, not {workdir!r}")
    if workdir.split("/")[1] in {"", "proc", "sys", "dev", "etc", "usr", "bin", "sbin", "lib", "lib64", "run"}:
        raise ValueError(f"workdir must not lie in a system folder: {workdir!r}")


def inside_ids() -> tuple[int, int]:
    """User and group that container processes run as: the caller's, or 1000 when the caller is root."""
    return (os.getuid(), os.getgid()) if os.getuid() else (UID, GID)


def new_name() -> str:
    return f"patchwright-{uuid.uuid4().hex[:12]}"
