"""Django's test runner: `name (class) ... ok`, with results that its own output tears apart.

Read as the official parser reads it, the same in 4.1 and 5.x, but in time linear in the log: the torn lines are found
by searching for what stands in the middle, not by expressions that begin at every line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from evals.grading.semantics import GradingFailed, Semantics, Status

_OK: Final = (" ... ok", " ... OK", " ...  OK")
_GLUED: Final = "Applying sites.0002_alter_domain_unique...test_no_migrations"
_NAMED_VERSION: Final = "--version is equivalent to version"


def django(log: str, _: Semantics) -> dict[str, str]:
    statuses: dict[str, str] = {}
    previous: str | None = None
    for raw in log.split("\n"):
        line = raw.strip()
        if "..." in line:
            if _NAMED_VERSION in line:
                statuses[_NAMED_VERSION] = Status.PASSED.value
            if " ... " in line:
                previous = line.partition(" ... ")[0]
            line = _dotted(line, statuses)
        elif _NAMED_VERSION in line:
            statuses[_NAMED_VERSION] = Status.PASSED.value
        if line.startswith("FAIL:"):
            statuses[_second(line)] = Status.FAILED.value
        elif line.startswith("ERROR:"):
            statuses[_second(line)] = Status.ERROR.value
        elif previous is not None and line.startswith("ok"):
            statuses[previous] = Status.PASSED.value
    for middle, tail in _TORN:
        _torn(log, middle, tail, statuses)
    return statuses


def _dotted(line: str, statuses: dict[str, str]) -> str:
    """A line with `name ... result`; gives the line as the checks that follow have to see it."""
    if line.endswith(_OK):
        suffix = next(suffix for suffix in _OK if line.endswith(suffix))
        if line.startswith(_GLUED):
            line = line.split("...", 1)[-1].strip()
        statuses[line.rsplit(suffix, 1)[0]] = Status.PASSED.value
    if " ... skipped" in line:
        statuses[line.partition(" ... skipped")[0]] = Status.SKIPPED.value
    if line.endswith(" ... FAIL"):
        statuses[line.partition(" ... FAIL")[0]] = Status.FAILED.value
    if line.endswith(" ... ERROR"):
        statuses[line.partition(" ... ERROR")[0]] = Status.ERROR.value
    return line


def _second(line: str) -> str:
    words = line.split(None, 2)
    if len(words) < 2:
        raise GradingFailed(f"the official parser stops at the line {line[:60]!r} of a Django log")
    return words[1]


class _Lines:
    """Where the line of a growing position ends, without looking at any character twice."""

    def __init__(self, log: str) -> None:
        self._log, self._end = log, -1

    def end(self, position: int) -> int:
        if position > self._end:
            found = self._log.find("\n", position)
            self._end = len(self._log) if found < 0 else found
        return self._end


Tail = Callable[[str, int, _Lines], int | None]
"""(log, behind the middle, lines) -> behind the whole torn result; None where it goes on otherwise; -1: nowhere."""

_SILENCED: Final = re.compile(r" silenced\)\.\nok$", re.MULTILINE)


def _after_silenced(log: str, start: int, _: _Lines) -> int | None:
    found = _SILENCED.search(log, start)
    return found.end() if found else -1


def _after_server_error(log: str, start: int, lines: _Lines) -> int | None:
    end = lines.end(start)
    return _ok_line(log, end) if end > start and log[end - 1] == "/" else None


def _ok_line(log: str, newline: int) -> int | None:
    after = newline + 3
    return after if log.startswith("\nok", newline) and log[after : after + 1] in ("", "\n") else None


_TORN: Final[tuple[tuple[re.Pattern[str], Tail], ...]] = (
    (re.compile(r"\s\.\.\.\sTesting against Django installed in "), _after_silenced),
    (re.compile(r"\s\.\.\.\sInternal Server Error: /"), _after_server_error),
    (
        re.compile(r"\s\.\.\.\sSystem check identified no issues \(0 silenced\)"),
        lambda log, start, _: _ok_line(log, start),
    ),
)


def _torn(log: str, middle: re.Pattern[str], tail: Tail, statuses: dict[str, str]) -> None:
    lines = _Lines(log)
    seen, line_start, done = 0, 0, 0
    for found in middle.finditer(log):
        newline = log.rfind("\n", seen, found.start())
        line_start = newline + 1 if newline >= 0 else line_start
        seen = found.start()
        if line_start < done:
            continue  # its line began inside of a result that is already read
        end = tail(log, found.end(), lines)
        if end == -1:
            return
        if end is not None:
            statuses[log[line_start : found.start()]] = Status.PASSED.value
            done = end
