"""The base image, made without any registry: as a tar file, as a tree for bubblewrap, as an image for Docker.

Each is made when it is first asked for and kept in the cache under the recipe's digest. What it is made of:
`recipe`; how: `rootfs`.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.base import ImageProblem
from sandbox.images.apt import private_apt, without_credentials
from sandbox.images.cache import cache_dir, images_dir, locked, remove_tree, unfinished
from sandbox.images.engine import LABEL, find_image
from sandbox.images.progress import Report, run_tool, silent, step
from sandbox.images.recipe import Recipe, recipe
from sandbox.images.rootfs import AGENT_HOME, WORKSPACE, build_tree
from sandbox.policy import BASE_IMAGE, GID, UID

if TYPE_CHECKING:
    from docker import DockerClient

BASE_REPOSITORY = BASE_IMAGE.partition(":")[0]
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SPACE = "check the free space of the cache folder (PATCHWRIGHT_CACHE moves it); then run it again."


@dataclass(frozen=True, slots=True)
class CachedBase:
    """One base image in the cache. `tar` is in bytes, `made` in seconds since 1970."""

    digest: str
    suite: str
    packages: tuple[str, ...]
    tar: Path
    tar_bytes: int
    tree: Path | None
    made: float


def base_tar(of: Recipe | None = None, *, report: Report = silent, force: bool = False) -> Path:
    """The base image as an uncompressed tar; built when it isn't in the cache (about 20 s) or with `force`."""
    of = of or recipe()
    folder = images_dir()
    target = folder / f"base-{of.digest}.tar"
    if target.is_file() and not force:
        return target
    asked = time.time()
    with locked(folder, of.digest, report):
        if target.is_file() and (not force or target.stat().st_mtime > asked):
            return target  # another process has just made it
        with unfinished(folder, of.digest) as scratch:
            try:
                _build_tar(of, scratch, report)
            except OSError as error:
                raise ImageProblem(f"building the base image failed: {error}.\nTry: {_SPACE}") from error
            _keep(scratch / "base.tar", target, of)
    return target


def base_tree(of: Recipe | None = None, *, report: Report = silent) -> Path:
    """The base image as a folder, for bubblewrap to mount read-only as `/`. Built when it isn't there."""
    of = of or recipe()
    folder = images_dir()
    target = folder / f"base-{of.digest}"
    tar = base_tar(of, report=report)
    with locked(folder, of.digest, report):
        if target.is_dir() and target.stat().st_mtime >= tar.stat().st_mtime:
            return target
        with unfinished(folder, of.digest) as scratch, step("unpacking the tree for bubblewrap", report):
            tree = scratch / "tree"
            tree.mkdir()
            run_tool(
                ["tar", "-xpf", str(tar), "--no-same-owner", "-C", str(tree)], what="unpacking the base", hint=_SPACE
            )
            tree.chmod(0o755)
            os.utime(tree)
            if target.is_dir():
                target.rename(scratch / "replaced")
            tree.rename(target)
    return target


def find_base_tree(of: Recipe | None = None) -> Path | None:
    """The base tree when it is in the cache; builds nothing."""
    target = cache_dir() / "images" / f"base-{(of or recipe()).digest}"
    return target if target.is_dir() else None


def base_image(
    client: DockerClient,
    of: Recipe | None = None,
    *,
    report: Report = silent,
    replace: bool = False,
    latest: bool = True,
) -> str:
    """The base image's tag in a Docker engine, imported when it isn't there; with `latest` it gets that tag too.

    With `replace` the cached tar takes the place of an image that is there.
    """
    of = of or recipe()
    tag = f"{BASE_REPOSITORY}:{of.digest}"
    if not replace and find_image(client, tag) is not None:
        return tag
    tar = base_tar(of, report=report)
    with locked(images_dir(), f"{of.digest}-docker", report), step("importing into the engine", report):
        if replace or find_image(client, tag) is None:
            _import(client, tar, of, latest=latest)
    return tag


