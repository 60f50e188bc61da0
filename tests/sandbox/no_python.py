"""Images without a Python that could run the guest, made from what this machine has, with no registry."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.bubblewrap_command import PATH
from sandbox.guest_python import OURS
from sandbox.images import base_tree
from sandbox.images.apt import private_apt
from sandbox.images.cache import cache_dir, locked, unfinished
from sandbox.images.dockerfile import ENVIRONMENT_REPOSITORY, build_text
from sandbox.images.engine import LABEL, connect, find_image
from sandbox.images.progress import silent
from sandbox.images.recipe import host_suite
from sandbox.policy import BASE_IMAGE

if TYPE_CHECKING:
    from docker import DockerClient

PYTHONS = (
    "/usr/bin/*python* /usr/bin/pip* /usr/bin/*pytest* /usr/bin/py.test* /usr/bin/pydoc* /usr/bin/2to3* "
    "/usr/lib/python3* /usr/lib/*/libpython* /usr/local/lib/python* /usr/share/python*"
)
# What the tests' own programs are run by, where the image has nothing for them. Before the guest's interpreter is
# brought it can't start either, so to the sandbox this is an image with a `python3` that doesn't work.
FOR_TESTS = f'#!/bin/sh\nexec {OURS}/python3 "$@"\n'


@contextmanager
def engine() -> Iterator[DockerClient]:
    client = connect()
    try:
        yield client
    finally:
        client.close()


def from_base(*lines: str, files: Mapping[str, str] | None = None) -> str:
    """The base image, changed by these lines of a Dockerfile over a folder of these files; its tag."""
    with engine() as client, tempfile.TemporaryDirectory() as folder:
        for name, text in (files or {}).items():
            (Path(folder) / name).write_text(text)
            (Path(folder) / name).chmod(0o755)
        text = "\n".join([f"FROM {BASE_IMAGE}", *lines]) + "\n"
        return build_text(client, text, Path(folder), "a test's image", silent)


def without_python() -> str:
    """The base image with every Python removed."""
    return from_base(f"RUN rm -rf {PYTHONS}")


@cache
def for_contract() -> str:
    """The same, with a `python3` for what the tests run inside; the guest can't be started by it."""
    put = "COPY python3 /usr/local/bin/python3"
    return from_base(f"RUN rm -rf {PYTHONS}", put, files={"python3": FOR_TESTS})


@cache
def tree_for_contract() -> str:
    """The base tree without a Python; what commands find on their PATH besides is for the tests' own programs."""
    base = base_tree()
    folder = cache_dir() / "test-tools"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"no-python-{base.name}"
    with locked(folder, target.name, silent), unfinished(folder, target.name) as scratch:
        if not target.is_dir():
            tree = scratch / "tree"
            subprocess.run(["cp", "-al", base, tree], check=True)
            subprocess.run(["/bin/sh", "-c", f"cd {tree} && rm -rf {PYTHONS.replace('/usr', 'usr')}"], check=True)
            own = tree / "opt/patchwright"
            (own / "for-tests").mkdir(parents=True)
            (own / "for-tests/python3").write_text(FOR_TESTS)
            (own / "for-tests/python3").chmod(0o755)
            (own / "environment.json").write_text(json.dumps({"env": {"PATH": f"{PATH}:/opt/patchwright/for-tests"}}))
            tree.rename(target)
    return str(target)


def from_files(name: str, files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> str:
    """An image of these programs and symbolic links, and nothing else; its tag."""
    tag = f"{ENVIRONMENT_REPOSITORY}:test-{name}"
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), 0o755
            tar.addfile(member, io.BytesIO(data))
        for path, target in (links or {}).items():
            member = tarfile.TarInfo(path)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    with engine() as client:
        if find_image(client, tag) is None:
            repository, _, version = tag.partition(":")
            changes = [f"LABEL {LABEL}=environment"]
            client.api.import_image_from_data(file.getvalue(), repository=repository, tag=version, changes=changes)
    return tag


def busybox() -> Path:
    """A static busybox of the distribution's own, fetched once from the machine's mirror."""
    folder = cache_dir() / "test-tools"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "busybox"
    with locked(folder, "busybox", silent), unfinished(folder, "busybox") as scratch:
        if not target.is_file():
            (deb,) = private_apt(scratch / "apt", host_suite()).download(["busybox-static"], silent)
            subprocess.run(["dpkg-deb", "-x", str(deb), str(scratch / "deb")], check=True)
            next((scratch / "deb").rglob("bin/busybox")).rename(target)
    return target


def with_busybox() -> str:
    """An image of busybox alone: no C library, no bash, no accounts, no /tmp."""
    program = busybox()
    applets = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split()
    links = {f"bin/{name}": "busybox" for name in applets if name != "busybox"}
    return from_files("busybox", {"bin/busybox": program.read_bytes()}, links)


def empty() -> str:
    """An image of nothing: one file, which isn't a program."""
    return from_files("empty", {"readme": b"nothing here\n"})
