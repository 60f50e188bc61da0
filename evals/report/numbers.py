"""Numbers as people read them: shares, counts, money, durations. One way for pages, tables and terminals."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

NOTHING: Final = "–"  # where a number isn't known

Format = Callable[[float], str]


def percent(value: float | None, digits: int = 1) -> str:
    """A share of 1 as per cent. A share that is neither 0 nor 1 is never rounded to them."""
    if value is None:
        return NOTHING
    text = f"{100 * value:.{digits}f}"
    if float(text) == 0 and value > 0:
        return f"<{10**-digits:g} %"
    if float(text) == 100 and value < 1:
        return f">{100 - 10**-digits:g} %"
    return f"{text} %"


def count(value: float | None) -> str:
    return NOTHING if value is None else f"{round(value):,}"


def short_count(value: float | None) -> str:
    """1234 as 1.2 k, with three digits at most."""
    if value is None:
        return NOTHING
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= 0.9995 * size:
            scaled = value / size
            return f"{scaled:.0f}{unit}" if abs(scaled) >= 99.95 else f"{scaled:.1f}".removesuffix(".0") + unit
    return f"{value:.1f}".removesuffix(".0")


def money(value: float | None) -> str:
    """US dollars; fractions of a cent only where there is nothing else."""
    if value is None:
        return NOTHING
    sign, size = ("-" if value < 0 else ""), abs(value)
    if 0 < size < 0.01:
        return f"{sign}${size:.2g}"
    return f"{sign}${size:,.2f}" if size < 1000 else f"{sign}${size:,.0f}"


def duration(seconds: float | None) -> str:
    """Two units at most: 1.5 s, 42 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if seconds is None:
        return NOTHING
    sign, size = ("-" if seconds < 0 else ""), abs(seconds)
    if size < 9.95:
        return f"{sign}{size:.1f}".removesuffix(".0") + " s"
    whole = round(size)
    if whole < 60:
        return f"{sign}{whole} s"
    for unit, name, part, small in ((60, "min", 1, "s"), (3600, "h", 60, "min"), (86400, "d", 3600, "h")):
        if whole < {60: 3600, 3600: 86400}.get(unit, whole + 1):
            rest = whole % unit // part
            return f"{sign}{whole // unit} {name}" + (f" {rest} {small}" if rest else "")
    raise AssertionError


def date(seconds: str) -> str:
    """Seconds since the epoch as a minute of UTC; anything else as it is."""
    try:
        return datetime.fromtimestamp(float(seconds), UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return seconds


def interval(low: float, high: float, digits: int = 1) -> str:
    """Two shares as the ends of an interval, in per cent."""
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f} %"


def p_value(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}" if value > 0 else "0"


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * value:+.1f} points"


def plural(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
