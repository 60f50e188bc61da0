"""The guest's own interpreter in a Docker engine: a named volume, filled once, mounted read-only by each sandbox.

Filled through the engine's API, so no path of this machine is mounted and the engine may be on another one. The
volume's name says what is in it. Left out: making the interpreter (`sandbox.guest_python`).
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

from sandbox.base import ImageProblem
from sandbox.guest_python import BROUGHT_DIR, Bundle
from sandbox.guest_python_make import files, same_machine
from sandbox.owner import owner
from sandbox.policy import new_name

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.types import Mount

PREFIX = "patchwright-guest-"
LABEL = "patchwright.guest"  # its value is the digest of what is in the volume


def mounted(client: DockerClient, bundle: Bundle, *, renew: bool = False) -> Mount:
    """The volume as a container's mount, filled when it isn't there, or again with `renew`.

    Raises ImageProblem where the engine's processor is another one, and what docker-py raises.
    """
    from docker.types import Mount

    from sandbox.images.cache import images_dir, locked
    from sandbox.images.progress import silent

    name = PREFIX + bundle.digest
    with locked(images_dir(), name, silent):  # to look as well: it is there before it is full
        if renew or not _exists(client, name):
            _check_machine(client, bundle)
            _fill(client, name, bundle)
    return Mount(BROUGHT_DIR, name, type="volume", read_only=True, no_copy=True)


def _check_machine(client: DockerClient, bundle: Bundle) -> None:
    machine = str(client.info()["Architecture"])
    if not same_machine(machine, bundle.machine):
        raise ImageProblem(
            f"the interpreter that would be brought along is for {bundle.machine}, the engine's machine is {machine}.\n"
            f"Try: add python3 (3.6 or newer) to the image, or run this on a machine with {machine}."
        )


def remove_volumes(client: DockerClient) -> int:
    """Remove the interpreters that no container uses; returns how many went. They are filled again when needed."""
    from docker.errors import APIError

    gone = 0
    for volume in client.volumes.list(filters={"name": PREFIX}):
        with suppress(APIError):  # a container uses it, or somebody else removes it
            volume.remove()
            gone += 1
    return gone


def _exists(client: DockerClient, name: str) -> bool:
    from docker.errors import NotFound

    try:
        client.volumes.get(name)
    except NotFound:
        return False
    return True


def _fill(client: DockerClient, name: str, bundle: Bundle) -> None:
    """Unpack the interpreter into the volume, its loader last: a volume that was filled in part starts nothing.

    The container that it is done through is never started. It has an empty image, because what an image holds at
    the volume's place, or a link there, must have no part in what other images' guests will run.
    """
    from docker.types import Mount

    from sandbox.docker_engine import LABEL as CONTAINER_LABEL
    from sandbox.docker_engine import OWNER_LABEL
    from sandbox.images.engine import LABEL as IMAGE_LABEL

    client.volumes.create(name, labels={LABEL: bundle.digest})
    answer = client.api.import_image_from_data(_empty(), changes=[f"LABEL {IMAGE_LABEL}=empty"])
    empty = str(json.loads(answer.splitlines()[-1])["status"])  # its id: engines disagree on names
    try:
        container = client.containers.create(
            empty,
            ["none"],
            name=new_name(),
            labels={CONTAINER_LABEL: "filling", OWNER_LABEL: owner()},
            network_mode="none",
            mounts=[Mount(BROUGHT_DIR, name, type="volume", no_copy=True)],
        )
        try:
            with tempfile.TemporaryFile() as file:
                _pack(bundle, file)
                container.put_archive(BROUGHT_DIR, file)
        finally:
            container.remove(force=True)
    finally:
        client.images.remove(empty, force=True)


def _pack(bundle: Bundle, file: io.BufferedRandom | tempfile._TemporaryFileWrapper[bytes]) -> None:
    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(fileobj=file, mode="w") as tar:
        for folder in sorted(path for path in bundle.folder.rglob("*") if path.is_dir()):
            member = tarfile.TarInfo(str(folder.relative_to(bundle.folder)))
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for path in files(bundle.folder):
            tar.add(path, arcname=str(path.relative_to(bundle.folder)), filter=plain)
    file.seek(0)


def _empty() -> bytes:
    """A root file system with one empty folder, as a tar."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        member = tarfile.TarInfo(BROUGHT_DIR.lstrip("/"))
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(member)
    return file.getvalue()
