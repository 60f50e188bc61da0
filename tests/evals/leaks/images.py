"""Images as sets of instances publish them, made from our base: with checkouts, caches and copies of their own."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sandbox.images import base_tree
from sandbox.images.detect.base import Setup, Step
from sandbox.images.detect.tree import Tree
from sandbox.images.engine import connect
from sandbox.images.progress import silent
from sandbox.images.setup_image import setup_image
from sandbox.images.setup_tree import remove_environment, setup_tree
from sandbox.policy import BASE_IMAGE
from tests.agent.repos import git, write
from tests.evals.leaks.planted import Story, later_package, later_wheel

ELSEWHERE = "/opt/x/repo"
COPY = "/usr/local/lib/python3/site-packages"
CACHE = "/var/cache/pip/http-v2/a/b/ab12.body"

AT_TESTBED = "mkdir -p /testbed; tar -xf checkout.tar -C /testbed; chmod -R a+rX /testbed"
LEAKY = f"""
mkdir -p {ELSEWHERE} /home/x/repo {COPY} {Path(CACHE).parent}
tar -xf checkout.tar -C {ELSEWHERE}
tar -xf checkout.tar -C /home/x/repo
git -C {ELSEWHERE} remote remove origin
tar -xf package.tar -C {COPY}
cp wheel {CACHE}
chmod -R a+rX /opt/x /home/x {COPY} /var/cache/pip
"""


def with_a_future(story: Story, folder: Path) -> Path:
    """A checkout of the base commit as it lies in published images: all that came later is there, packed and loose."""
    shutil.copytree(story.upstream, folder)
    git(folder, "stash", "drop", "--quiet")
    git(folder, "remote", "add", "origin", "https://example.invalid/calc.git")
    git(folder, "update-ref", "refs/remotes/origin/main", "main")
    git(folder, "gc", "--quiet")
    write(folder, {".git/FETCH_HEAD": f"{story.fix}\t\tbranch 'main' of https://example.invalid/calc\n"})
    git(folder, "hash-object", "-w", "--stdin", text="not finished\n")
    git(folder, "checkout", "--quiet", "--detach", story.base)
    return folder


def tar_of(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=path.name, filter=_plain)
    return buffer.getvalue()


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def files_for_images(story: Story, folder: Path) -> Mapping[str, bytes]:
    """What the scripts above unpack."""
    checkout = with_a_future(story, folder / "checkout")
    write(folder / "package", later_package())
    return {"checkout.tar": tar_of(checkout), "package.tar": tar_of(folder / "package"), "wheel": later_wheel()}


@contextmanager
def image_of(kind: str, script: str, files: Mapping[str, bytes]) -> Iterator[str]:
    """Our base, changed by a script that finds these files in its folder; removed at the end."""
    setup = Setup(steps=(Step("as a published image", f"umask 022; {script}"),))
    with TemporaryDirectory() as name:
        for path, content in files.items():
            (Path(name) / path).write_bytes(content)
        context = Tree(Path(name))
        if kind == "bubblewrap":
            tree = setup_tree(base_tree(), setup, context, "/workspace", report=silent, whole=True)
            try:
                yield str(tree)
            finally:
                remove_environment(tree)
            return
        client = connect(kind)
        try:
            tag = setup_image(client, BASE_IMAGE, setup, context, "/workspace", report=silent, whole=True)
            try:
                yield tag
            finally:
                client.images.remove(tag, force=True)
        finally:
            client.close()
