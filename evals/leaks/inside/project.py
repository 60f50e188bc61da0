"""What the base commit is called and which version it has, read off its files; and versions compared.

Left out: looking for copies of it (`copies`).
"""

import os
import re
from typing import Dict, Iterable, List, Optional, Set, Tuple

from evals.leaks.inside.repository import head_of

_GENERIC = {
    "", "src", "lib", "test", "tests", "testing", "doc", "docs", "example", "examples", "benchmarks",
    "tools", "scripts", "script", "utils", "util", "build", "dist", "config", "bin", "ci", "setup", "conftest",
    "common", "core", "cmd", "internal", "pkg", "app", "main", "vendor", "include", "js",
}  # fmt: skip
_NAMED = (
    ("pyproject.toml", re.compile(rb"^\s*name\s*=\s*[\"']([\w.-]+)[\"']", re.MULTILINE)),
    ("setup.cfg", re.compile(rb"^\s*name\s*=\s*([\w.-]+)\s*$", re.MULTILINE)),
    ("setup.py", re.compile(rb"\bname\s*=\s*[\"']([\w.-]+)[\"']")),
    ("package.json", re.compile(rb"^\s{0,4}\"name\"\s*:\s*\"([@/\w.-]+)\"", re.MULTILINE)),
    ("Cargo.toml", re.compile(rb"^\s*name\s*=\s*\"([\w.-]+)\"", re.MULTILINE)),
    ("go.mod", re.compile(rb"^module\s+(\S+)", re.MULTILINE)),
    ("composer.json", re.compile(rb"\"name\"\s*:\s*\"([/\w.-]+)\"")),
    ("pom.xml", re.compile(rb"<artifactId>([\w.-]+)</artifactId>")),
)
_VERSIONED = (
    ("pyproject.toml", re.compile(rb"^\s*version\s*=\s*[\"']([\w.+!-]+)[\"']", re.MULTILINE)),
    ("setup.cfg", re.compile(rb"^\s*version\s*=\s*(\d[\w.+!-]*)\s*$", re.MULTILINE)),
    ("setup.py", re.compile(rb"\bversion\s*=\s*[\"'](\d[\w.+!-]*)[\"']")),
    ("package.json", re.compile(rb"^\s{0,4}\"version\"\s*:\s*\"([\w.+-]+)\"", re.MULTILINE)),
    ("Cargo.toml", re.compile(rb"^\s*version\s*=\s*\"([\w.+-]+)\"", re.MULTILINE)),
)
_IN_PACKAGE = re.compile(rb"^\s*__?version_?_?\s*(?::\s*\w+\s*)?=\s*[\"'](\d[\w.+!-]*)[\"']", re.MULTILINE)
_TUPLE = re.compile(rb"^VERSION\s*=\s*\(\s*(\d+),\s*(\d+),\s*(\d+),\s*[\"'](\w+)[\"']", re.MULTILINE)
_VERSION_FILES = ("__init__.py", "__version__.py", "version.py", "_version.py", "__about__.py", "release.py")
_RELEASE = re.compile(r"v?(?:\d+!)?(\d+(?:\.\d+)*)(.*)")
_UNFINISHED = re.compile(r"^[-._]?(?:a|b|c|rc|alpha|beta|pre|preview|dev|snapshot|nightly)", re.IGNORECASE)
CODE = (
    ".py", ".pyx", ".js", ".mjs", ".ts", ".tsx", ".jsx", ".go", ".rs", ".rb", ".java", ".c", ".h", ".cc", ".cpp",
    ".hpp", ".php", ".kt", ".scala", ".cs", ".swift",
)  # fmt: skip


class Project:
    """The base commit as its files describe it. `files` are all paths of its tree."""

    def __init__(self, workdir: str, files: Iterable[str], names: Iterable[str], version: str) -> None:
        self.workdir = workdir
        self.files = set(files)
        self.packages = _packages(self.files)
        said = _matches(workdir, _NAMED)
        known = {normal(name) for name in (*names, *said)} - _GENERIC
        self.names = known | {normal(name) for name in self.packages}
        self.modules = {path for path in self.files if path.endswith(".py") and normal(stem(path)) in known}
        self.version = self._version() or version

    def _version(self) -> str:
        """The version that the files say; empty where none does."""
        found = _matches(self.workdir, _VERSIONED)
        for path in self.packages.values():
            for name in _VERSION_FILES:
                content = head_of(os.path.join(self.workdir, path, name), 1 << 16)
                match = _IN_PACKAGE.search(content)
                numbers = _TUPLE.search(content)
                if match:
                    found.append(match.group(1).decode())
                elif numbers:
                    state = numbers.group(4).decode()
                    text = b".".join(numbers.group(1, 2, 3)).decode()
                    found.append(text if state == "final" else text + state)
        return found[0] if found else ""

    def later(self, version: str) -> Optional[bool]:
        """Whether `version` came after the base commit's; None where it can't be told."""
        theirs, ours = _RELEASE.match(version), _RELEASE.match(self.version)
        if not theirs or not ours:
            return None
        left, right = numbers_of(theirs.group(1)), numbers_of(ours.group(1))
        if left != right:
            return left > right
        unfinished = bool(_UNFINISHED.match(ours.group(2)))
        return unfinished and theirs.group(2) != ours.group(2)


def numbers_of(release: str) -> Tuple[int, ...]:
    """The numbers of a release, without the zeros at its end."""
    numbers = [int(part[:9]) for part in release.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def normal(name: str) -> str:
    """A distribution's name as indexes compare it, without the organisation of a path or a scope."""
    return re.sub(r"[-_.]+", "-", name.rstrip("/").rpartition("/")[2]).lower()


def stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0] if "/" not in path or path.startswith(("src/", "lib/")) else ""


def _packages(files: Set[str]) -> Dict[str, str]:
    """Name -> path of the packages that would be installed."""
    found: Dict[str, str] = {}
    for path in sorted(files):
        parts = path.split("/")
        if parts[-1] != "__init__.py":
            continue
        root = parts[:-1]
        if len(root) == 2 and root[0] in ("src", "lib", "python"):
            found.setdefault(root[1], "/".join(root))
        elif len(root) == 1:
            found.setdefault(root[0], root[0])
    return {name: path for name, path in found.items() if name.lower() not in _GENERIC}


def _matches(workdir: str, patterns: Iterable[Tuple[str, "re.Pattern[bytes]"]]) -> List[str]:
    found: List[str] = []
    for name, pattern in patterns:
        match = pattern.search(head_of(os.path.join(workdir, name), 1 << 18))
        if match:
            found.append(match.group(1).decode("utf-8", "replace"))
    return found
