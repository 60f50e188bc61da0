"""Who waits for a server and who is live, for all processes of a machine: a small file each in a shared folder.

A ticket's file is locked by its owner for as long as it lives, so a killed owner's ticket is known by its lock being
free, whatever became of its process id. Changes are made under one lock of the folder.

Left out: machines that share a folder over a network, where such locks can't be relied on.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.admission import Need, Ticket
from runtime.models.target import line_of


class FileRegister:
    """The register of one server in `folder`. Its methods raise OSError where that can't be written."""

    shared = True

    def __init__(self, folder: Path, server: str) -> None:
        self._folder = folder / hashlib.sha256(line_of(server).encode()).hexdigest()[:16]
        self._mine: dict[int, int] = {}  # number -> file descriptor that holds the ticket's lock

    def join(self, need: Need) -> int:
        with self._locked():
            number = max((ticket.number for ticket in self._read()), default=0) + 1
            descriptor = os.open(self._path(number), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._mine[number] = descriptor
            try:
                self._write(Ticket(number, need))
            except OSError:
                self._remove(number)
                raise
        return number

    def tickets(self) -> list[Ticket]:
        with self._locked():
            return self._read()

    def enter(self, number: int, may: Callable[[list[Ticket]], bool]) -> list[Ticket] | None:
        with self._locked():
            tickets = self._read()
            if not may(tickets):
                return tickets
            (mine,) = (ticket for ticket in tickets if ticket.number == number)
            self._write(Ticket(number, mine.need, live=True))
            return None

    def change(self, number: int, need: Need) -> None:
        with self._locked():
            self._write(Ticket(number, need, live=True))

    def leave(self, number: int) -> None:
        with self._locked():
            self._remove(number)

    def _remove(self, number: int) -> None:
        self._path(number).unlink(missing_ok=True)
        os.close(self._mine.pop(number))

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

    def _write(self, ticket: Ticket) -> None:
        data = {"pid": os.getpid(), "tokens": ticket.need.tokens, "states": ticket.need.states, "live": ticket.live}
        text = json.dumps(data).encode()
        descriptor = self._mine[ticket.number]
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))

    def _read(self) -> list[Ticket]:
        """All tickets in the order of their numbers; those of dead owners are removed."""
        found = []
        for path in sorted(self._folder.glob("*.json"), key=lambda path: int(path.stem)):
            number = int(path.stem)
            if number not in self._mine and _is_free(path):
                path.unlink(missing_ok=True)
                continue
            data: dict[str, Any] = json.loads(path.read_bytes())
            found.append(Ticket(number, Need(data["tokens"], data["states"]), data["live"]))
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
