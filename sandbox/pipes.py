"""A guest at the other end of a child process's pipes. Left out: what the process is (bwrap or python itself)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import subprocess
from collections.abc import Mapping, Sequence

from sandbox.channel import Channel


class _Process(asyncio.SubprocessProtocol):
    def __init__(self) -> None:
        self.channel: Channel | None = None
        self.exited = asyncio.get_running_loop().create_future()
        self._writable = asyncio.Event()
        self._writable.set()

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        assert self.channel is not None and isinstance(data, bytes)
        if fd == 1:
            self.channel.received(data)
        else:
            self.channel.received_error(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 1 and self.channel is not None:
            self.channel.ended("its guest closed the connection")
        if fd == 0:
            self._writable.set()

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def drained(self) -> None:
        await self._writable.wait()


class ProcessStream:
    """The stream of a `Channel` over a child process; also ends that process."""

    def __init__(self, transport: asyncio.SubprocessTransport, protocol: _Process) -> None:
        self._transport = transport
        self._protocol = protocol
        stdin = transport.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)
        self._stdin = stdin

    @property
    def pid(self) -> int:
        return self._transport.get_pid()

    def write(self, data: bytes) -> None:
        if not self._stdin.is_closing():
            self._stdin.write(data)

    async def drain(self) -> None:
        await self._protocol.drained()

    def close(self) -> None:
        self._stdin.close()

    async def wait_or_kill(self, seconds: float) -> int:
        """The exit code (minus the signal's number), after KILL when it takes longer than `seconds`."""
        try:
            await asyncio.wait_for(asyncio.shield(self._protocol.exited), seconds)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._transport.kill()
            await self._protocol.exited
        code = self._transport.get_returncode()
        self._transport.close()
        return code if code is not None else -9


def _widen(transport: asyncio.SubprocessTransport, fd: int) -> None:
    """Pipes of 1 MiB: a sixteenth of the wake-ups for a large file. Where that is refused, it only takes longer."""
    pipe = transport.get_pipe_transport(fd)
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe.get_extra_info("pipe").fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)  # type: ignore[union-attr]


async def spawn(
    argv: Sequence[str], env: Mapping[str, str], *, pass_fds: Sequence[int] = ()
) -> tuple[ProcessStream, Channel]:
    """Start a process in a session of its own and make the channel to the guest in it."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        _Process,
        *argv,
        env=dict(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        pass_fds=tuple(pass_fds),
        cwd="/",
    )
    for fd in (0, 1):
        _widen(transport, fd)
    stream = ProcessStream(transport, protocol)
    protocol.channel = Channel(stream)
    return stream, protocol.channel
