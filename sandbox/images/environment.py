"""The machine that a repository's tests run on: what is said or detected, made ready for one kind of sandbox.

Explicit goes before detected. A description that the repository didn't write for us (Dockerfile, devcontainer.json)
and that can't be had here is told and passed over; one that it did is an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.base import ImageProblem
from sandbox.images.base_image import base_image, base_tree
from sandbox.images.cache import images_dir
from sandbox.images.detect import candidates
from sandbox.images.detect.base import Detection, Evidence, Setup, Source, Step
from sandbox.images.detect.tree import Tree
from sandbox.images.dockerfile import build_dockerfile, build_setup
from sandbox.images.engine import connect
from sandbox.images.progress import Progress, Report
from sandbox.images.published import Published, published
from sandbox.images.recipe import recipe
from sandbox.images.resolve import DEFAULT_WORKDIR, ImageConfig, as_lines, have_base, present, root_folder
from sandbox.images.setup_image import exists, folder_exists, setup_image
from sandbox.images.setup_tree import setup_tree
from sandbox.policy import HOST_IMAGE, check_workdir

if TYPE_CHECKING:
    from docker import DockerClient

MAY_BUILD = "a repository that isn't a local folder builds nothing unasked: allow it with --allow-build"
_RETRIED = ("development files", "has no such version", "no network", "certificate bundle", "free space")


@dataclass(frozen=True, slots=True)
class Environment:
    """What a run's sandboxes are opened with, and how it was chosen."""

    image: str  # a Docker tag, a root folder, `host`, or "" for the unisolated sandbox
    workdir: str
    detection: Detection


@dataclass(frozen=True, slots=True)
class _Want:
    """One request. `workdir` None: wherever the image has its checkout, else the usual place."""

    image: str | None
    config: ImageConfig
    tree: Tree
    workdir: str | None
    may_build: bool
    report: Report
    detect: bool = True

    def __post_init__(self) -> None:
        try:
            check_workdir(self.at)
        except ValueError as error:  # a repository may say it, and builds put files there
            raise ImageProblem(f"{error}.\nTry: a folder such as {DEFAULT_WORKDIR}.") from None

    @property
    def at(self) -> str:
        return self.workdir or DEFAULT_WORKDIR

    def told(self, text: str) -> None:
        self.report(Progress(text, 0.0))


async def environment_for(
    kind: str,
    *,
    context: Path,
    image: str | None = None,
    config: ImageConfig | None = None,
    workdir: str | None = None,
    may_build: bool = True,
    progress: Callable[[str], None] = lambda line: None,
) -> Environment:
    """Choose and make the image for a repository. `context` holds the base commit's files.

    `image` (asked for by name) goes before `config` (`.patchwright.toml`), that before devcontainer.json, Dockerfile
    and detection. Without `may_build` nothing of the repository's is run: a build that it would need is told, and the
    base image taken. `progress` gets lines from another thread. Raises ImageProblem or SandboxUnavailable.
    """
    want = _Want(image, config or ImageConfig(), Tree(context), workdir, may_build, as_lines(progress))
    return await asyncio.to_thread(_made_and_used, kind, want)


async def resolve_image(
    kind: str,
    *,
    image: str | None = None,
    config: ImageConfig | None = None,
    context: Path | None = None,
    workdir: str = DEFAULT_WORKDIR,
    progress: Callable[[str], None] = lambda line: None,
) -> str:
    """The image that is named or configured, else the base, made ready; nothing is detected. See `environment_for`."""
    config = config or ImageConfig()
    if (config.dockerfile or config.setup) and context is None and image is None:
        raise ImageProblem("an image build needs the repository's files.\nTry: `--image` with a finished image.")
    want = _Want(image, config, Tree(context or Path("/nonexistent")), workdir, True, as_lines(progress), detect=False)
    return (await asyncio.to_thread(_made, kind, want)).image


def choices(context: Path, config: ImageConfig | None = None) -> list[Detection]:
    """What would be tried for a repository, in this order. Builds nothing."""
    config = config or ImageConfig()
    if config.explicit:
        return [_configured(config)]
    return [_with_packages(found, config) for found in candidates(Tree(context))]


