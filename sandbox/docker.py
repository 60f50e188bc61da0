"""Containers through docker-py, hardened; the guest is the container's own process on an attached stream.

The container's stdin closes when this process goes away, however it goes, and the guest then ends with all that it
started: what remains is a stopped container, which `prune` finds by its labels. Left out: building and pulling
images (`sandbox.images`); nothing here talks to a registry.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox import seccomp
from sandbox.base import ImageProblem, SandboxUnavailable
from sandbox.channel import GUEST_ARGV, Channel, ProtocolBroken
from sandbox.machine import GuestSandbox
from sandbox.owner import is_gone, owner
from sandbox.policy import BASE_IMAGE, HOME, STATE_DIR, SandboxSpec, inside_ids, new_name

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

LABEL = "patchwright.sandbox"
OWNER_LABEL = "patchwright.owner"
TIMEOUT = 180  # seconds; an engine on a busy disk takes minutes for what takes milliseconds elsewhere
ABANDONED = 3600.0  # seconds after which a stopped container of another machine or pid namespace is removed
OOM_FILES = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
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


@dataclass(slots=True)
class DockerMachine:
    client: DockerClient
    container: Container
    kind: str = "docker"
    _stopped: bool = False
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def stop(self) -> None:
        async with self._lock:
            if not self._stopped:
                await asyncio.to_thread(self._remove)
                self._stopped = True

    def _remove(self) -> None:
        from docker.errors import DockerException, NotFound
        from requests.exceptions import RequestException

        try:
            self.container.remove(force=True, v=True)
        except NotFound:
            pass
        except (DockerException, RequestException):
            # The engine is gone or busy. The guest ends with its stdin, so nothing runs on; `prune` removes the rest.
            pass
        finally:
            self.client.close()

    async def post_mortem(self) -> str:
        return await asyncio.to_thread(self._inspect)

    def _inspect(self) -> str:
        from docker.errors import DockerException, NotFound
        from requests.exceptions import RequestException

        try:
            for _ in range(20):  # the stream ends a moment before the state is known
                self.container.reload()
                state = self.container.attrs["State"]
                if not state["Running"]:
                    break
                time.sleep(0.05)
        except NotFound:
            return "somebody removed its container"
        except (DockerException, RequestException) as error:
            return f"the Docker engine does not answer any more ({error}); start it and run again"
        if state.get("OOMKilled"):
            return "its container was ended because the memory limit was reached"
        if state["Running"]:
            return "the connection to its container was lost"
        return f"its container ended with status {state['ExitCode']} {state.get('Error') or ''}".strip()


def connect() -> DockerClient:
    """A client for DOCKER_HOST, else for the current context. Raises SandboxUnavailable."""
    import docker
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        if os.environ.get("DOCKER_HOST"):
            client = docker.from_env(timeout=TIMEOUT)
        else:
            context = docker.ContextAPI.get_current_context()
            client = docker.DockerClient(context.Host, tls=context.TLSConfig, timeout=TIMEOUT)
        client.ping()
    except (DockerException, RequestException, OSError, ValueError) as error:
        where = os.environ.get("DOCKER_HOST") or "the default socket"
        raise SandboxUnavailable(
            f"The Docker engine at {where} does not answer: {error}. Start it (`systemctl start docker`), set "
            "DOCKER_HOST to where it listens, make sure that you may use its socket, or use `--sandbox bubblewrap`."
        ) from error
    return client


def find_image(client: DockerClient, name: str) -> str:
    """The image's id. Raises ImageProblem; asks the engine only, never a registry."""
    from docker.errors import APIError, ImageNotFound

    try:
        return str(client.images.get(name).id)
    except (ImageNotFound, APIError) as error:
        raise ImageProblem(
            f"The Docker engine has no image {name!r}. Make the base image with `agent sandbox build`, or bring "
            f"your own there (`docker pull`, `docker load`) and name it with --image."
        ) from error


async def open_docker(spec: SandboxSpec) -> GuestSandbox:
    """A container for this spec. Raises SandboxUnavailable, ImageProblem or SandboxDied."""
    filters = seccomp.program(allow_tracing=spec.allow_tracing)
    machine, attached = await _created(spec)
    try:
        _, stream = await asyncio.get_running_loop().create_connection(DockerStream, sock=attached)
        sandbox = GuestSandbox(
            machine, stream.channel, spec, workdir=spec.workdir, state_dir=STATE_DIR, reopen=open_docker
        )
        await _started(machine.container, spec)
        await sandbox.start(
            {
                "env": spec.environment(),
                "rlimits": {"core": 0},
                "oom_files": list(OOM_FILES),
                "spool_bytes": spec.limits.state_bytes // 2,
            },
            filters,
        )
    except BaseException:  # whatever ended the start, cancellation too: leave no container
        attached.close()
        await machine.stop()
        raise
    return sandbox


async def _created(spec: SandboxSpec) -> tuple[DockerMachine, socket.socket]:
    """Create the container in a thread; one that comes after we were cancelled is removed there."""
    work = asyncio.ensure_future(asyncio.to_thread(_create, spec))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if work.exception() is None:
            machine, attached = work.result()
            attached.close()
            await machine.stop()
        raise


