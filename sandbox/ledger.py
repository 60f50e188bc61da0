"""Who waits for memory and who holds it, for all processes of a user on this machine: a small file each in one folder.

An entry's file is locked by its owner for as long as it lives, so the entry of a process that was killed is known by
its lock being free. Changes are made under one lock of the folder. The admission to model servers keeps such files
too (`runtime`); the two floors don't know each other, and what they write differs.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sandbox.base import SandboxUnavailable


@dataclass(frozen=True, slots=True)
class Entry:
    """A sandbox that is open or waited for. Numbers rise in the order of arrival."""

    number: int
    need: int  # bytes that it will probably take
    pid: int  # of the process that asks
    live: bool = False
    meter: str = ""  # a file that says how much it takes now; empty: unknown


def default_folder() -> Path:
    """One for each user, the same for all of their processes. Raises SandboxUnavailable when it is somebody else's."""
    folder = Path(tempfile.gettempdir()) / f"patchwright-places-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or folder.is_symlink():
        raise SandboxUnavailable(f"{folder} belongs to somebody else: remove it, or set TMPDIR to a folder of yours.")
    return folder


class Ledger:
    """The entries in a folder. Methods raise OSError where it can't be written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mine: dict[int, int] = {}  # number -> descriptor that holds the entry's lock

    def join(self, need: int) -> int:
        """The number of a new entry, behind all others."""
        with self._locked():
            self._read()  # so that the numbers of the dead are free
            number = max((int(path.stem) for path in self._folder.glob("*.json")), default=0) + 1
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            descriptor = os.open(self._path(number), flags, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._mine[number] = descriptor
            try:
                self._write(Entry(number, need, os.getpid()))
            except OSError:  # the disk is full: an entry that says nothing would hold its place for ever
                self._path(number).unlink(missing_ok=True)
                os.close(self._mine.pop(number))
                raise
        return number

    def enter(self, number: int, may: Callable[[Sequence[Entry]], bool]) -> list[Entry] | None:
        """Make an entry live if it may be, as one step. None: it is; else what there was."""
        with self._locked():
            entries = self._read()
            if not may(entries):
                return entries
            mine = next((entry for entry in entries if entry.number == number), None)
            if mine is None:
                raise OSError(errno.EIO, "the entry can't be read any more", str(self._path(number)))
            self._write(replace(mine, live=True))
            return None

    def measure(self, number: int, meter: str) -> None:
        """Say where to read how much it takes."""
        with self._locked():
            found = next((entry for entry in self._read() if entry.number == number), None)
            if found is not None:
                self._write(replace(found, meter=meter))

    def leave(self, number: int) -> None:
        descriptor = self._mine.pop(number, None)
        if descriptor is None:
            return
        try:
            with self._locked():
                self._path(number).unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def entries(self) -> list[Entry]:
        with self._locked():
            return self._read()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, entry: Entry) -> None:
        text = json.dumps(asdict(entry)).encode()
        descriptor = self._mine[entry.number]
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))

    def _read(self) -> list[Entry]:
        """All entries in the order of their numbers; those of dead owners are removed."""
        found = []
        for path in sorted(self._folder.glob("*.json"), key=lambda path: int(path.stem)):
            if int(path.stem) not in self._mine and _is_free(path):
                path.unlink(missing_ok=True)
                continue
            with suppress(ValueError, TypeError):  # cut off by a full disk, or another release's: it counts as none
                found.append(Entry(**json.loads(path.read_bytes())))
        return found


def _is_free(path: Path) -> bool:
    """Whether nobody holds the file's lock any more."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
