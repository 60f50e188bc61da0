"""The table of attempts: a row each, with a link to its trajectory. Left out: everything that isn't in a row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from evals.report.html import Html, element
from evals.report.numbers import NOTHING, count, duration, money, percent, plural, short_count

MAX_ROWS: Final = 20_000
STATUS_NAMES: Final = {
    "resolved": "resolved",
    "unresolved": "unresolved",
    "no_patch": "no patch",
    "infrastructure": "no verdict",
}
_TRAJECTORY: Final = re.compile(r"trajectories/[A-Za-z0-9][A-Za-z0-9._+-]{0,199}/[0-9]{1,6}")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")


def anchor(row: Mapping[str, Any]) -> str:
    """The name of an attempt's row within the page."""
    return f"i-{_UNSAFE.sub('_', str(row['instance_id']))}-{int(row['attempt'])}"


def trajectory_address(row: Mapping[str, Any]) -> str:
    """The address of an attempt's page, seen from the report; "" where there is none or its folder isn't below."""
    folder = str(row.get("trajectory") or "").rstrip("/")
    return f"{folder}/index.html" if _TRAJECTORY.fullmatch(folder) else ""


def instance_table(rows: Sequence[Mapping[str, Any]], per_instance: int) -> Html:
    """All attempts in the order of their names; sorted and searched by the page's script where that runs."""
    several = per_instance > 1
    numbers = ("F2P", "P2P", "steps", "written", "read", "cached", "cost", "time")
    texts = ["instance", *(["attempt"] if several else []), "result", "cause"]
    head = [element("th", name, scope="col") for name in texts]
    head += [element("th", name, scope="col", class_="number") for name in numbers]
    head += [element("th", name, scope="col") for name in ("flags", "difficulty", "end")]
    body = [_row(row, several) for row in rows[:MAX_ROWS]]
    table = element(
        "table",
        element("thead", element("tr", head)),
        element("tbody", body),
        class_="sortable instances",
        data_filter="yes",
        id="instance-table",
    )
    left = len(rows) - len(body)
    note = element("p", f"{plural(left, 'more row')} in report.json.", class_="note") if left > 0 else None
    explained = (
        "F2P: tests of the issue that pass, of all (FAIL_TO_PASS); P2P: tests that passed before and still do "
        "(PASS_TO_PASS). Written and read: tokens."
    )
    return element(
        "section",
        element("h2", "Instances"),
        element("p", explained, class_="soft"),
        note,
        element("div", table, class_="scroll", tabindex=0, role="region", aria_label="Instances"),
        id="instances",
    )


def _row(row: Mapping[str, Any], several: bool) -> Html:
    address = trajectory_address(row)
    name: str | Html = row["instance_id"]
    kind = "no_verdict" if row["status"] == "infrastructure" else row["status"]
    result = STATUS_NAMES.get(row["status"], row["status"])
    ran = bool(row["steps"])
    share = row["cached_tokens"] / row["prompt_tokens"] if row["prompt_tokens"] else None
    flags = [
        name for name, holds in (("leak", row["leaks"]), ("doubt", row["doubt"]), ("retried", row["tries"])) if holds
    ]
    mark = element("i", class_=f"key key-{kind}") if kind in STATUS_NAMES or kind == "no_verdict" else None
    return element(
        "tr",
        element("th", element("a", name, href=address) if address else name, scope="row", title=row["instance_id"]),
        element("td", count(row["attempt"])) if several else None,
        element("td", mark, result),
        element("td", row["cause"] or ""),
        _passed(row["fail_to_pass"]),
        _passed(row["pass_to_pass"]),
        _cell(row["steps"] if ran else None, count),
        _cell(row["completion_tokens"] if ran else None, short_count),
        _cell(row["prompt_tokens"] if ran else None, short_count),
        _cell(share, lambda value: percent(value, 0)),
        _cell(row["cost"], money),
        _cell(row["seconds"] if ran else None, duration),
        element("td", ", ".join(flags)),
        element("td", row["difficulty"]),
        element("td", row["end"] or row["outcome"]),
        id=anchor(row),
        data_kind=result,
    )


def _cell(value: float | None, shown: Any) -> Html:
    if value is None:
        return element("td", NOTHING, class_="number soft", data_v="")
    return element("td", shown(value), class_="number", data_v=f"{value:g}" if value % 1 else str(int(value)))


def _passed(pair: Sequence[int] | None) -> Html:
    if not pair:
        return element("td", NOTHING, class_="number soft", data_v="")
    passed, total = pair
    share = f"{passed / total:.6f}" if total else "1"
    return element("td", f"{count(passed)}/{count(total)}", class_="number", data_v=share)
