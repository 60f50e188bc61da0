"""Containers of Docker or Podman, hardened; the guest is the container's own process on an attached stream.

The container's stdin closes when this process goes away, however it goes, and the guest then ends with all that it
started: what remains is a stopped container, which `prune` finds by its labels. An image without a Python that can
run the guest is noticed by its first container's end, and gets ours (`sandbox.guest_python`). Left out: building and
pulling images (`sandbox.images`); nothing here talks to a registry.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from sandbox import docker_runtime, guest_python, podman, seccomp
from sandbox.base import ImageProblem, SandboxDied, SandboxError, SandboxUnavailable
from sandbox.channel import GUEST_ARGV
from sandbox.docker_engine import Engine, connect, declared_volumes, find_image, known, look, remove
from sandbox.docker_settings import closed_volumes, container_settings, full_network, own_volumes
from sandbox.docker_stream import DockerStream
from sandbox.guest_python import BROUGHT_ARGV, BROUGHT_DIR
from sandbox.machine import GuestSandbox
from sandbox.policy import BASE_IMAGE, STATE_DIR, Network, SandboxSpec

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

OOM_FILES = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


class Interpreter(StrEnum):
    """Which Python starts the guest, in the order in which they are tried."""

    USUAL = "usual"  # the image's own, or ours where the image was seen to need it
    BROUGHT = "brought"  # ours
    RENEWED = "renewed"  # ours, put into the engine again: what is there may be a part of it


class NoGuest(Exception):
    """A container ended, or didn't start, before its guest had said anything; the text says how."""


@dataclass(slots=True)
class DockerMachine:
    client: DockerClient
    container: Container
    kind: str
    bounds: bool  # the engine limits memory and processes; else the guest does
    image: str  # its id
    variables: dict[str, str] | None = None  # what commands get on top; None: the image's own Python runs the guest
    volumes: tuple[str, ...] = ()  # that go with it
    ended_with: int | None = None  # the container's status, where we know no other reason for its end
    _stopped: bool = False
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def stop(self) -> None:
        async with self._lock:
            if not self._stopped:
                await asyncio.to_thread(self._remove)
                self._stopped = True

    def _remove(self) -> None:
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        try:
            remove(self.container)
            for name in self.volumes:
                self.client.volumes.get(name).remove()
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
        self.ended_with = int(state["ExitCode"])
        return f"its container ended with status {state['ExitCode']} {state.get('Error') or ''}".strip()


async def open_docker(spec: SandboxSpec, kind: str = "docker") -> GuestSandbox:
    """A container for this spec, of the engine of this kind (docker or podman).

    Raises SandboxUnavailable, ImageProblem or SandboxDied.
    """
    said: list[str] = []
    for interpreter in Interpreter:
        try:
            return await _open(spec, kind, interpreter)
        except NoGuest as problem:
            said.append(str(problem))
    raise ImageProblem(
        f"The image {spec.image or BASE_IMAGE!r} can't run the sandbox's guest, neither with a Python of its own "
        f"({said[0]}) nor with the one that is brought along ({said[-1]}). Add python3 (3.6 or newer) to the image."
    )


async def _open(spec: SandboxSpec, kind: str, interpreter: Interpreter) -> GuestSandbox:
    filters = seccomp.program(allow_tracing=spec.allow_tracing)
    machine, attached = await _created(spec, kind, interpreter)
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
        await _started(machine, spec)
        await sandbox.start(
            {
                "env": {**spec.environment(), **(machine.variables or {})},
                "oom_files": list(OOM_FILES),
                "spool_bytes": spec.limits.state_bytes // 2,
                **_bounds(machine, spec),
            },
            filters,
        )
        if machine.variables is None and not sandbox.facts.get("git") and await asyncio.to_thread(_can_bring, machine):
            await sandbox.close()
            raise NoGuest("the image has no git")
    except BaseException as error:  # whatever ended the start, cancellation too: leave no container
        attached.close()
        await machine.stop()
        gave_up = machine.ended_with is not None and machine.ended_with < 128  # it wasn't killed
        if isinstance(error, SandboxDied) and gave_up:
            raise NoGuest(str(error)) from error
        raise
    if machine.variables is not None:
        await asyncio.to_thread(guest_python.remember, machine.image)
    return sandbox


def _bounds(machine: DockerMachine, spec: SandboxSpec) -> dict[str, Any]:
    """What the guest bounds for itself and all that it starts: Podman without root passes over such settings.

    Where the engine can't limit memory and processes either, the guest watches them. The kernel counts processes per
    user; with such an engine that is those of all its sandboxes together.
    """
    limits = spec.limits
    rlimits = {"core": 0, "nofile": limits.open_files}
    if machine.bounds:
        return {"rlimits": rlimits}
    rlimits["nproc"] = limits.processes
    return {"rlimits": rlimits, "watch_memory": limits.memory, "watch_processes": limits.processes}


