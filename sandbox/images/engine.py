"""The connection to a Docker engine for image work. Knows nothing of containers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.base import ImageProblem, SandboxUnavailable

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

LABEL = "org.patchwright.image"  # on every image that we make; its value is `base` or `environment`
_SECONDS = 900  # an engine on a busy disk takes minutes for one import


@dataclass(frozen=True, slots=True)
class OwnImage:
    """An image of ours in an engine. `kind` is `base` or `environment`."""

    id: str
    kind: str
    tags: tuple[str, ...]
    bytes: int


def connect() -> DockerClient:
    """A client for the engine that DOCKER_HOST names, else the default socket. Raises SandboxUnavailable."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=_SECONDS)
        client.ping()
    except DockerException as error:
        raise SandboxUnavailable(
            f"no Docker engine answers: {error}.\n"
            "Try: start Docker, or point DOCKER_HOST at its socket; or use `--sandbox bubblewrap`."
        ) from error
    return client


def find_image(client: DockerClient, tag: str) -> Image | None:
    """The image of that name in the engine, None when it isn't there. Asks no registry."""
    from docker.errors import APIError, ImageNotFound

    try:
        return client.images.get(tag)
    except ImageNotFound:
        return None
    except APIError as error:
        raise ImageProblem(
            f"Docker can't look at the image {tag}: {error}.\nTry: the name as `docker images` has it."
        ) from error


def own_images(client: DockerClient) -> list[OwnImage]:
    """The images in the engine that we made, base images first."""
    found = client.images.list(filters={"label": LABEL})
    own = [OwnImage(str(i.id), i.labels.get(LABEL, ""), tuple(i.tags), int(i.attrs.get("Size", 0))) for i in found]
    return sorted(own, key=lambda image: (image.kind, image.tags))