async def _started(container: Container, spec: SandboxSpec) -> None:
    """Start it in a thread that is waited for even when we are cancelled: a removal must not race with a start."""
    work = asyncio.ensure_future(asyncio.to_thread(_start, container, spec))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def _create(spec: SandboxSpec) -> tuple[DockerMachine, socket.socket]:
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    client = connect()
    try:
        image = find_image(client, spec.image or BASE_IMAGE)
        cpus = min(spec.limits.cpus, float(client.info()["NCPU"]))
        container = client.containers.create(image, list(GUEST_ARGV), **_settings(spec, cpus))
    except (DockerException, RequestException) as error:
        client.close()
        raise SandboxUnavailable(f"The Docker engine did not create a container: {error}") from error
    except ImageProblem:
        client.close()
        raise
    machine = DockerMachine(client, container)
    try:
        return machine, _attach(client, container)
    except (DockerException, RequestException, SandboxUnavailable):
        machine._remove()
        raise


def _attach(client: DockerClient, container: Container) -> socket.socket:
    wrapped = client.api.attach_socket(
        container.id, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1, "logs": 0}
    )
    raw = getattr(wrapped, "_sock", wrapped)
    if type(raw) is not socket.socket:  # TLS and ssh wrap their sockets; asyncio needs the plain one
        wrapped.close()
        raise SandboxUnavailable(
            "Sandboxes need a Docker engine on a unix socket or plain TCP; DOCKER_HOST names one over TLS or ssh. "
            "Forward its socket (`ssh -L /tmp/docker.sock:/var/run/docker.sock HOST`) and point DOCKER_HOST at it."
        )
    attached = socket.socket(fileno=os.dup(raw.fileno()))
    wrapped.close()
    attached.setblocking(False)
    return attached


def _start(container: Container, spec: SandboxSpec) -> None:
    from docker.errors import APIError

    try:
        container.start()
    except APIError as error:
        image = spec.image or BASE_IMAGE
        if "python3" in str(error):
            raise ImageProblem(f"The image {image!r} has no python3, which the sandbox needs: {error}") from error
        raise SandboxUnavailable(f"The Docker engine did not start a container of {image!r}: {error}") from error


def _settings(spec: SandboxSpec, cpus: float) -> dict[str, Any]:
    from docker.types import Ulimit

    limits = spec.limits
    uid, gid = inside_ids()
    return {
        "name": new_name(),
        "user": f"{uid}:{gid}",  # never a uid alone: its group would be root
        "labels": {LABEL: "1", OWNER_LABEL: owner(), **_prefixed(spec.labels)},
        "environment": spec.environment(),
        "working_dir": "/",
        "hostname": "sandbox",
        "entrypoint": [],
        "network_mode": "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "privileged": False,
        "init": True,
        "ipc_mode": "private",
        "shm_size": limits.shm_bytes,
        "mem_limit": limits.total_memory,
        "memswap_limit": limits.total_memory,
        "pids_limit": limits.processes,
        "nano_cpus": int(cpus * 1e9),
        "ulimits": [
            Ulimit(name="core", soft=0, hard=0),
            Ulimit(name="nofile", soft=limits.open_files, hard=limits.open_files),
        ],
        "tmpfs": {
            spec.workdir: _tmpfs(limits.workdir_bytes, "0755", uid, gid),
            "/tmp": _tmpfs(limits.tmp_bytes, "1777", uid, gid),  # noqa: S108
            HOME: _tmpfs(limits.home_bytes, "0755", uid, gid),
            STATE_DIR: _tmpfs(limits.state_bytes, "0700", uid, gid),
        },
        "stdin_open": True,
        "tty": False,
        "log_config": {"type": "none"},  # what the guest says is ours, and may be gigabytes
        "auto_remove": False,
        "restart_policy": {"Name": "no"},
    }


def _tmpfs(size: int, mode: str, uid: int, gid: int) -> str:
    return f"rw,exec,nosuid,nodev,size={size},mode={mode},uid={uid},gid={gid}"


def _prefixed(labels: Mapping[str, str]) -> dict[str, str]:
    return {f"patchwright.{name}": value for name, value in labels.items()}


def prune() -> int:
    """Remove containers whose owner is gone; returns how many went. Raises SandboxUnavailable.

    Several processes may do so at once: a container that another one is removing is its business.
    """
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    client = connect()
    try:
        found = client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True)
        return sum(_removed(container) for container in found if _is_stale(container))
    except (DockerException, RequestException) as error:
        raise SandboxUnavailable(f"The Docker engine does not list its containers: {error}. Start it again.") from None
    finally:
        client.close()


def _removed(container: Container) -> bool:
    from docker.errors import APIError

    try:
        container.remove(force=True, v=True)
    except APIError as error:
        if error.status_code in (404, 409):  # gone already, or on its way
            return False
        raise
    return True


def _is_stale(container: Container) -> bool:
    if is_gone(container.labels.get(OWNER_LABEL, "")):
        return True
    ended = container.attrs["State"].get("FinishedAt", "")[:19]
    if container.status != "exited" or not ended:
        return False
    seconds = time.time() - time.mktime(time.strptime(ended, "%Y-%m-%dT%H:%M:%S")) + time.timezone
    return seconds > ABANDONED
