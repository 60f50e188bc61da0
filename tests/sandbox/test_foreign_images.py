"""Images that others made: what they declare opens nothing, leaves nothing, and they are never taken for ours."""

from __future__ import annotations

import asyncio
import io
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sandbox.docker import open_docker
from sandbox.docker_engine import connect
from sandbox.images.engine import LABEL, own_images
from sandbox.images.inventory import stores
from sandbox.images.setup_image import exists
from sandbox.policy import BASE_IMAGE
from tests.sandbox.kinds import ENGINES, SPEC, need

if TYPE_CHECKING:
    from docker import DockerClient

DECLARING = f"""FROM {BASE_IMAGE}
RUN mkdir -p /data /workspace/cache && echo kept > /data/file && chmod -R 777 /data
VOLUME ["/data", "/workspace/cache", "/tmp"]
HEALTHCHECK --interval=1s CMD echo beaten >> /tmp/health
"""
Build = Callable[[str], str]


@pytest.fixture(params=ENGINES)
def kind(request: pytest.FixtureRequest) -> str:
    need(str(request.param))
    return str(request.param)


@pytest.fixture
def client(kind: str) -> Iterator[DockerClient]:
    client = connect(kind)
    yield client
    client.close()


@pytest.fixture
def build(client: DockerClient) -> Iterator[Build]:
    """Makes an image as anybody does, under a name that isn't ours."""
    made: list[str] = []

    def one(dockerfile: str) -> str:
        tag = f"foreign-{uuid.uuid4().hex[:8]}/dev:1"
        client.images.build(fileobj=io.BytesIO(dockerfile.encode()), tag=tag, rm=True, forcerm=True)
        made.append(tag)
        return tag

    yield one
    for tag in made:
        client.images.remove(tag, force=True)


async def test_declared_volumes_and_health_checks_open_nothing(kind: str, client: DockerClient, build: Build) -> None:
    image = build(DECLARING)
    async with await open_docker(replace(SPEC, image=image), kind) as box:
        seen = await box.run("cat /data/file; echo mine > /data/file || echo x > /data/x; echo $?; cat /data/file")
        assert b"Read-only file system" in seen.output and seen.output.endswith(b"1\nkept\n"), seen.output
        full = await box.run(f"head -c {SPEC.limits.workdir_bytes + 1000} /dev/zero > cache/fill; rm cache/fill")
        assert b"No space left" in full.output, full.output
        await box.write("cache/file", b"writable, as the work folder is")
        await asyncio.sleep(2.5)
        assert (await box.run("cat /tmp/health")).exit_code == 1
        box._machine.container.reload()  # type: ignore[attr-defined]
        volumes = {str(mount.get("Name")) for mount in box._machine.container.attrs["Mounts"]}  # type: ignore[attr-defined]
    assert volumes and not volumes & {str(volume.name) for volume in client.volumes.list()}, "volumes left"


def test_looking_into_an_image_leaves_no_volume(client: DockerClient, build: Build) -> None:
    image = build(DECLARING)
    before = {volume.name for volume in client.volumes.list()}
    assert exists(client, image, "/etc/passwd") and not exists(client, image, "/etc/none")
    new = [volume for volume in client.volumes.list() if volume.name not in before]
    assert not [volume for volume in new if not volume.attrs.get("Labels")], "volumes left"


def test_what_is_built_on_ours_is_not_ours(kind: str, client: DockerClient, build: Build) -> None:
    """It inherits our label; its maker would find it removed by the budget or by `prune --images`."""
    image = build(f"FROM {BASE_IMAGE}\nRUN echo {uuid.uuid4().hex} > /mine\n")
    assert LABEL in client.images.get(image).labels
    assert not [own for own in own_images(client) if image in own.tags]
    (store,) = (store for store in stores() if store.name == kind)
    assert not [kept for kept in store.images if image in kept.name]
