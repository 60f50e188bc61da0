"""From a set-up to the folder that a build starts from, the same for an engine and for a root folder.

The folder holds the files that the set-up's commands see, and below `.patchwright-build` what we add.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.base import ImageProblem
from sandbox.images.detect.base import PREFIX, Setup, Step
from sandbox.images.detect.tree import Tree
from sandbox.rooted import read_file
from sandbox.scratch import scratch

OWN = ".patchwright-build"
ENTER = f"{PREFIX}/enter"  # in an image: what puts its share into a new work folder
ENVIRONMENT_FILE = f"{PREFIX}/environment.json"
_MAX_ENVIRONMENT = 1 << 20  # bytes
FINISH = Step("packing what was installed", f"python3 {OWN}/finish.py")


def environment(setup: Setup, workdir: str) -> dict[str, str]:
    """The set-up's variables for a work folder."""
    return {name: value.replace("{workdir}", workdir) for name, value in setup.env}


def read_environment(root: Path) -> dict[str, str]:
    """The variables of the environment in a root folder; none where it holds none. A build could make it anything."""
    try:
        said = json.loads(read_file(root, ENVIRONMENT_FILE, _MAX_ENVIRONMENT) or b"")
    except (OSError, ValueError, RecursionError):
        return {}
    env = said.get("env") if isinstance(said, dict) else None
    return {str(name): str(value) for name, value in env.items()} if isinstance(env, dict) else {}


@contextmanager
def setup_context(setup: Setup, tree: Tree | None, workdir: str, *, whole: bool, test: str = "") -> Iterator[Path]:
    """A folder with the set-up's inputs, or with all of the tree's files; without a tree only with our own."""
    with scratch("setup") as root:
        if tree is not None and whole:
            _copy_all(tree.root, root)
        elif tree is not None:
            _copy_inputs(setup, tree, root)
        own = root / OWN
        own.mkdir()
        shutil.copyfile(Path(__file__).with_name("finish.py"), own / "finish.py")
        spec = {
            "env": environment(setup, workdir),
            "workdir": workdir,
            "test": test,
            "keep": list(setup.keep),
            "copy": list(setup.copy),
            "seed": setup.seed,
            "clear": tree is not None,
        }
        (own / "environment.json").write_text(json.dumps(spec, sort_keys=True), encoding="utf-8")
        for name, text in setup.made:
            (root / name).write_text(text, encoding="utf-8")
        yield root


def _copy_inputs(setup: Setup, tree: Tree, root: Path) -> None:
    for name in setup.inputs:
        source = tree.root / name
        if source.is_symlink() or not source.is_file():
            continue
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        shutil.copymode(source, target)


def _copy_all(source: Path, root: Path) -> None:
    """All but the history, what says which files a Dockerfile sees (this isn't one of the repository's), and what is
    called as our own folder, which could be a link to anywhere."""
    try:
        shutil.copytree(source, root, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git", OWN))
    except (shutil.Error, OSError) as error:
        raise ImageProblem(
            f"the repository's files can't be copied for the build: {error}.\nTry: look at the free space of /tmp."
        ) from error
    (root / ".dockerignore").unlink(missing_ok=True)
