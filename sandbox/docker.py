"""Containers of Docker or Podman, hardened; the guest is the container's own process on an attached stream.

The container's stdin closes when this process goes away, however it goes, and the guest then ends with all that it
started: what remains is a stopped container, which `prune` finds by its labels. Left out: building and pulling
images (`sandbox.images`); nothing here talks to a registry.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from sandbox import podman, seccomp
from sandbox.base import ImageProblem, SandboxError, SandboxUnavailable
from sandbox.channel import GUEST_ARGV
from sandbox.docker_engine import Engine, connect, find_image, look
from sandbox.docker_runtime import check_runtime
from sandbox.docker_settings import container_settings
from sandbox.docker_stream import DockerStream
from sandbox.machine import GuestSandbox
from sandbox.policy import BASE_IMAGE, STATE_DIR, SandboxSpec

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

OOM_FILES = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


@dataclass(slots=True)
class DockerMachine:
    client: DockerClient
    container: Container
    kind: str
    bounds: bool  # the engine limits memory and processes; else the guest does
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
            return f"the engine does not answer any more ({error}); start it and run again"
        if state.get("OOMKilled"):
            return "its container was ended because the memory limit was reached"
        if state["Running"]:
            return "the connection to its container was lost"
        return f"its container ended with status {state['ExitCode']} {state.get('Error') or ''}".strip()


async def open_docker(spec: SandboxSpec, kind: str = "docker") -> GuestSandbox:
    """A container for this spec, of the engine of this kind (docker or podman).

    Raises SandboxUnavailable, ImageProblem or SandboxDied.
    """
    filters = seccomp.program(allow_tracing=spec.allow_tracing)
    machine, attached = await _created(spec, kind)
    try:
        _, stream = await asyncio.get_running_loop().create_connection(DockerStream, sock=attached)
        sandbox = GuestSandbox(
            machine,
            stream.channel,
            spec,
            workdir=spec.workdir,
            state_dir=STATE_DIR,
            reopen=partial(open_docker, kind=kind),
        )
        await _started(machine.container, spec)
        await sandbox.start(
            {
                "env": spec.environment(),
                "rlimits": {"core": 0},
                "oom_files": list(OOM_FILES),
                "spool_bytes": spec.limits.state_bytes // 2,
                **_watched(machine, spec),
            },
            filters,
        )
    except BaseException:  # whatever ended the start, cancellation too: leave no container
        attached.close()
        await machine.stop()
        raise
    return sandbox


def _watched(machine: DockerMachine, spec: SandboxSpec) -> dict[str, int]:
    """What the guest bounds itself, as in bubblewrap without root, because the engine can't."""
    if machine.bounds:
        return {}
    return {"watch_memory": spec.limits.memory, "watch_processes": spec.limits.processes}


async def _created(spec: SandboxSpec, kind: str) -> tuple[DockerMachine, socket.socket]:
    """Create the container in a thread; one that comes after we were cancelled is removed there."""
    work = asyncio.ensure_future(asyncio.to_thread(_create, spec, kind))
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


def _create(spec: SandboxSpec, kind: str) -> tuple[DockerMachine, socket.socket]:
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    client = connect(kind)
    try:
        engine = look(client)
        check_runtime(engine, spec.runtime)
        image = find_image(client, spec.image or BASE_IMAGE)
        container = _container(client, image, _settings(engine, spec))
    except (DockerException, RequestException) as error:
        client.close()
        raise SandboxUnavailable(f"The {kind} engine did not create a container: {error}") from error
    except SandboxError:
        client.close()
        raise
    machine = DockerMachine(client, container, kind, engine.bounds)
    try:
        return machine, _attach(client, container)
    except (DockerException, RequestException, SandboxUnavailable):
        machine._remove()
        raise


def _settings(engine: Engine, spec: SandboxSpec) -> dict[str, Any]:
    settings = container_settings(spec, min(spec.limits.cpus, engine.cpus))
    if engine.name == "Podman":
        return podman.settings(settings, rootless=engine.rootless, bounds=engine.bounds)
    return settings


def _container(client: DockerClient, image: str, settings: dict[str, Any]) -> Container:
    from docker.errors import APIError

    try:
        return client.containers.create(image, list(GUEST_ARGV), **settings)
    except APIError as error:
        if podman.NO_INIT not in str(error):
            raise
    # The guest is then the first process: it takes in orphans by itself, and nobody inside can kill it.
    return client.containers.create(image, list(GUEST_ARGV), **{**settings, "init": False})


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
        raise SandboxUnavailable(f"The engine did not start a container of {image!r}: {error}") from error
