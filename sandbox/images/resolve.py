"""Which image a run gets: the one asked for by name, the one the repository describes, else the base.

Everything slow happens here, before a sandbox is opened, with progress as plain lines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.base import ImageProblem
from sandbox.images.base_image import BASE_REPOSITORY, base_image, base_tree
from sandbox.images.dockerfile import base_images, build_dockerfile, build_setup
from sandbox.images.engine import connect, find_image
from sandbox.images.progress import Progress, Report, step
from sandbox.policy import HOST_IMAGE, SandboxSpec

if TYPE_CHECKING:
    from docker import DockerClient

DEFAULT_WORKDIR = SandboxSpec().workdir


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What a repository says about its image: the `[sandbox]` table of its `.patchwright.toml`."""

    image: str | None = None  # a tag in the Docker engine or a registry
    dockerfile: str | None = None  # path relative to the repository's root
    setup: str | None = None  # a shell command, run once over the base commit's files when the image is made


async def resolve_image(
    kind: str,
    *,
    image: str | None = None,
    config: ImageConfig | None = None,
    context: Path | None = None,
    workdir: str = DEFAULT_WORKDIR,
    progress: Callable[[str], None] = lambda line: None,
) -> str:
    """The image for a run, made ready: a Docker tag, a folder for bubblewrap, "" for the unisolated sandbox.

    `image` (asked for by name) goes before `config` (what the repository says). `context` is a folder with the base
    commit's files, needed for a Dockerfile or a set-up command. `progress` gets lines from another thread.
    Raises ImageProblem or SandboxUnavailable.
    """
    config = config or ImageConfig()
    report = as_lines(progress)
    match kind:
        case "docker":
            return await asyncio.to_thread(_docker, image, config, context, workdir, report)
        case "bubblewrap":
            return await asyncio.to_thread(_bubblewrap, image, config, report)
        case "none":
            if image is not None:
                raise ImageProblem("`--sandbox none` runs on this machine itself.\nTry: leave `--image` out.")
            return ""
    raise ImageProblem(f"there is no sandbox of kind `{kind}`.\nTry: docker, bubblewrap or none.")


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


def _docker(image: str | None, config: ImageConfig, context: Path | None, workdir: str, report: Report) -> str:
    client = connect()
    try:
        if image is not None:
            return _present(client, image, report)
        if config.image and config.dockerfile:
            raise ImageProblem("`.patchwright.toml` names both an image and a Dockerfile.\nTry: keep one of them.")
        if (config.dockerfile or config.setup) and context is None:
            raise ImageProblem("an image build needs the repository's files.\nTry: `--image` with a finished image.")
        tag = _described(client, config, context, report)
        if config.setup and context is not None:
            tag = build_setup(client, tag, config.setup, context, workdir, report=report)
        return tag
    finally:
        client.close()


def _described(client: DockerClient, config: ImageConfig, context: Path | None, report: Report) -> str:
    if config.image:
        return _present(client, config.image, report)
    if config.dockerfile and context is not None:
        file = context / config.dockerfile
        for name in base_images(file.read_text("utf-8", "replace")) if file.is_file() else ():
            _have_base(client, name, report)
        return build_dockerfile(client, config.dockerfile, context, report=report)
    return base_image(client, report=report)


def _have_base(client: DockerClient, name: str, report: Report) -> None:
    """Make the base image where `name` means it and the engine doesn't have it: no registry has it either."""
    if name.partition(":")[0] == BASE_REPOSITORY and find_image(client, name) is None:
        base_image(client, report=report)


def _present(client: DockerClient, name: str, report: Report) -> str:
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


def _bubblewrap(image: str | None, config: ImageConfig, report: Report) -> str:
    if image == HOST_IMAGE:
        return image
    if image is not None:
        return str(_folder(image))
    described = config.image or config.dockerfile or config.setup
    if described:
        raise ImageProblem(
            f"the repository's `.patchwright.toml` asks for an image of its own ({described!r}), and bubblewrap can't "
            "build one.\nTry: `--sandbox docker`; or `--image FOLDER` with an unpacked root file system that has what "
            "the repository needs (`docker export` makes one)."
        )
    return str(base_tree(report=report))


def _folder(image: str) -> Path:
    folder = Path(image).expanduser().absolute()
    if not (folder / "usr/bin").is_dir():
        raise ImageProblem(
            f"`{image}` is no folder with a root file system, which is what bubblewrap takes as an image.\n"
            "Try: `--image FOLDER`, or leave it out to use the base image."
        )
    return folder
