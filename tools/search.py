"""The `search` tool: lines that match a regular expression, grouped by file, bounded.

Uses ripgrep where the sandbox has it, else GNU's grep, else Python; one process each, with the same form of output.
Left out: symbols and meaning, only text is looked at.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from sandbox.base import CommandEnd, CommandResult
from sandbox.guest_python import OURS
from tools.arguments import BadArgument, failure, optional_integer, optional_text, text
from tools.base import Observation, ToolContext
from tools.search_fallback import PROGRAM

SPEC: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "search",
        "description": (
            "Search files for a regular expression. Shows the matching lines with their numbers, grouped by file. "
            "Ignored files (.gitignore), `.git` and binary files are left out."
        ),
        "parameters": {
            "type": "object",
            "properties": {
                "pattern": {
                    "type": "string",
                    "description": "Regular expression, matched within a line. Write `\\(` for a plain bracket.",
                },
                "path": {"type": "string", "description": "File or folder to search. Default: the repository."},
                "glob": {"type": "string", "description": "Only files such as `*.py` or `src/**/test_*.py`."},
                "context": {"type": "integer", "description": "Lines to show around each match. Default: 0."},
                "max_results": {"type": "integer", "description": "Matches to show at most. Default: 100."},
            },
            "required": ["pattern"],
        },
    },
}

_DEFAULT_RESULTS: Final = 100
_TIMEOUT: Final = 60.0
_LONGEST_LINE: Final = 300  # characters of a line that are shown
_MAX_OUTPUT: Final = 4 << 20  # bytes of the searcher's output that are looked at
_ROOM_FOR_FRAME: Final = 400
_LINE: Final = re.compile(r"^([^\0]*)\0(\d+)([:-])(.*)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Query:
    pattern: str
    path: str  # as the searcher gets it: relative to the work folder where it lies inside
    globs: tuple[str, ...]
    context: int
    max_results: int


@dataclass(frozen=True, slots=True)
class _Line:
    path: str
    number: int
    is_match: bool
    text: str


class Search:
    @property
    def spec(self) -> dict[str, Any]:
        return SPEC

    async def __call__(self, context: ToolContext, arguments: Mapping[str, Any]) -> Observation:
        try:
            query = _query(context.sandbox.workdir, arguments)
        except BadArgument as error:
            return failure(str(error))
        result = await context.sandbox.run(
            _script(query), cwd=context.sandbox.workdir, timeout=_TIMEOUT, max_output=_MAX_OUTPUT
        )
        engine, _, output = result.head.decode(errors="replace").partition("\n")
        rows = output.split("\n")
        lines = list(_parsed(_whole_names(rows, query.path)))
        if engine != "rg":
            lines = sorted((line for line in lines if _wanted(line.path, query.globs)), key=lambda line: line.path)
        if not any(line.is_match for line in lines):
            return _without_match(query, result, rows)
        return _with_matches(query, result, lines, context.max_observation)


def _query(workdir: str, arguments: Mapping[str, Any]) -> _Query:
    pattern = text(arguments, "pattern")
    if not pattern:
        raise BadArgument("the argument `pattern` is empty.")
    if "\n" in pattern:
        raise BadArgument("the argument `pattern` holds a line break, and only single lines are searched.")
    path = posixpath.normpath(posixpath.join(workdir, optional_text(arguments, "path") or "."))
    inside = posixpath.relpath(path, workdir)
    glob = optional_text(arguments, "glob")
    return _Query(
        pattern,
        path if inside.startswith("..") else inside,
        tuple(braces(glob)) if glob else (),
        optional_integer(arguments, "context", least=0, most=50) or 0,
        optional_integer(arguments, "max_results", least=1, most=1000) or _DEFAULT_RESULTS,
    )


def braces(glob: str) -> Iterator[str]:
    """`*.{py,pyi}` as the globs that it stands for."""
    match = re.search(r"\{([^{}]*,[^{}]*)\}", glob)
    if not match:
        yield glob
        return
    for choice in match[1].split(","):
        yield from braces(glob[: match.start()] + choice + glob[match.end() :])


def _script(query: _Query) -> str:
    """Name the searcher that is there on the first line, then become it."""
    simple = [glob for glob in query.globs if "/" not in glob and not glob.startswith("!")]
    narrow = simple if len(simple) == len(query.globs) else []
    around = ["-C", str(query.context)]
    rg = ["rg", "--no-config", "-nH0", "--no-heading", "--color=never", "--sort=path", "--hidden", "-g", "!.git"]
    rg += [word for glob in query.globs for word in ("-g", glob)] + around
    grep = ["grep", "-rnHZI", "--color=never", "--exclude-dir=.git", *(f"--include={glob}" for glob in narrow)]
    grep += around
    target = ["-e", query.pattern, "--", query.path]
    python = ["python3", "-c", PROGRAM, query.pattern, query.path, str(query.context)]
    usable = "echo x | grep -qnHZI --color=never --exclude-dir=.git x 2>/dev/null"  # busybox knows half of that
    return (
        f"if command -v rg >/dev/null 2>&1; then echo rg; exec {shlex.join(rg + target)}; fi\n"
        f"if {usable}; then echo grep\n"
        "export LC_ALL=C\n"  # else grep takes a text in another encoding for a binary file
        f"if echo x | grep -qP x 2>/dev/null; then exec {shlex.join([*grep, '-P', *target])}; fi\n"
        f"exec {shlex.join([*grep, '-E', *target])}; fi\n"
        f"echo python; PATH=$PATH:{OURS}; exec {shlex.join(python)}"
    )


def _whole_names(rows: Iterable[str], top: str) -> Iterator[str]:
    """Rows, with names that hold line breaks put together again: the end of one could look like another file's."""
    begun = ""
    for row in rows:
        whole = begun + row
        is_open = "\0" not in whole and whole.startswith(f"{top}/")
        begun = f"{whole}\n" if is_open else ""
        if not is_open:
            yield whole


