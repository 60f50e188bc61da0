"""Server-sent events out of a byte stream, as model servers send them: only the `data` of each event is kept.

Left out: event names, ids and reconnection, which no model server uses.
"""

from __future__ import annotations


class SSEReader:
    """Cut bytes into events, however they arrive. `feed` gives the data of every event that is complete by now."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    @property
    def inside_event(self) -> bool:
        """Something of an event has come, and not its end."""
        return bool(self._rest.strip())

    def feed(self, received: bytes) -> list[bytes]:
        text = self._rest + received if self._rest else received
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n")
        events = text.split(b"\n\n")
        self._rest = events.pop()
        return [data for event in events if (data := _data(event)) is not None]


def _data(event: bytes) -> bytes | None:
    """The event's data lines joined by newlines; None for a comment or an event without data."""
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None
