"""Evaluation runs as their folders tell them: manifest.json and report.json, read as data of somebody's.

Nothing in them is believed to have its type. A name from outside never becomes part of a path: it is looked up among
the names that are there. The formats are those of docs/evaluation-reports.md. Left out: making reports (`evals`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_LARGEST: Final = 64 * 1024 * 1024  # bytes of a report.json
_MOST: Final = 500  # runs in the list, and attempts of one
PAGE: Final = "report.html"


@dataclass(frozen=True, slots=True)
class Attempt:
    instance: str
    number: int
    status: str
    cause: str
    steps: float | None
    seconds: float | None
    cost: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """A report in short. Rates are shares of 1, times seconds. None: it isn't said."""

    ended: int
    asked: int
    resolved: int
    rate: float | None
    low: float | None
    high: float | None
    infrastructure: int
    doubtful: int
    denominator: str
    cost: float | None
    seconds: float | None
    causes: tuple[tuple[str, str, int], ...]  # (name, meaning, attempts)
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One run. `summary` is None before its report is written, or where it can't be read."""

    name: str
    dataset: str
    model: str
    created: float | None
    summary: Summary | None
    has_page: bool


def evaluations(folder: Path) -> list[Evaluation]:
    """All runs in a folder, the newest first."""
    found = [_evaluation(path) for path in _folders(folder).values()]
    return sorted(found, key=lambda one: (-(one.created or 0.0), one.name))[:_MOST]


def evaluation(folder: Path, name: str) -> Evaluation | None:
    path = _folders(folder).get(name)
    return _evaluation(path) if path else None


def report_page(folder: Path, name: str) -> Path | None:
    """The run's own page."""
    path = _folders(folder).get(name)
    return _within(path, path / PAGE) if path else None


def trajectory_page(folder: Path, name: str, instance: str, attempt: int) -> Path | None:
    """The page beside the trajectory of an attempt."""
    path = _folders(folder).get(name)
    if path is None:
        return None
    instances = {one.name: one for one in _children(path / "trajectories")}
    found = instances.get(instance)
    return _within(path, found / str(attempt) / "index.html") if found else None


def trajectories(folder: Path, name: str) -> set[tuple[str, int]]:
    """Instances and attempts that have a page."""
    path = _folders(folder).get(name)
    found = path.glob("trajectories/*/*/index.html") if path else ()
    return {(one.parts[-3], int(one.parts[-2])) for one in found if one.parts[-2].isdecimal()}


def _folders(folder: Path) -> dict[str, Path]:
    return {
        one.name: one for one in _children(folder) if _NAME.fullmatch(one.name) and (one / "manifest.json").is_file()
    }


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _within(folder: Path, file: Path) -> Path | None:
    """`file`, unless it isn't there or a link leads out of the folder."""
    try:
        found = file.resolve(strict=True)
    except (OSError, RuntimeError):  # the latter: links in a circle
        return None
    return found if found.is_file() and found.is_relative_to(folder.resolve()) else None


def _evaluation(folder: Path) -> Evaluation:
    manifest = _read(folder / "manifest.json")
    report = _read(folder / "report.json")
    said = _map(manifest.get("model"))
    asked = _text(_map(manifest.get("settings")).get("model"))
    return Evaluation(
        name=folder.name,
        dataset=_text(_map(manifest.get("dataset")).get("name")),
        model=_text(said.get("name")) or asked,
        created=_number(manifest.get("created")),
        summary=_summary(report) if report else None,
        has_page=_within(folder, folder / PAGE) is not None,
    )


def _summary(report: Mapping[str, Any]) -> Summary:
    counts, rate, usage = (_map(report.get(name)) for name in ("counts", "resolved", "usage"))
    return Summary(
        ended=_count(counts.get("attempts")),
        asked=_count(counts.get("attempts_asked")),
        resolved=_count(rate.get("resolved")),
        rate=_number(rate.get("rate")),
        low=_number(rate.get("low")),
        high=_number(rate.get("high")),
        infrastructure=_count(counts.get("infrastructure")),
        doubtful=_count(counts.get("doubtful")),
        denominator=_text(rate.get("denominator")),
        cost=_number(_map(usage.get("cost")).get("sum")),
        seconds=_number(_map(usage.get("seconds")).get("sum")),
        causes=tuple(
            (_text(one.get("cause")), _text(one.get("meaning")), len(_list(one.get("attempts"))))
            for one in map(_map, _list(report.get("causes")))
        ),
        attempts=tuple(_attempt(_map(one)) for one in _list(report.get("attempts"))[:_MOST]),
    )


def _attempt(row: Mapping[str, Any]) -> Attempt:
    return Attempt(
        _text(row.get("instance_id")),
        _count(row.get("attempt")),
        _text(row.get("status")),
        _text(row.get("cause")),
        _number(row.get("steps")),
        _number(row.get("seconds")),
        _number(row.get("cost")),
    )


def _read(file: Path) -> Mapping[str, Any]:
    """What a file says, empty for none and for what can't be read."""
    try:
        facts = file.stat()
        return _parsed(file, facts.st_mtime_ns, facts.st_size) if facts.st_size <= _LARGEST else {}
    except OSError:
        return {}


@lru_cache(maxsize=64)
def _parsed(file: Path, changed: int, size: int) -> Mapping[str, Any]:
    try:
        return _map(json.loads(file.read_bytes()))
    except (ValueError, RecursionError):
        return {}


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value[:_MOST] if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    """Also none for what isn't finite, which JSON doesn't have and Python reads."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e15 else None


def _count(value: object) -> int:
    return int(_number(value) or 0)
