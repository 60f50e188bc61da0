"""Bytes over a connection, as no client library would send them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from contextlib import suppress

_SECONDS = 120.0


def talk(port: int, *parts: bytes, end: bool = False) -> bytes:
    """What a server answers to these bytes until it closes the connection; with `end` it is told that no more come.

    It is listened to while the parts are sent, so that neither waits for the other.
    """
    said = bytearray()
    with socket.create_connection(("127.0.0.1", port), _SECONDS) as connection:

        def listen() -> None:
            with suppress(OSError):
                while more := connection.recv(65536):
                    said.extend(more)

        listening = threading.Thread(target=listen)
        listening.start()
        with suppress(OSError):
            for part in parts:
                connection.sendall(part)
            if end:
                connection.shutdown(socket.SHUT_WR)
        listening.join()
    return bytes(said)


def head(line: str, *fields: str | bytes) -> bytes:
    """A request's head; the connection is closed behind it."""
    rows: Iterable[str | bytes] = (line, "Host: service.example", "Connection: close", *fields, "", "")
    return b"\r\n".join(row if isinstance(row, bytes) else row.encode() for row in rows)


def statuses(said: bytes) -> list[int]:
    """Of all answers on a connection."""
    rows = said.split(b"\r\n")
    return [int(row.split()[1]) for row in rows if row.startswith(b"HTTP/1.1 ")]
