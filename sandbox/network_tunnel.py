"""The host's end of a sandbox's connections, which the guest takes on its loopback and carries over its channel.

So a sandbox reaches the proxy without any network, any folder of the host or any socket on it, in every kind of
sandbox alike. Everything that comes is bounded: the number of connections and, in each direction of each of them,
the bytes that are on their way. Left out: what is done with a connection (`sandbox.network_proxy`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.channel import Channel, Message, ProtocolBroken, pack_frame
from sandbox.network_proxy import Proxy, Stream
from sandbox.policy import CA_FILE, CONNECTIONS, PROXY_PORT, WINDOW, SandboxSpec

if TYPE_CHECKING:
    from sandbox.base import Sandbox
    from sandbox.network_settings import HostSettings

CHUNK = 1 << 16
_CA_READERS = (
    "PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
)  # fmt: skip


@dataclass(slots=True)
class TunnelStream:
    """A `Stream` of the proxy: one connection from inside."""

    number: int
    send: Callable[[Message, bytes], None]
    _parts: deque[bytes] = field(default_factory=deque)
    _waiting: int = 0  # bytes in _parts
    _credit: int = WINDOW  # bytes that may be sent
    _ended: bool = False  # by the other side
    _closed: bool = False  # by ours
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> bytes:
        while not self._parts and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        if not self._parts:
            return b""
        data = self._parts.popleft()
        self._waiting -= len(data)
        if not self._ended and not self._closed:
            self.send({"tunnel": self.number, "do": "took", "bytes": len(data)}, b"")
        return data

    async def write(self, data: bytes) -> None:
        """Raises ConnectionError when the other side has gone."""
        rest = memoryview(data)
        while rest:
            while not self._credit and not self._ended:
                self._changed.clear()
                await self._changed.wait()
            if self._ended:
                raise ConnectionError("the client has gone")
            part = rest[: min(self._credit, CHUNK)]
            self._credit -= len(part)
            rest = rest[len(part) :]
            self.send({"tunnel": self.number, "do": "data"}, bytes(part))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if not self._ended:
                self.send({"tunnel": self.number, "do": "close"}, b"")

    # -- from the guest

    def received(self, data: bytes) -> None:
        self._waiting += len(data)
        if self._waiting > WINDOW:
            raise ProtocolBroken("more bytes of a connection than its window")
        if data and not self._closed:
            self._parts.append(data)
        self._changed.set()

    def took(self, count: object) -> None:
        if type(count) is not int or not 0 < count <= WINDOW - self._credit:
            raise ProtocolBroken("a connection took what it wasn't sent")
        self._credit += count
        self._changed.set()

    def ended(self) -> None:
        self._ended = True
        self._changed.set()


class Tunnel:
    """All connections of one sandbox; `serve` is started for each of them."""

    def __init__(self, channel: Channel, serve: Callable[[Stream], Awaitable[None]]) -> None:
        self._channel = channel
        self._serve = serve
        self._streams: dict[int, TunnelStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def received(self, message: Message, data: bytes) -> None:
        """A frame about a connection. Raises ProtocolBroken."""
        number, what = message.get("tunnel"), message.get("do")
        if type(number) is not int:
            raise ProtocolBroken("a connection without a number")
        stream = self._streams.get(number)
        if what == "open":
            self._open(number)
        elif stream is None:
            raise ProtocolBroken("a connection that isn't open")
        elif what == "data":
            stream.received(data)
        elif what == "took":
            stream.took(message.get("bytes"))
        elif what == "close":
            stream.ended()
            del self._streams[number]
        else:
            raise ProtocolBroken("a connection that does what none does")

    def _open(self, number: int) -> None:
        if number in self._streams or len(self._streams) >= CONNECTIONS:
            raise ProtocolBroken("more connections than there may be")
        stream = self._streams[number] = TunnelStream(number, self._send)
        task = asyncio.ensure_future(self._served(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _served(self, stream: TunnelStream) -> None:
        try:
            await self._serve(stream)
        finally:
            stream.close()

    def _send(self, message: Message, data: bytes) -> None:
        if self._channel.reason is None:
            self._channel.stream.write(pack_frame({"op": "tunnel", **message}, data))

    def ended(self) -> None:
        """The sandbox has ended: so does everything that went out of it."""
        for stream in self._streams.values():
            stream.ended()
        self._streams.clear()
        for task in self._tasks:
            task.cancel()


@dataclass(slots=True)
class RegistryAccess:
    """The network `registries` of one sandbox: what its guest is told, and the proxy at the other end."""

    settings: HostSettings
    proxy: Proxy

    @classmethod
    def attach(cls, channel: Channel, spec: SandboxSpec) -> RegistryAccess:
        import os
        from pathlib import Path

        from sandbox.network import allow_list
        from sandbox.network_settings import host_settings

        settings = host_settings(os.environ, Path.home())
        access = cls(settings, Proxy(allow_list(settings), spec.on_request))
        channel.tunnel = Tunnel(channel, access.proxy.serve)
        return access

    def config(self, config: Message, state_dir: str) -> Message:
        """The guest's settings with a listener, and with what package managers go by."""
        from sandbox.network_settings import proxy_variables

        own = {**proxy_variables(PROXY_PORT), **(self.settings.variables or {})}
        if self.settings.ca_bundle is not None:
            own |= dict.fromkeys(_CA_READERS, f"{state_dir}/{CA_FILE}")
        limits = {"port": PROXY_PORT, "connections": CONNECTIONS, "window": WINDOW}
        return {**config, "env": {**own, **config["env"]}, "tunnel": limits}

    async def started(self, sandbox: Sandbox) -> None:
        """Public certificates only; the bundle is read here and written inside, so that no path of ours is shown."""
        if self.settings.ca_bundle is not None:
            data = await asyncio.to_thread(self.settings.ca_bundle.read_bytes)
            await sandbox.write(f"{sandbox.state_dir}/{CA_FILE}", data, mode=0o444)
