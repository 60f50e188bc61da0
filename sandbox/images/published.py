"""Images that come with a repository and its environment, such as SWE-bench's: what has to be known to use them.

They hold a checkout and a conda environment, which a login shell would switch to. A sandbox starts no login shell
and brings its own checkout, so both are made explicit once: the environment as variables, and what was built inside
the checkout as files that a new work folder gets. Nothing else of the image is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sandbox.images.detect.base import SYSTEM_PATH, Evidence, Setup

ENVIRONMENT = "testbed"
WORKDIR = "/testbed"
_CONDA = ("/opt/miniconda3", "/opt/conda", "/opt/miniforge3", "/root/miniconda3", "/opt/anaconda3")


@dataclass(frozen=True, slots=True)
class Published:
    """How to use such an image: its work folder, what makes its environment explicit, and what was seen."""

    workdir: str
    setup: Setup
    evidence: tuple[Evidence, ...]


def published(has: Callable[[str], bool], env: Mapping[str, str]) -> Published | None:
    """What is known of an image. `has` says whether it holds a path, `env` are its variables."""
    if not has(WORKDIR):
        return None
    roots = [entry.removesuffix("/bin") for entry in env.get("PATH", "").split(":") if entry.endswith("conda3/bin")]
    found = next((root for root in _unique([*roots, *_CONDA]) if has(f"{root}/envs/{ENVIRONMENT}/bin/python")), None)
    if found is None:
        return None
    home = f"{found}/envs/{ENVIRONMENT}"
    rest = [entry for entry in (env.get("PATH") or SYSTEM_PATH).split(":") if entry != f"{home}/bin"]
    path = ":".join(_unique([f"{home}/bin", f"{found}/condabin", f"{found}/bin", *rest]))
    variables = (("PATH", path), ("CONDA_PREFIX", home), ("CONDA_DEFAULT_ENV", ENVIRONMENT))
    evidence = (
        Evidence(WORKDIR, "a checkout in the image", "the work folder"),
        Evidence(home, "a conda environment", "its programs come first"),
    )
    return Published(WORKDIR, Setup(env=variables, seed=has(f"{WORKDIR}/.git")), evidence)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
