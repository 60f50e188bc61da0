"""What a patch says that it touches, read from its headers; nothing is applied here.

Two readers, because the official harness has two: `directives_of` looks at the text alone, `touched` follows the
patch's structure, so that a line within a hunk is never taken for a header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from evals.instance import Instance

NOTHING: Final = "/dev/null"
MARKS: Final = ">>>>> "
_SAME: Final = re.compile(r"^diff --git (?P<old>a/(?P<name>.+)) (?P<new>b/(?P=name))$")
_DIFF: Final = re.compile(r"^diff --git (?P<old>[^\t\n]+) (?P<new>[^\t\n]+)$")
_DIRECTIVE: Final = re.compile(r"diff --git a/.* b/(.*)")
_HUNK: Final = re.compile(r"^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_NO_TESTS: Final = (
    ".json", ".png", "csv", ".txt", ".md", ".jpg", ".jpeg", ".pkl", ".yml", ".yaml", ".toml",
)  # fmt: skip
_STEERS_TESTS: Final = frozenset({
    "conftest.py", "sitecustomize.py", "usercustomize.py", "pytest.ini", "tox.ini", "setup.cfg", "pyproject.toml",
    ".coveragerc", "package.json", "jest.config.js", ".gitattributes", ".gitmodules",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Touched:
    """A file of a patch by its paths before and after, None where there is none."""

    old: str | None
    new: str | None


def touched(patch: str) -> tuple[Touched, ...]:
    """The files in the order of the patch."""
    return tuple(Touched(_bare(old, "a/"), _bare(new, "b/")) for old, new in _files(patch))


def _files(patch: str) -> Iterator[tuple[str, str]]:
    """The two names of each file as the headers have them. A plain diff has no `diff --git` before its `---`."""
    names: list[str] | None = None
    complete = False  # the file's `+++` was there, so another `---` begins the next one
    left = [0, 0]  # lines of the hunk that are still to come, on both sides
    for line in patch.split("\n"):
        if left[0] > 0 or left[1] > 0:
            _count(line, left)
        elif (found := _SAME.match(line) or _DIFF.match(line)) or (
            line.startswith("--- ") and (names is None or complete)
        ):
            if names is not None:
                yield names[0], names[1]
            names = [found["old"], found["new"]] if found else [_path(line), NOTHING]
            complete = False
        elif names is None:
            continue
        elif hunk := _HUNK.match(line):
            left = [int(hunk[1] or 1), int(hunk[2] or 1)]
        else:
            complete = _named(line, names) or complete
    if names is not None:
        yield names[0], names[1]


def _count(line: str, left: list[int]) -> None:
    kind = line[:1]
    if kind == "\\":
        return
    left[0] -= kind != "+"
    left[1] -= kind != "-"


def _named(line: str, names: list[str]) -> bool:
    """Take a name from a header line; True for the last line that has one."""
    if line.startswith("--- "):
        names[0] = _path(line)
    elif line.startswith("+++ "):
        names[1] = _path(line)
        return True
    elif line.startswith("rename from "):
        names[0] = "a/" + _unquoted(line.removeprefix("rename from "))
    elif line.startswith("rename to "):
        names[1] = "b/" + _unquoted(line.removeprefix("rename to "))
    elif line.startswith("new file mode "):
        names[0] = NOTHING
    elif line.startswith("deleted file mode "):
        names[1] = NOTHING
    return False


def _path(line: str) -> str:
    return line[4:].partition("\t")[0]


def _bare(path: str, prefix: str) -> str | None:
    path = _unquoted(path)
    return path.removeprefix(prefix) if path and path != NOTHING else None


def _unquoted(path: str) -> str:
    """Git writes a name with unusual characters as a C string."""
    if len(path) < 2 or not (path.startswith('"') and path.endswith('"')):
        return path
    raw = path[1:-1].encode("utf-8", "surrogateescape")
    plain = re.sub(rb"\\([0-7]{3}|.)", _escaped, raw)
    return plain.decode("utf-8", "surrogateescape")


_ESCAPES: Final = {b"a": 7, b"b": 8, b"t": 9, b"n": 10, b"v": 11, b"f": 12, b"r": 13}


def _escaped(found: re.Match[bytes]) -> bytes:
    code: bytes = found[1]
    if len(code) == 3:
        return bytes([int(code, 8) & 255])
    return bytes([_ESCAPES[code]]) if code in _ESCAPES else code


def files_before(patch: str) -> tuple[str, ...]:
    """Paths that the patch expects to be there."""
    return tuple(file.old for file in touched(patch) if file.old is not None)


def edited_files(patch: str) -> tuple[str, ...]:
    """All files that the patch changes, in its order; those that it removes by the name that they had."""
    named = (file.new if file.new is not None else file.old for file in touched(patch))
    return tuple(dict.fromkeys(name for name in named if name is not None))


def files_added(patch: str) -> tuple[str, ...]:
    """Paths that are there only with the patch."""
    before = set(files_before(patch))
    return tuple(file.new for file in touched(patch) if file.new is not None and file.new not in before)


def directives_of(instance: Instance) -> tuple[str, ...]:
    """What the official harness hands to the test command: files of the test patch but data and prose, as labels of
    modules for Django."""
    if instance.repo == "swe-bench/humaneval":
        return ("test.py",)
    files = [path for path in _DIRECTIVE.findall(instance.test_patch) if not path.endswith(_NO_TESTS)]
    return tuple(_label(path) for path in files) if instance.repo == "django/django" else tuple(files)


def _label(path: str) -> str:
    return path.removesuffix(".py").removeprefix("tests/").replace("/", ".")


def remarks(patch: str, test_patch: str) -> tuple[str, ...]:
    """What a reader of the verdict should know of the patch: sentences. None of it changes the verdict."""
    mine = {path for file in touched(patch) for path in (file.old, file.new) if path is not None}
    tests = {path for file in touched(test_patch) for path in (file.old, file.new) if path is not None}
    said = []
    if both := sorted(mine & tests):
        said.append(f"the patch touches files of the tests, which are put back: {_some(both)}")
    if steering := sorted(path for path in mine - tests if _steers(path)):
        said.append(f"the patch touches files that steer how tests run: {_some(steering)}")
    if MARKS in patch:
        said.append(f"the patch holds the harness's own marks ({MARKS}), which its log is cut at")
    return tuple(said)


def _steers(path: str) -> bool:
    name = PurePosixPath(path).name
    return name in _STEERS_TESTS or name.endswith(".pth")


def _some(paths: list[str]) -> str:
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    return ", ".join(paths[:5]) + more
