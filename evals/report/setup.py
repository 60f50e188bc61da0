"""What a run was made with, as its manifest says it: everything that changes a score, in tables of names and values.

Known parts come first; what this release doesn't know is shown as it comes. Left out: what stands elsewhere on the
page or follows from it (ids, seeds of single attempts, environments of single instances).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from evals.report.html import Html, element
from evals.report.numbers import date

_MOST_LINES: Final = 80  # of one part
_MOST_TEXT: Final = 400
_FIRST: Final = ("model", "dataset", "sampling", "sampler", "limits", "settings", "texts", "versions", "machine")
_NAMES: Final = {
    "model": "Model",
    "dataset": "Data set",
    "sampling": "Sampling",
    "sampler": "Sampling",
    "limits": "Limits",
    "settings": "Settings",
    "texts": "Prompts, template and tools, by hash",
    "versions": "Versions",
    "machine": "Machine",
}
_LEFT_OUT: Final = frozenset({"instances", "by_instance", "environments"})


def lines_of(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, value) for each leaf; lists of plain values are one line."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _LEFT_OUT:
                yield from lines_of(inner, f"{name}.{key}" if name else str(key))
        return
    if isinstance(value, list | tuple):
        shown = ", ".join(str(one) if isinstance(one, str) else json.dumps(one) for one in value)
    else:
        shown = value if isinstance(value, str) else json.dumps(value)
    yield name, shown if len(shown) <= _MOST_TEXT else f"{shown[:_MOST_TEXT]} ..."


def setup_tables(manifest: Mapping[str, Any]) -> Html:
    """A table for each part of the manifest."""
    parts = {key: value for key, value in manifest.items() if key not in _LEFT_OUT}
    order = [*(key for key in _FIRST if key in parts), *(key for key in parts if key not in _FIRST)]
    tables, plain = [], []
    for key in order:
        lines = [(name, shown) for name, shown in lines_of(parts[key]) if shown not in ("", "null")]
        if isinstance(parts[key], Mapping):
            if lines:
                tables.append(_table(_NAMES.get(key, key), lines))
        else:
            plain += [(key, date(shown) if key == "created" else shown) for _, shown in lines]
    if plain:
        tables.append(_table("Run", plain))
    return element(
        "section",
        element("h2", "Set-up"),
        element("p", "What changes a score; manifest.json beside this page holds all of it."),
        element("div", tables, class_="setup"),
        id="set-up",
    )


def _table(title: str, lines: list[tuple[str, str]]) -> Html:
    rows = [
        element("tr", element("th", name or "name", scope="row"), element("td", shown))
        for name, shown in lines[:_MOST_LINES]
    ]
    if len(lines) > _MOST_LINES:
        rows.append(element("tr", element("th", f"{len(lines) - _MOST_LINES} more", scope="row"), element("td", "")))
    return element("div", element("h3", title), element("table", rows, class_="set"))
