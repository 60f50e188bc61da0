"""The host's side of the conversation with a guest, over any byte stream.

Everything that comes from the guest may be hostile: frames are bounded, JSON is checked before use, answers that
nobody asked for are counted and end the sandbox. Left out: what the calls mean (`sandbox.machine`) and how the
guest was started.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sandbox.base import FileProblem, SandboxDied, SandboxError

HEADER = struct.Struct(">II")
MAX_JSON = 8 << 20
MAX_DATA = 16 << 20
CHUNK = 4 << 20  # bytes of a payload per frame
MAX_UNASKED = 1000

_encode = json.JSONEncoder(separators=(",", ":")).encode
Message = dict[str, Any]
Frame = tuple[Message, bytes]

# Run by `python3 -c`: reads the guest's source from stdin by its length and runs it.
BOOTSTRAP = (
    "import os\n"
    "def get(n):\n"
    " b=b''\n"
    " while len(b)<n:\n"
    "  p=os.read(0,n-len(b))\n"
    "  if not p: raise SystemExit(1)\n"
    "  b+=p\n"
    " return b\n"
    "exec(compile(get(int(get(8))),'guest','exec'))\n"
)
GUEST_ARGV = ("python3", "-I", "-S", "-c", BOOTSTRAP)


def guest_source() -> bytes:
    """What is written to the bootstrap's stdin before the first frame."""
    source = Path(__file__).with_name("guest.py").read_bytes()
    return b"%08d" % len(source) + source


class ProtocolBroken(Exception):
    """The guest sent something that no guest of ours sends."""


def pack_frame(message: Message, data: bytes | memoryview = b"") -> bytes:
    body = _encode(message).encode("ascii")
    if len(body) > MAX_JSON:
        raise ValueError(f"a command or path of {len(body)} bytes; the sandbox takes {MAX_JSON}")
    return b"".join((HEADER.pack(len(body), len(data)), body, data))


class FrameReader:
    """Frames out of bytes, cut anywhere. Raises ProtocolBroken before it would hold more than one frame's bound."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            json_size, data_size = HEADER.unpack_from(self._buffer)
            if json_size > MAX_JSON or data_size > MAX_DATA:
                raise ProtocolBroken(f"a frame of {json_size} + {data_size} bytes")
            end = HEADER.size + json_size + data_size
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            yield self._message(body[:json_size]), body[json_size:]

    @staticmethod
    def _message(body: bytes) -> Message:
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ProtocolBroken(f"a frame that is not JSON: {error}") from error
        if not isinstance(message, dict):
            raise ProtocolBroken("a frame that is not an object")
        return message


class Stream(Protocol):
    """The way to the guest's stdin. Bytes from it are handed to `Channel.received`, its end to `Channel.ended`."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    def close(self) -> None: ...


class Carrier(Protocol):
    """Takes the frames that belong to no call but to a connection (`sandbox.network_tunnel`)."""

    def received(self, message: Message, data: bytes) -> None: ...

    def ended(self) -> None: ...


