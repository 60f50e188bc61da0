"""What killed processes left on this machine, found and removed: everything of ours carries its owner's name.

Containers and volumes by their labels, control groups and temporary folders by their names, half-made folders of the
cache by a lock that nobody holds any more. Only what is named as ours and whose owner is known to be gone is touched.
Left out: images that are whole (`sandbox.images.budget`), runs (they can be resumed), caches of test servers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox import cgroups, scratch
from sandbox.base import SandboxError, SandboxUnavailable
from sandbox.walk import walk

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.volumes import Volume

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing without an owner. `bytes` is what it takes on the disk or in memory, 0 where nobody says."""

    what: str  # containers, volumes, control groups, folders, unfinished images
    name: str
    bytes: int
    remove: Callable[[], bool]  # False: somebody else has removed it, or it can't be


def find(told: Told = lambda problem: None) -> Iterator[Leftover]:
    """All of them, as they are found. Changes nothing. What can't be looked at is told, and the rest is found."""
    for source in (partial(_in_engine, "docker"), partial(_in_engine, "podman"), _on_this_machine):
        try:
            yield from source()
        except (SandboxError, OSError) as problem:
            told(str(problem))


def sweep(*, dry_run: bool = False, told: Told = lambda problem: None) -> list[Leftover]:
    """Remove what is left; returns what went, or what would go. Several processes may do so at once.

    One thing that can't be removed keeps none of the others: it is told, and stays for the next time.
    """
    return [one for one in find(told) if dry_run or _went(one, told)]


def _went(one: Leftover, told: Told) -> bool:
    try:
        return one.remove()
    except (SandboxError, OSError) as problem:  # an answer of an engine is an OSError, too
        told(f"{one.what}: {one.name} can't be removed: {problem}")
        return False


def _on_this_machine() -> Iterator[Leftover]:
    for folder in cgroups.stale():
        yield Leftover("control groups", str(folder), 0, cgroups.Group((folder,)).remove)
    for folder in scratch.stale_folders():
        yield Leftover("folders", str(folder), folder_bytes(folder), _remover(folder))
    from sandbox.images.cache import abandoned

    for folder, lock in abandoned():
        yield Leftover("unfinished images", str(folder), folder_bytes(folder), _unlocked(folder, lock))


class Sweeper:
    """A sweep beside the work: the start of a run doesn't wait for it."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._sweep, name="sweep", daemon=True)
        self._thread.start()

    def _sweep(self) -> None:
        try:
            sweep()
        except (SandboxError, OSError):  # the next run tries again; `agent sandbox prune` tells what was wrong
            return

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within so many seconds."""
        self._thread.join(seconds)
        return not self._thread.is_alive()


def folder_bytes(folder: Path) -> int:
    """What a folder takes on its disk; a file with several names counts once."""
    seen: dict[tuple[int, int], int] = {}
    for where, folders, files in walk(folder):
        for name in (*folders, *files):
            try:
                found = os.lstat(os.path.join(where, name))  # noqa: PTH118  (a loop over thousands)
            except OSError:
                continue
            seen[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(seen.values())


def _remover(folder: Path) -> Callable[[], bool]:
    def remove() -> bool:
        scratch.remove_folder(folder)
        return not folder.exists()

    return remove


def _unlocked(folder: Path, lock: Path) -> Callable[[], bool]:
    """A removal under the lock of whoever would build the same thing now."""

    def remove() -> bool:
        from sandbox.images.cache import alone, remove_tree

        with alone(lock) as got:
            if got and folder.is_dir():
                remove_tree(folder)
                return True
        return False

    return remove


def _in_engine(kind: str) -> Iterator[Leftover]:
    """Containers and volumes; nothing where no engine answers."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    from sandbox import docker_engine

    try:
        client = docker_engine.connect(kind)
    except SandboxUnavailable:
        return
    try:
        found = client.containers.list(all=True, filters={"label": docker_engine.LABEL}, ignore_removed=True)
        for container in filter(docker_engine.is_stale, found):
            size = _written(client, str(container.id))
            yield Leftover("containers", str(container.name), size, partial(docker_engine.remove, container))
        yield from _volumes(client)
    except (DockerException, RequestException) as error:
        raise SandboxUnavailable(f"The engine does not list its containers: {error}. Start it again.") from None
    finally:
        client.close()


def _written(client: DockerClient, container: str) -> int:
    """Bytes of a container's own layer."""
    listed = client.api.containers(all=True, size=True, filters={"id": container})
    return int(listed[0].get("SizeRw") or 0) if listed else 0


def _volumes(client: DockerClient) -> Iterator[Leftover]:
    from sandbox.docker_engine import ABANDONED, OWNER_LABEL, seconds_since
    from sandbox.owner import is_elsewhere, is_gone

    for volume in client.volumes.list(filters={"label": OWNER_LABEL}):
        text = (volume.attrs.get("Labels") or {}).get(OWNER_LABEL, "")
        old = seconds_since(str(volume.attrs.get("CreatedAt") or "")) > ABANDONED
        if not (is_gone(text) or (old and is_elsewhere(text))):  # one that a container has isn't removed in any case
            continue
        size = (volume.attrs.get("UsageData") or {}).get("Size", 0)
        yield Leftover("volumes", str(volume.name), max(int(size), 0), partial(_remove_volume, volume))


def _remove_volume(volume: Volume) -> bool:
    from docker.errors import APIError

    try:
        volume.remove()  # by force Podman would remove the containers that use it
    except APIError as error:
        if error.status_code in (404, 409):  # gone, or a container that lives uses it
            return False
        raise
    return True
