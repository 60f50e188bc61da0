"""The connection to an engine (Docker, Podman) for image work. Knows nothing of containers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.base import ImageProblem, SandboxUnavailable

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

LABEL = "patchwright.image"  # on every image that we make; its value is `base` or `environment`
_NAMESPACE = "patchwright/"  # of the names of all images that we make
_SECONDS = 3600  # a build step may say nothing for long


@dataclass(frozen=True, slots=True)
class OwnImage:
    """An image of ours in an engine. `kind` is `base` or `environment`."""

    id: str
    kind: str
    tags: tuple[str, ...]
    bytes: int


def connect(kind: str = "docker") -> DockerClient:
    """A client that waits as long as builds and imports take. Raises SandboxUnavailable."""
    from sandbox.docker_engine import connect as connect_for_runs

    client = connect_for_runs(kind)
    client.api.timeout = _SECONDS
    return client


def engines() -> Iterator[tuple[str, DockerClient]]:
    """Every engine that answers here, with its kind; its client is closed behind it."""
    from sandbox.choose import ENGINES

    for kind in ENGINES:
        try:
            client = connect(kind)
        except SandboxUnavailable:
            continue
        try:
            yield kind, client
        finally:
            client.close()


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
    own = [
        OwnImage(str(i.id), i.labels.get(LABEL, ""), tags_of(i), int(i.attrs.get("Size", 0)))
        for i in found
        if made_here(i)
    ]
    return sorted(own, key=lambda image: (image.kind, image.tags))


def made_here(image: Image) -> bool:
    """Whether we made it. One that somebody builds on ours inherits its label, but not its name."""
    return LABEL in image.labels and all(tag.startswith(_NAMESPACE) for tag in tags_of(image))


def tags_of(image: Image) -> tuple[str, ...]:
    """As both engines take them: Podman names a registry that our images never were in."""
    return tuple(tag.removeprefix("docker.io/") for tag in image.tags)


def remove_own_images(client: DockerClient, keep: str) -> int:
    """Remove our images but the one with a tag that ends in `keep`, and the guest's interpreters; those in use stay.

    Returns how many went.
    """
    from docker.errors import APIError

    from sandbox.guest_python_volume import remove_volumes

    gone = remove_volumes(client)
    for image in own_images(client):
        if any(tag.endswith(f":{keep}") for tag in image.tags):
            continue
        try:
            for name in image.tags or (image.id,):
                client.images.remove(name)
        except APIError:
            continue  # a container uses it
        gone += 1
    return gone
