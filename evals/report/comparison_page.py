"""A comparison as one page that stands by itself. Left out: what is compared and how (`comparison`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from evals.report import plots
from evals.report.comparison import power_words, verdict
from evals.report.html import Html, document, element
from evals.report.numbers import Format, count, duration, interval, money, p_value, percent, plural, points, short_count
from evals.report.tables import plain_table

MAX_NAMED: Final = 1000
MEASURE_NAMES: Final[Mapping[str, tuple[str, Format]]] = {
    "steps": ("steps", short_count),
    "completion_tokens": ("tokens written", short_count),
    "prompt_tokens": ("tokens read", short_count),
    "cost": ("cost", money),
    "seconds": ("time", duration),
}


def comparison_page(found: Mapping[str, Any]) -> str:
    """The whole page as text, to be written as UTF-8."""
    a, b = found["a"], found["b"]
    title = f"A: {a['name']} – B: {b['name']}"
    return document(
        title,
        element("header", element("div", "Comparison of two evaluation runs", class_="eyebrow"), element("h1", title)),
        element(
            "main",
            _result(found),
            _flips(found["flips"]),
            _usage(found["usage"]),
            _settings(found["settings"]),
            _left_out(found["left_out"]),
        ),
    )


def _result(found: Mapping[str, Any]) -> Html:
    low, high = found["interval"]
    hero = element(
        "div",
        element("div", f"{100 * found['difference']:+.1f}", element("small", " points"), class_="figure"),
        element(
            "div",
            element("p", element("strong", verdict(found))),
            plots.difference_bar(found["difference"], low, high),
            class_="beside",
        ),
        class_="hero",
    )
    rows = []
    for name in ("a", "b"):
        one = found[name]
        rows.append(
            [
                f"{name.upper()}: {one['name']}",
                element("span", f"{', '.join(one['models'])} ({one['kind']})"),
                count(one["resolved"]),
                count(one["attempts"]),
                percent(one["rate"]),
                interval(one["low"], one["high"]),
                plots.interval_bar(one["rate"], one["low"], one["high"]),
            ]
        )
    head = ("run", "model", "resolved", "attempts", "rate", "95 % interval", "0 to 100 %")
    return element(
        "section",
        hero,
        [element("p", line) for line in power_words(found)],
        plain_table("Both runs", head, rows),
        _table(found),
        element("p", f"{found['rule']} Test: {found['test']}, p = {p_value(found['p'])}; interval: bootstrap of the "
                     "paired difference.", class_="soft"),
    )  # fmt: skip


def _table(found: Mapping[str, Any]) -> Html | None:
    table = found["table"]
    if table is None:
        return None
    rows = [
        ["resolved by A", count(table["both"]), count(table["only_a"])],
        ["not resolved by A", count(table["only_b"]), count(table["neither"])],
    ]
    return plain_table("Instances by result", ("instances", "resolved by B", "not resolved by B"), rows)


def _flips(flips: Mapping[str, Any]) -> Html:
    parts = [element("h2", "Instances that differ")]
    for key, title in (("gained", "B resolves more often"), ("lost", "A resolves more often")):
        named = flips[key]
        parts.append(element("h3", f"{title}: {plural(len(named), 'instance')}"))
        items = [
            element("li", one["instance_id"], element("span", _why(one), class_="soft")) for one in named[:MAX_NAMED]
        ]
        if len(named) > MAX_NAMED:
            items.append(element("li", f"and {count(len(named) - MAX_NAMED)} more"))
        parts.append(element("ul", items, class_="names") if items else element("p", "None.", class_="soft"))
    return element("section", *parts)


def _why(one: Mapping[str, Any]) -> str:
    (a, of_a), (b, of_b) = one["a"], one["b"]
    said = [] if of_a == of_b == 1 else [f"{a}/{of_a} and {b}/{of_b}"]
    if one["causes"]:
        said.append(f"{'A' if a * of_b < b * of_a else 'B'}: {', '.join(one['causes'])}")
    return f" – {'; '.join(said)}" if said else ""


def _usage(usage: Mapping[str, Any]) -> Html:
    rows: list[Sequence[str | Html]] = []
    for key, one in usage.items():
        name, shown = MEASURE_NAMES[key]
        low, high = one["interval"]
        covers = low <= 0 <= high
        change = points(one["b"] / one["a"] - 1).replace(" points", " %") if one["a"] else ""
        rows.append(
            [name, shown(one["a"]), shown(one["b"]), shown(one["difference"]), change, f"{shown(low)} to {shown(high)}",
             element("span", "cannot be told apart" if covers else "differs"), count(one["pairs"])]
        )  # fmt: skip
    head = ("mean per attempt", "A", "B", "B - A", "change", "95 % interval", "", "pairs")
    body = plain_table("What they took", head, rows) if rows else element("p", "Not known of both.", class_="soft")
    return element("section", element("h2", "What they took"), body)


def _settings(settings: Sequence[Sequence[str]] | None) -> Html:
    parts = [element("h2", "What differs in how they were made")]
    if settings is None:
        parts.append(element("p", "One of them comes without a manifest, so it can't be said.", class_="note"))
    elif not settings:
        parts.append(element("p", "Nothing that their manifests know of.", class_="soft"))
    else:
        rows = [[name, element("span", a), element("span", b)] for name, a, b in settings]
        parts.append(plain_table("Settings that differ", ("setting", "A", "B"), rows))
    return element("section", *parts)


def _left_out(left_out: Mapping[str, Sequence[str]]) -> Html | None:
    names = (("no_verdict", "without a verdict on one side"), ("only_a", "only in A"), ("only_b", "only in B"))
    parts = []
    for key, title in names:
        if ids := left_out[key]:
            items = [element("li", one) for one in ids[:MAX_NAMED]]
            listed = element("ul", items, class_="names")
            parts.append(element("details", element("summary", f"{plural(len(ids), 'instance')} {title}"), listed))
    return element("section", element("h2", "Left out"), *parts) if parts else None
