"""The proxy of a sandbox with the network `registries`: HTTP GET and CONNECT to package indexes, nothing else.

It runs in our process and listens nowhere: a sandbox's connections come over the guest's channel
(`sandbox.network_tunnel`), so nobody else on this machine can use it. Names are resolved here and the connection
goes to the address that was looked at. Of TLS it reads the client's first message only, whose server name must be
the one that was asked for. One request per connection, and nothing of what follows a plain request is read.
Left out: what is allowed (`sandbox.network`); looking into TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sandbox.network import AllowList, on_link_networks, plain
from sandbox.network_http import MAX_HEAD, MAX_HELLO, Refused, Request, parse_request, server_name
from sandbox.network_settings import HOST_NAME
from sandbox.network_upstream import HostProxy, first_bytes, host_proxy, opened
from sandbox.policy import MIB, NetworkRequest

MAX_LOGGED = 1000
_STATUS = {400: "Bad Request", 403: "Forbidden", 405: "Method Not Allowed", 408: "Request Timeout",
           429: "Too Many Requests", 431: "Request Header Fields Too Large", 502: "Bad Gateway"}  # fmt: skip
_log = logging.getLogger(__name__)


class Stream(Protocol):
    """One connection from inside."""

    async def read(self) -> bytes:
        """Some bytes; none at the end."""
        ...

    async def write(self, data: bytes) -> None: ...

    def close(self) -> None:
        """What was written still arrives."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one sandbox's proxy; seconds and bytes."""

    requests: int = 20_000
    head_seconds: float = 15.0
    connect_seconds: float = 20.0
    idle_seconds: float = 120.0
    connection_seconds: float = 1800.0
    sent: int = 64 * MIB  # questions to indexes are small; this is what could be carried out
    received: int = 8192 * MIB


