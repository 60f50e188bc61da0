"""The stream of a guest over a socket that is attached to its container.

Left out: making the container and attaching to it (`sandbox.docker`), what is said over the stream (`channel`).
"""

from __future__ import annotations

import asyncio
import struct

from sandbox.channel import Channel, ProtocolBroken

MAX_FRAME = 16 << 20
_HEADER = struct.Struct(">BxxxI")


class DockerStream(asyncio.Protocol):
    """The stream of a `Channel` over an attached socket, on which the engine marks stdout and stderr."""

    def __init__(self) -> None:
        self.channel = Channel(self)
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            kind, size = _HEADER.unpack_from(self._buffer)
            if size > MAX_FRAME or kind > 2:
                self.channel.ended(f"the engine's stream is broken ({ProtocolBroken.__name__}: {kind}, {size})")
                return
            end = _HEADER.size + size
            if len(self._buffer) < end:
                return
            part = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            if kind == 2:
                self.channel.received_error(part)
            else:
                self.channel.received(part)

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        self.channel.ended("the connection to its container was closed")

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self) -> None:
        await self._writable.wait()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
