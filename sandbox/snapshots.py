"""Kept states of a sandbox's work folder: as copies that the guest writes, or as what a kind of sandbox can do better.

All copies of one sandbox together are bounded. Left out: when a state is kept and gone back to (`sandbox.machine`),
and layers (`sandbox.bubblewrap`).
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar, runtime_checkable

from sandbox.base import FileProblem, SandboxError
from sandbox.policy import MIB, Limits
from sandbox.scratch import remove_folder, scratch_folder

if TYPE_CHECKING:
    from sandbox.machine import GuestSandbox

T = TypeVar("T")
SNAPSHOT_EXTRA = 64 * MIB  # a copy's own bytes: names, and thirty or so for each file


class Frozen(Protocol):
    """A state that costs no copy."""

    async def fork(self) -> GuestSandbox:
        """Another sandbox whose work folder is like this."""
        ...

    async def drop(self) -> None:
        """Let it go. Sandboxes over it stay."""
        ...


@dataclass(frozen=True, slots=True)
class Copy:
    """A state as a file on the host."""

    path: Path

    async def drop(self) -> None:
        self.path.unlink(missing_ok=True)


Kept = Frozen | Copy


@runtime_checkable
class Lasting(Protocol):
    """A machine that can do more than be closed and opened anew."""

    async def freeze(self) -> Frozen | None:
        """Keep the work folder without a copy; None when that can't be done now. No call is under way meanwhile."""
        ...

    async def successor(self, kept: Kept) -> GuestSandbox:
        """Another inside with that state, for the place of this one, which goes on until `succeed`."""
        ...

    async def succeed(self, old: Any) -> None:
        """Called on the successor's machine: end the old one and take its place."""
        ...


class Shelf:
    """The states that one sandbox keeps, by name."""

    def __init__(self, limits: Limits) -> None:
        self._room = limits.workdir_bytes + SNAPSHOT_EXTRA
        self._kept: dict[str, Kept] = {}
        self._count = 0
        self._folder: Path | None = None
        self._bytes: dict[Path, int] = {}

    def get(self, name: str) -> Kept:
        """Raises ValueError when there is none of that name."""
        try:
            return self._kept[name]
        except KeyError:
            raise ValueError(f"this sandbox has no snapshot {name!r}") from None

    def add(self, kept: Kept) -> str:
        self._count += 1
        self._kept[str(self._count)] = kept
        return str(self._count)

    async def drop(self, name: str) -> None:
        kept = self.get(name)
        del self._kept[name]
        if isinstance(kept, Copy):
            self._bytes.pop(kept.path, None)
        await kept.drop()

    async def clear(self) -> None:
        for name in list(self._kept):
            await self.drop(name)
        if self._folder is not None:
            remove_folder(self._folder)
            self._folder = None

    @contextlib.contextmanager
    def new_copy(self, workdir: str) -> Iterator[tuple[Copy, Callable[[bytes], None]]]:
        """A file and what writes to it; the file goes again when the block fails in any way."""
        self._folder = self._folder or scratch_folder("snapshots")
        path = self._folder / f"{self._count + 1}.copy"
        room = self._room - sum(self._bytes.values())
        try:
            with path.open("wb") as file:

                def keep(part: bytes) -> None:
                    if file.tell() + len(part) > room:
                        text = f"The work folder holds more than {room} bytes"
                        others = f"; {len(self._bytes)} other snapshots hold the rest: drop some" if self._bytes else ""
                        raise FileProblem(f"{text}{others}.", path=workdir, errno_name="EFBIG")
                    file.write(part)

                yield Copy(path), keep
                self._bytes[path] = file.tell()
        except OSError as error:
            path.unlink(missing_ok=True)
            raise SandboxError(f"A snapshot can't be kept in {path.parent}: {error}. Make room there.") from error
        except BaseException:  # cancelled, refused or dead: half a snapshot is none
            path.unlink(missing_ok=True)
            raise


async def filled(sandbox: GuestSandbox, copy: Copy, path: str | None = None) -> GuestSandbox:
    """A new sandbox with a state unpacked in it; one that can't be filled is closed."""
    try:
        with copy.path.open("rb") as file, mapped(file) as data:
            await sandbox.fill(data, path)
    except BaseException:  # cancelled or not: half a state must not look like a whole one
        await sandbox.close()
        raise
    return sandbox


async def uncut(work: Awaitable[T]) -> T:
    """The result; when we are cancelled the work is waited for all the same."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


@contextlib.contextmanager
def mapped(file: BinaryIO) -> Iterator[Any]:
    """A file as bytes without reading it into memory."""
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        yield data
    finally:
        with contextlib.suppress(BufferError):  # what a cancelled call held of it goes a moment later, and it with that
            data.close()
