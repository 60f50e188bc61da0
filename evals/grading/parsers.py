"""Test logs of Python projects read as the official parsers read them, quirks included, in time linear in the log.

A parser takes the text between the markers and gives test id -> status. The status is the runner's own word, so a line
`ERRORS in` gives the status `ERRORS`, which is neither passed nor failed, as in the original.

Left out: parsers for other languages (`official` runs the originals) and what a status means (`verdict`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from evals.grading.django_log import django
from evals.grading.semantics import GradingFailed, Semantics, Status

Statuses = dict[str, str]
Parser = Callable[[str, Semantics], Statuses]

_WORDS: Final = tuple(Status)
_SUMMARY: Final = re.compile(r"^(?:FAILED|PASSED|SKIPPED|ERROR|XFAIL)[^\n]*", re.MULTILINE)
_COUNT: Final = re.compile(r"^\[\d+\]$")
_COLOUR: Final = re.compile(r"\[(\d+)m")
_NO_CONTROLS: Final = {code: None for code in range(1, 32) if chr(code) != "\n"}


def _is_count(status: str, name: str, semantics: Semantics) -> bool:
    """pytest's summary of skipped tests, `SKIPPED [3] file:line: why`: in 5 the count is no test."""
    return semantics is Semantics.V5 and status == Status.SKIPPED and bool(_COUNT.match(name))


def _pairs(log: str, semantics: Semantics) -> Iterator[tuple[str, str]]:
    """(id, status) of pytest's short summary; the id ends at the first blank."""
    for found in _SUMMARY.finditer(log):
        line = found.group()
        if line.startswith(Status.FAILED):
            line = line.replace(" - ", " ")
        words = line.split(None, 2)
        if len(words) > 1 and not _is_count(words[0], words[1], semantics):
            yield words[1], words[0]


def pytest(log: str, semantics: Semantics) -> Statuses:
    return dict(_pairs(log, semantics))


def matplotlib(log: str, semantics: Semantics) -> Statuses:
    return pytest(log.replace("MouseButton.LEFT", "1").replace("MouseButton.RIGHT", "3"), semantics)


def pytest_options(log: str, semantics: Semantics) -> Statuses:
    """As `pytest`; a parameter that is a path is cut down to its last part, so that scratch folders don't count."""
    return {_short_option(name): status for name, status in _pairs(log, semantics)}


def _short_option(name: str) -> str:
    start, end = name.find("["), name.rfind("]")
    if start < 0 or end < start:
        return name
    option = name[start + 1 : end]
    if option.startswith("/") and not option.startswith("//") and "*" not in option:
        option = "/" + option.rpartition("/")[2]
    return f"{name[:start]}[{option}]"


def pytest_v2(log: str, semantics: Semantics) -> Statuses:
    """Coloured summaries, and the older form with the status behind the id. 4.1 cuts ids at the first blank."""
    statuses: Statuses = {}
    whole = semantics is Semantics.V5
    for line in _COLOUR.sub("", log).translate(_NO_CONTROLS).split("\n"):
        if line.startswith(_WORDS):
            if line.startswith(Status.FAILED):
                line = line.split(" - ", 1)[0] if whole else line.replace(" - ", " ")
            words = line.split()
            if len(words) > 1 and not _is_count(words[0], words[1], semantics):
                statuses[" ".join(words[1:]) if whole else words[1]] = words[0]
        elif line.endswith(_WORDS):
            words = line.split()
            if len(words) > 1:
                statuses[" ".join(words[:-1]) if whole else words[0]] = words[-1] if whole else words[1]
    return statuses


def seaborn(log: str, semantics: Semantics) -> Statuses:
    statuses: Statuses = {}
    for line in log.split("\n"):
        if not (failed := line.startswith(Status.FAILED)) and Status.PASSED not in line:
            continue
        inside = f" {Status.PASSED} " in line
        if not (failed or inside or line.startswith(Status.PASSED)):
            continue
        words = line.split()
        if len(words) < 2:
            if semantics is Semantics.V5:
                continue
            raise GradingFailed(f"swebench 4.1.0 stops at the line {line[:60]!r} of a seaborn log")
        if failed:
            statuses[words[1]] = Status.FAILED.value
        elif inside:
            if words[1] == Status.PASSED:
                statuses[words[0]] = Status.PASSED.value
        else:
            statuses[words[1]] = Status.PASSED.value
    return statuses


_SYMPY_ENDS: Final = ((" E", Status.ERROR.value), (" F", Status.FAILED.value), (" ok", Status.PASSED.value))


def sympy(log: str, _: Semantics) -> Statuses:
    """Headings of failures (`___ file.py:test ___`), then the lines of the single tests, which win."""
    statuses: Statuses = {}
    lines = log.split("\n")
    for line in lines:
        if ".py:" in line and (name := _sympy_heading(line)) is not None:
            statuses[name] = Status.FAILED.value
    for raw in lines:
        line = raw.strip()
        if line.startswith("test_"):
            for end, status in _SYMPY_ENDS:
                if line.endswith(end):
                    statuses[line.split(None, 1)[0]] = status
    return statuses


def _sympy_heading(line: str) -> str | None:
    """What stands between the first blank and the last one, if there is a file in it; None otherwise."""
    first, last = line.find(" "), line.rfind(" ")
    return line[first + 1 : last] if first >= 0 and line.rfind(".py:", first + 1, last) >= 0 else None


PARSERS: Final[dict[str, Parser]] = {
    "pytest": pytest,
    "pytest_options": pytest_options,
    "pytest_v2": pytest_v2,
    "django": django,
    "matplotlib": matplotlib,
    "seaborn": seaborn,
    "sympy": sympy,
}
"""Family -> parser."""
