"""What the base image is made of, as data. How it is made: `rootfs`; where it is kept: `base_image`."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sandbox.base import ImageProblem

# Raise it whenever the same packages would give another tree, so that cached images are made afresh.
RECIPE_VERSION = 2

# What nearly every Python repository needs for reading, editing, testing and diffing, and little else.
DEFAULT_PACKAGES: tuple[str, ...] = (
    "apt",  # so that a Dockerfile can start from this image and install more
    "ca-certificates",  # pip and git over TLS while an image is built
    "git",  # the base commit, the model's own diffs
    "make",  # test commands of many repositories are make targets
    "patch",
    "procps",  # ps and pkill: models look for what they left running
    "python-is-python3",  # models and Makefiles call `python`
    "python3",
    "python3-pip",
    "python3-pytest",  # tests run without any set-up where a repository has no other dependencies
    "python3-venv",
    "ripgrep",  # the search tool
    "tzdata",  # tests that name time zones
    "xz-utils",
)

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.\-]+(:[a-z0-9]+)?")
_SUITE = re.compile(r"[a-z][a-z0-9.\-]*")


@dataclass(frozen=True, slots=True)
class Recipe:
    """One base image: a distribution's suite and its packages. Equal recipes share one cached image."""

    suite: str
    packages: tuple[str, ...] = DEFAULT_PACKAGES
    architecture: str = platform.machine()

    @property
    def digest(self) -> str:
        """Twelve hex digits that name the image."""
        parts = (str(RECIPE_VERSION), self.architecture, self.suite, *self.packages)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def recipe(suite: str | None = None, more: Iterable[str] = ()) -> Recipe:
    """The recipe for a suite (default: this machine's own) with the default packages and `more`."""
    suite = suite or host_suite()
    extra = tuple(more)
    for name in extra:
        if not _PACKAGE.fullmatch(name):
            raise ImageProblem(f"`{name}` is no package name.\nTry: names as `apt-cache search` prints them.")
    if not _SUITE.fullmatch(suite):
        raise ImageProblem(f"`{suite}` is no suite name.\nTry: a release's code name, such as bookworm.")
    return Recipe(suite, tuple(sorted({*DEFAULT_PACKAGES, *extra})))


def host_suite(os_release: Path = Path("/etc/os-release")) -> str:
    """The code name of this machine's own release, `bookworm` where it has none."""
    return os_release_fields(os_release).get("VERSION_CODENAME", "bookworm")


def os_release_fields(path: Path = Path("/etc/os-release")) -> dict[str, str]:
    """The fields of an os-release file; none where there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}
