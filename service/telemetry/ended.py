"""What the run of a request came to, in numbers: read from its log, kept once, read again by whoever counts.

It is kept as a line of the audit, which all processes and machines share, so the web process can say what workers did
that are gone. Numbers and names of ours only. Left out: adding up (`service.telemetry.metrics`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from agent.events import Event, EventLogError, EventType, read_events
from service.bot.story import story_of
from service.store import Request, Store
from service.store.engine import reading, writing
from service.store.receiving import now
from service.store.tables import AUDIT

RUN_ENDED: Final = "run ended"
_WHO: Final = "worker"
_A: Final = AUDIT.c


@dataclass(frozen=True, slots=True)
class Ended:
    """One request's part of a run. `seconds` that somebody was at work; tokens; `cost` in US dollars where known."""

    outcome: str
    model: str
    seconds: float
    turns: int
    prompt: int
    cached: int | None
    written: int
    cost: float | None
    sandboxes: int  # opened
    sandboxes_died: int
    follow_up: bool


def part_of(events: Iterable[Event], request: str, began: bool) -> list[Event]:
    """The events of a run's log that are a request's: behind the follow-up that names it, or those before any.

    `began`: whether the run was begun for this request. None where the log knows nothing of it.
    """
    parts: list[tuple[str | None, list[Event]]] = [(None, [])]
    for event in events:
        if event.type is EventType.FOLLOW_UP:
            parts.append((event.data.get("source"), []))
        parts[-1][1].append(event)
    named = next((part for source, part in reversed(parts) if source == request), None)
    if named is not None:
        return named
    return parts[0][1] if began else []


def log_of(runs: Path, store: Store, request: Request, run: str | None) -> tuple[str, list[Event]]:
    """A request's run and its part of the log; of a request whose end doesn't name a run, that of its conversation."""
    thread = store.thread(request.repository_id, request.wish.number)
    number = thread.number if thread else request.wish.number
    found = sorted(runs.glob(f"{request.repository_id}-{number}-*/*/events.jsonl"), key=lambda one: one.parent.name)
    named = [one for one in found if one.parent.name == run] if run else found
    if not named:
        return "", []
    try:
        events = list(read_events(named[-1]))
    except (EventLogError, OSError):
        return "", []
    began = bool(run) or any(_asked_before(request, event) for event in events[:1])
    return named[-1].parent.name, part_of(events, request.id, began)


def _asked_before(request: Request, event: Event) -> bool:
    return datetime.fromisoformat(request.created).timestamp() <= event.time


def ended_of(run: str, events: Sequence[Event]) -> Ended | None:
    """None where no turn was made and no end was reached."""
    kinds = [event.type for event in events]
    if EventType.TURN not in kinds and EventType.RUN_ENDED not in kinds:
        return None
    story = story_of(run, events)
    used = story.used
    return Ended(
        outcome=story.outcome or "cut off",
        model=story.model,
        seconds=round(used.seconds, 3),
        turns=used.turns,
        prompt=used.prompt,
        cached=used.cached,
        written=used.written,
        cost=used.cost,
        sandboxes=kinds.count(EventType.SANDBOX_OPENED),
        sandboxes_died=kinds.count(EventType.SANDBOX_DIED),
        follow_up=EventType.FOLLOW_UP in kinds,
    )


def keep(store: Store, request: str, ended: Ended) -> bool:
    """Whether it wasn't kept before: a job that is done again by another worker counts once."""
    known = sa.select(_A.seq).where(_A.what == RUN_ENDED, _A.about == request).limit(1)
    row = {"at": now(), "who": _WHO, "what": RUN_ENDED, "about": request, "data": json.dumps(asdict(ended))}
    with writing(store.engine) as connection:
        if connection.execute(known).first() is not None:
            return False
        connection.execute(sa.insert(AUDIT), row)
        return True


def kept(store: Store, after: int, most: int = 5000) -> tuple[int, list[Ended]]:
    """Those behind an audit line's number, oldest first, and the number of the last."""
    wanted = sa.select(_A.seq, _A.data).where(_A.seq > after, _A.what == RUN_ENDED).order_by(_A.seq).limit(most)
    with reading(store.engine) as connection:
        rows = [(int(row.seq), _read(row.data)) for row in connection.execute(wanted)]
    return (rows[-1][0] if rows else after), [one for _, one in rows if one is not None]


def _read(text: str) -> Ended | None:
    """None for a line of another version of this program."""
    data: dict[str, Any] = json.loads(text)
    try:
        return Ended(**data)
    except TypeError:
        return None