@dataclass(slots=True)
class Proxy:
    """Serves the connections of one sandbox. `told` gets every request when it has ended, the first 1000 of them."""

    allowed: AllowList
    told: Callable[[NetworkRequest], None] | None = None
    bounds: Bounds = Bounds()
    sent: int = 0
    received: int = 0
    requests: int = 0

    async def serve(self, stream: Stream) -> None:
        """One connection, to its end. Raises nothing but cancellation."""
        began, before = time.monotonic(), (self.sent, self.received)
        asked, why, address = None, "", ""
        try:
            async with asyncio.timeout(self.bounds.connection_seconds):
                asked, rest = await self._asked(stream)
                proxy = self._allowed(asked)
                address = f"{proxy.host}:{proxy.port}" if proxy else await self._resolved(asked)
                await self._carry(stream, asked, (address, proxy), rest)
        except Refused as refusal:
            why = str(refusal)
            with contextlib.suppress(OSError):
                await stream.write(_answer(refusal))
        except TimeoutError:
            why = "it took too long"
        except OSError as error:
            why = f"cut off: {error}"
        finally:
            stream.close()
            self._tell(asked, why, address, time.monotonic() - began, before)

    # -- what is asked

    async def _asked(self, stream: Stream) -> tuple[Request, bytes]:
        self.requests += 1
        if self.requests > self.bounds.requests:
            raise Refused(429, f"this sandbox has made {self.bounds.requests} requests, which is its bound")
        head = b""
        try:
            async with asyncio.timeout(self.bounds.head_seconds):
                while b"\r\n\r\n" not in head:
                    more = await stream.read()
                    if not more:
                        raise Refused(400, "the request ended before its head did")
                    head += more
                    if len(head) > MAX_HEAD and b"\r\n\r\n" not in head[:MAX_HEAD]:
                        raise Refused(431, f"a request head of more than {MAX_HEAD} bytes")
        except TimeoutError:
            raise Refused(408, f"no whole request within {self.bounds.head_seconds:.0f} s") from None
        end = head.index(b"\r\n\r\n") + 4
        request = parse_request(head[:end])
        if not request.is_tunnel and len(head) > end:
            raise Refused(400, "one request per connection, and no body")
        return request, head[end:]

    def _allowed(self, request: Request) -> HostProxy | None:
        """The proxy that this machine has to use for it, if any. Raises Refused."""
        if not self.allowed.has(request.host, request.port):
            place = f"{request.host}:{request.port}"
            raise Refused(403, f"{place} is not among the package indexes that this sandbox may reach")
        return host_proxy(request)

    async def _resolved(self, request: Request) -> str:
        """The address to connect to. Raises Refused."""
        host, port = request.host, request.port
        try:
            async with asyncio.timeout(self.bounds.connect_seconds):
                name = "localhost" if host == HOST_NAME else host
                found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # TimeoutError is one
            raise Refused(502, f"{host} can't be resolved: {error}") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        why = self.allowed.refusal(host, port, addresses, on_link_networks())
        if why is not None:
            raise Refused(403, why)
        return addresses[0]

    # -- what is carried

    async def _carry(self, stream: Stream, request: Request, where: tuple[str, HostProxy | None], rest: bytes) -> None:
        try:
            async with asyncio.timeout(self.bounds.connect_seconds):
                reader, writer = await opened(request, *where)
        except OSError as error:
            raise Refused(502, f"{request.host}:{request.port} can't be connected to: {error}") from None
        try:
            first = first_bytes(request, where[1])
            if request.is_tunnel:
                await stream.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                first = await self._hello(stream, request, rest)
            self._count_sent(first)
            writer.write(first)
            await self._both_ways(stream, request, reader, writer)
        finally:
            writer.close()

    async def _both_ways(
        self, stream: Stream, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        up = asyncio.ensure_future(self._up(stream, writer, request))
        try:
            await self._down(reader, stream)
            if up.done():
                up.result()
        finally:
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)

    async def _hello(self, stream: Stream, request: Request, data: bytes) -> bytes:
        """The client's first bytes, once they name the server that was asked for. Raises ConnectionError."""
        try:
            async with asyncio.timeout(self.bounds.head_seconds):
                while (name := server_name(data)) is None:
                    more = await stream.read()
                    if not more or len(data) > 2 * MAX_HELLO:
                        raise ConnectionError("it ended before TLS began")
                    data += more
        except Refused as refusal:
            raise ConnectionError(str(refusal)) from None
        bare_address = not name and plain(request.host) is not None
        if name.lower().removesuffix(".") != request.host and not bare_address:
            raise ConnectionError(f"asked for {request.host}, then for {name or 'no name'!r:.80} by TLS")
        return data

    async def _up(self, stream: Stream, writer: asyncio.StreamWriter, request: Request) -> None:
        try:
            while data := await stream.read():
                if request.is_tunnel:  # nothing follows a request without a body
                    self._count_sent(data)
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()

    async def _down(self, reader: asyncio.StreamReader, stream: Stream) -> None:
        while True:
            async with asyncio.timeout(self.bounds.idle_seconds):
                data = await reader.read(1 << 16)
            if not data:
                return
            self.received += len(data)
            if self.received > self.bounds.received:
                raise ConnectionError(f"this sandbox has received {self.bounds.received} bytes, which is its bound")
            await stream.write(data)

    def _count_sent(self, data: bytes) -> None:
        if self.sent + len(data) > self.bounds.sent:
            raise ConnectionError(f"this sandbox has sent {self.bounds.sent} bytes, which is its bound")
        self.sent += len(data)

    def _tell(self, asked: Request | None, why: str, address: str, seconds: float, before: tuple[int, int]) -> None:
        if self.requests > MAX_LOGGED:
            return
        entry = NetworkRequest(
            method=asked.method if asked else "",
            target=f"{asked.host}:{asked.port}" if asked else "",
            allowed=not why,
            why=why,
            address=address,
            seconds=round(seconds, 3),
            sent=self.sent - before[0],
            received=self.received - before[1],
        )
        _log.info("%s %s %s", entry.method or "?", entry.target or "?", why or "allowed")
        if self.told is not None:
            self.told(entry)


def _answer(refusal: Refused) -> bytes:
    text = f"patchwright: {refusal}\n".encode()
    head = f"HTTP/1.1 {refusal.status} {_STATUS[refusal.status]}\r\ncontent-type: text/plain; charset=utf-8\r\n"
    return f"{head}content-length: {len(text)}\r\nconnection: close\r\n\r\n".encode() + text
