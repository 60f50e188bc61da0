"""A request as a row of a list: who asked for what, where it is, what came of it, and where to read on.

What a run came to is looked up in its log, once for each time that the log has changed. Left out: the lists.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from agent.ends import Outcome
from agent.events import EventType
from service.api.finding import folder_of
from service.dashboard.frame import between, moment
from service.dashboard.settings import DashboardSettings
from service.store import ACTIVE, Request, State, Store
from service.store.overview import stopping
from service.webhooks.model import WishKind

KINDS: Final = {
    WishKind.FIX: "fix",
    WishKind.CONTINUE: "go on",
    WishKind.RETRY: "begin again",
    WishKind.REVIEWED: "answer a review",
    WishKind.CHECKS_FAILED: "mend failing checks",
    WishKind.EXPLAIN: "explain",
}
"""What stands in lists: requests that ask for work, in words."""
_MOST_READ: Final = 16 * 1024 * 1024  # bytes of a log's end
_TYPE: Final = EventType.RUN_ENDED.value
_ENDED: Final = f'"{_TYPE}"'.encode()
_CLOCKS: Final = 5.0  # seconds by which those of two machines may differ


@dataclass(frozen=True, slots=True)
class Row:
    """`took`: seconds until it ended, or until now. `outcome` is the run's own; addresses are empty where none is."""

    id: str
    slug: str
    number: int
    state: State
    what: str
    who: str
    why: str
    outcome: str
    created: str
    took: float | None
    pull: int | None
    issue_url: str
    pull_url: str
    active: bool
    stopping: bool


def rows(settings: DashboardSettings, runs: Path, store: Store, requests: Iterable[Request]) -> list[Row]:
    asked = stopping(store)
    return [_row(settings, runs, store, one, asked) for one in requests]


def _row(
    settings: DashboardSettings, runs: Path, store: Store, request: Request, to_stop: Collection[tuple[int, int]]
) -> Row:
    wish = request.wish
    number = request.pull or (wish.number if wish.pull else None)
    outcome = outcome_of(runs, store, request)
    return Row(
        id=request.id,
        slug=request.slug,
        number=wish.number,
        state=request.state,
        what=KINDS.get(wish.kind, wish.kind.value),
        who=request.asked_by.login if request.asked_by else "",
        why=request.why,
        outcome=outcome.value if outcome else "",
        created=request.created,
        took=between(request.created, request.ended),
        pull=number,
        issue_url="" if wish.pull else settings.issue(request.slug, wish.number),
        pull_url=settings.pull(request.slug, number) if number else "",
        active=request.state in ACTIVE,
        stopping=request.state in ACTIVE and (request.repository_id, wish.number) in to_stop,
    )


def outcome_of(runs: Path, store: Store, request: Request) -> Outcome | None:
    """What the run of a request that has ended came to then; later requests may have gone on with it since."""
    ended = moment(request.ended)
    if not request.run or ended is None:
        return None
    folder = folder_of(runs, store, request)
    found = _ends(folder.events) if folder else ()
    return next((outcome for at, outcome in reversed(found) if at <= ended.timestamp() + _CLOCKS), None)


def _ends(log: Path) -> tuple[tuple[float, Outcome], ...]:
    """(when, outcome) of each end that a log tells of, in order."""
    try:
        facts = log.stat()
    except OSError:
        return ()
    return _ends_of(log, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=512)
def _ends_of(log: Path, changed: int, size: int) -> tuple[tuple[float, Outcome], ...]:
    try:
        with log.open("rb") as opened:
            opened.seek(max(0, size - _MOST_READ))
            lines = [line for line in opened.read(_MOST_READ).splitlines() if _ENDED in line]
    except OSError:
        return ()
    found = [_end(line) for line in lines]
    return tuple(end for end in found if end is not None)


def _end(line: bytes) -> tuple[float, Outcome] | None:
    """None for a line that only mentions the word, or isn't whole."""
    try:
        event = json.loads(line)
        return (float(event["time"]), Outcome(event["data"]["outcome"])) if event["type"] == _TYPE else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
