"""The sandbox protocol's verbs over a channel to a guest; the same for every kind of sandbox.

A kind only brings a `Machine` (something that can be ended and asked why it ended) and a way to open another one.
Left out: everything that differs between containers, namespaces and a plain process.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sandbox.answers import info, number, raise_child_problem, require, result
from sandbox.base import (
    DEFAULT_MAX_OUTPUT,
    DEFAULT_TIMEOUT,
    CommandResult,
    FileInfo,
    FileProblem,
    SandboxDied,
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
from sandbox.snapshots import Copy, Frozen, Kept, Lasting, Shelf, filled, uncut

if TYPE_CHECKING:
    from sandbox.lease import Lease
    from sandbox.network_tunnel import RegistryAccess

READ_CHUNK = 4 * MIB
MAX_READ = 1024 * MIB
MAX_ENTRIES = 20_000
UNPACK_TIMEOUT = 600.0
DIGEST_SECONDS = 0.02  # how long a fingerprint counts as that of now


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
        reopen: Callable[[SandboxSpec], Awaitable[GuestSandbox]],
        warning: str | None = None,
    ) -> None:
        self._machine = machine
        self._channel = channel
        self._reopen = reopen
        self._shelf = Shelf(spec.limits)
        self._changing = asyncio.Lock()  # one snapshot or restore at a time
        self._open = asyncio.Event()  # calls may go to the guest
        self._open.set()
        self._burying: asyncio.Task[None] | None = None
        self._closed = False
        self._digest: Any = None  # the fingerprint that came with the last answer, as long as it is fresh
        self._digest_until = 0.0
        self._lease: Lease | None = None  # of one that was opened under the machine's bounds
        self.spec = spec
        self.workdir = workdir
        self.state_dir = state_dir
        self.warning = warning  # what a user must know about this kind, e.g. that it doesn't isolate
        self.facts: Message = {}  # what the guest said about itself: python, shell, uid
        channel.died = self._on_death

    @property
    def kind(self) -> str:
        return self._machine.kind

    def leased(self, lease: Lease) -> GuestSandbox:
        """Itself, which releases the lease when it ends."""
        self._lease = lease
        lease.measure(self._machine)
        if self._channel.reason is not None:
            lease.release()
        return self

    def _release(self) -> None:
        if self._lease is not None:
            self._lease.release()

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
        self._release()

    async def _call(
        self,
        message: Message,
        payload: bytes | memoryview = b"",
        *,
        within: float = FILE_TIMEOUT,
        sink: Callable[[bytes], None] | None = None,
    ) -> Frame:
        self._digest = None
        await self._open.wait()
        if self._channel.reason is not None and self._burying is not None:
            await asyncio.shield(self._burying)  # what it died of is being asked for
        try:
            return await self._channel.call(message, payload, within=within, sink=sink)
        except TimeoutError:
            self._channel.ended(f"its guest did not answer within {within:.0f} s", certain=True)
            if self._burying is not None:
                await asyncio.shield(self._burying)
            raise SandboxDied(f"The {self.kind} sandbox has ended: {self._channel.reason}.") from None

    async def close(self) -> None:
        self._closed = True
        await self._end("it was closed")
        await self._shelf.clear()

    async def _end(self, reason: str) -> None:
        self._channel.ended(reason, certain=True)
        if self._burying is not None:
            await asyncio.shield(self._burying)
        await self._machine.stop()
        self._release()

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
            return result(answer, data, max_output)

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
                require(len(data) <= step, "more bytes than asked for")
                size = number(answer.get("size", 0), 0, 1 << 63)
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
            return info(answer["info"])

    async def list(self, path: str, *, depth: int = 1, limit: int = 1000) -> builtins.list[FileInfo]:
        answer, _ = await self._call({"op": "list", "path": path, "depth": depth, "limit": min(limit, MAX_ENTRIES)})
        with self._checking():
            require(len(answer["entries"]) <= limit, "more entries than asked for")
            return [info(entry) for entry in answer["entries"]]

    async def unpack(self, tar: bytes, path: str | None = None) -> None:
        await self._give("unpack", tar, path)

    async def fill(self, copy: bytes, path: str | None = None) -> None:
        """Make an empty folder as it was when `snapshot` wrote this."""
        await self._give("fill", copy, path)

    async def _give(self, operation: str, data: bytes, path: str | None) -> None:
        target = self.workdir if path is None else path
        message = {"op": operation, "path": target, "timeout": UNPACK_TIMEOUT, "max_output": 4096}
        answer, _ = await self._call(message, data, within=UNPACK_TIMEOUT + self.spec.answer_grace)
        raise_child_problem(answer, target)

    async def fingerprint(self) -> str:
        digest, self._digest = self._digest, None
        if digest is None or time.monotonic() > self._digest_until:
            answer, _ = await self._call({"op": "fingerprint"})
            digest = answer.get("digest")
        return str(digest)[:64]

    # -- snapshots

    async def snapshot(self) -> str:
        async with self._changing:
            self._refuse_when_closed()
            return self._shelf.add(await self._frozen() or await self._copied())

    async def _frozen(self) -> Frozen | None:
        """The state without a copy, where the machine can do that and nothing is under way that would notice."""
        if not isinstance(self._machine, Lasting) or self._channel.busy or self._channel.reason is not None:
            return None
        with self._held_back():
            return await self._machine.freeze()

    async def _copied(self) -> Copy:
        with self._shelf.new_copy(self.workdir) as (copy, keep):
            message = {"op": "pack", "path": self.workdir, "timeout": UNPACK_TIMEOUT, "max_output": 4096}
            answer, _ = await self._call(message, within=UNPACK_TIMEOUT + self.spec.answer_grace, sink=keep)
            raise_child_problem(answer, self.workdir)
        return copy

    async def fork(self, snapshot: str | None = None) -> GuestSandbox:
        lease = await self._lease.another() if self._lease is not None else None
        try:
            fork = await self._forked(snapshot)
        except BaseException:  # a fork that isn't there holds nothing
            if lease is not None:
                lease.release()
            raise
        return fork.leased(lease) if lease is not None else fork

    async def _forked(self, snapshot: str | None) -> GuestSandbox:
        name = await self.snapshot() if snapshot is None else snapshot
        try:
            self._refuse_when_closed()
            kept = self._shelf.get(name)
            return await filled(await self._reopen(self.spec), kept) if isinstance(kept, Copy) else await kept.fork()
        finally:
            if snapshot is None:
                with contextlib.suppress(ValueError):  # closed meanwhile, and gone with that
                    await self.drop(name)

    async def restore(self, snapshot: str) -> None:
        async with self._changing:
            self._refuse_when_closed()
            kept = self._shelf.get(snapshot)
            if self._burying is not None:
                await asyncio.shield(self._burying)
            lease = self._lease
            if lease is not None and self._channel.reason is not None:  # it was released when this one died
                lease = await lease.another()
            try:
                fresh = await self._successor(kept)
            except BaseException:  # what isn't there holds nothing
                if lease is not None and lease is not self._lease:
                    lease.release()
                raise
            await uncut(self._go_on_in(fresh, lease))

    async def _successor(self, kept: Kept) -> GuestSandbox:
        if isinstance(self._machine, Lasting):
            return await self._machine.successor(kept)
        assert isinstance(kept, Copy), "only a machine that lasts has other states"
        return await filled(await self._reopen(self.spec), kept)

    async def _go_on_in(self, fresh: GuestSandbox, lease: Lease | None) -> None:
        """End what is inside and let another inside be this sandbox from now on."""
        old, channel = self._machine, self._channel
        with self._held_back():
            channel.died = lambda reason, certain: None
            channel.ended("it went back to a snapshot", certain=True)
            channel.fail_pending(SandboxDied("The sandbox went back to a snapshot while this was going on."))
            if isinstance(fresh._machine, Lasting):
                await fresh._machine.succeed(old)
            else:
                await old.stop()
            self._machine, self._channel, self._burying = fresh._machine, fresh._channel, fresh._burying
            self.facts, self.state_dir, self._digest = fresh.facts, fresh.state_dir, None
            if self._channel.reason is None:
                self._channel.died = self._on_death
            if lease is not None:
                self.leased(lease)
        if self._closed:  # meanwhile
            await self._end("it was closed")
            self._release()

    async def drop(self, snapshot: str) -> None:
        await self._shelf.drop(snapshot)

    @contextlib.contextmanager
    def _held_back(self) -> Iterator[None]:
        """Calls that come meanwhile wait."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise SandboxDied(f"The {self.kind} sandbox has ended: it was closed, and its snapshots went with it.")
