"""The sandbox protocol's verbs over a channel to a guest; the same for every kind of sandbox.

A kind only brings a `Machine` (something that can be ended and asked why it ended) and a way to open another one.
Left out: everything that differs between containers, namespaces and a plain process.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import mmap
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from sandbox.base import (
    DEFAULT_MAX_OUTPUT,
    DEFAULT_TIMEOUT,
    CommandEnd,
    CommandResult,
    FileInfo,
    FileKind,
    FileProblem,
    Sandbox,
    SandboxDied,
    SandboxError,
)
from sandbox.channel import MAX_DATA, Channel, Frame, Message, ProtocolBroken, guest_source
from sandbox.policy import (
    FILE_TIMEOUT,
    KILL_GRACE,
    MIB,
    OPEN_TIMEOUT,
    Network,
    SandboxSpec,
)
from sandbox.scratch import remove_folder, scratch_folder

if TYPE_CHECKING:
    from sandbox.network_tunnel import RegistryAccess

READ_CHUNK = 4 * MIB
MAX_READ = 1024 * MIB
MAX_ENTRIES = 20_000
UNPACK_TIMEOUT = 600.0
DIGEST_SECONDS = 0.02  # how long a fingerprint counts as that of now
SNAPSHOT_EXTRA = 1024 * MIB  # a tar's own bytes: two or three blocks for each file


class Machine(Protocol):
    """What a guest runs in."""

    @property
    def kind(self) -> str: ...

    async def stop(self) -> None:
        """End everything in it at once and remove it. Safe to call twice."""
        ...

    async def post_mortem(self) -> str:
        """Why it ended, as far as the machine around it knows; empty when it doesn't."""
        ...