async def _created(spec: SandboxSpec, kind: str, interpreter: Interpreter) -> tuple[DockerMachine, socket.socket]:
    """Create the container in a thread; one that comes after we were cancelled is removed there."""
    work = asyncio.ensure_future(asyncio.to_thread(_create, spec, kind, interpreter))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if work.exception() is None:
            machine, attached = work.result()
            attached.close()
            await machine.stop()
        raise


async def _started(machine: DockerMachine, spec: SandboxSpec) -> None:
    """Start it in a thread that is waited for even when we are cancelled: a removal must not race with a start."""
    work = asyncio.ensure_future(asyncio.to_thread(_start, machine, spec))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def _create(spec: SandboxSpec, kind: str, interpreter: Interpreter) -> tuple[DockerMachine, socket.socket]:
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    client = connect(kind)
    try:
        engine = look(client) if spec.runtime else known(client, kind)  # a runtime must be there now
        docker_runtime.check_runtime(engine, spec.runtime)
        image = find_image(client, spec.image or BASE_IMAGE)
        settings, variables = _settings(engine, spec, declared_volumes(client, image)), None
        if spec.network is Network.FULL:
            settings["network_mode"] = full_network(client)
        argv: Sequence[str] = GUEST_ARGV
        if interpreter is not Interpreter.USUAL or guest_python.is_known(image):
            argv, variables = BROUGHT_ARGV, _bring(client, spec, image, settings, interpreter)
        container = _container(client, image, argv, settings)
    except (DockerException, RequestException) as error:
        client.close()
        raise SandboxUnavailable(f"The {kind} engine did not create a container: {error}") from error
    except SandboxError:
        client.close()
        raise
    bounds = engine.bounds and not docker_runtime.has_own_kernel(spec.runtime)
    machine = DockerMachine(client, container, kind, bounds, image, variables, own_volumes(settings))
    try:
        return machine, _attach(client, container)
    except (DockerException, RequestException, SandboxUnavailable):
        machine._remove()
        raise


def _settings(engine: Engine, spec: SandboxSpec, volumes: Sequence[str]) -> dict[str, Any]:
    settings = docker_runtime.settings(container_settings(spec, min(spec.limits.cpus, engine.cpus)), spec.runtime)
    is_podman = engine.name == "Podman"
    if is_podman:
        settings = podman.settings(settings, rootless=engine.rootless, bounds=engine.bounds)
    return closed_volumes(settings, volumes, named=not is_podman)


def _bring(
    client: DockerClient, spec: SandboxSpec, image: str, settings: dict[str, Any], interpreter: Interpreter
) -> dict[str, str]:
    """Give the container our interpreter; returns the variables that commands get on top."""
    from sandbox.guest_python_volume import mounted

    said = (client.images.get(image).attrs.get("Config") or {}).get("Env") or ()
    own = {name: value for name, _, value in (entry.partition("=") for entry in said)}
    settings["environment"], variables = guest_python.without_loader_settings(own, settings["environment"])
    try:
        mount = mounted(client, guest_python.bundle(), renew=interpreter is Interpreter.RENEWED)
    except ImageProblem as problem:
        raise ImageProblem(
            f"The image {spec.image or BASE_IMAGE!r} has no Python 3 that can run the sandbox's guest, and {problem}"
        ) from problem
    settings["mounts"] = [*settings.get("mounts", ()), mount]
    return variables


def _can_bring(machine: DockerMachine) -> bool:
    """Whether an image that lacks only git can get ours; where not, it is taken as it is."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    from sandbox.guest_python_volume import mounted

    try:
        return guest_python.obtainable() and bool(mounted(machine.client, guest_python.bundle()))
    except (DockerException, RequestException, ImageProblem):
        return False


def _container(client: DockerClient, image: str, argv: Sequence[str], settings: dict[str, Any]) -> Container:
    from docker.errors import APIError

    try:
        return client.containers.create(image, list(argv), **settings)
    except APIError as error:
        if podman.NO_INIT not in str(error):
            raise
    # The guest is then the first process: it takes in orphans by itself, and nobody inside can kill it.
    return client.containers.create(image, list(argv), **{**settings, "init": False})


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


def _start(machine: DockerMachine, spec: SandboxSpec) -> None:
    from docker.errors import APIError

    try:
        machine.container.start()
    except APIError as error:
        if "python3" in str(error) or BROUGHT_DIR in str(error):  # said by the engine itself where it has no init
            raise NoGuest(str(error)) from error
        image = spec.image or BASE_IMAGE
        raise SandboxUnavailable(f"The engine did not start a container of {image!r}: {error}") from error