def _configured(config: ImageConfig) -> Detection:
    if config.image and config.dockerfile:
        raise ImageProblem("`.patchwright.toml` names both an image and a Dockerfile.\nTry: keep one of them.")
    seen = Evidence(Source.CONFIGURED, "[sandbox]", config.image or config.dockerfile or "the base image")
    return _with_packages(
        Detection(
            Source.CONFIGURED, (seen,), image=config.image, dockerfile=config.dockerfile, command=config.setup
        ), config
    )  # fmt: skip


def _with_packages(found: Detection, config: ImageConfig) -> Detection:
    if not config.packages or found.image or found.dockerfile:
        return found
    setup = replace(found.setup, packages=tuple(sorted({*found.setup.packages, *config.packages})))
    return replace(found, setup=setup, source=Source.DETECTED if found.source is Source.BASE else found.source)


def _made_and_used(kind: str, want: _Want) -> Environment:
    """Made, its use recorded, and where it is new, others that were used longest ago have made room for it."""
    from sandbox.images.budget import make_room
    from sandbox.images.use import last_use, touch

    made = _made(kind, want)
    if made.image and kind != "none":
        new = not last_use(kind, made.image)
        touch(kind, made.image)
        if new:
            for line in make_room():
                want.told(line)
    return made


def _made(kind: str, want: _Want) -> Environment:
    match kind:
        case "docker" | "podman":
            with _engine(kind) as client:
                return _chosen(want, _Docker(client, want))
        case "bubblewrap":
            return _chosen(want, _Folders(want))
        case "none":
            if want.image is not None:
                raise ImageProblem("`--sandbox none` runs on this machine itself.\nTry: leave `--image` out.")
            return Environment("", want.at, Detection(Source.ASKED, ()))
    raise ImageProblem(f"there is no sandbox of kind `{kind}`.\nTry: docker, podman, bubblewrap or none.")


@contextmanager
def _engine(kind: str) -> Iterator[DockerClient]:
    client = connect(kind)
    try:
        yield client
    finally:
        client.close()


def _chosen(want: _Want, maker: _Docker | _Folders) -> Environment:
    if want.image is not None:
        asked = Detection(Source.ASKED, (Evidence("", "asked for", want.image),), image=want.image)
        return _ready(want, maker, asked)
    plain = [_with_packages(Detection(Source.BASE, ()), want.config)]
    tried = choices(want.tree.root, want.config) if want.detect or want.config.explicit else plain
    for found in tried[:-1]:
        if not want.may_build:
            want.told(f"{found.evidence[0]}: not used; {MAY_BUILD}")
            continue
        try:
            return _ready(want, maker, found)
        except ImageProblem as problem:
            want.told(f"{found.evidence[0]}: not used; {problem}")
    last = tried[-1]
    if last.source is Source.CONFIGURED and (last.dockerfile or last.command) and not want.may_build:
        raise ImageProblem(
            f"`.patchwright.toml` asks to build an image.\nTry: {MAY_BUILD}, or name one with `--image`."
        )
    if last.source is Source.CONFIGURED and last.image and not want.may_build:
        raise ImageProblem(
            f"`.patchwright.toml` names the image {last.image}, which isn't looked for unasked: it may be private, or "
            f"lie on anybody's registry.\nTry: `--image {last.image}` if you trust it, or --allow-build."
        )
    builds = last.source is Source.DETECTED and last.setup.needs_image
    if builds and not want.may_build:
        want.told(f"{last.evidence[0]}: not set up; {MAY_BUILD}")
        last = Detection(Source.BASE, last.evidence, ecosystem=last.ecosystem, test=last.test, notes=(MAY_BUILD,))
    return _ready(want, maker, last)


def _ready(want: _Want, maker: _Docker | _Folders, found: Detection) -> Environment:
    for line in found.lines():
        want.told(line)
    image, workdir = maker.start(found), want.at
    if known := maker.published(image) if found.image else None:
        for seen in known.evidence:
            want.told(f"seen: {seen}")
        workdir = want.workdir or known.workdir
        image = maker.apply(image, known.setup, None, workdir)
    if found.command:
        image = maker.run_command(image, found.command, workdir)
    if found.setup.steps or found.setup.env:
        image = _applied(want, maker, image, found, workdir)
    return Environment(image, workdir, found)


