"""How a quantity is spread over attempts: a few figures, and counts by steps of a round width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from evals.runs.record import Status
from evals.statistics import quantile

BINS: Final = 24  # at most
KINDS: Final = ("resolved", "unresolved", "no_verdict")  # how an attempt is drawn
_ROUND: Final = (1.0, 2.0, 2.5, 5.0, 10.0)


def kind_of(status: str) -> str:
    """Which of `KINDS` an attempt's status belongs to; no patch is unresolved too."""
    if status == Status.RESOLVED:
        return "resolved"
    return "no_verdict" if status == Status.INFRASTRUCTURE else "unresolved"


def distribution(values: Sequence[tuple[float, str]], unknown: int, *, whole: bool = False) -> dict[str, Any]:
    """Figures of (value, status) pairs; `unknown`: attempts that say nothing of it; `whole`: counts, not measures."""
    numbers = [value for value, _ in values]
    said: dict[str, Any] = {"known": len(numbers), "unknown": unknown}
    if not numbers:
        return said
    said["sum"] = _rounded(math.fsum(numbers))
    said["mean"] = _rounded(math.fsum(numbers) / len(numbers))
    shares = {"min": 0.0, "q1": 0.25, "median": 0.5, "q3": 0.75, "p95": 0.95, "max": 1.0}
    said |= {name: _rounded(quantile(numbers, share)) for name, share in shares.items()}
    return said | {"histogram": histogram(values, whole=whole)}


def histogram(values: Sequence[tuple[float, str]], *, whole: bool = False) -> dict[str, Any]:
    """Counts per bin and kind: `start`, `width`, and a list for each of `KINDS`, all of the same length."""
    numbers = [value for value, _ in values]
    width = bin_width(min(numbers), max(numbers), whole=whole)
    start = math.floor(min(numbers) / width) * width
    count = math.floor((max(numbers) - start) / width + 1e-9) + 1
    counts: Mapping[str, list[int]] = {kind: [0] * count for kind in KINDS}
    for value, status in values:
        at = min(math.floor((value - start) / width + 1e-9), count - 1)
        counts[kind_of(status)][at] += 1
    return {"start": _rounded(start), "width": _rounded(width), **counts}


def bin_width(low: float, high: float, *, whole: bool = False) -> float:
    """The least round width (1, 2, 2.5 or 5 times a power of ten) that needs no more than `BINS` bins."""
    least = (high - low) / (BINS - 1)
    if whole:
        least = max(least, 1.0)
    if least <= 0:
        return max(abs(high), 1.0) / 10 if not whole else 1.0
    power = 10.0 ** math.floor(math.log10(least))
    widths = (power * factor for factor in _ROUND)
    return next(width for width in widths if width >= least * (1 - 1e-9) and (not whole or width == int(width)))


def _rounded(value: float) -> float:
    """Nine significant digits: enough for everybody, and the same wherever the last ones would differ."""
    if value == 0 or not math.isfinite(value):
        return 0.0 if value == 0 else value
    rounded = round(value, 8 - math.floor(math.log10(abs(value))))
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 2**53 else rounded
