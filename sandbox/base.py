"""The seam between the agent and any machine that code runs on.

A sandbox is one isolated place with a work folder that the model's commands and edits happen in. Docker,
bubblewrap and the unisolated local one share this protocol and one contract suite. What is left out: images
(`sandbox.images`), limits as data (`sandbox.policy`) and everything that knows what a repository is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class CommandEnd(StrEnum):
    EXITED = "exited"  # by itself; exit_code is its status (128 + n for a signal it got from elsewhere)
    TIMEOUT = "timeout"  # the deadline passed; the whole process group was ended
    IDLE = "idle"  # no output for idle_timeout seconds; the whole process group was ended
    MEMORY = "memory"  # the sandbox's memory limit was reached and something of the command was killed for it
    CANCELLED = "cancelled"  # the caller gave up; nobody sees this one but a log


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command did. Output is both streams as they came, at most `max_output` bytes: head and tail."""

    exit_code: int
    head: bytes  # the first part of the output, all of it when nothing was dropped
    tail: bytes  # the last part; empty when nothing was dropped
    total_bytes: int  # length of the whole output
    seconds: float
    end: CommandEnd = CommandEnd.EXITED
    output_file: str | None = None  # where in the sandbox the whole output lies, when some was dropped
    output_file_complete: bool = True  # False: the file, too, holds only the output's two ends, and says so
    still_running: tuple[int, ...] = ()  # background processes that the command left behind and that live on
    command_lines: tuple[str, ...] = ()  # what the first of these were started as, cut; any bytes may be in them
    cwd: str | None = None  # working directory at the command's end, for shell scripts

    @property
    def dropped_bytes(self) -> int:
        return self.total_bytes - len(self.head) - len(self.tail)

    @property
    def output(self) -> bytes:
        """Head and tail with a line between them that says how much is left out."""
        if not self.dropped_bytes:
            return self.head + self.tail
        return self.head + b"\n[... %d bytes left out ...]\n" % self.dropped_bytes + self.tail


class FileKind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class FileInfo:
    path: str  # absolute
    kind: FileKind
    size: int
    mode: int  # permission bits
    mtime_ns: int


DEFAULT_TIMEOUT = 120.0
DEFAULT_MAX_OUTPUT = 64 * 1024


class Sandbox(Protocol):
    """One isolated machine. All paths are the sandbox's; relative ones start at `workdir`."""

    @property
    def kind(self) -> str:
        """`docker`, `bubblewrap` or `none`."""
        ...

    @property
    def workdir(self) -> str:
        """Absolute path of the work folder inside the sandbox."""
        ...

    @property
    def state_dir(self) -> str:
        """Absolute path of a writable folder inside, outside the work folder, for our own files."""
        ...

    async def run(
        self,
        command: Sequence[str] | str,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        max_output: int = DEFAULT_MAX_OUTPUT,
        stdin: bytes = b"",
        idle_timeout: float | None = None,
        keep_session: bool = False,
    ) -> CommandResult:
        """Run an argv, or a script with bash (sh where there is none), in a process group of its own.

        `stdin` is given and then closed. With `keep_session` the working directory and exported variables of a
        script are carried to the next such call. Never raises for what the command does.
        """
        ...

    async def read(self, path: str, *, offset: int = 0, limit: int | None = None) -> bytes:
        """Bytes of a regular file from `offset`, at most `limit`. Raises FileProblem."""
        ...

    async def write(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        """Replace or create a file atomically, parents included; keeps the mode of one that is there."""
        ...

    async def stat(self, path: str) -> FileInfo:
        """What is at the path (symlinks not followed). Raises FileProblem when nothing is."""
        ...

    async def list(self, path: str, *, depth: int = 1, limit: int = 1000) -> list[FileInfo]:
        """What lies below a directory, sorted by path components, at most `limit` entries; links not followed."""
        ...

    async def unpack(self, tar: bytes, path: str | None = None) -> None:
        """Extract an uncompressed tar into a folder (default: the work folder), owned by the sandbox's user."""
        ...

    async def fingerprint(self) -> str:
        """A digest that differs whenever anything below the work folder (`.git` left out) was touched.

        One stat per file, no process started: the cheap question before the dear one, what changed.
        """
        ...

    async def snapshot(self) -> str:
        """Keep the work folder's present state; returns a name for `fork` and `restore`.

        What runs goes on. Modes, times and links are kept, set-user-id bits, owners and devices are not. All
        snapshots together are bounded like the work folder: FileProblem (EFBIG or ENOSPC) when there is no room.
        """
        ...

    async def fork(self, snapshot: str | None = None) -> Sandbox:
        """A new sandbox of the same image and policy whose work folder is as in the snapshot (default: as now).

        It goes on when this one is closed. Raises ValueError for a name that isn't there.
        """
        ...

    async def restore(self, snapshot: str) -> None:
        """Go back: everything that runs inside is ended, and the work folder is as in the snapshot, in whole.

        `/tmp`, home and the state folder are those of a new sandbox (kind `none` has no `/tmp` and home of its
        own). Every snapshot stays, earlier and later ones. A sandbox that has died lives again; a closed one
        doesn't. When this fails or is cancelled, the sandbox is as it was before or as in the snapshot. Calls that
        are under way end with SandboxDied. Raises ValueError for a name that isn't there.
        """
        ...

    async def drop(self, snapshot: str) -> None:
        """Forget a snapshot and free what it holds. Raises ValueError for a name that isn't there."""
        ...

    async def close(self) -> None:
        """End everything that runs in it and remove it, its snapshots too. Safe to call twice."""
        ...


class SandboxError(Exception):
    """The machine failed, not the command; the text says what happened, to what, and what to do next."""


class SandboxUnavailable(SandboxError):
    """This kind of sandbox can't be had on this machine."""


class SandboxDied(SandboxError):
    """The sandbox ended while it was needed (killed, out of memory, engine gone)."""


class ImageProblem(SandboxError):
    """The image isn't there or doesn't build."""


class FileProblem(SandboxError):
    """A file call that can't be done: nothing there, a directory, no permission, outside, no space."""

    def __init__(self, message: str, *, path: str, errno_name: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.errno_name = errno_name  # ENOENT, EISDIR, EACCES, ENOSPC, EFBIG ...
