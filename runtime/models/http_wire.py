"""The bytes of an HTTP/1.1 connection from the client's side: waiting for them, and taking an answer apart.

Only `http_client` uses it. What is left out: choosing a connection, requests, and errors of the server.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator
from typing import Final, Protocol

_MOST_UNREAD: Final = 4 * 1024 * 1024  # bytes kept for a slow reader before the server has to wait
_MOST_HEAD: Final = 256 * 1024
_MOST_CHUNK_LINE: Final = 16 * 1024
_MOST_REFUSAL: Final = 64 * 1024  # bytes of an error that are read
MOST_BODY: Final = 16 * 1024 * 1024
"""Bytes of a body that is read as a whole."""
_LAST_CHUNK: Final = b"0\r\n\r\n"


class TransportError(Exception):
    """No whole answer came; the text says why."""


class ConnectError(TransportError):
    """There is no connection, or it ended before the answer began."""


class IdleError(TransportError):
    """The server said nothing for too long."""


class Connection(asyncio.Protocol):
    """One connection. The limit to silence costs a timer per wait for the first byte, not one per event."""

    def __init__(self, idle_timeout: float) -> None:
        self._idle_timeout = idle_timeout
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._unread = bytearray()
        self._ended = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._since = 0.0  # when the wait began
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._window = 0.0
        self._taken = 0.0  # when the reader last took something
        self._later: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        """Another request may be sent: it is open, and nothing came that nobody asked for."""
        return not (self._ended or self._unread or self._transport is None or self._transport.is_closing())

    def has_something(self) -> bool:
        """Bytes or the end wait to be read, which the loop may not have noticed yet."""
        assert self._transport is not None
        waiting = select.poll()
        waiting.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(waiting.poll(0))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if len(self._unread) > _MOST_UNREAD and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        if self._window and not self._paused and not self._unread.endswith(_LAST_CHUNK):
            due = self._taken + self._window
            if self._loop.time() < due:
                if self._later is None:
                    self._later = self._loop.call_at(due, self._wake)
                return
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._error = exc
        self._wake()

    def write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    async def read(self) -> bytes:
        """What came since the last call; nothing when the peer has ended. Raises a `TransportError`."""
        while not self._unread and not self._ended:
            await self._wait()
        if not self._unread and self._error is not None:
            raise TransportError(str(self._error) or type(self._error).__name__) from self._error
        data = bytes(self._unread)
        self._unread.clear()
        if self._window:
            self._taken = self._loop.time()
            if self._later is not None:
                self._later.cancel()
                self._later = None
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def gather(self, seconds: float) -> None:
        """From here on, wake the reader at most once in so many seconds, and at the end of a chunked body.

        Waking it costs several times as much as taking the bytes, and a stream brings a few of them per token.
        """
        self._window = seconds

    def rest(self) -> None:
        """Stop the clocks: no answer is awaited."""
        self._window = 0.0
        for timer in (self._timer, self._later):
            if timer is not None:
                timer.cancel()
        self._timer = self._later = None

    def abort(self) -> None:
        self.rest()
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self) -> None:
        self._since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(self._since + self._idle_timeout, self._check_silence)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _check_silence(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        due = self._since + self._idle_timeout
        if self._unread:
            self._wake()
        elif self._loop.time() >= due:
            self._waiter.set_exception(IdleError(f"nothing came for {self._idle_timeout:g} s"))
        else:
            self._timer = self._loop.call_at(due, self._check_silence)


class Body(Protocol):
    """Takes the framing off the bytes of one answer."""

    @property
    def complete(self) -> bool: ...
    @property
    def surplus(self) -> bool:
        """More came than belongs to the answer."""
        ...

    def feed(self, data: bytes) -> bytes: ...


class ChunkedBody:
    """`Transfer-Encoding: chunked`; trailers are dropped."""

    def __init__(self) -> None:
        self.complete = False
        self._rest = b""
        self._left = 0  # bytes of the open chunk, with the line end behind it
        self._last = False  # the chunk of length 0 has come

    @property
    def surplus(self) -> bool:
        return self.complete and bool(self._rest)

    def feed(self, data: bytes) -> bytes:
        """The content in `data`. Raises `TransportError` for what isn't chunked."""
        data = self._rest + data
        found: list[bytes] = []
        at = 0
        while not self.complete:
            if self._left:
                part = data[at : at + self._left]
                at += len(part)
                self._left -= len(part)
                found.append(part[: max(0, len(part) + self._left - 2)] if self._left < 2 else part)
                if self._left:
                    break
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                if len(data) - at > _MOST_CHUNK_LINE:
                    raise TransportError("a line between chunks has no end")
                break
            line = data[at:line_end]
            at = line_end + 2
            if self._last:
                self.complete = not line
            else:
                self._open(line)
        self._rest = data[at:]
        return b"".join(found)

    def _open(self, line: bytes) -> None:
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError as error:
            raise TransportError(f"a chunk has the length {line[:40]!r}") from error
        self._last = size == 0
        self._left = size + 2 if size else 0


class CountedBody:
    """A body with a `Content-Length`, or without any end but the connection's (`length` None)."""

    def __init__(self, length: int | None) -> None:
        self.surplus = False
        self.unbounded = length is None
        self._left = length

    @property
    def complete(self) -> bool:
        return self._left == 0

    def feed(self, data: bytes) -> bytes:
        if self._left is None:
            return data
        self.surplus = len(data) > self._left
        data = data[: self._left]
        self._left -= len(data)
        return data


async def whole_body(status: int, chunks: AsyncIterator[bytes]) -> bytes:
    """All of an answer's body, or the first 64 KB of an error's. Raises `TransportError` for one without end."""
    found: list[bytes] = []
    size = 0
    async for data in chunks:
        found.append(data)
        size += len(data)
        if status != 200 and size >= _MOST_REFUSAL:
            return b"".join(found)[:_MOST_REFUSAL]
        if size > MOST_BODY:
            raise TransportError(f"the answer has more than {MOST_BODY:,} bytes")
    return b"".join(found)


async def read_head(connection: Connection) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by names in lower case, and what came behind them. Raises a `TransportError`."""
    received = b""
    while True:
        head, found, behind = received.partition(b"\r\n\r\n")
        if found:
            status, headers = _parse_head(head)
            if status >= 200:
                return status, headers, behind
            received = behind  # 100 Continue and its kind come before the answer
        elif len(received) > _MOST_HEAD:
            raise ConnectError("the answer is no HTTP")
        else:
            received += await _more(connection)


async def _more(connection: Connection) -> bytes:
    try:
        data = await connection.read()
    except IdleError:
        raise
    except TransportError as error:
        raise ConnectError(str(error)) from error
    if not data:
        raise ConnectError("the connection was ended without an answer")
    return data


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, status = first.partition(" ")
    if not version.startswith("HTTP/1.") or not status[:3].isdigit():
        raise ConnectError("the answer is no HTTP")
    pairs = (line.partition(":") for line in lines)
    return int(status[:3]), {name.strip().lower(): value.strip() for name, _, value in pairs}
