"""A run's token usage as a table: a line per turn, totals, and why prompts were not cached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent.usage import RunUsage, TurnUsage
from runtime.prefix import Reason

_HEAD: Final = ("step", "prompt", "cached", "share", "new", "again", "written", "seconds", "first")
_NEW: Final = (Reason.NEW, Reason.FIRST_TURN)


def usage_lines(usage: RunUsage) -> Iterator[str]:
    """The table. `new` is what nobody had computed, `again` what need not have been."""
    if not usage.turns:
        return
    rows = [_HEAD, *map(_row, usage.turns)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row, turn in zip(rows, [None, *usage.turns], strict=True):
        line = "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield f"{line}  {turn.lost}" if turn and turn.lost else line
    yield from _totals(usage)


def _row(turn: TurnUsage) -> tuple[str, ...]:
    use = turn.prefix
    new = sum(use.uncached.get(reason, 0) for reason in _NEW)
    again = sum(use.uncached.values()) - new
    known = turn.accounted and use.cached is not None
    return (
        str(turn.turn + 1),
        str(use.prompt),
        "-" if use.cached is None else str(use.cached),
        _share(use.cached, use.prompt),
        str(new) if known else "-",
        str(again) if known else "-",
        str(turn.completion),
        f"{turn.seconds:.1f}",
        "-" if turn.first_token is None else f"{turn.first_token:.2f}",
    )


def _totals(usage: RunUsage) -> Iterator[str]:
    said = "not told by the host" if usage.cached is None else f"{_share(usage.cached, usage.prompt)} cached"
    yield f"in all: {usage.prompt} prompt tokens, {said}, {usage.completion} written"
    if usage.cached is not None and all(turn.accounted for turn in usage.turns):
        computed = ", ".join(f"{count} {_NAMES.get(reason, reason)}" for reason, count in usage.uncached.items())
        yield f"computed {usage.prompt - usage.cached}: {computed}"


_NAMES: Final = {
    Reason.FIRST_TURN: "in the first turn",
    Reason.GRANULARITY: "behind the last checkpoint",
    Reason.DIVERGENCE: "after the prompt had been changed",
    Reason.LOST: "lost by eviction or a restart",
    Reason.UNSAID: "the host doesn't say why",
    Reason.OTHER: "for no known reason",
}


def _share(cached: int | None, prompt: int) -> str:
    return "-" if cached is None or not prompt else f"{cached / prompt:.1%}"
