"""From a recipe to an image, in two steps over the distribution's base, each made once and kept.

The lower one holds Python's environment with all pins, so every commit of a version shares it. The upper one holds the
project's editable install, made from the files that an install reads, so commits that change none of them share that
too. With all files where those are too few. Network is there for the builds only.

Left out: the base and how steps are run (`sandbox.images`).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evals.environments.base import Tell
from evals.environments.recipes import Recipe
from sandbox.base import ImageProblem
from sandbox.images.budget import make_room
from sandbox.images.detect.base import PREFIX, SYSTEM_PATH, Setup, Step
from sandbox.images.detect.tree import Tree
from sandbox.images.progress import Report
from sandbox.images.recipe import Recipe as Base
from sandbox.images.recipe import host_suite, os_release_fields
from sandbox.images.recipe import recipe as base_recipe
from sandbox.images.resolve import as_lines
from sandbox.images.use import last_use, touch

if TYPE_CHECKING:
    from docker import DockerClient

WORKDIR: Final = "/testbed"
"""As in the published images, which recorded trajectories and rows with a script of their own name."""
VENV: Final = f"{PREFIX}/venv"
_PINS: Final = ".patchwright-build/pins.txt"
# The releases whose own Python is of a version -> their code names.
_SUITES: Final = {
    "debian": {"3.9": "bullseye", "3.11": "bookworm", "3.13": "trixie"},
    "ubuntu": {"3.8": "focal", "3.10": "jammy", "3.12": "noble"},
}
# What editable installs read: manifests, what they include, and files that hold a version.
_ROOT_FILES: Final = (
    "pyproject.toml", "setup.py", "setup.cfg", "tox.ini", "MANIFEST.in", "PKG-INFO", "versioneer.py", "hatch_build.py",
    "VERSION*", "version*", "README*", "LICENSE*", "LICENCE*", "COPYING*", "CHANGE*", "HISTORY*", "NEWS*", "AUTHORS*",
    ".gitignore", "*requirements*.txt", "py.typed",
)  # fmt: skip
_DEEP_FILES: Final = ("*/__init__.py", "*version*.py", "*__about__.py", "*__pkginfo__.py", "*release.py")
_SKIPPED: Final = ("test*", "doc*", "example*", "bench*", ".*")


@dataclass(frozen=True, slots=True)
class Built:
    """An image of a recipe. `shared`: the lower image; `base`: the distribution's release it starts from."""

    image: str
    shared: str
    base: str


def build(kind: str, recipe: Recipe, files: Path, tell: Tell) -> Built:
    """The recipe's image over a checkout's files, made where it isn't there. Blocks for minutes.

    Raises ImageProblem and SandboxUnavailable.
    """
    base = base_recipe(suite_for(recipe.python), recipe.packages)
    maker = _maker(kind, as_lines(tell))
    try:
        shared = maker.apply(maker.base(base), _environment(recipe), None, False)
        touch(kind, shared)  # before anything else is built: what was just made isn't what has to make room
        project = _project(recipe, Tree(files))
        try:
            image = maker.apply(shared, project, Tree(files), False)
        except ImageProblem as problem:
            if not _wants_files(problem):
                raise
            tell(f"{recipe.name}: the manifests alone are too few to install it; with all files, for this commit only")
            image = maker.apply(shared, project, Tree(files), True)
    finally:
        maker.close()
    new = not last_use(kind, image)
    touch(kind, image)
    for line in make_room() if new else ():
        tell(line)
    return Built(image, shared, base.suite)


def suite_for(python: str, suite: str | None = None) -> str:
    """The release whose Python has this version: this machine's own, else another one of the same distribution.

    `suite`: this machine's. Raises ImageProblem where there is none.
    """
    own = suite or host_suite()
    family = next((known for known in _SUITES.values() if own in known.values()), None)
    if family is None:
        fields = os_release_fields()
        family = _SUITES.get(fields.get("ID", ""), _SUITES["debian"])
    found = family.get(python)
    if found is None:
        raise ImageProblem(
            f"the recipe wants Python {python}, and none of this distribution's releases has it "
            f"({', '.join(f'{version}: {name}' for version, name in family.items())}).\n"
            "Try: another recipe for the instance with one of these, or the published image."
        )
    return found


