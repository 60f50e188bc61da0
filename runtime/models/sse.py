"""Server-sent events out of a byte stream, as model servers send them: only the `data` of each event is kept.

Left out: event names, ids and reconnection, which no model server uses.
"""

from __future__ import annotations

from typing import Final

from runtime.models.http_wire import TransportError

MOST_EVENT: Final = 16 * 1024 * 1024
"""Bytes of one event. A cumulative one of a million tokens has eight million; what is longer is no event."""


class SSEReader:
    """Cut bytes into events, however they arrive. `feed` gives the data of every event that is complete by now."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()  # of an event that isn't complete; copied once, when it is

    @property
    def inside_event(self) -> bool:
        """Something of an event has come, and not its end."""
        return bool(self._rest.strip())

    def feed(self, received: bytes) -> list[bytes]:
        """Raises `TransportError` for an event without end."""
        rest = self._rest
        if rest:
            seam = rest[-2:] + received
            if b"\n\n" not in seam and b"\n\r\n" not in seam:
                self._keep(received)
                return []
            received = bytes(rest) + received
            rest.clear()
        if b"\r" in received:
            received = received.replace(b"\r\n", b"\n")
        events = received.split(b"\n\n")
        if last := events.pop():
            self._keep(last)
        return [data for event in events if (data := _data(event)) is not None]

    def _keep(self, received: bytes) -> None:
        self._rest += received
        if len(self._rest) > MOST_EVENT:
            raise TransportError(f"an event has more than {MOST_EVENT:,} bytes")


def _data(event: bytes) -> bytes | None:
    """The event's data lines joined by newlines; None for a comment or an event without data."""
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None
