"""What stands on the page of a run: which parts, open or not, with what diffs; and their markup, piece by piece.

A page's size is bounded: older steps stand there by a line each and come when they are opened, and what is older still
comes when it is asked for. Left out: the addresses (`routes`), and the stream of what is new (`live`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from markupsafe import Markup

from agent.runs import RunFolder
from agent.step_diffs import Change
from service.dashboard.frame import ENVIRONMENT, moment
from service.dashboard.run.changes import Diffs
from service.dashboard.run.diff import MOST_LINES, DiffView
from service.dashboard.run.highlight import Budget
from service.dashboard.run.phases import Phase
from service.dashboard.run.views import Part, Result, RunView, Step, TurnPoint

OPEN: Final = 12  # steps that are open
_BODIES: Final = 60  # steps that are there as a whole
_SIZE: Final = 500_000  # characters of those, about
LISTED: Final = 200  # parts that stand on the page
WHOLE_LINES: Final = 5_000  # of a diff that is shown by itself
_TURNS: Final = 300  # rows of the table

DiffsByCall = Mapping[int | None, DiffView | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """A part as it is shown. `body`: it is there as a whole; `open`: and unfolded."""

    part: Part
    open: bool = True
    body: bool = True
    diffs: DiffsByCall | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """A phase's place in the bar, of 1000."""

    name: str
    slug: str
    seconds: float
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class TurnRow:
    point: TurnPoint
    together: int  # tokens read up to here


async def entries(diffs: Diffs, folder: RunFolder | None, parts: Sequence[Part]) -> list[Entry]:
    """The last of `parts` open, those before by a line each."""
    budget, left, steps = Budget(), _SIZE, 0
    found: list[Entry] = []
    for part in reversed(parts):
        if isinstance(part, Step):
            steps, left = steps + 1, left - part.size
            body = steps <= _BODIES and left >= 0
            found.append(await entry(diffs, folder, part, budget, open_=body and steps <= OPEN, body=body))
        else:
            found.append(await entry(diffs, folder, part, budget))
    return found[::-1]


async def entry(
    diffs: Diffs,
    folder: RunFolder | None,
    part: Part,
    budget: Budget,
    *,
    open_: bool = True,
    body: bool = True,
    most: int = MOST_LINES,
) -> Entry:
    """One part with the diffs that it needs."""
    changes: list[tuple[int | None, Change]] = []
    if isinstance(part, Step) and body:
        changes = [(call.index, call.change) for call in part.calls if call.change]
    elif isinstance(part, Result) and part.change:
        changes = [(None, part.change)]
    made: dict[int | None, DiffView | None] = {}
    for index, change in changes:
        made[index] = await diffs.of(folder, (change.before, change.after), budget, most) if folder else None
    return Entry(part, open_, body, made)


def bars(view: RunView) -> list[Bar]:
    """The phases one behind the other; even the shortest can be seen."""
    least = 4.0
    whole = sum(seconds for _, seconds in view.phases) or 1.0
    widths = [max(least, 1000 * seconds / whole) for _, seconds in view.phases]
    scale, x, found = 1000 / (sum(widths) or 1.0), 0.0, []
    for (name, seconds), width in zip(view.phases, widths, strict=True):
        found.append(Bar(name, Phase(name).name.lower(), seconds, round(x, 2), round(width * scale, 2)))
        x += width * scale
    return found


def rows(points: Sequence[TurnPoint]) -> list[TurnRow]:
    """All turns with running sums."""
    together, found = 0, []
    for point in points:
        together += point.prompt
        found.append(TurnRow(point, together))
    return found


def turns(key: str, points: Sequence[TurnPoint]) -> Markup:
    """The last turns as a table."""
    found = rows(points)
    left_out = max(0, len(found) - _TURNS)
    text = ENVIRONMENT.get_template("run_turns.html").render(key=key, rows=found[left_out:], left_out=left_out)
    return Markup(text)  # noqa: S704  a template's text, escaped by it


def series(points: Sequence[TurnPoint]) -> dict[str, list[Any]]:
    """For the plot and for programs: a list per quantity, a place per turn. Tokens; shares from 0 to 1."""
    return {
        "turn": [point.turn + 1 for point in points],
        "prompt": [point.prompt for point in points],
        "cached": [point.cached for point in points],
        "new": [None if point.cached is None else point.prompt - point.cached for point in points],
        "share": [None if point.share is None else round(point.share, 4) for point in points],
        "written": [point.written for point in points],
        "reasoning": [point.reasoning for point in points],
        "together": [row.together for row in rows(points)],
        "seconds": [point.seconds for point in points],
        "cost": [point.cost for point in points],
    }


@cache
def macros() -> Any:
    """The pieces' templates, by name; each gives markup."""
    return ENVIRONMENT.get_template("run_parts.html").module


# -- how values are written, beside what all pages have -------------------------------------------------------------


def took(seconds: float | None) -> str:
    """0.0712 as 71 ms, 3.14 as 3.1 s; longer times in whole seconds."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else str(ENVIRONMENT.filters["duration"](seconds))


def iso(at: float) -> str:
    found = moment(at)
    return found.isoformat(timespec="seconds") if found else ""


def hour(at: float) -> str:
    """14:05:31 UTC."""
    found = moment(at)
    return found.astimezone(UTC).strftime("%H:%M:%S UTC") if found else ""


def ago_seconds(since: float) -> str:
    found = moment(since)
    return str(ENVIRONMENT.filters["duration"]((datetime.now(UTC) - found).total_seconds())) if found else ""


FILTERS: Final = {"took": took, "iso": iso, "hour": hour, "ago_seconds": ago_seconds}
ENVIRONMENT.filters |= FILTERS