@dataclass(slots=True)
class _Call:
    reply: asyncio.Future[Frame]
    payload: memoryview
    sink: Callable[[bytes], None] | None
    sender: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Channel:
    """Calls with numbers, several at once; every pending one fails as soon as the guest is gone."""

    stream: Stream
    died: Callable[[str, bool], None] = lambda reason, certain: None  # told once; see `ended`
    reason: str | None = None
    tunnel: Carrier | None = None  # connections of a sandbox that may have some
    errors: bytearray = field(default_factory=bytearray)  # the last words of the guest's stderr
    _reader: FrameReader = field(default_factory=FrameReader)
    _calls: dict[int, _Call] = field(default_factory=dict)
    _next: int = 0
    _dropped: set[int] = field(default_factory=set)
    _unasked: int = 0

    @property
    def busy(self) -> bool:
        """Whether a call waits for its answer, or was given up a moment ago."""
        return bool(self._calls)

    # -- from the guest

    def received(self, data: bytes) -> None:
        if self.reason is not None:
            return
        try:
            for message, payload in self._reader.feed(data):
                self._dispatch(message, payload)
        except ProtocolBroken as error:
            self.ended(f"its guest broke the protocol ({error})", certain=True)

    def received_error(self, data: bytes) -> None:
        self.errors += data
        del self.errors[:-4096]

    def ended(self, reason: str, *, certain: bool = False) -> None:
        """The guest can't be reached any more. Not `certain`: the machine around it may know a better reason."""
        if self.reason is not None:
            return
        self.reason = reason
        self.stream.close()
        if self.tunnel is not None:
            self.tunnel.ended()
        self.died(reason, certain)

    def fail_pending(self, error: Exception) -> None:
        for call in self._calls.values():
            if call.sender is not None:
                call.sender.cancel()
            if not call.reply.done():
                call.reply.set_exception(error)
        self._calls.clear()

    def _dispatch(self, message: Message, payload: bytes) -> None:
        if "tunnel" in message and self.tunnel is not None:
            self.tunnel.received(message, payload)
            return
        number = message.get("id")
        call = self._calls.get(number) if isinstance(number, int) else None
        if call is None:
            self._unasked += number not in self._dropped if isinstance(number, int) else 1
            if self._unasked > MAX_UNASKED:
                raise ProtocolBroken("answers that nobody asked for")
        elif "part" in message:
            if call.sink is None:
                raise ProtocolBroken("a stream that nobody asked for")
            try:
                call.sink(payload)
            except (OSError, SandboxError) as error:  # the receiver can't take it; only this call fails
                self._drop(int(message["id"]))
                call.reply.set_exception(error)
        elif "want" in message:
            if call.payload and call.sender is None:
                call.sender = asyncio.ensure_future(self._send_more(int(message["id"]), call))
        else:
            del self._calls[int(message["id"])]
            if not call.reply.done():
                call.reply.set_result((message, payload))

    # -- to the guest

    def _drop(self, number: int) -> None:
        if self._calls.pop(number, None) is not None and self.reason is None:
            self._dropped.add(number)
            self.stream.write(pack_frame({"op": "cancel", "id": number, "target": number}))

    async def _send_more(self, number: int, call: _Call) -> None:
        chunk, call.payload = call.payload[:CHUNK], call.payload[CHUNK:]
        call.sender = None  # the next `want` may come before this has drained
        self.stream.write(pack_frame({"op": "data", "id": number, "more": bool(call.payload)}, chunk))
        await self.stream.drain()

    async def call(
        self,
        message: Message,
        payload: bytes | memoryview = b"",
        *,
        within: float,
        sink: Callable[[bytes], None] | None = None,
    ) -> Frame:
        """Send a call and wait for its answer.

        A payload of any size goes in chunks as the guest asks for them; `sink` gets the parts of a streamed
        answer. Raises FileProblem for what the guest refuses, SandboxDied when it is gone, TimeoutError when
        nothing came `within` seconds (the caller then ends the sandbox).
        """
        if self.reason is not None:
            raise SandboxDied(f"The sandbox has ended: {self.reason}.")
        number = self._next
        self._next += 1
        view = memoryview(payload)
        call = _Call(asyncio.get_running_loop().create_future(), view[CHUNK:], sink)
        frame = pack_frame({**message, "id": number, "more": bool(call.payload)}, view[:CHUNK])
        self._calls[number] = call
        try:
            async with asyncio.timeout(within):
                self.stream.write(frame)
                if len(frame) > 65536:
                    await self.stream.drain()
                answer, data = await call.reply
        except BaseException:  # cancelled or timed out: the guest must not go on with it for nobody
            self._drop(number)
            raise
        if "error" in answer:
            raise _file_problem(answer)
        return answer, data


def _file_problem(answer: Message) -> FileProblem:
    text, path, name = (str(answer.get(key, ""))[:4000] for key in ("error", "path", "errno"))
    return FileProblem(text, path=path, errno_name=name)
