"""Recipes: how an environment is built where no published image can be had. Data in TOML files; nothing is run here.

    format = 1
    [[recipe]]
    name = "flask-2.3"
    repo = "pallets/flask"
    versions = ["2.3"]                 # or: instances = ["pallets__flask-5014"], which goes before versions
    python = "3.11"
    packages = ["libxml2-dev"]         # of the distribution
    pre_install = ["..."]              # shell lines before the pins
    pins = ["click==8.1.3"]            # of the package index; all that there is: nothing else is resolved
    pins_of = "other-name"             # with another recipe's pins below its own
    env = { LC_ALL = "C.UTF-8" }       # while it is built and while tests run
    install = "pip install -e ."       # in the checkout; by default the project, editable, without dependencies
    setup = ""                         # a shell line before the test command
    test_command = "pytest -rA"        # without the files to test
    wants_network = ["tests/test_x.py::TestTimeout::*"]   # tests that fail without a network, as shell patterns

Left out: building (`build`).
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from evals.instance import Instance

FORMAT: Final = 1
BUILT_IN: Final = Path(__file__).with_name("built_in")
INSTALL: Final = "python -m pip install -q --no-deps --no-build-isolation -e ."
_TEXTS: Final = ("name", "repo", "python", "install", "setup", "test_command")
_LISTS: Final = ("versions", "instances", "packages", "pre_install", "pins", "wants_network")
_KNOWN: Final = (*_TEXTS, *_LISTS)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_PIN = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w.,-]+\])?==[\w.!+-]+")
_PYTHON = re.compile(r"3\.\d{1,2}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class RecipeBroken(ValueError):
    """A file or an entry that says no recipe; the message names it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One environment. Field by field as in the module's example."""

    name: str
    repo: str
    versions: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    python: str = "3.11"
    packages: tuple[str, ...] = ()
    pre_install: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    install: str = INSTALL
    setup: str = ""
    test_command: str = ""
    wants_network: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Of all that it says."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def serves(self, instance: Instance) -> int:
        """2: names the instance; 1: its repository and version; 0: neither."""
        if instance.instance_id in self.instances:
            return 2
        return int(self.repo == instance.repo and instance.version in self.versions)


@dataclass(frozen=True, slots=True)
class Recipes:
    """All recipes that are known, in groups: any of the user's goes before any built-in one."""

    groups: tuple[tuple[Recipe, ...], ...] = ()

    @classmethod
    def load(cls, paths: Iterable[Path] = (), *, built_in: bool = True) -> Recipes:
        """Those in these files and folders (their `*.toml` and `*.json`), then ours. RecipeBroken, OSError."""
        given = tuple(recipe for path in paths for file in _files(path) for recipe in read(file))
        ours = tuple(recipe for file in _files(BUILT_IN) for recipe in read(file)) if built_in else ()
        return cls((given, ours))

    @property
    def known(self) -> tuple[Recipe, ...]:
        return tuple(recipe for group in self.groups for recipe in group)

    def find(self, instance: Instance) -> Recipe | None:
        """The recipe for an instance: in each group one that names it, else its version's; the first of several."""
        for group in self.groups:
            serving = [recipe for recipe in group if recipe.serves(instance)]
            if serving:
                return max(serving, key=lambda recipe: recipe.serves(instance))
        return None


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in (".toml", ".json") and file.is_file())


def read(file: Path) -> tuple[Recipe, ...]:
    """The recipes in one file. RecipeBroken for what isn't one, OSError for a file that can't be read."""
    try:
        text = file.read_text("utf-8")
        said = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise RecipeBroken(f"{file} can't be read as {file.suffix.lstrip('.')}: {error}") from None
    if not isinstance(said, dict) or said.get("format") != FORMAT or not isinstance(said.get("recipe"), list):
        raise RecipeBroken(f"{file} needs `format = {FORMAT}` and `[[recipe]]` tables")
    found: dict[str, Recipe] = {}
    for entry in said["recipe"]:
        recipe = _recipe(entry, found, file)
        if recipe.name in found:
            raise RecipeBroken(f"{file}: {recipe.name} is there twice")
        found[recipe.name] = recipe
    return tuple(found.values())


def _recipe(entry: object, before: Mapping[str, Recipe], file: Path) -> Recipe:
    if not isinstance(entry, dict) or not _NAME.fullmatch(str(entry.get("name"))):
        raise RecipeBroken(f"{file}: a recipe needs a `name` of letters, digits and ._+-")
    where = f"{file}: {entry['name']}"
    said = dict(entry)
    below = said.pop("pins_of", None)
    if below is not None and (not isinstance(below, str) or below not in before):
        raise RecipeBroken(f"{where}: `pins_of` names {below!r}, which no recipe above it is called")
    recipe = _checked(Recipe(**_fields(said, where)), where)
    if below is not None:
        return replace(recipe, pins=_merged(before[str(below)].pins, recipe.pins))
    return recipe


def _fields(said: Mapping[str, Any], where: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in said.items():
        if name in _TEXTS:
            right, wanted = isinstance(value, str), "text"
        elif name in _LISTS:
            right, wanted = _are_texts(value), "a list of texts"
        elif name == "env":
            right, wanted = isinstance(value, dict) and _are_texts(list(value.values())), "a table of texts"
        else:
            raise RecipeBroken(f"{where}: there is no `{name}`; known are {', '.join(_KNOWN)}, env and pins_of")
        if not right:
            raise RecipeBroken(f"{where}: `{name}` is {wanted}")
        fields[name] = tuple(value) if name in _LISTS else value
    return fields


def _checked(recipe: Recipe, where: str) -> Recipe:
    if not (recipe.versions and recipe.repo) and not recipe.instances:
        raise RecipeBroken(f"{where}: it serves nothing: give `repo` and `versions`, or `instances`")
    if not _PYTHON.fullmatch(recipe.python):
        raise RecipeBroken(f"{where}: `python` is {recipe.python!r}; write it as 3.11")
    for pin in recipe.pins:
        if not _PIN.fullmatch(pin):
            raise RecipeBroken(f"{where}: {pin!r} is no pin: write name==version")
    for name in recipe.env:
        if not _VARIABLE.fullmatch(name):
            raise RecipeBroken(f"{where}: {name!r} is no name of a variable")
    return recipe


def _merged(below: Iterable[str], above: Iterable[str]) -> tuple[str, ...]:
    """Both lists of pins; where a package is in both, the second's."""
    chosen = {_package(pin): pin for pin in (*below, *above)}
    return tuple(sorted(chosen.values(), key=str.lower))


def _package(pin: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[=]", pin, maxsplit=1)[0]).lower()


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
