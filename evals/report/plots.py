"""Pictures as inline SVG: bars of an interval, parts of a whole, histograms, curves.

Colours come from the page's style, so that they follow its light and dark schemes; each picture has a title and a
description for those who don't see it. Left out: what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from evals.report.distributions import KINDS
from evals.report.html import Html, element, joined
from evals.report.numbers import Format, count, duration, interval, percent

WIDTH: Final = 440
HEIGHT: Final = 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 20, 30
KIND_NAMES: Final = {"resolved": "resolved", "unresolved": "unresolved", "no_verdict": "no verdict"}


def picture(slug: str, title: str, description: str, width: int, height: int, *shapes: Html) -> Html:
    """An SVG that says what it shows. `slug`: its name, unlike any other on the page."""
    return element(
        "svg",
        element("title", title, id=f"{slug}-title"),
        element("desc", description, id=f"{slug}-desc"),
        *shapes,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_labelledby=f"{slug}-title {slug}-desc",
        class_="plot",
    )


def interval_bar(rate: float | None, low: float, high: float, width: int = 160) -> Html:
    """A rate as a dot within its interval, from 0 to 1. The numbers stand beside it, so it is hidden from readers."""
    inner = width - 8
    ticks = [element("line", x1=4 + inner * at, x2=4 + inner * at, y1=5, y2=11, class_="track") for at in (0, 0.5, 1)]
    shapes = [element("line", x1=4, x2=width - 4, y1=8, y2=8, class_="track"), *ticks]
    if rate is not None:
        shapes += [
            element("line", x1=4 + inner * low, x2=4 + inner * high, y1=8, y2=8, class_="range"),
            element("circle", cx=4 + inner * rate, cy=8, r=4.5, class_="dot"),
        ]
    return element("svg", *shapes, viewBox=f"0 0 {width} 16", class_="bar", aria_hidden="true")


def difference_bar(difference: float, low: float, high: float, width: int = 480) -> Html:
    """A difference of rates as a dot within its interval, around zero. The numbers stand beside it."""
    reach = max(abs(low), abs(high), abs(difference), 0.02) * 1.15
    middle, scale = width / 2, (width / 2 - 6) / reach
    return element(
        "svg",
        element("line", x1=4, x2=width - 4, y1=8, y2=8, class_="track"),
        element("line", x1=middle, x2=middle, y1=1, y2=15, class_="median"),
        element("line", x1=middle + scale * low, x2=middle + scale * high, y1=8, y2=8, class_="range"),
        element("circle", cx=middle + scale * difference, cy=8, r=4.5, class_="dot"),
        viewBox=f"0 0 {width} 16", class_="bar", aria_hidden="true",
    )  # fmt: skip


def parts_bar(slug: str, title: str, parts: Sequence[tuple[str, str, int]]) -> Html:
    """Parts of a whole as one bar; a part is (class, name, count), and those of none are left out."""
    total = sum(number for _, _, number in parts) or 1
    at, shapes = 0.0, list[Html]()
    for kind, name, number in parts:
        if number:
            wide = 1000 * number / total
            tip = element("title", f"{name}: {count(number)} of {count(total)} ({percent(number / total)})")
            part = element("rect", x=at, y=0, width=max(wide - 2, 1.0), height=14, class_=f"fill-{kind}")
            shapes.append(element("g", tip, part))
            at += wide
    said = ", ".join(f"{name} {count(number)}" for _, name, number in parts if number)
    drawn = picture(slug, title, said, 1000, 14, *shapes)
    return Html(drawn.replace('class="plot"', 'class="parts" preserveAspectRatio="none"', 1))


def legend(*names: str) -> Html:
    """What the colours mean; `names` are of `KIND_NAMES`."""
    return element(
        "p",
        [element("span", element("i", class_=f"key key-{name}"), KIND_NAMES[name]) for name in names],
        class_="legend",
    )


def histogram(slug: str, title: str, spread: Mapping[str, Any], shown: Format) -> Html:
    """Stacked counts per bin with the median; `spread` is a `distribution`."""
    bins = spread["histogram"]
    columns = list(zip(*(bins[kind] for kind in KINDS), strict=True))
    start, width = bins["start"], bins["width"]
    stop = start + width * len(columns)
    most = _round_up(max(sum(column) for column in columns))
    plot = _Axes(start, stop, 0, most)
    shapes = [*plot.horizontal([0, most / 2, most] if most > 1 else [0, most], count), *plot.vertical(shown)]
    for index, column in enumerate(columns):
        shapes += _column(plot, start + index * width, width, column, shown)
    middle = plot.x(spread["median"])
    anchor = "end" if middle > WIDTH * 0.7 else "start"
    shapes += [
        element("line", x1=middle, x2=middle, y1=_TOP, y2=HEIGHT - _BOTTOM, class_="median"),
        element(
            "text", f"median {shown(spread['median'])}", x=middle + (-5 if anchor == "end" else 5), y=_TOP - 7,
            class_="strong", text_anchor=anchor,
        ),
    ]  # fmt: skip
    said = (
        f"{count(spread['known'])} attempts: from {shown(spread['min'])} to {shown(spread['max'])}, "
        f"half of them between {shown(spread['q1'])} and {shown(spread['q3'])}, median {shown(spread['median'])}."
    )
    return picture(slug, title, said, WIDTH, HEIGHT, *shapes)


def _column(plot: _Axes, left: float, width: float, counts: Sequence[int], shown: Format) -> list[Html]:
    if not sum(counts):
        return []
    said = ", ".join(f"{number} {KIND_NAMES[kind]}" for kind, number in zip(KINDS, counts, strict=True) if number)
    x0, x1 = plot.x(left), plot.x(left + width)
    shapes, base = [element("title", f"{shown(left)} to {shown(left + width)}: {said}")], 0
    for kind, number in zip(KINDS, counts, strict=True):
        if number:
            top, bottom = plot.y(base + number), plot.y(base)
            wide = max(x1 - x0 - 1.5, 0.8)
            shapes.append(
                element("rect", x=x0, y=top, width=wide, height=max(bottom - top, 0.8), class_=f"fill-{kind}")
            )
            base += number
    return [element("g", *shapes)]


def curves(
    slug: str,
    title: str,
    lines: Sequence[tuple[str, str, Sequence[tuple[float, float]]]],
    *,
    shown: Format,
    steps: bool = False,
    description: str = "",
) -> Html:
    """Shares of 1 over x. A line is (class, name, points in order of x); `steps`: the share holds until the next."""
    xs = [x for _, _, points in lines for x, _ in points]
    low = min(xs)
    plot = _Axes(low, max(max(xs), low + 1e-9), 0, 1)
    shapes = [*plot.horizontal([0, 0.25, 0.5, 0.75, 1], lambda share: f"{share:.0%}"), *plot.vertical(shown)]
    for kind, name, points in lines:
        path = []
        for index, (x, y) in enumerate(points):
            if steps and index:
                path.append(f"H{plot.x(x):.1f}")
            path.append(f"{'L' if index else 'M'}{plot.x(x):.1f} {plot.y(y):.1f}")
        shapes.append(element("path", d="".join(path), class_=f"curve curve-{kind}"))
        if not steps:
            for x, y in points:
                tip = element("title", f"{name}, {shown(x)}: {percent(y)}")
                mark = element("circle", cx=plot.x(x), cy=plot.y(y), r=4, class_=f"mark-{kind}")
                shapes.append(element("g", tip, mark))
    return picture(slug, title, description, WIDTH, HEIGHT, *shapes)


def bars(rows: Sequence[tuple[str, str, int]], total: int) -> Html:
    """A table of names with bars: (class, name, count) rows, in shares of `total`."""
    most = max((number for _, _, number in rows), default=0) or 1
    return element(
        "table",
        [
            element(
                "tr",
                element("th", name, scope="row"),
                element("td", count(number), class_="number"),
                element("td", percent(number / total) if total else "", class_="number soft"),
                element(
                    "td",
                    element(
                        "svg",
                        element("rect", x=0, y=2, width=160 * number / most, height=12, class_=f"fill-{kind}"),
                        viewBox="0 0 160 16", class_="bar", aria_hidden="true",
                    ),
                ),
            )
            for kind, name, number in rows
        ],
        class_="bars",
    )  # fmt: skip


def share_bar(kind: str, part: int, whole: int) -> Html:
    """A part of a whole, whose numbers stand beside it."""
    return element(
        "svg",
        element("rect", x=0, y=0, width=480, height=8, rx=3, class_="rest"),
        element("rect", x=0, y=0, width=480 * part / (whole or 1), height=8, rx=3, class_=f"fill-{kind}"),
        viewBox="0 0 480 8", class_="share", aria_hidden="true",
    )  # fmt: skip


def rate_words(rate: Mapping[str, Any]) -> str:
    """A rate with its interval in words."""
    return f"{percent(rate['rate'])} ({interval(rate['low'], rate['high'])})"


def _round_up(value: float) -> int:
    """The least even round number from `value` on: an axis ends there, and its half is whole."""
    if value <= 2:
        return max(1, math.ceil(value))
    power = 10 ** math.floor(math.log10(value))
    return next(
        int(power * factor)
        for factor in (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10, 12)
        if power * factor >= value and power * factor == int(power * factor) and int(power * factor) % 2 == 0
    )


class _Axes:
    """From numbers to places in the picture."""

    def __init__(self, left: float, right: float, bottom: float, top: float) -> None:
        self._left, self._wide = left, right - left
        self._bottom, self._high = bottom, top - bottom

    def x(self, value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (value - self._left) / self._wide

    def y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - self._bottom) / self._high

    def horizontal(self, values: Sequence[float], shown: Format) -> list[Html]:
        return [
            joined(
                element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=self.y(value), y2=self.y(value), class_="grid"),
                element("text", shown(value), x=_LEFT - 6, y=self.y(value) + 4, text_anchor="end"),
            )
            for value in values
        ]

    def vertical(self, shown: Format) -> list[Html]:
        """Names of round values below the axis, about five of them."""
        step = _tick(self._wide / 5, _TIMES if shown is duration else ())
        first = math.ceil(self._left / step - 1e-9)
        last = math.floor((self._left + self._wide) / step + 1e-9)
        return [
            element("text", text, x=self.x(at * step), y=HEIGHT - _BOTTOM + 17, text_anchor=_anchor(self.x(at * step)))
            for at in range(first, last + 1)
            if (text := shown(at * step))
        ]


def _anchor(x: float) -> str:
    """A name at the right edge ends below its value, where half of it would be cut off."""
    return "end" if x > WIDTH - 2 * _RIGHT else "middle"


_TIMES: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)


def _tick(least: float, among: Sequence[float] = ()) -> float:
    """The least round number from `least` on; one of `among` where that holds any."""
    if found := [one for one in among if among[0] <= least <= one]:
        return found[0]
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= least * (1 - 1e-9))