def import_tar(source: Path, of: Recipe | None = None, *, report: Report = silent) -> Path:
    """Take a tar that `agent sandbox build` made on another machine as this machine's base image."""
    of = of or recipe()
    folder = images_dir()
    if not source.is_file():
        raise ImageProblem(
            f"{source} is no file.\nTry: the .tar that `agent sandbox build` named on the other machine."
        )
    with locked(folder, of.digest, report), unfinished(folder, of.digest) as scratch:
        with step(f"copying {source.name}", report):
            names = run_tool(["tar", "-tf", str(source)], what=f"reading {source}", hint="copy the file again.")
            if "./usr/bin/python3\n" not in names:
                raise ImageProblem(f"{source} holds no base image.\nTry: a file made by `agent sandbox build`.")
            run_tool(["cp", str(source), str(scratch / "base.tar")], what=f"copying {source}", hint=_SPACE)
        target = folder / f"base-{of.digest}.tar"
        _keep(scratch / "base.tar", target, of)
    return target


def cached_bases() -> list[CachedBase]:
    """The base images in the cache, newest first. Other processes make and remove some meanwhile."""
    found = []
    for note in (cache_dir() / "images").glob("base-*.json"):
        tar = note.with_suffix(".tar")
        with suppress(FileNotFoundError):
            size, made = tar.stat().st_size, tar.stat().st_mtime
            fields = json.loads(note.read_text(encoding="utf-8"))
            tree = note.with_suffix("")
            where = tree if tree.is_dir() else None
            packages = tuple(fields["packages"])
            found.append(CachedBase(fields["digest"], fields["suite"], packages, tar, size, where, made))
    return sorted(found, key=lambda base: base.made, reverse=True)


def remove_base(base: CachedBase) -> None:
    """Remove one base image from the cache (not from Docker)."""
    with locked(images_dir(), base.digest, silent):
        base.tar.unlink(missing_ok=True)
        base.tar.with_suffix(".json").unlink(missing_ok=True)
        if base.tree is not None:
            remove_tree(base.tree)
        for made_of_it in base.tar.parent.glob(f"guest-python-{base.digest}-*"):
            remove_tree(made_of_it)


def _build_tar(of: Recipe, scratch: Path, report: Report) -> None:
    apt = private_apt(scratch / "apt", of.suite)
    debs = apt.download(["?essential", *of.packages], report)
    tree = scratch / "tree"
    build_tree(tree, debs, report)
    sources = tree / "etc/apt/sources.list.d"
    sources.mkdir(parents=True, exist_ok=True)
    for name, text in without_credentials(apt.sources).items():
        (sources / name).write_text(text, encoding="utf-8")
    with step("packing the tar", report):
        _pack(tree, scratch / "base.tar")


def _pack(tree: Path, tar: Path) -> None:
    """Everything belongs to root but the agent's home and work folder, whoever builds."""
    mine = [f"./{AGENT_HOME}", f"./{WORKSPACE}"]
    common = ["--numeric-owner", "--sort=name", "-C", str(tree)]
    excluded = [f"--exclude={path}" for path in mine]
    root = ["tar", "-cf", str(tar), "--owner=0", "--group=0", *common, *excluded, "."]
    agent = ["tar", "-rf", str(tar), f"--owner={UID}", f"--group={GID}", *common, *mine]
    for command in (root, agent):
        run_tool(command, what="packing the tar", hint=_SPACE)


def _keep(tar: Path, target: Path, of: Recipe) -> None:
    note = tar.with_suffix(".json")
    fields = {"digest": of.digest, "suite": of.suite, "packages": of.packages, "architecture": of.architecture}
    note.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
    os.utime(tar)
    note.rename(target.with_suffix(".json"))
    tar.rename(target)


def _import(client: DockerClient, tar: Path, of: Recipe, *, latest: bool) -> None:
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    changes = [f"ENV PATH={_PATH}", "ENV LANG=C.UTF-8", f"WORKDIR /{WORKSPACE}", 'CMD ["bash"]']
    changes.append(f"LABEL {LABEL}=base")
    try:
        said = str(client.api.import_image(str(tar), changes=changes))
        image = client.images.get(json.loads(said.splitlines()[-1])["status"])
        for tag in (of.digest, "latest") if latest else (of.digest,):  # Podman's import would pass over a tag
            image.tag(BASE_REPOSITORY, tag)
    except (DockerException, RequestException) as error:
        raise ImageProblem(
            f"the engine didn't take the base image {tar}: {error}.\n"
            "Try: look at the engine's free space (`docker system df`); then `agent sandbox build --force`."
        ) from error