class GuestSandbox:
    """A `Sandbox`; see `sandbox.base` for what its methods promise."""

    def __init__(
        self,
        machine: Machine,
        channel: Channel,
        spec: SandboxSpec,
        *,
        workdir: str,
        state_dir: str,
        reopen: Callable[[SandboxSpec], Awaitable[Sandbox]],
        warning: str | None = None,
    ) -> None:
        self._machine = machine
        self._channel = channel
        self._reopen = reopen
        self._snapshots: Path | None = None
        self._snapshot_count = 0
        self._burying: asyncio.Task[None] | None = None
        self._closed = False
        self._digest: Any = None  # the fingerprint that came with the last answer, as long as it is fresh
        self._digest_until = 0.0
        self.spec = spec
        self.workdir = workdir
        self.state_dir = state_dir
        self.warning = warning  # what a user must know about this kind, e.g. that it doesn't isolate
        self.facts: Message = {}  # what the guest said about itself: python, shell, uid
        channel.died = self._on_death

    @property
    def kind(self) -> str:
        return self._machine.kind

    async def start(self, config: Message, program: bytes = b"") -> None:
        """Hand the guest its source and its settings; returns when it has answered."""
        access = self._registries()
        config = config if access is None else access.config(config, self.state_dir)
        message = {"workdir": self.workdir, "state_dir": self.state_dir, **config}
        self._channel.stream.write(guest_source())
        try:
            self.facts, _ = await self._call(message, program, within=OPEN_TIMEOUT)
        except FileProblem as error:
            raise SandboxDied(f"The {self.kind} sandbox did not start: {error}.") from error
        done = self.facts.get("done", {})
        if program and not (isinstance(done, dict) and done.get("seccomp") and done.get("private")):
            raise SandboxDied(
                "The guest could not close itself off (seccomp or prctl refused), so nothing may run there. "
                "Use an image whose python3 has ctypes and a kernel with seccomp."
            )
        if access is not None:
            await access.started(self)

    def _registries(self) -> RegistryAccess | None:
        """The way to package indexes, for a sandbox that may reach them and has a network of its own."""
        if self.spec.network is not Network.REGISTRIES or self.kind == "none":
            return None
        from sandbox.network_tunnel import RegistryAccess

        return RegistryAccess.attach(self._channel, self.spec)

    # -- life and death

    def _on_death(self, reason: str, certain: bool) -> None:
        self._burying = asyncio.ensure_future(self._bury(reason, certain))

    async def _bury(self, reason: str, certain: bool) -> None:
        if not certain:
            reason = await self._machine.post_mortem() or reason
        words = self._channel.errors.decode("utf-8", "replace").strip()
        self._channel.reason = reason + (f"; its last words: {words[-1000:]}" if words and not self._closed else "")
        self._channel.fail_pending(SandboxDied(f"The {self.kind} sandbox has ended: {self._channel.reason}."))
        await self._machine.stop()

    async def _call(
        self,
        message: Message,
        payload: bytes | memoryview = b"",
        *,
        within: float = FILE_TIMEOUT,
        sink: Callable[[bytes], None] | None = None,
    ) -> Frame:
        self._digest = None
        try:
            return await self._channel.call(message, payload, within=within, sink=sink)
        except TimeoutError:
            self._channel.ended(f"its guest did not answer within {within:.0f} s", certain=True)
            if self._burying is not None:
                await asyncio.shield(self._burying)
            raise SandboxDied(f"The {self.kind} sandbox has ended: {self._channel.reason}.") from None

    async def close(self) -> None:
        self._closed = True
        self._channel.ended("it was closed", certain=True)
        if self._burying is not None:
            await asyncio.shield(self._burying)
        await self._machine.stop()
        if self._snapshots is not None:
            remove_folder(self._snapshots)
            self._snapshots = None

    async def __aenter__(self) -> GuestSandbox:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # -- commands

    async def run(
        self,
        command: Sequence[str] | str,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        max_output: int = DEFAULT_MAX_OUTPUT,
        stdin: bytes = b"",
        idle_timeout: float | None = None,
        keep_session: bool = False,
    ) -> CommandResult:
        if not 0 <= max_output <= MAX_DATA // 2:
            raise ValueError(f"max_output must be between 0 and {MAX_DATA // 2} bytes, not {max_output}")
        message: Message = {
            "op": "run",
            "timeout": timeout,
            "grace": KILL_GRACE,
            "max_output": max_output,
            "keep_session": keep_session,
        }
        if isinstance(command, str):
            message["script"] = command
        else:
            message["argv"] = list(command)
        if cwd is not None:
            message["cwd"] = cwd
        if env:
            message["env"] = dict(env)
        if idle_timeout is not None:
            message["idle_timeout"] = idle_timeout
        if keep_session:  # a work tree is looked at after each of these: one answer saves a round trip
            message["fingerprint"] = True
        answer, data = await self._call(message, stdin, within=timeout + KILL_GRACE + self.spec.answer_grace)
        if keep_session:
            self._digest, self._digest_until = answer.get("digest"), time.monotonic() + DIGEST_SECONDS
        with self._checking():
            return _result(answer, data, max_output)

    @contextlib.contextmanager
    def _checking(self) -> Iterator[None]:
        """An answer that doesn't fit its call ends the sandbox: whoever speaks there is not our guest."""
        try:
            yield
        except (ProtocolBroken, KeyError, TypeError, ValueError) as error:
            self._channel.ended(f"its guest broke the protocol ({error})", certain=True)
            raise SandboxDied(f"The {self.kind} sandbox has ended: {self._channel.reason}.") from error

    # -- files

    async def read(self, path: str, *, offset: int = 0, limit: int | None = None) -> bytes:
        wanted = MAX_READ + 1 if limit is None else limit
        parts: list[bytes] = []
        while wanted > 0:
            step = min(wanted, READ_CHUNK)
            message = {"op": "read", "path": path, "offset": offset, "limit": step}
            answer, data = await self._call(message)
            with self._checking():
                _require(len(data) <= step, "more bytes than asked for")
                size = _number(answer.get("size", 0), 0, 1 << 63)
            if limit is None and size > MAX_READ:  # a sparse file of any size costs its sender nothing
                wanted = 0
                break
            parts.append(data)
            offset += len(data)
            wanted -= len(data)
            if len(data) < step:
                break
        if limit is None and wanted <= 0:
            raise FileProblem(f"{path} is larger than {MAX_READ} bytes; read a part", path=path, errno_name="EFBIG")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def write(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        await self._call({"op": "write", "path": path, "mode": mode}, data)

    async def stat(self, path: str) -> FileInfo:
        answer, _ = await self._call({"op": "stat", "path": path})
        with self._checking():
            return _info(answer["info"])

    async def list(self, path: str, *, depth: int = 1, limit: int = 1000) -> builtins.list[FileInfo]:
        answer, _ = await self._call({"op": "list", "path": path, "depth": depth, "limit": min(limit, MAX_ENTRIES)})
        with self._checking():
            _require(len(answer["entries"]) <= limit, "more entries than asked for")
            return [_info(entry) for entry in answer["entries"]]

    async def unpack(self, tar: bytes, path: str | None = None) -> None:
        target = self.workdir if path is None else path
        message = {"op": "unpack", "path": target, "timeout": UNPACK_TIMEOUT, "max_output": 4096}
        answer, _ = await self._call(message, tar, within=UNPACK_TIMEOUT + self.spec.answer_grace)
        _raise_child_problem(answer, target)

    async def fingerprint(self) -> str:
        digest, self._digest = self._digest, None
        if digest is None or time.monotonic() > self._digest_until:
            answer, _ = await self._call({"op": "fingerprint"})
            digest = answer.get("digest")
        return str(digest)[:64]

    # -- snapshots

    async def snapshot(self) -> str:
        if self._snapshots is None:
            self._snapshots = scratch_folder("snapshots")
        self._snapshot_count += 1
        name = str(self._snapshot_count)
        path = self._snapshots / name
        room = self.spec.limits.workdir_bytes + SNAPSHOT_EXTRA
        try:
            with path.open("wb") as file:

                def keep(part: bytes) -> None:
                    if file.tell() + len(part) > room:
                        text = f"The work folder holds more than {room} bytes (sparse files count in full)."
                        raise FileProblem(text, path=self.workdir, errno_name="EFBIG")
                    file.write(part)

                message = {"op": "pack", "path": self.workdir, "timeout": UNPACK_TIMEOUT, "max_output": 4096}
                answer, _ = await self._call(message, within=UNPACK_TIMEOUT + self.spec.answer_grace, sink=keep)
            _raise_child_problem(answer, self.workdir)
        except OSError as error:
            path.unlink()
            raise SandboxError(f"A snapshot can't be kept in {path.parent}: {error}. Make room there.") from error
        except BaseException:  # cancelled, refused or dead: half a snapshot is none
            path.unlink()
            raise
        return name

    async def fork(self, snapshot: str | None = None) -> Sandbox:
        name = await self.snapshot() if snapshot is None else snapshot
        path = self._snapshots / name if self._snapshots and name.isdigit() else None
        if path is None or not path.is_file():
            raise ValueError(f"this sandbox has no snapshot {name!r}")
        other = await self._reopen(self.spec)
        try:
            with path.open("rb") as file, mapped(file) as tar:
                await other.unpack(tar)
        except BaseException:  # a fork that can't be filled must not stay behind, cancelled or not
            await other.close()
            raise
        finally:
            if snapshot is None:
                path.unlink()
        return other


@contextlib.contextmanager
def mapped(file: BinaryIO) -> Iterator[Any]:
    """A file as bytes without reading it into memory."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


# -- answers, checked


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ProtocolBroken(message)


def _number(value: Any, low: int, high: int) -> int:
    _require(type(value) is int and low <= value <= high, f"a number that can't be: {value!r:.40}")
    return int(value)


def _text(value: Any) -> str:
    _require(isinstance(value, str) and len(value) <= 8192, "a text that can't be")
    return str(value)


def _result(answer: Message, data: bytes, max_output: int) -> CommandResult:
    _require(len(data) <= max_output + 1024, "more output than asked for")
    head = _number(answer["head"], 0, len(data))
    file, cwd = answer.get("output_file"), answer.get("cwd")
    left, lines = answer["still_running"], answer.get("command_lines", [])
    _require(isinstance(left, list) and len(left) <= 1000, "a list that can't be")
    _require(isinstance(lines, list) and len(lines) <= len(left), "a list that can't be")
    seconds = answer["seconds"]
    _require(isinstance(seconds, float | int) and 0 <= seconds < 1e9, "a duration that can't be")
    return CommandResult(
        exit_code=_number(answer["exit_code"], 0, 255),
        head=data[:head],
        tail=data[head:],
        total_bytes=_number(answer["total"], len(data), 1 << 62),
        seconds=float(seconds),
        end=CommandEnd(answer["end"]),
        output_file=None if file is None else _text(file),
        output_file_complete=answer.get("complete") is True,
        still_running=tuple(_number(pid, 1, 1 << 31) for pid in left),
        command_lines=tuple(_text(line) for line in lines),
        cwd=None if cwd is None else _text(cwd),
    )


def _info(entry: Any) -> FileInfo:
    path, kind, size, mode, mtime = entry
    return FileInfo(
        path=_text(path),
        kind=FileKind(kind),
        size=_number(size, 0, 1 << 62),
        mode=_number(mode, 0, 0o7777),
        mtime_ns=_number(mtime, -(1 << 63), 1 << 63),
    )


def _raise_child_problem(answer: Message, path: str) -> None:
    if answer.get("exit_code") == 0:
        return
    name, _, text = str(answer.get("error_text", ""))[:4000].partition(" ")
    if not text:
        name, text = "EIO", f"the work was ended ({answer.get('end')}, status {answer.get('exit_code')})"
    raise FileProblem(f"{path}: {text}", path=path, errno_name=name)
