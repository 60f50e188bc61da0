"""What the images that we made take: each with the parts of the disk that it holds, shared ones known as shared.

A part is a file of the cache (by its inode) or a layer of an engine's image (by all layers up to it); it is freed when
the last that holds it goes. Left out: choosing what goes (`sandbox.images.budget`).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.base import SandboxUnavailable
from sandbox.images.base_image import BASE_REPOSITORY, CachedBase, cached_bases
from sandbox.images.cache import alone, cache_dir, images_dir, is_locked, remove_tree, unfinished
from sandbox.images.engine import LABEL, made_here, tags_of
from sandbox.images.recipe import recipe
from sandbox.images.setup_tree import cached_environments
from sandbox.images.use import last_use, lock_file
from sandbox.walk import walk

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

Part = Hashable
_BLOCK = 512  # bytes that st_blocks counts in


@dataclass(frozen=True, slots=True)
class Kept:
    """One image. `parts`: what it holds -> (bytes, how many of the part's names are its own)."""

    name: str
    used: float  # seconds since 1970
    parts: Mapping[Part, tuple[int, int]]
    names: Counter[Part] = field(repr=False)  # of each part, all names that there are, ours or not
    parents: frozenset[str] = frozenset()  # names of images in the same store that it was made from
    busy: bool = False  # a sandbox, a container or a build uses it
    pinned: bool = False  # what all others are made from
    remove: Callable[[], bool] = lambda: False  # False: it can't be now


@dataclass(frozen=True, slots=True)
class Store:
    """A place that images lie in: `cache`, `docker` or `podman`. `disk`: a folder there, None where we see none."""

    name: str
    images: Sequence[Kept]
    disk: Path | None


def stores() -> list[Store]:
    """The cache and the engines that answer, with all that we made in them."""
    engines = (_in_engine(kind) for kind in ("docker", "podman"))
    return [Store("cache", list(_cached()), cache_dir()), *(store for store in engines if store is not None)]


def _saving() -> bool:
    """Whether an archive is being written or read; it may hold any image."""
    return is_locked(cache_dir() / "images" / ".archive.lock")


def _building() -> bool:
    """Whether a build is under way; it may start from any base."""
    return any(is_locked(lock) for lock in (cache_dir() / "images").glob(".*.lock"))


# -- the cache


def _cached() -> Iterator[Kept]:
    names: Counter[Part] = Counter()
    current, building, saving = recipe().digest, _building(), _saving()
    for base in cached_bases():
        folders = [base.tree] if base.tree else []
        parts = _files([*folders, base.tar, base.tar.with_suffix(".json")], names)
        used = max(base.made, last_use("bubblewrap", base.tar.stem))
        yield Kept(
            base.tar.stem, used, parts, names, pinned=base.digest == current,
            busy=building or is_locked(lock_file("bubblewrap", base.tar.stem)), remove=_remover(base.tar.stem, base),
        )  # fmt: skip
    for folder in cached_environments():
        parts = _files([folder, folder.with_suffix(".json")], names)
        used = max(_changed(folder), last_use("bubblewrap", folder.name))
        yield Kept(
            folder.name, used, parts, names, _parents(folder),
            busy=saving or is_locked(lock_file("bubblewrap", folder.name)), remove=_remover(folder.name),
        )  # fmt: skip


def _changed(path: Path) -> float:
    """When it was; 0.0 for what another process has just removed."""
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


def _parents(folder: Path) -> frozenset[str]:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return frozenset({str(json.loads(folder.with_suffix(".json").read_text("utf-8"))["base"])})
    return frozenset()


def _files(roots: list[Path], names: Counter[Part]) -> dict[Part, tuple[int, int]]:
    """The files below, each by its inode, as often as it has a name there. `names` takes in all their names."""
    parts: dict[Part, tuple[int, int]] = {}
    for path in _walk(roots):
        try:
            found = os.lstat(path)
        except OSError:
            continue  # it has just gone
        part = (found.st_dev, found.st_ino)
        parts[part] = (found.st_blocks * _BLOCK, parts.get(part, (0, 0))[1] + 1)
        names[part] = 1 if os.path.isdir(path) and not os.path.islink(path) else found.st_nlink  # noqa: PTH112, PTH114
    return parts


def _walk(roots: list[Path]) -> Iterator[str]:
    for root in roots:
        yield str(root)
        for where, folders, files in walk(root):
            for name in (*folders, *files):
                yield f"{where}/{name}"


def _remover(name: str, base: CachedBase | None = None) -> Callable[[], bool]:
    """Out of sight in one step, so that nobody opens half of it, and removed then."""
    lock = base.digest if base is not None else name

    def remove() -> bool:
        folder = images_dir()
        with alone(lock_file("bubblewrap", name)) as unused, alone(folder / f".{lock}.lock") as unbuilt:
            there = [path for path in (folder / name, folder / f"{name}.tar", folder / f"{name}.json") if path.exists()]
            if not (unused and unbuilt and there):  # in use, or removed by somebody else since we looked
                return False
            with unfinished(folder, lock) as scratch:
                for path in there:
                    path.rename(scratch / path.name)
                if base is not None:
                    for path in folder.glob(f"guest-python-{base.digest}-*"):
                        remove_tree(path)
        return True

    return remove


# -- engines


def _in_engine(kind: str) -> Store | None:
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    from sandbox.docker_engine import connect

    try:
        client = connect(kind)
    except SandboxUnavailable:
        return None
    try:
        root = Path(str(client.info().get("DockerRootDir") or "/nonexistent"))
        return Store(kind, list(_images(client, kind)), root if root.is_dir() else None)
    except (DockerException, RequestException):
        return None  # an image or container went while it was looked at; the next time counts again
    finally:
        client.close()


def _images(client: DockerClient, kind: str) -> Iterator[Kept]:
    images = client.images.list(all=True)
    sizes = {_chain(image): int(image.attrs.get("Size") or 0) for image in images}
    whole = set(client.api.images(quiet=True))  # without the steps of builds, which carry their base's labels
    ours = [image for image in images if image.labels.get(LABEL) in ("base", "environment") and made_here(image)]
    own = [image for image in ours if image.id in whole]
    names: Counter[Part] = Counter()
    for image in images:
        if image.id in whole:
            names.update(dict.fromkeys(_layers(kind, image, sizes), 1))
    used_now = {entry["ImageID"] for entry in client.api.containers(all=True)}
    busy = {_chain(image) for image in images if image.id in used_now}
    others = [image for image in images if image.tags and not made_here(image)]
    theirs = {part for image in others for part in _layers(kind, image, sizes)}  # such as an image that was pulled
    building, saving, current = _building(), _saving(), f"{BASE_REPOSITORY}:{recipe().digest}"
    for image in own:
        chain, is_base, called = _chain(image), image.labels[LABEL] == "base", _names(image)
        yield Kept(
            called[0],
            max([_made(image), *(last_use(kind, name) for name in called)]),
            {part: (size, 1) for part, size in _layers(kind, image, sizes).items() if part not in theirs},
            names,
            frozenset(_names(other)[0] for other in own if _is_below(_chain(other), chain)),
            busy=saving or (building and is_base) or any(chain == other[: len(chain)] for other in busy),
            pinned=current in called,
            remove=_image_remover(kind, called),
        )


def _names(image: Image) -> tuple[str, ...]:
    """Its tags, else its id."""
    return tags_of(image) or (str(image.id),)


def _chain(image: Image) -> tuple[str, ...]:
    return tuple((image.attrs.get("RootFS") or {}).get("Layers") or ())


def _is_below(lower: tuple[str, ...], upper: tuple[str, ...]) -> bool:
    return len(lower) < len(upper) and upper[: len(lower)] == lower


def _layers(kind: str, image: Image, sizes: Mapping[tuple[str, ...], int]) -> dict[Part, int]:
    """Stretches of layers between the images that the engine knows, lowest first -> bytes."""
    chain = _chain(image)
    stretches: dict[Part, int] = {}
    below = 0
    for length in range(1, len(chain) + 1):
        if (size := sizes.get(chain[:length])) is not None:
            stretches[kind, chain[:length]] = max(size - below, 0)
            below = size
    return stretches


def _made(image: Image) -> float:
    from datetime import datetime

    text = str(image.attrs.get("Created") or "")[:19]
    try:
        return datetime.fromisoformat(f"{text}+00:00").timestamp()
    except ValueError:
        return 0.0


def _image_remover(kind: str, names: tuple[str, ...]) -> Callable[[], bool]:
    def remove() -> bool:
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        from sandbox.docker_engine import connect

        try:
            client = connect(kind)
        except SandboxUnavailable:
            return False
        try:
            with alone(lock_file(kind, names[0])) as unused:
                if not unused:
                    return False
                for name in names:
                    client.images.remove(name)
        except (DockerException, RequestException):
            return False  # a container uses it
        finally:
            client.close()
        return True

    return remove