def _applied(want: _Want, maker: _Docker | _Folders, image: str, found: Detection, workdir: str) -> str:
    """With the files that matter, so that commits share the image; with all of them where that isn't enough."""
    setup = found.setup
    marker = images_dir() / f".whole-{setup.digest(want.tree)}"  # these files alone were too little before
    try:
        if not marker.exists():
            return maker.apply(image, setup, want.tree, workdir, test=found.test)
    except ImageProblem as problem:
        hopeless = any(reason in str(problem) for reason in _RETRIED)
        if not setup.narrow or hopeless:
            raise
        want.told("it failed with the manifests alone; trying with all files, which makes an image for this commit")
    made = maker.apply(image, setup, want.tree, workdir, whole=True, test=found.test)
    marker.touch()
    return made


@dataclass(frozen=True, slots=True)
class _Docker:
    """Images in an engine."""

    client: DockerClient
    want: _Want

    def start(self, found: Detection) -> str:
        """What the set-up starts from."""
        if found.image:
            return present(self.client, found.image, self.want.report)
        if found.dockerfile:
            return self._from_dockerfile(found)
        of = recipe(more=found.setup.packages)
        # what `FROM patchwright/base` means is not for one repository to say
        return base_image(self.client, of, report=self.want.report, latest=of == recipe())

    def _from_dockerfile(self, found: Detection) -> str:
        root = self.want.tree.root.resolve()
        context = (root / found.context).resolve()
        file = (root / str(found.dockerfile)).resolve()
        if not context.is_relative_to(root) or not file.is_relative_to(context):
            context = root  # a file outside of its context: what is copied is then looked for in the whole
        if file.is_relative_to(root):
            have_base(self.client, file, self.want.report)
        name = file.relative_to(context).as_posix() if file.is_relative_to(context) else str(found.dockerfile)
        image = build_dockerfile(self.client, name, context, report=self.want.report)
        if found.source is not Source.CONFIGURED:
            self._check(image, str(found.dockerfile))
        return image

    def _check(self, image: str, dockerfile: str) -> None:
        """Many Dockerfiles make a product, not a place to develop it in; git tells them apart well enough."""
        if not self._has_program(image, "git"):
            raise ImageProblem(f"the image of {dockerfile} holds no git, so it is taken for a product")

    def _has_program(self, image: str, name: str) -> bool:
        folders = ("/usr/bin", "/usr/local/bin", "/bin", "/opt/conda/bin", "/opt/venv/bin")
        return any(exists(self.client, image, f"{folder}/{name}") for folder in folders)

    def published(self, image: str) -> Published | None:
        config = self.client.images.get(image).attrs.get("Config") or {}
        env = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
        return published(lambda path: exists(self.client, image, path), env)

    def run_command(self, image: str, command: str, workdir: str) -> str:
        return build_setup(self.client, image, command, self.want.tree.root, workdir, report=self.want.report)

    def apply(
        self, image: str, setup: Setup, tree: Tree | None, workdir: str, *, whole: bool = False, test: str = ""
    ) -> str:
        return setup_image(self.client, image, setup, tree, workdir, report=self.want.report, whole=whole, test=test)


@dataclass(frozen=True, slots=True)
class _Folders:
    """Root folders for bubblewrap."""

    want: _Want

    def start(self, found: Detection) -> str:
        if found.image and found.source is Source.ASKED:
            return found.image if found.image == HOST_IMAGE else str(root_folder(found.image))
        if found.image or found.dockerfile:
            raise ImageProblem(
                f"{found.source} asks for {found.image or found.dockerfile!r}, and bubblewrap can't make that image.\n"
                "Try: `--sandbox docker`; or `--image FOLDER` with an unpacked root file system that has what the "
                "repository needs (`docker export` makes one)."
            )
        return str(base_tree(recipe(more=found.setup.packages), report=self.want.report))

    def published(self, image: str) -> Published | None:
        return None if image == HOST_IMAGE else published(lambda path: folder_exists(Path(image), path), {})

    def run_command(self, image: str, command: str, workdir: str) -> str:
        setup = Setup(steps=(Step("the set-up command", command),))
        return self.apply(image, setup, self.want.tree, workdir, whole=True)

    def apply(
        self, image: str, setup: Setup, tree: Tree | None, workdir: str, *, whole: bool = False, test: str = ""
    ) -> str:
        folder = setup_tree(Path(image), setup, tree, workdir, report=self.want.report, whole=whole, test=test)
        return str(folder)
