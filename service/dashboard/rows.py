"""A request as a row of a list: who asked for what, where it is, what came of it, and where to read on.

What a run came to is read from the end of its log, since a list must not read logs. Left out: the lists.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.ends import Outcome
from agent.events import EventType
from service.api.finding import folder_of
from service.dashboard.frame import between, moment
from service.dashboard.settings import DashboardSettings
from service.store import ACTIVE, Request, State, Store
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
_TAIL: Final = 64 * 1024  # bytes of a log's end
_LATER: Final = 5.0  # seconds: the clocks of two machines


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


def rows(settings: DashboardSettings, runs: Path, store: Store, requests: Iterable[Request]) -> list[Row]:
    return [_row(settings, runs, store, one) for one in requests]


def _row(settings: DashboardSettings, runs: Path, store: Store, request: Request) -> Row:
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
    )


def outcome_of(runs: Path, store: Store, request: Request) -> Outcome | None:
    """What the run of a request that has ended came to, if that is the last thing that its log says."""
    if not request.run or request.ended is None:
        return None
    folder = folder_of(runs, store, request)
    ended = moment(request.ended)
    last = _last_line(folder.events) if folder else None
    if last is None or ended is None or last.get("type") != EventType.RUN_ENDED:
        return None
    try:
        # A later request may have gone on with the same run: then its end isn't this one's.
        return Outcome(last["data"]["outcome"]) if last["time"] <= ended.timestamp() + _LATER else None
    except (KeyError, TypeError, ValueError):
        return None


def _last_line(log: Path) -> dict[str, Any] | None:
    try:
        with log.open("rb") as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - _TAIL))
            lines = opened.read(_TAIL).splitlines()
        found = json.loads(lines[-1]) if lines else None
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
