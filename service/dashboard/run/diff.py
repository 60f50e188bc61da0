"""A diff as git writes it, read into files and lines with their numbers, and coloured as code.

What a line is, is known from its hunk's counts and not from how it looks, so that a file's text can't pass for a part
of the diff. Left out: making diffs (`changes`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from agent.visible import visible
from service.dashboard.run.highlight import Budget, Highlighter, Lines, Token

MOST_LINES: Final = 400  # of one diff that are shown at first
_MOST_FILES: Final = 100
_MOST_LINE: Final = 1_000  # characters of one line that are shown
_HUNK: Final = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(.*)", re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\([0-7]{3}|.)")
_NAMED: Final = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


class LineKind(StrEnum):
    PLUS = "plus"
    MINUS = "minus"
    SAME = "same"
    HUNK = "hunk"  # what stands between two places, with the name of the function
    SAID = "said"  # by git: no newline at the end


@dataclass(frozen=True, slots=True)
class DiffLine:
    """`tokens` together are its text."""

    kind: LineKind
    number: int | None  # in the file after, of a removed line in the one before
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class FileDiff:
    path: str
    what: str = "changed"  # or added, removed
    binary: bool = False
    added: int = 0
    removed: int = 0
    lines: tuple[DiffLine, ...] = ()


@dataclass(frozen=True, slots=True)
class DiffView:
    """`more`: lines that are left out here; `cut`: the diff itself isn't whole."""

    files: tuple[FileDiff, ...] = ()
    more: int = 0
    cut: bool = False

    @property
    def added(self) -> int:
        return sum(file.added for file in self.files)

    @property
    def removed(self) -> int:
        return sum(file.removed for file in self.files)


@dataclass(slots=True)
class _Reading:
    """One file's part while it is read."""

    path: str = ""
    what: str = "changed"
    binary: bool = False
    added: int = 0
    removed: int = 0
    lines: list[tuple[LineKind, int | None, str]] = field(default_factory=list)


def read_diff(text: str, *, cut: bool = False, most: int = MOST_LINES) -> DiffView:
    """The first `most` lines of a diff's files, without colours."""
    found: list[FileDiff] = []
    left, more = most, 0
    for reading in _files(text.split("\n")):
        kept = reading.lines[:left]
        left -= len(kept)
        more += len(reading.lines) - len(kept)
        if len(found) == _MOST_FILES:
            more += len(kept)
            continue
        lines = tuple(DiffLine(kind, number, (("", visible(_short(line))),)) for kind, number, line in kept)
        added, removed = reading.added, reading.removed
        found.append(FileDiff(reading.path, reading.what, reading.binary, added, removed, lines))
    return DiffView(tuple(found), more, cut)


def coloured(diff: DiffView, highlighter: Highlighter, budget: Budget) -> DiffView:
    """The same with tokens, where they are to be had. Blocks."""
    return replace(diff, files=tuple(_coloured(file, highlighter, budget) for file in diff.files))


def _coloured(file: FileDiff, highlighter: Highlighter, budget: Budget) -> FileDiff:
    """The file before and the file after are coloured by themselves: each hangs together as code."""
    sides = []
    for other in (LineKind.PLUS, LineKind.MINUS):
        places = [place for place, line in enumerate(file.lines) if line.kind in (other, LineKind.SAME)]
        text = "\n".join(file.lines[place].tokens[0][1] for place in places)
        sides.append((places, highlighter.lines(file.path, text, budget) if places else None))
    tokens = dict(_by_place(sides))
    lines = (replace(line, tokens=tokens.get(place) or line.tokens) for place, line in enumerate(file.lines))
    return replace(file, lines=tuple(lines))


def _by_place(sides: Iterable[tuple[list[int], Lines | None]]) -> Iterator[tuple[int, tuple[Token, ...]]]:
    for places, lines in sides:
        if lines is not None and len(lines) == len(places):
            yield from zip(places, lines, strict=True)


def _files(lines: list[str]) -> Iterator[_Reading]:
    reading: _Reading | None = None
    old = new = before = after = 0  # lines that the hunk still has, and their numbers
    for line in lines:
        sign = line[:1]
        if reading is not None and (old > 0 or new > 0) and sign in ("+", "-", " ", ""):
            old, new = old - (sign != "+"), new - (sign != "-")
            reading.lines.append(_line(reading, sign, line, before, after))
            before, after = before + (sign != "+"), after + (sign != "-")
        elif line.startswith("diff --git "):
            if reading is not None:
                yield reading
            reading, old, new = _Reading(_path_of(line)), 0, 0
        elif reading is not None and (hunk := _HUNK.match(line)):
            before, after = int(hunk[1]), int(hunk[3])
            old, new = int(hunk[2] or 1), int(hunk[4] or 1)
            if reading.lines or hunk[5].strip():
                reading.lines.append((LineKind.HUNK, None, hunk[5].strip()))
        elif reading is not None:
            _take_head(reading, line)
    if reading is not None:
        yield reading


def _line(reading: _Reading, sign: str, line: str, before: int, after: int) -> tuple[LineKind, int, str]:
    if sign == "+":
        reading.added += 1
        return LineKind.PLUS, after, line[1:]
    if sign == "-":
        reading.removed += 1
        return LineKind.MINUS, before, line[1:]
    return LineKind.SAME, after, line[1:]


def _take_head(reading: _Reading, line: str) -> None:
    """A line before the first hunk, or git's own remark behind a line."""
    if line.startswith("\\ "):
        reading.lines.append((LineKind.SAID, None, line[2:]))
    elif line.startswith("new file mode"):
        reading.what = "added"
    elif line.startswith("deleted file mode"):
        reading.what = "removed"
    elif line.startswith(("Binary files ", "GIT binary patch")):
        reading.binary = True
    elif not reading.lines and line.startswith(("--- ", "+++ ")) and line[4:] != "/dev/null":
        reading.path = _unquoted(line[4:].removesuffix("\t"))[2:]


def _path_of(line: str) -> str:
    """`diff --git a/x b/x`: both are the same, for renames aren't looked for."""
    rest = line.removeprefix("diff --git ")
    if rest.startswith('"'):
        return _unquoted(rest[: len(rest) // 2])[2:]
    return rest[: len(rest) // 2][2:]


def _unquoted(name: str) -> str:
    """A path as git writes it, which quotes what isn't plain ASCII."""
    if not (len(name) >= 2 and name.startswith('"') and name.endswith('"')):
        return name
    raw = name[1:-1].encode("utf-8", "surrogateescape")

    def char(found: re.Match[bytes]) -> bytes:
        said = found[1]
        return bytes([int(said, 8) & 0xFF]) if len(said) == 3 else _NAMED.get(said, said)

    return _ESCAPE.sub(char, raw).decode("utf-8", "replace")


def _short(line: str) -> str:
    return line if len(line) <= _MOST_LINE else f"{line[:_MOST_LINE]}… ({len(line) - _MOST_LINE} more characters)"
