"""All that a machine without a network needs of images, in one file: save it where they were made, load it there.

The file is a tar: `manifest.json` with a checksum for each other member, `docker.tar` as engines write it,
`trees.tar` with root folders (files that they share are in it once), and the base images' own tars. Nothing of it is
used before all checksums were found right. Left out: signatures; the file is as trustworthy as its way here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.base import ImageProblem, SandboxUnavailable
from sandbox.choose import ENGINES
from sandbox.images.base_image import cached_bases
from sandbox.images.cache import images_dir, locked, remove_tree, unfinished
from sandbox.images.engine import connect, find_image, own_images
from sandbox.images.progress import Report, run_tool, silent, step
from sandbox.images.setup_tree import cached_environments

if TYPE_CHECKING:
    from docker import DockerClient

MANIFEST = "manifest.json"
FORMAT = 1
_DOCKER, _TREES = "docker.tar", "trees.tar"
_SPACE = "check the free space of the cache folder (PATCHWRIGHT_CACHE moves it); then run it again."
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Archived:
    """What an archive holds: tags for Docker, names of root folders, names of the base images' tars."""

    docker: tuple[str, ...]
    trees: tuple[str, ...]
    bases: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.docker, *self.trees, *self.bases)


def save(target: Path, images: Sequence[str] = (), *, kind: str | None = None, report: Report = silent) -> Archived:
    """Write images to one file: tags of the engine, root folders by name or path; without any, all that we made.

    `kind` is that of the engine (docker or podman), None the first that answers. Raises ImageProblem, and
    SandboxUnavailable for an engine that was named.
    """
    folder = images_dir()
    client = _engine(kind)
    try:
        chosen = _chosen(client, images)
        if not chosen.names:
            raise ImageProblem("there is no image to save.\nTry: `agent sandbox build` first.")
        with locked(folder, "archive", report), unfinished(folder, "archive") as scratch:
            parts = _parts(client, chosen, scratch, report)
            manifest = {
                "format": FORMAT,
                "docker": chosen.docker,
                "trees": chosen.trees,
                "bases": chosen.bases,
                "sha256": {name: _digest(path) for name, path in parts.items()},
            }
            (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            with step(f"writing {target}", report):
                _pack(target, {MANIFEST: scratch / MANIFEST, **parts})
    finally:
        if client is not None:
            client.close()
    return chosen


def load(source: Path, *, kind: str | None = None, report: Report = silent) -> Archived:
    """Take the images of a file that `save` wrote: into the engine where one answers, and into the cache.

    `kind` as in `save`. Raises ImageProblem, SandboxUnavailable; a file that is damaged changes nothing.
    """
    folder = images_dir()
    with locked(folder, "archive", report), unfinished(folder, "archive") as scratch:
        with step(f"reading {source}", report):
            archived = _unpack(source, scratch)
        client = _engine(kind)
        try:
            if archived.docker and client is not None:
                with step("loading into the engine", report):
                    _load_docker(client, scratch / _DOCKER)
        finally:
            if client is not None:
                client.close()
        for name in archived.bases:
            for part in (f"{name}.json", f"{name}.tar"):
                os.utime(scratch / part)
                (scratch / part).replace(folder / part)
        if archived.trees:
            with step("unpacking the root folders", report):
                _unpack_trees(scratch, folder, archived.trees)
    return archived


def _engine(kind: str | None = None) -> DockerClient | None:
    """A client of the engine of this kind, else of the first one; None where none answers: root folders need none."""
    for each in (kind,) if kind else ENGINES:
        try:
            return connect(each)
        except SandboxUnavailable:
            if kind:
                raise
    return None


def _chosen(client: DockerClient | None, images: Sequence[str]) -> Archived:
    trees = {path.name: path for path in cached_environments()}
    bases = {base.tar.stem: base for base in cached_bases()}
    trees |= {base.tree.name: base.tree for base in bases.values() if base.tree}
    if not images:
        tags = [tag for image in own_images(client) for tag in image.tags] if client is not None else []
        return Archived(tuple(sorted(tags)), tuple(sorted(trees)), tuple(sorted(bases)))
    docker: set[str] = set()
    folders: set[str] = set()
    tars: set[str] = set()
    for image in images:
        name = Path(image).name
        if name in trees or name in bases:
            folders |= {name} & set(trees)
            tars |= {name} & set(bases)
        elif client is not None and find_image(client, image) is not None:
            docker.add(image)
        else:
            raise ImageProblem(
                f"there is no image `{image}`, neither in the engine nor in the cache.\n"
                "Try: a name that `agent sandbox list` shows."
            )
    return Archived(tuple(sorted(docker)), tuple(sorted(folders)), tuple(sorted(tars)))


def _parts(client: DockerClient | None, chosen: Archived, scratch: Path, report: Report) -> dict[str, Path]:
    """The members of the archive: name -> file."""
    folder = images_dir()
    parts: dict[str, Path] = {}
    if chosen.docker and client is not None:
        parts[_DOCKER] = scratch / _DOCKER
        with step("saving from the engine", report):
            _save_docker(client, chosen.docker, parts[_DOCKER])
    if chosen.trees:
        parts[_TREES] = scratch / _TREES
        with step("packing the root folders", report):
            notes = [f"{name}.json" for name in chosen.trees if (folder / f"{name}.json").is_file()]
            run_tool(
                ["tar", "-cf", str(parts[_TREES]), "--numeric-owner", "-C", str(folder), *chosen.trees, *notes],
                what="packing the root folders",
                hint=_SPACE,
            )
    for name in chosen.bases:
        parts |= {f"{name}{suffix}": folder / f"{name}{suffix}" for suffix in (".json", ".tar")}
    return parts


def _save_docker(client: DockerClient, tags: Iterable[str], target: Path) -> None:
    """One export of all, so that layers that they share are in it once."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    url = f"{client.api.base_url}/v{client.api.api_version}/images/get"
    try:
        answer = client.api.get(url, params={"names": list(tags)}, stream=True, timeout=client.api.timeout)
        answer.raise_for_status()
        with target.open("wb") as file:
            for chunk in answer.iter_content(_CHUNK):
                file.write(chunk)
    except (DockerException, RequestException) as error:
        raise ImageProblem(f"the engine didn't hand out the images: {error}.\nTry: {_SPACE}") from error


def _load_docker(client: DockerClient, source: Path) -> None:
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        with source.open("rb") as file:  # not `images.load`: it looks the names up, and Podman's list as if it were one
            said = [line for line in client.api.load_image(file) if "error" in line]
    except (DockerException, RequestException) as error:
        said = [{"error": str(error)}]
    if said:
        raise ImageProblem(
            f"the engine didn't take the images: {said[0]['error']}.\n"
            "Try: look at the engine's free space (`docker system df`)."
        )


def _pack(target: Path, parts: dict[str, Path]) -> None:
    """Whole or not at all: written beside its name, then renamed."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, path in parts.items():
                tar.add(path, arcname=name, recursive=False)
        partial.replace(target)
    except OSError as error:
        raise ImageProblem(f"{target} can't be written: {error}.\nTry: another folder, or free space there.") from error
    finally:
        partial.unlink(missing_ok=True)


def _unpack(source: Path, scratch: Path) -> Archived:
    try:
        with tarfile.open(source, "r:") as tar:
            first = tar.next()
            file = tar.extractfile(first) if first is not None and first.name == MANIFEST else None
            if file is None:
                raise ImageProblem(f"{source} holds no images.\nTry: a file that `agent sandbox save` wrote.")
            manifest = json.loads(file.read())
            if manifest["format"] != FORMAT:
                raise ImageProblem(f"{source} has format {manifest['format']}.\nTry: a newer release of this program.")
            _check_members(tar, manifest["sha256"], scratch, source)
    except (OSError, tarfile.TarError, ValueError, KeyError) as error:
        raise ImageProblem(f"{source} can't be read: {error}.\nTry: copy the file again.") from error
    return Archived(*(tuple(_names(manifest[key])) for key in ("docker", "trees", "bases")))


def _names(names: Iterable[Any]) -> Iterable[str]:
    for name in names:
        if str(name).startswith((".", "/")) or ".." in str(name):
            raise ImageProblem(f"the archive names an image `{name}`.\nTry: a file that `agent sandbox save` wrote.")
        yield str(name)


def _check_members(tar: tarfile.TarFile, sums: dict[str, str], scratch: Path, source: Path) -> None:
    missing = set(sums)
    for member in tar:
        if member.name == MANIFEST:
            continue
        file = tar.extractfile(member)
        if file is None or member.name not in missing or "/" in member.name:
            raise ImageProblem(f"{source} holds `{member.name}`, which its manifest doesn't know.\nTry: copy it again.")
        missing.discard(member.name)
        path = scratch / member.name
        with path.open("wb") as out:
            shutil.copyfileobj(file, out, _CHUNK)
        if _digest(path) != sums[member.name]:
            raise ImageProblem(f"{source} is damaged: `{member.name}` has another checksum.\nTry: copy the file again.")
    if missing:
        raise ImageProblem(f"{source} is cut off: {', '.join(sorted(missing))} is missing.\nTry: copy the file again.")


def _unpack_trees(scratch: Path, folder: Path, names: Iterable[str]) -> None:
    trees = scratch / "trees"
    trees.mkdir()
    command = ["tar", "-xpf", str(scratch / _TREES), "--no-same-owner", "-C", str(trees)]
    run_tool(command, what="unpacking the root folders", hint=_SPACE)
    for name in names:
        target = folder / name
        if (trees / f"{name}.json").is_file():
            (trees / f"{name}.json").replace(folder / f"{name}.json")
        if target.is_dir():
            target.rename(scratch / f"replaced-{name}")
        os.utime(trees / name)
        (trees / name).rename(target)
        remove_tree(scratch / f"replaced-{name}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
