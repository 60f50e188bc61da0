"""What a detector returns, as data: what it saw, what it chose, how the image is set up, how the tests are run.

A detector reads names and texts of a repository and nothing else: it runs no code, asks no network and knows no
engine. Left out: how a set-up becomes an image (`sandbox.images.environment`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from sandbox.images.detect.tree import Tree

# Raise it whenever the same inputs would give another image.
SETUP_VERSION = 1
PREFIX = "/opt/patchwright"  # where set-ups install to: the work folder is empty when a run begins
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Ecosystem(StrEnum):
    PYTHON = "python"
    NODE = "node"
    GO = "go"
    RUST = "rust"
    JAVA = "java"
    CPP = "c/c++"
    RUBY = "ruby"
    PHP = "php"


class Source(StrEnum):
    """Who says what the image is, the most explicit first."""

    ASKED = "named by the caller"
    CONFIGURED = ".patchwright.toml"
    DEVCONTAINER = "devcontainer.json"
    DOCKERFILE = "Dockerfile"
    DETECTED = "detected"
    BASE = "nothing that needs more than the base image"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that was seen, and what was chosen because of it."""

    file: str  # path in the repository
    seen: str
    chosen: str

    def __str__(self) -> str:
        return f"{self.file}: {self.seen} -> {self.chosen}"


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a set-up: run by sh as root of the build, in the work folder, with network."""

    name: str
    command: str


@dataclass(frozen=True, slots=True)
class Setup:
    """How an image is made from the base: more packages, commands over some of the repository's files, variables.

    `inputs` are the files that the commands see, and all that the image depends on, so that commits that don't
    change them share it. `made` are files that the detector wrote (name below the work folder -> text). `keep` and
    `copy` are folders that the commands make in the work folder and that tests look for there, such as node_modules;
    a sandbox gets links to the first and copies of the second. `{workdir}` in `env` stands for the work folder.
    """

    packages: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    inputs: tuple[str, ...] = ()
    made: tuple[tuple[str, str], ...] = ()
    keep: tuple[str, ...] = ()
    copy: tuple[str, ...] = ()
    seed: bool = (
        False  # keep, as copies, what the commands made in the work folder and git ignores, such as extension modules
    )
    narrow: bool = False  # the commands may need more than the inputs: try with all files when they fail

    @property
    def needs_image(self) -> bool:
        return bool(self.packages or self.steps or self.env or self.seed)

    def digest(self, tree: Tree) -> str:
        """Twelve hex digits of everything that the image depends on but its base."""
        parts = json.dumps([SETUP_VERSION, asdict(self)], sort_keys=True).encode()
        contents = (f"{name}\0{hashlib.sha256(tree.data(name)).hexdigest()}\n".encode() for name in self.inputs)
        return hashlib.sha256(b"".join([parts, *contents])).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one detector says of a repository. The strongest with the most source files is taken.

    `build` is run in the sandbox, without network, before the tests and after each change: what compiles. `strong`:
    a manifest says that this is a project of that kind.
    """

    ecosystem: Ecosystem
    weight: int  # source files of its languages
    strong: bool
    evidence: tuple[Evidence, ...]
    setup: Setup = Setup()
    build: str = ""
    test: str = ""
    notes: tuple[str, ...] = ()  # what isn't set up, and what may be missing

    @property
    def check(self) -> str:
        """The whole command that tells whether the repository is well."""
        return " && ".join(filter(None, (self.build, self.test)))


class Detector(Protocol):
    """One file per ecosystem has such a function."""

    def __call__(self, tree: Tree) -> Finding | None: ...


@dataclass(frozen=True, slots=True)
class Detection:
    """What was chosen for a repository and why. Exactly one of image, dockerfile and setup says how to get it."""

    source: Source
    evidence: tuple[Evidence, ...]
    ecosystem: Ecosystem | None = None
    image: str | None = None
    dockerfile: str | None = None  # path in the repository
    context: str = "."  # the folder in the repository that the Dockerfile's COPY starts at
    command: str | None = None  # to be run over all files, on top of either
    setup: Setup = field(default_factory=Setup)
    test: str = ""
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For people: what was seen, what was chosen."""
        said = [f"seen: {evidence}" for evidence in self.evidence]
        said += [f"note: {note}" for note in self.notes]
        said.append(f"chosen: {self.source}" + (f" ({self.ecosystem})" if self.ecosystem else ""))
        named = {"image": self.image, "Dockerfile": self.dockerfile, "command": self.command}
        said += [f"{name}: {value}" for name, value in named.items() if value]
        if self.setup.packages:
            said.append(f"packages: {', '.join(self.setup.packages)}")
        said += [f"step: {step.name}" for step in self.setup.steps]
        said += [f"variable: {name}={value}" for name, value in self.setup.env]
        if self.test:
            said.append(f"test command: {self.test}")
        return said

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
