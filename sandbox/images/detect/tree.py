"""A repository as detectors see it: names of files, and texts of those that they ask for. Runs nothing."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable
from fnmatch import translate
from functools import cached_property
from pathlib import Path
from typing import Any

from sandbox.walk import walk

MAX_FILES = 200_000
MAX_BYTES = 4 << 20  # of one file; a manifest is never larger
_SKIPPED = {"node_modules", "venv", "__pycache__"}
_HIDDEN = {".devcontainer", ".docker", ".cargo", ".mvn"}  # of the folders with a dot, those that say how to build


class Tree:
    """The files below a folder. Paths are relative, with `/`; links are names but are never followed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All files, sorted."""
        found: list[str] = []
        for folder, folders, files in walk(self.root):
            folders[:] = sorted(name for name in folders if name in _HIDDEN or not (name in _SKIPPED or name[0] == "."))
            below = Path(folder).relative_to(self.root)
            found += ((below / name).as_posix() for name in files)
            if len(found) > MAX_FILES:
                break
        return tuple(sorted(found))

    @cached_property
    def _set(self) -> frozenset[str]:
        return frozenset(self.names)

    def has(self, name: str) -> bool:
        return name in self._set

    def first(self, *names: str) -> str | None:
        """The first of these files that is there."""
        return next((name for name in names if name in self._set), None)

    def match(self, *patterns: str) -> list[str]:
        """Files whose path matches one of the shell patterns; `*` matches `/` too."""
        compiled = re.compile("|".join(translate(pattern) for pattern in patterns))
        return [name for name in self.names if compiled.match(name)]

    def root_match(self, *patterns: str) -> list[str]:
        """The same, only for files that lie directly in the root."""
        return [name for name in self.match(*patterns) if "/" not in name]

    def count(self, *suffixes: str) -> int:
        return sum(name.endswith(suffixes) for name in self.names)

    def folders(self) -> set[str]:
        """The folders in the root that hold files."""
        return {name.partition("/")[0] for name in self.names if "/" in name}

    def data(self, name: str) -> bytes:
        """The bytes of a regular file, at most four megabytes; nothing for a link or a file that isn't there."""
        path = self.root / name
        if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(self.root.resolve()):
            return b""
        with path.open("rb") as file:
            return file.read(MAX_BYTES)

    def text(self, name: str | None) -> str:
        return self.data(name).decode("utf-8", "replace") if name else ""

    def toml(self, name: str) -> dict[str, Any]:
        """A TOML file's content; empty when it isn't there or isn't TOML."""
        try:
            return tomllib.loads(self.text(name))
        except tomllib.TOMLDecodeError:
            return {}

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file's object, comments and trailing commas allowed; empty when there is none."""
        return loads_with_comments(self.text(name))

    def existing(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted({name for name in names if name in self._set}))


def table(value: Any, *keys: str) -> dict[str, Any]:
    """The table at these keys of parsed TOML or JSON; empty when something else is there, as in a broken manifest."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def strings(value: Any) -> list[str]:
    """The strings of a list; empty when something else is there."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')


def loads_with_comments(text: str) -> dict[str, Any]:
    """JSON with comments, as editors' settings have it."""
    plain = _TOKEN.sub(lambda match: match[0] if match[0].startswith('"') else " ", text.removeprefix("\ufeff"))
    plain = _COMMA.sub(lambda match: match[1] or "", plain)
    try:
        value = json.loads(plain)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
