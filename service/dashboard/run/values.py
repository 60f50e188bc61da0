"""What an event's data say, as values of a page: texts cut to size, calls, sides of a check, numbers of a turn.

They raise KeyError, TypeError, ValueError or AttributeError for data of another form. Left out: what follows from the
order of events (`timeline`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from agent.usage import turn_usage
from service.dashboard.run.views import NOTHING, Argument, CallView, Piece, Side, Totals, TurnPoint, piece

_MOST_LINE: Final = 400  # characters of what stands in a line
_MOST_ARGUMENTS: Final = 20
_SHORT: Final = 100  # characters of an argument that stands in its call's line
_MAIN: Final = frozenset({("bash", "command"), ("submit", "summary")})
_ABOUT: Final = ("path", "command", "pattern", "summary")
_EXIT_LINE: Final = re.compile(r"\n\[exit status -?\d+, [\d.]+ s\]\Z")


def line(given: str, most: int = _MOST_LINE) -> str:
    """The first line, cut."""
    first = given[: most + 1].partition("\n")[0]
    return first if len(first) <= most else f"{first[:most]}…"


def text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cut(given: str, most: int) -> Piece:
    return piece(given, most) if given else NOTHING


def call(index: int, data: Mapping[str, Any], seq: int, most: int) -> CallView:
    """A call of a turn, before it is answered. `most`: characters of a text."""
    name, given = str(data.get("name", "")), data.get("arguments")
    texts = {str(key): text(value) for key, value in given.items()} if isinstance(given, dict) else {}
    arguments = tuple(
        Argument(line(key), cut(value, most), (name, key) in _MAIN or "\n" in value or len(value) > _SHORT)
        for key, value in list(texts.items())[:_MOST_ARGUMENTS]
    )
    about = next((texts[key] for key in _ABOUT if texts.get(key)), "")
    return CallView(index, line(name), line(about.lstrip()), arguments, seq)


def output(given: str, *, command: bool) -> str:
    """Without the lines around a command's output that say what is shown beside it."""
    return _EXIT_LINE.sub("", given.removeprefix("Output:\n")) if command else given


def side(data: Mapping[str, Any], most: int) -> Side:
    end = str(data["end"])
    code = data["exit_code"] if end == "exited" else None
    return Side(code, end, float(data["seconds"]), cut(str(data["output"]).strip(), most))


def point(data: Mapping[str, Any]) -> TurnPoint:
    usage = turn_usage(data)
    return TurnPoint(
        turn=int(usage.turn),
        prompt=int(usage.prefix.prompt),
        cached=usage.prefix.cached,
        written=int(usage.completion),
        reasoning=int(usage.reasoning or 0),
        seconds=float(usage.seconds),
        first_token=usage.first_token,
        cost=data["usage"].get("cost"),
        lost=usage.lost or "",
    )


def summed(before: Totals, one: TurnPoint) -> Totals:
    cached = before.cached + one.cached if before.cached is not None and one.cached is not None else None
    cost = before.cost if one.cost is None else (before.cost or 0.0) + one.cost
    return Totals(before.turns + 1, before.prompt + one.prompt, cached, before.written + one.written, cost)
