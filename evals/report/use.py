"""What attempts took, as plots: steps, tokens, cache, cost, time. Left out: the sums (`page`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from evals.report import plots
from evals.report.distributions import KINDS, kind_of
from evals.report.html import Html, element
from evals.report.numbers import count, duration, money, percent, short_count

_PLOTS: Final = (
    ("steps", "Steps", count),
    ("completion_tokens", "Tokens written", short_count),
    ("prompt_tokens", "Tokens read", short_count),
    ("cached_share", "Share of read tokens that were cached", lambda share: percent(share, 0)),
    ("cost", "Cost", money),
    ("seconds", "Time", duration),
)


def use_section(report: Mapping[str, Any]) -> Html:
    """A figure for each quantity that is known of any attempt."""
    figures = []
    for name, title, shown in _PLOTS:
        spread = report["usage"][name]
        if not spread["known"]:
            continue
        unknown = f" – not known of {count(spread['unknown'])}" if spread["unknown"] else ""
        caption = element("figcaption", f"{title} per attempt", element("small", unknown))
        drawn = plots.histogram(f"use-{name.replace('_', '-')}", f"{title} per attempt", spread, shown)
        figures.append(element("figure", caption, drawn))
    if reach := _reach(report["attempts"]):
        figures.append(reach)
    kinds = {kind_of(row["status"]) for row in report["attempts"]}
    if not figures:
        figures = [element("p", "Nothing is known of it: the predictions are somebody else's.")]
    return element(
        "section",
        element("h2", "What it took"),
        plots.legend(*(kind for kind in KINDS if kind in kinds)),
        element("div", figures, class_="plots"),
        id="use",
    )


def _reach(rows: Sequence[Mapping[str, Any]]) -> Html | None:
    """The share that is resolved within so many steps: what a lower limit would have cost."""
    solved = sorted(row["steps"] for row in rows if row["status"] == "resolved" and row["steps"])
    if len(solved) < 2 or solved[0] == solved[-1]:
        return None
    points = {0: 0.0} | {steps: at / len(rows) for at, steps in enumerate(solved, 1)}
    most = max(row["steps"] for row in rows)
    points[most] = len(solved) / len(rows)
    drawn = plots.curves(
        "reach", "Resolved within so many steps", [("a", "resolved", list(points.items()))], shown=count, steps=True,
        description=f"Half of what was resolved took {solved[(len(solved) - 1) // 2]} steps or fewer.",
    )  # fmt: skip
    caption = element("figcaption", "Resolved within so many steps", element("small", " – share of all attempts"))
    return element("figure", caption, drawn)
