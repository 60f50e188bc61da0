"""HTTP/1.1 to one model server, made for long streams of small events.

`open_transport` gives direct connections that are kept and used again. Where the environment names a proxy for
the server, httpx2 speaks for us instead: it knows proxies, and takes several times as long per request
(`docs/decisions/0009-model-client.md`). Left out: redirects, cookies, compression, HTTP/2.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import SplitResult, urlsplit

from runtime.models.base import ModelRefused
from runtime.models.http_wire import (
    Body,
    ChunkedBody,
    ConnectError,
    Connection,
    CountedBody,
    TransportError,
    read_head,
    whole_body,
)

if TYPE_CHECKING:
    import ssl

CONNECT_SECONDS: Final = 10.0
_KEPT_CONNECTIONS: Final = 64
_WINDOW_SECONDS: Final = 0.04  # of an event stream that are read at once; 25 times a second is live enough
LAST_ON_ITS_CONNECTION: Final = {"connection": "close"}
"""For a server that ends a connection behind a stream (llama.cpp): a request sent on it in between would be lost."""
_WORTH_NO_COPY: Final = 256 * 1024  # bytes of a body that are sent as they are, in a write of their own


class Response(Protocol):
    """An answer whose head has come. `chunks` gives the body once; `close` is always called in the end."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises a `TransportError`."""
        ...

    async def read(self) -> bytes:
        """The whole body, or the first 64 KB of an error's. Raises a `TransportError`, also for one over 16 MB."""
        ...

    async def close(self) -> None: ...


class Transport(Protocol):
    """Requests to one server; safe for several at once."""

    @property
    def resting(self) -> bool:
        """The next request can go over a connection that was used before. True where that can't be told."""
        ...

    async def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Response:
        """`headers`, in lower case, come on top of the transport's own. Raises a `TransportError`.

        A GET whose connection is lost is sent once more. A POST isn't: the server may be working on it already.
        """
        ...

    async def close(self) -> None: ...


def open_transport(url: str, *, idle_timeout: float, api_key: str | None = None) -> Transport:
    """A way to the server at `url` (http or https). `idle_timeout` is the longest silence in seconds.

    Raises ValueError for what is no such URL, `ModelRefused` for a key that can't be sent.
    """
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("a URL has neither blanks nor letters beyond ASCII")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no http:// or https:// URL of a server")
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    if api_key and (key := api_key.strip()):
        headers["authorization"] = f"Bearer {_sendable(key)}"
    if _has_proxy(parts.scheme, parts.hostname):
        from runtime.models.http_proxied import ProxiedTransport

        return ProxiedTransport(url, headers, connect_timeout=CONNECT_SECONDS, idle_timeout=idle_timeout)
    return DirectTransport(parts, headers, idle_timeout=idle_timeout)


def _sendable(key: str) -> str:
    if not key.isascii() or not key.isprintable():
        raise ModelRefused(
            "The API key in the environment has a line end, a control character or a letter beyond ASCII in it, which "
            "no key has. Set it anew."
        )
    return key


def _has_proxy(scheme: str, host: str) -> bool:
    """Whether the environment names a proxy for this host; loopback never goes through one."""
    if host in ("localhost", "::1") or host.startswith("127."):
        return False
    names = (f"{scheme}_proxy", "all_proxy")
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in names):
        return False
    from urllib.request import proxy_bypass

    return not proxy_bypass(host)


class DirectTransport:
    """Connections of our own; one per request at a time, the idle ones are kept."""

    def __init__(self, url: SplitResult, headers: Mapping[str, str], *, idle_timeout: float) -> None:
        self._host = url.hostname or ""
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._prefix = url.path.rstrip("/")
        named = {"host": url.netloc.rpartition("@")[2], **headers}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        self._idle_timeout = idle_timeout
        self._tls = _tls_context() if url.scheme == "https" else None
        self._kept: list[Connection] = []

    @property
    def resting(self) -> bool:
        return any(connection.usable for connection in self._kept)

    async def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Response:
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items()) if headers else ""
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\n{self._head}{more}content-length: {len(body)}\r\n\r\n"
        request = (head.encode("latin-1"), body)
        keep = _drop if headers and headers.get("connection") == "close" else self._keep
        while self._kept:
            connection = self._kept.pop()
            if not connection.usable or connection.has_something():
                connection.abort()
                continue
            try:
                return await self._exchange(connection, request, keep)
            except ConnectError:
                if method != "GET":
                    raise
                break  # a server may end what is idle at any time; a new connection tells whether it is there
        return await self._exchange(await self._connect(), request, keep)

    async def close(self) -> None:
        while self._kept:
            self._kept.pop().abort()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._idle_timeout), self._host, self._port, ssl=self._tls
                )
        except TimeoutError as error:
            raise ConnectError(f"no connection within {CONNECT_SECONDS:g} s") from error
        except (OSError, UnicodeError) as error:  # of names that no resolver takes
            raise ConnectError(str(error)) from error
        return connection

    async def _exchange(
        self, connection: Connection, request: tuple[bytes, bytes], keep: Callable[[Connection], None]
    ) -> Response:
        try:
            if len(request[1]) < _WORTH_NO_COPY:
                connection.write(b"".join(request))
            else:
                connection.write(request[0])
                connection.write(request[1])
            status, headers, behind = await read_head(connection)
            return _DirectResponse(status, headers, behind, connection, keep)
        except BaseException:  # however the wait for the head ended, the connection can't be used again
            connection.abort()
            raise

    def _keep(self, connection: Connection) -> None:
        if connection.usable and len(self._kept) < _KEPT_CONNECTIONS:
            self._kept.append(connection)
        else:
            connection.abort()


def _drop(connection: Connection) -> None:
    connection.abort()


class _DirectResponse:
    def __init__(
        self,
        status: int,
        headers: dict[str, str],
        behind: bytes,
        connection: Connection,
        keep: Callable[[Connection], None],
    ) -> None:
        self.status = status
        self.headers = headers
        self._behind = behind
        self._connection = connection
        self._keep = keep
        self._body = _body(status, headers)
        self._closed = False
        if headers.get("content-type", "").startswith("text/event-stream"):
            connection.gather(_WINDOW_SECONDS)

    async def chunks(self) -> AsyncIterator[bytes]:
        body, data = self._body, self._behind
        while True:
            if data and (content := body.feed(data)):
                yield content
            if body.complete:
                return
            data = await self._connection.read()
            if not data:
                if isinstance(body, CountedBody) and body.unbounded:
                    return
                raise TransportError("the connection was ended inside the answer")

    async def read(self) -> bytes:
        return await whole_body(self.status, self.chunks())

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._connection.rest()
        stays = self.headers.get("connection", "").lower() != "close"
        if self._body.complete and not self._body.surplus and stays:
            self._keep(self._connection)
        else:
            self._connection.abort()


def _body(status: int, headers: Mapping[str, str]) -> Body:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return ChunkedBody()
    if status in (204, 304):
        return CountedBody(0)
    length = headers.get("content-length")
    if length is None:
        return CountedBody(None)
    if not length.isascii() or not length.isdigit():
        raise ConnectError("the answer is no HTTP")
    return CountedBody(int(length))


def _tls_context() -> ssl.SSLContext:
    import ssl

    return ssl.create_default_context()