def _environment(recipe: Recipe) -> Setup:
    """The part that all commits share."""
    pip = f"{VENV}/bin/python -m pip install -q --no-cache-dir --no-deps"
    steps = [Step("making an environment", f"/usr/bin/python3 -m venv {VENV}")]
    steps += [Step(f"before the pins: {line[:60]}", line) for line in recipe.pre_install]
    if recipe.pins:
        steps.append(Step(f"installing {len(recipe.pins)} pinned packages", f"{pip} -r {_PINS}"))
    return Setup(
        packages=recipe.packages,
        steps=tuple(steps),
        env=_variables(recipe),
        made=((_PINS, "".join(f"{pin}\n" for pin in recipe.pins)),),
    )


def _project(recipe: Recipe, tree: Tree) -> Setup:
    """The project itself. What the install leaves in the checkout and git ignores comes into each work folder."""
    return Setup(
        steps=(Step("installing the project", recipe.install),) if recipe.install else (),
        env=_variables(recipe),
        inputs=tuple(_inputs(tree)),
        seed=True,
    )


def _variables(recipe: Recipe) -> tuple[tuple[str, str], ...]:
    own = {"PATH": f"{VENV}/bin:{SYSTEM_PATH}", "VIRTUAL_ENV": VENV}
    return tuple({**recipe.env, **own}.items())


def _inputs(tree: Tree) -> Iterable[str]:
    """In the order of their names, as everything that a digest is made from."""
    for name in sorted({*tree.names, ".gitignore"}):
        top, below, _ = name.partition("/")
        if not below:
            wanted = any(fnmatch.fnmatchcase(name, pattern) for pattern in _ROOT_FILES)
        elif any(fnmatch.fnmatchcase(top.lower(), pattern) for pattern in _SKIPPED):
            wanted = False
        else:
            wanted = any(fnmatch.fnmatchcase(name, pattern) for pattern in _DEEP_FILES)
        if wanted:
            yield name


def _wants_files(problem: ImageProblem) -> bool:
    """Whether more files could help; a missing network or version isn't mended by them."""
    said = str(problem)
    return not any(reason in said for reason in ("has no such version", "no network", "certificate", "free space"))


class _Docker:
    """Images in an engine."""

    def __init__(self, client: DockerClient, report: Report) -> None:
        self._client = client
        self._report = report

    def base(self, of: Base) -> str:
        from sandbox.images.base_image import base_image

        return base_image(self._client, of, report=self._report, latest=False)

    def apply(self, image: str, setup: Setup, tree: Tree | None, whole: bool) -> str:
        from sandbox.images.setup_image import setup_image

        return setup_image(self._client, image, setup, tree, WORKDIR, report=self._report, whole=whole)

    def close(self) -> None:
        self._client.close()


class _Folders:
    """Root folders for bubblewrap."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def base(self, of: Base) -> str:
        from sandbox.images.base_image import base_tree

        return str(base_tree(of, report=self._report))

    def apply(self, image: str, setup: Setup, tree: Tree | None, whole: bool) -> str:
        from sandbox.images.setup_tree import setup_tree

        return str(setup_tree(Path(image), setup, tree, WORKDIR, report=self._report, whole=whole))

    def close(self) -> None:
        pass


def _maker(kind: str, report: Report) -> _Docker | _Folders:
    from sandbox.images.engine import connect

    makers: dict[str, Callable[[], _Docker | _Folders]] = {
        "docker": lambda: _Docker(connect(kind), report),
        "podman": lambda: _Docker(connect(kind), report),
        "bubblewrap": lambda: _Folders(report),
    }
    if kind not in makers:
        raise ImageProblem(
            f"a sandbox of kind `{kind}` has no image, and a recipe makes one.\nTry: docker, podman or bubblewrap."
        )
    return makers[kind]()
