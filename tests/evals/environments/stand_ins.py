"""Code that stands for base commits of real instances: source distributions of a release before the fix, under git.

    stand_in(instance, known, folder)    # makes folder/<instance_id>, as `--repositories` takes it

What a distribution lacks of the base commit is what other people changed in between; that the instance's own patches
apply, and what its tests say, shows whether that matters. Left out: instances whose distributions hold no tests.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from evals.instance import Instance
from tests.replay.prepare import FLASK_5014, commit, unpack

_SYMPY_TEST = """\
#!/usr/bin/env python
# In the place of the project's own bin/test, which its source distribution lacks: -C, --verbose and files.
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
if "-C" in sys.argv:
    os.environ["SYMPY_USE_CACHE"] = "no"

import sympy

files = [word for word in sys.argv[1:] if not word.startswith("-")]
sys.exit(not sympy.test(*files, verbose="--verbose" in sys.argv))
"""


def _as_it_is(tree: Path) -> None:
    """Nothing is to be done to the distribution's files."""


def _with_bin_test(tree: Path) -> None:
    script = tree / "bin/test"
    script.parent.mkdir(exist_ok=True)
    script.write_text(_SYMPY_TEST)
    script.chmod(0o755)


def _without_trustme(tree: Path) -> None:
    """The release's tests ask for a package that the base commit didn't know; none that count needs it."""
    settings = tree / "tests/conftest.py"
    settings.write_text(settings.read_text().replace("import trustme\n", ""))


@dataclass(frozen=True, slots=True)
class StandIn:
    """A release. `after`: instances whose fix and tests came between it and the base commit."""

    distribution: str
    version: str
    sha256: str  # of the source distribution
    after: tuple[str, ...] = ()
    to_base: Callable[[Path], None] = _as_it_is


_DJANGO = StandIn("Django", "4.2", "c36e2ab12824e2ac36afa8b2515a70c53c7742f0d6eaefa7311ec379558db997")
_SYMPY = ("sympy", "1.11.1", "e32380dce63cb7c0108ed525570092fd45168bdae2faa17e528221ef72e88658")
STAND_INS: Mapping[str, StandIn] = {
    "django__django-16454": StandIn(
        "Django", "4.2a1", "3a29fc014f46fd6a552296fd1cfc77f616c4120b68cc117eee4a8237aa163f7a"
    ),
    "django__django-16667": _DJANGO,
    "django__django-16899": _DJANGO,
    "django__django-16950": _DJANGO,
    "django__django-17087": _DJANGO,
    "pallets__flask-5014": StandIn(
        FLASK_5014.distribution, FLASK_5014.version, FLASK_5014.sha256, to_base=FLASK_5014.to_base
    ),
    "psf__requests-5414": StandIn(
        "requests",
        "2.26.0",
        "b8aa58f8cf793ffd8782d3d8cb19e66ef36f7aba4353eec859e74678b01b07a7",
        to_base=_without_trustme,
    ),
    "psf__requests-6028": StandIn(
        "requests", "2.27.0", "8e5643905bf20a308e25e4c1dd379117c09000bf8a82ebccc462cfb1b34a16b5"
    ),
    "pydata__xarray-7393": StandIn(
        "xarray", "2022.12.0", "083d08e552a7647c7ece136dfa3a4b6a1379256beb55bbed8b8ddf05f1e14ec7"
    ),
    "pytest-dev__pytest-10051": StandIn(
        "pytest", "7.1.2", "a06a0425453864a270bc45e71f783330a7428defb4230fb5e6a731fde06ecd45"
    ),
    "sphinx-doc__sphinx-11445": StandIn(
        "Sphinx", "7.0.1", "61e025f788c5977d9412587e733733a289e2b9fdc2fef8868ddfbfc4ccfe881d"
    ),
    "sympy__sympy-24066": StandIn(*_SYMPY, to_base=_with_bin_test),
    "sympy__sympy-24213": StandIn(*_SYMPY, after=("sympy__sympy-24066",), to_base=_with_bin_test),
}


def stand_in(instance: Instance, known: Mapping[str, Instance], folder: Path) -> Path:
    """Make `folder/<instance_id>`. `known`: the instances that `after` may name. Raises SourceUnavailable."""
    of = STAND_INS[instance.instance_id]
    target = folder / instance.instance_id
    unpack(of, target)
    of.to_base(target)
    for name in of.after:
        for patch in (known[name].patch, known[name].test_patch):
            subprocess.run(["git", "apply", "-"], cwd=target, input=patch.encode(), check=True)
    commit(target, f"{of.distribution} {of.version}, for {instance.instance_id}")
    return target
