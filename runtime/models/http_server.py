"""HTTP/1.1 on asyncio streams, as much as a model server needs: keep-alive, JSON in, JSON or an event stream out.

Left out: TLS, chunked request bodies, pipelining, and everything else that a front-facing server must have. It
serves loopback and private networks, for tests and demonstrations.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_BODY_BYTES: Final = 64 * 1024 * 1024

Handler = Callable[["Exchange"], Awaitable[None]]


class HttpError(Exception):
    """An answer other than 200 with a JSON body `{"error": {"message": ...}}`."""

    def __init__(self, status: int, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str  # without the query
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as a JSON object. Raises `HttpError` 400 for anything else."""
        try:
            body = json.loads(self.body)
        except ValueError as error:
            raise HttpError(400, f"The body isn't JSON: {error}.") from error
        if not isinstance(body, dict):
            raise HttpError(400, f"The body must be a JSON object, not {type(body).__name__}.")
        return body


class _Reader(asyncio.StreamReader):
    """Knows when the peer has gone, without reading, so that an answer that waits can end at once."""

    def __init__(self) -> None:
        super().__init__(limit=MAX_HEAD_BYTES)
        self.gone = False
        self.waiting: asyncio.Event | None = None

    def feed_eof(self) -> None:
        super().feed_eof()
        self._lost()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self._lost()

    def _lost(self) -> None:
        self.gone = True
        if self.waiting is not None:
            self.waiting.set()


class Exchange:
    """One request and the way to answer it: `json` once, or `start_events`, `event`... and `end_events`.

    `interrupted` is set when the peer goes away; a handler may set it too, to wake one that sleeps.
    """

    def __init__(self, request: Request, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.interrupted = asyncio.Event()
        self._reader = reader
        self._writer = writer
        reader.waiting = self.interrupted

    @property
    def gone(self) -> bool:
        return self._reader.gone

    async def json(self, body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        await self.raw(json.dumps(body, ensure_ascii=False).encode(), status, "application/json", headers)

    async def raw(
        self, body: bytes, status: int = 200, kind: str = "text/plain", headers: Mapping[str, str] | None = None
    ) -> None:
        extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = f"{_head(status, kind)}{extra}content-length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode("latin-1") + body)
        await self._writer.drain()

    def start_events(self) -> None:
        head = _head(200, "text/event-stream; charset=utf-8") + "transfer-encoding: chunked\r\n\r\n"
        self._writer.write(head.encode("latin-1"))

    def event(self, data: str) -> None:
        """One server-sent event `data: ...`, written as a chunk of its own."""
        payload = f"data: {data}\n\n".encode()
        self._writer.write(b"%x\r\n%b\r\n" % (len(payload), payload))

    async def drain(self) -> None:
        await self._writer.drain()

    async def end_events(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def cut(self) -> None:
        """Send what was written so far, then close the connection without ending the answer."""
        await self._writer.drain()
        self._writer.close()


class HttpServer:
    """Listens until `close`; every connection is served by its own task."""

    def __init__(self, handler: Handler) -> None:
        self.connections = 0  # taken since the start
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> int:
        """Start; the port that was taken (port 0: any free one). Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, host, port)
        taken: int = self._server.sockets[0].getsockname()[1]
        return taken

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        reader = _Reader()

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            task = asyncio.ensure_future(self._serve(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return asyncio.StreamReaderProtocol(reader, connected)

    async def _serve(self, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            try:
                while not writer.is_closing() and await self._serve_one(reader, writer):
                    pass
            finally:
                writer.close()

    async def _serve_one(self, reader: _Reader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection may be used again."""
        try:
            request = await _read_request(reader, writer)
        except HttpError as error:
            placeholder = Request("", "", {}, b"")
            await _answer_error(Exchange(placeholder, reader, writer), error)
            return False
        exchange = Exchange(request, reader, writer)
        try:
            await self._handler(exchange)
        except HttpError as error:
            await _answer_error(exchange, error)
        return request.headers.get("connection", "").lower() != "close"


async def _answer_error(exchange: Exchange, error: HttpError) -> None:
    headers = {} if error.retry_after is None else {"retry-after": f"{error.retry_after:g}"}
    body = {"error": {"message": str(error), "type": _phrase(error.status), "code": error.status}}
    await exchange.json(body, error.status, headers)


async def _read_request(reader: _Reader, writer: asyncio.StreamWriter) -> Request:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.LimitOverrunError as error:
        raise HttpError(431, f"The request's head is over {MAX_HEAD_BYTES} bytes.") from error
    first, *lines = head[:-4].split("\r\n")
    words = first.split(" ")
    if len(words) != 3:
        raise HttpError(400, "The first line isn't an HTTP request line.")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "transfer-encoding" in headers:
        raise HttpError(411, "Send the body with a Content-Length; chunked request bodies aren't read.")
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        raise HttpError(400, "Content-Length isn't a number.")
    if int(length) > MAX_BODY_BYTES:
        raise HttpError(413, f"The body is over {MAX_BODY_BYTES} bytes.")
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await reader.readexactly(int(length)) if int(length) else b""
    return Request(words[0], words[1].partition("?")[0], headers, body)


def _head(status: int, kind: str) -> str:
    return f"HTTP/1.1 {status} {_phrase(status)}\r\ncontent-type: {kind}\r\n"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