def _parsed(rows: Iterable[str]) -> Iterator[_Line]:
    for row in rows:
        if match := _LINE.match(row):
            shown = match[4].rstrip("\r")
            if len(shown) > _LONGEST_LINE:
                shown = f"{shown[:_LONGEST_LINE]} [... {len(shown) - _LONGEST_LINE} more characters]"
            yield _Line(match[1].removeprefix("./"), int(match[2]), match[3] == ":", shown)


def _wanted(path: str, globs: tuple[str, ...]) -> bool:
    """Does a path (from the work folder) fit the globs, in the way ripgrep reads them?"""
    allowed = [glob for glob in globs if not glob.startswith("!")]
    refused = [glob[1:] for glob in globs if glob.startswith("!")]
    return (not allowed or any(fits(path, glob) for glob in allowed)) and not any(fits(path, glob) for glob in refused)


def fits(path: str, glob: str) -> bool:
    """A glob without a slash is for the file's name; one with a slash for the whole path, `**` for any folders."""
    if "/" not in glob:
        return fnmatchcase(posixpath.basename(path), glob)
    return _parts_fit(path.split("/"), glob.strip("/").split("/"))


def _parts_fit(parts: list[str], globs: list[str]) -> bool:
    if not globs:
        return not parts
    if globs[0] == "**":
        return any(_parts_fit(parts[skipped:], globs[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], globs[0]) and _parts_fit(parts[1:], globs[1:])


def _without_match(query: _Query, result: CommandResult, rows: list[str]) -> Observation:
    data = _facts(query, 0, 0)
    if result.end is CommandEnd.TIMEOUT:
        return failure(f"the search took longer than {_TIMEOUT:.0f} s. Give a `path` or a `glob` to narrow it.", **data)
    said = "\n".join(row for row in rows if row.strip() and "\0" not in row and row != "--")[:2000]
    if result.exit_code > 1:
        hint = "Write a backslash before a character that is meant as itself, such as \\( or \\[."
        is_pattern = not re.search(r"No such file|[Pp]ermission denied|not found", said)
        return failure(f"the search failed.\n{said}" + (f"\n{hint}" if is_pattern else ""), **data)
    narrowed = f", files {' '.join(query.globs)}" if query.globs else ""
    return Observation(f"No match for {query.pattern!r} (path {query.path}{narrowed}).", data=data)


def _with_matches(query: _Query, result: CommandResult, lines: list[_Line], limit: int) -> Observation:
    count = sum(line.is_match for line in lines)
    files = len({line.path for line in lines if line.is_match})
    body, matches = _body(lines, query.max_results, limit - _ROOM_FOR_FRAME)
    is_cut = bool(result.dropped_bytes) or result.end is CommandEnd.TIMEOUT
    total = f"{'more than ' if is_cut else ''}{count} {'match' if count == 1 else 'matches'}"
    total += f" in {files} {'file' if files == 1 else 'files'}"
    if matches < count or is_cut:
        total = f"the first {matches} of {total}; narrow the search with pattern, path or glob"
    return Observation(f"{body}\n[{total}]", data=_facts(query, count, files))


def _body(lines: list[_Line], most: int, room: int) -> tuple[str, int]:
    """As many lines as there is room for, and the number of matches among them."""
    parts: list[str] = []
    matches, before = 0, None
    for line in lines:
        if line.is_match and matches == most:
            break
        part = f"{line.number}{':' if line.is_match else '-'}{line.text}"
        if before is None or before.path != line.path:
            part = f"{line.path if line.path.isprintable() else ascii(line.path)}\n{part}"
        elif line.number != before.number + 1 and any(not other.is_match for other in (line, before)):
            part = f"--\n{part}"
        room -= len(part) + 1
        if room < 0 and parts:
            break
        parts.append(part)
        matches += line.is_match
        before = line
    return "\n".join(parts), matches


def _facts(query: _Query, matches: int, files: int) -> dict[str, Any]:
    return {"pattern": query.pattern, "path": query.path, "matches": matches, "files": files}
