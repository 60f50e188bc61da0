"""Finding images by name: what a repository may say of its image, tags in an engine, folders with a root file system.

Left out: choosing among them and making what isn't there (`environment`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.base import ImageProblem
from sandbox.images.base_image import BASE_REPOSITORY, base_image
from sandbox.images.dockerfile import base_images
from sandbox.images.engine import find_image
from sandbox.images.progress import Progress, Report, step
from sandbox.policy import SandboxSpec

if TYPE_CHECKING:
    from docker import DockerClient

DEFAULT_WORKDIR = SandboxSpec().workdir


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What a repository says about its image: the `[sandbox]` table of its `.patchwright.toml`."""

    image: str | None = None  # a tag in the Docker engine or a registry
    dockerfile: str | None = None  # path relative to the repository's root
    setup: str | None = None  # a shell command, run once over the base commit's files when the image is made
    packages: tuple[str, ...] = ()  # of the distribution, besides those that the base has and that are detected

    @property
    def explicit(self) -> bool:
        """Whether it says how the image is made, so that nothing has to be detected."""
        return bool(self.image or self.dockerfile or self.setup)


def as_lines(progress: Callable[[str], None]) -> Report:
    """A report that hands over plain lines."""

    def report(what: Progress) -> None:
        told = f"{what.step}: {what.detail}" if what.detail else what.step
        if what.done:
            progress(f"{told}: done in {what.seconds:.1f} s")
        elif what.seconds:
            progress(f"{told} ({what.seconds:.0f} s)")
        else:
            progress(told)

    return report


def have_base(client: DockerClient, dockerfile: Path, report: Report) -> None:
    """Make the base image where a Dockerfile starts from it and the engine doesn't have it."""
    for name in base_images(dockerfile.read_text("utf-8", "replace")) if dockerfile.is_file() else ():
        _have_base(client, name, report)


def _have_base(client: DockerClient, name: str, report: Report) -> None:
    """Make the base image where `name` means it and the engine doesn't have it: no registry has it either."""
    if name.partition(":")[0] == BASE_REPOSITORY and find_image(client, name) is None:
        base_image(client, report=report)


def present(client: DockerClient, name: str, report: Report) -> str:
    """The image by that name, pulled when the engine doesn't have it."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    _have_base(client, name, report)
    if find_image(client, name) is not None:
        return name
    try:
        with step(f"pulling {name}", report):
            client.images.pull(name)
    except (DockerException, RequestException) as error:
        raise ImageProblem(
            f"the image `{name}` isn't in the Docker engine and can't be pulled: {error}.\n"
            "Try: the name as `docker images` prints it, `docker load` on a machine without a registry, "
            "or leave the image out to use the base image."
        ) from error
    return name


def root_folder(image: str) -> Path:
    """The folder by that name, which has to hold a root file system. Raises ImageProblem."""
    folder = Path(image).expanduser().absolute()
    if not (folder / "usr/bin").is_dir():
        raise ImageProblem(
            f"`{image}` is no folder with a root file system, which is what bubblewrap takes as an image.\n"
            "Try: `--image FOLDER`, or leave it out to use the base image."
        )
    return folder
