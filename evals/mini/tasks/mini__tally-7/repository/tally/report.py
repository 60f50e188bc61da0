"""Entries summed up."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Iterable, Mapping

from tally.entries import Entry


def by_day(entries: Iterable[Entry]) -> dict[date, timedelta]:
    """Hours of each day that has any, in order."""
    totals: dict[date, timedelta] = {}
    for entry in entries:
        totals[entry.day] = totals.get(entry.day, timedelta()) + entry.duration
    return dict(sorted(totals.items()))


def by_tag(entries: Iterable[Entry]) -> dict[str, timedelta]:
    """Hours under each tag; what has none is under `-`. An entry with two tags counts under both."""
    totals: dict[str, timedelta] = {}
    for entry in entries:
        for tag in entry.tags or ("-",):
            totals[tag] = totals.get(tag, timedelta()) + entry.duration
    return dict(sorted(totals.items()))


def hours(duration: timedelta) -> str:
    """`7:05` for seven hours and five minutes."""
    minutes = int(duration.total_seconds()) // 60
    return f"{minutes // 60}:{minutes % 60:02d}"


def table(totals: Mapping[object, timedelta]) -> str:
    """Lines of name and hours, and their sum."""
    rows = [(str(name), hours(duration)) for name, duration in totals.items()]
    rows.append(("total", hours(sum(totals.values(), timedelta()))))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {shown:>6}" for name, shown in rows)
