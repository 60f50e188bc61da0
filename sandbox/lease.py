"""What an open sandbox holds on the host besides itself: its place in memory, and its image against eviction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox import admission
from sandbox.policy import BASE_IMAGE, SandboxSpec

if TYPE_CHECKING:
    from sandbox.images.use import Use

_CGROUPS = Path("/sys/fs/cgroup")
_METERS = ("memory.current", "memory.usage_in_bytes")
_ENGINE_GROUPS = ("docker/{id}", "memory/docker/{id}", "system.slice/docker-{id}.scope", "memory/libpod_parent/{id}")


class Lease:
    """Held from before a sandbox is opened until it is closed or dead."""

    def __init__(self, kind: str, spec: SandboxSpec, place: admission.Place, use: Use | None) -> None:
        self._kind = kind
        self._spec = spec
        self._place = place
        self._use = use

    def measure(self, machine: object) -> None:
        """Say where the kernel counts what the sandbox takes, where that is known."""
        self._place.measured_by(next(_meters(machine), None))

    async def another(self) -> Lease:
        """For a fork."""
        return await take(self._kind, self._spec)

    def release(self) -> None:
        """Safe to call twice."""
        self._place.leave()
        if self._use is not None:
            self._use.release()


async def take(kind: str, spec: SandboxSpec) -> Lease:
    """Wait for room and say that the image is in use. Raises SandboxUnavailable."""
    place = await admission.enter(spec.limits)
    try:
        return Lease(kind, spec, place, _use(kind, spec.image))
    except BaseException:
        place.leave()
        raise


def _use(kind: str, image: str | None) -> Use | None:
    from sandbox.images.use import hold

    if kind == "none":
        return None
    if kind != "bubblewrap":
        return hold(kind, image or BASE_IMAGE)
    from sandbox.bubblewrap import find_tree

    tree = find_tree(image)
    return hold(kind, str(tree)) if tree is not None else None


def _meters(machine: object) -> Iterator[Path]:
    group = getattr(machine, "group", None)
    folders = list(group.folders) if group is not None else []
    if container := getattr(machine, "container", None):
        folders += [_CGROUPS / name.format(id=container.id) for name in _ENGINE_GROUPS]
    for folder in folders:
        for name in _METERS:
            if (folder / name).is_file():
                yield folder / name
