"""Lines of a log as entries."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Iterable, Iterator

_LINE = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)\s+(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)(?:\s+(?P<text>.*))?"
)


class BadLine(ValueError):
    """A line that is no entry; says which and why."""

    def __init__(self, number: int, line: str, why: str) -> None:
        super().__init__(f"line {number}: {why}: {line!r}")
        self.number = number


@dataclass(frozen=True)
class Entry:
    """Work on one day. `start` and `end` are minutes after midnight."""

    day: date
    start: int
    end: int
    text: str = ""
    tags: tuple[str, ...] = ()

    @property
    def duration(self) -> timedelta:
        return timedelta(minutes=self.end - self.start)


def parse_line(line: str, number: int = 1) -> Entry:
    """One entry. Raises BadLine."""
    found = _LINE.fullmatch(line.strip())
    if found is None:
        raise BadLine(number, line, "not `DAY START-END text`")
    try:
        day = date.fromisoformat(found["day"])
        start, end = _minutes(found["start"]), _minutes(found["end"])
    except ValueError as error:
        raise BadLine(number, line, str(error)) from None
    words = (found["text"] or "").split()
    tags = tuple(word[1:] for word in words if word.startswith("#") and len(word) > 1)
    text = " ".join(word for word in words if not word.startswith("#"))
    return Entry(day, start, end, text, tags)


def _minutes(clock: str) -> int:
    hours, minutes = (int(part) for part in clock.split(":"))
    if hours > 23 or minutes > 59:
        raise ValueError(f"there is no time {clock}")
    return hours * 60 + minutes


def parse(lines: Iterable[str]) -> Iterator[Entry]:
    """All entries; empty lines and comments are passed over."""
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield parse_line(line, number)
