"""An engine that speaks Docker's API: a client for it, what it is, its images, and containers whose owner is gone.

Nothing here talks to a registry. Left out: containers (`sandbox.docker`), making images (`sandbox.images`), what
Podman wants otherwise (`sandbox.podman`).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sandbox import podman
from sandbox.base import ImageProblem, SandboxUnavailable
from sandbox.owner import is_gone

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

LABEL = "patchwright.sandbox"
OWNER_LABEL = "patchwright.owner"
TIMEOUT = 180  # seconds; an engine on a busy disk takes minutes for what takes milliseconds elsewhere
_PLACES = ("DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST", "XDG_RUNTIME_DIR")  # what an address follows from
ABANDONED = 3600.0  # seconds after which a container that doesn't run, of another machine or pid namespace is removed


_known: dict[tuple[str | None, ...], Engine] = {}


@dataclass(frozen=True, slots=True)
class Engine:
    """What an engine says of itself."""

    name: str  # Docker or Podman, whichever kind of sandbox was asked for
    version: str
    rootless: bool  # it has no more rights than an ordinary user
    bounds: bool  # it can bound memory and processes; without root that takes control groups of version 2
    cpus: float
    memory: int  # bytes; 0 where it does not say
    runtime: str  # the OCI runtime that it takes when none is asked for
    runtimes: tuple[str, ...]  # those that it knows

    @property
    def said(self) -> str:
        """One line for people."""
        weaker = "" if self.bounds else "; it can't limit memory and processes, so the guest watches them"
        return f"{self.name} {self.version}{', without root' if self.rootless else ''}{weaker}"


def connect(kind: str = "docker") -> DockerClient:
    """A client: `docker` for DOCKER_HOST, else the current context; `podman` for CONTAINER_HOST, else its socket.

    Raises SandboxUnavailable.
    """
    import docker
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        if kind == "podman":
            client = docker.DockerClient(podman.address(), version=podman.API, timeout=TIMEOUT)
        elif os.environ.get("DOCKER_HOST"):
            client = docker.from_env(timeout=TIMEOUT)
        else:
            context = docker.ContextAPI.get_current_context()
            if context is None:
                raise ValueError("the current context (`docker context use`) is not there any more")
            client = docker.DockerClient(context.Host, tls=context.TLSConfig, timeout=TIMEOUT)
        client.ping()
    except (DockerException, RequestException, OSError, ValueError) as error:
        raise SandboxUnavailable(_unreachable(kind, error)) from error
    return client


def _unreachable(kind: str, error: Exception) -> str:
    if kind == "podman":
        return f"Podman does not answer: {error}. {podman.START}"
    where = os.environ.get("DOCKER_HOST") or "the default socket"
    return (
        f"The Docker engine at {where} does not answer: {error}. Start it (`systemctl start docker`), set "
        "DOCKER_HOST to where it listens, make sure that you may use its socket, or use `--sandbox bubblewrap`."
    )


def look(client: DockerClient) -> Engine:
    """What the engine behind this client is. Raises DockerException."""
    info = client.info()
    is_podman = "BuildahVersion" in info
    rootless = bool(info.get("Rootless")) or "name=rootless" in (info.get("SecurityOptions") or ())
    bounds = bool(info.get("MemoryLimit")) and bool(info.get("PidsLimit"))
    if is_podman and rootless:  # what it says there is what the kernel has, not what it was given
        bounds = _controllers(client) >= {"memory", "pids"}
    return Engine(
        name="Podman" if is_podman else "Docker",
        version=str(info.get("ServerVersion")),
        rootless=rootless,
        bounds=bounds,
        cpus=float(info["NCPU"]),
        memory=int(info.get("MemTotal") or 0),
        runtime=str(info.get("DefaultRuntime") or ""),
        runtimes=tuple(sorted(info.get("Runtimes") or ())),
    )


def _controllers(client: DockerClient) -> set[str]:
    """The control groups that were delegated to a Podman without root; empty where it doesn't say."""
    answer = client.api.get(f"{client.api.base_url}/{podman.OWN_INFO}", timeout=TIMEOUT)
    return set(answer.json()["host"]["cgroupControllers"] or ()) if answer.ok else set()


def known(client: DockerClient, kind: str) -> Engine:
    """The same, asked once per process and address: Podman takes a fifth of a second to say it."""
    place = (kind, *(os.environ.get(name) for name in _PLACES))
    if place not in _known:
        _known[place] = look(client)
    return _known[place]


def find_image(client: DockerClient, name: str) -> str:
    """The image's id. Raises ImageProblem; asks the engine only, never a registry."""
    from docker.errors import APIError, ImageNotFound

    try:
        return str(client.images.get(name).id)
    except (ImageNotFound, APIError) as error:
        raise ImageProblem(
            f"The engine has no image {name!r}. Make the base image with `agent sandbox build`, or bring your own "
            f"there (`docker pull`, `docker load`) and name it with --image."
        ) from error


def declared_volumes(client: DockerClient, image: str) -> tuple[str, ...]:
    """The folders for which the image wants volumes. Raises DockerException."""
    return tuple(sorted((client.images.get(image).attrs.get("Config") or {}).get("Volumes") or ()))


def prune(kind: str = "docker") -> int:
    """Remove containers whose owner is gone; returns how many went. Raises SandboxUnavailable.

    Several processes may do so at once: a container that another one is removing is its business.
    """
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    client = connect(kind)
    try:
        found = client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True)
        return sum(remove(container) for container in found if is_stale(container))
    except (DockerException, RequestException) as error:
        raise SandboxUnavailable(f"The engine does not list its containers: {error}. Start it again.") from None
    finally:
        client.close()


def remove(container: Container) -> bool:
    """End and remove a container; False when it is gone already, or on its way. Raises DockerException.

    Podman fails to kill one that ends at this moment, so it is asked again.
    """
    from docker.errors import APIError

    for tries_left in (4, 3, 2, 1, 0):
        try:
            container.remove(force=True, v=True)
            return True
        except APIError as error:
            if error.status_code in (404, 409):
                return False
            if not tries_left or podman.ENDED_MEANWHILE not in str(error):
                raise
            time.sleep(0.05)
    raise AssertionError("unreachable")


def is_stale(container: Container) -> bool:
    """Whether its owner is gone. Where that can't be known here, as after a reboot, also one that ended long ago, or
    was made long ago and never started."""
    if is_gone(container.labels.get(OWNER_LABEL, "")):
        return True
    since = {"exited": container.attrs["State"].get("FinishedAt"), "created": container.attrs.get("Created")}
    return seconds_since(str(since.get(container.status) or "")) > ABANDONED


def seconds_since(text: str) -> float:
    """Of a time as engines write it, with its zone; 0 for none."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return 0.0 if when.year < 2000 or when.tzinfo is None else time.time() - when.timestamp()
