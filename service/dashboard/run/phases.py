"""Where a run's time went: each second between two of its events belongs to one phase.

Time in which nobody was at work, behind an end or a process that died, belongs to none. Left out: drawing it.
"""

from __future__ import annotations

import re
from calendar import timegm
from enum import StrEnum
from time import strptime
from typing import Final

from agent.events import Event, EventType

_BEGUN: Final = re.compile(r"(\d{8}-\d{6})-[0-9a-f]{4}")  # the id of a run says when it was made


class Phase(StrEnum):
    """In the order in which they are shown."""

    CHECKOUT = "checkout"
    ENVIRONMENT = "environment and sandbox"
    PREFILL = "model, reading"
    DECODING = "model, writing"
    TOOLS = "tools"
    VERIFICATION = "verification"
    OTHER = "in between"


_THEN: Final = {
    EventType.RUN_STARTED: Phase.ENVIRONMENT,
    EventType.RUN_RESUMED: Phase.ENVIRONMENT,
    EventType.FOLLOW_UP: Phase.ENVIRONMENT,
    EventType.TURN_STARTED: Phase.DECODING,
    EventType.TURN: Phase.OTHER,
    EventType.TURN_DROPPED: Phase.OTHER,
    EventType.CALL_STARTED: Phase.TOOLS,
    EventType.OBSERVATION: Phase.OTHER,
    EventType.LOOP_ENDED: Phase.VERIFICATION,
    EventType.PATCH: Phase.VERIFICATION,
    EventType.CHECK_STARTED: Phase.VERIFICATION,
    EventType.VERIFIED: Phase.OTHER,
    EventType.RUN_ENDED: Phase.OTHER,
}
_LONGEST_CHECKOUT: Final = 6 * 3600.0  # seconds; more isn't one, but a folder that was named otherwise
_NOBODY_BEFORE: Final = frozenset({EventType.RUN_RESUMED, EventType.FOLLOW_UP})


class PhaseClock:
    """Sums up seconds by phase, event by event."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(Phase, 0.0)
        self._phase = Phase.OTHER
        self._last: float | None = None

    def take(self, event: Event) -> None:
        if event.type is EventType.RUN_STARTED:
            begun = begun_at(str(event.data.get("run", "")))
            known = begun is not None and event.time - begun < _LONGEST_CHECKOUT
            self._last, self._phase = begun if known else None, Phase.CHECKOUT
        if self._last is not None and event.type not in _NOBODY_BEFORE:
            self._spend(event, max(0.0, event.time - self._last))
        self._last = event.time
        self._phase = _THEN.get(event.type, self._phase)

    def _spend(self, event: Event, seconds: float) -> None:
        first = event.data.get("first_token") if event.type is EventType.TURN else None
        reading = min(seconds, max(0.0, first)) if isinstance(first, int | float) else 0.0
        self.seconds[Phase.PREFILL] += reading
        self.seconds[self._phase] += seconds - reading

    @property
    def whole(self) -> float:
        return sum(self.seconds.values())

    def shares(self) -> tuple[tuple[str, float], ...]:
        """(phase, seconds) of those that took any."""
        return tuple((phase.value, round(seconds, 3)) for phase, seconds in self.seconds.items() if seconds > 0)


def begun_at(run: str) -> float | None:
    """When a run's folder was made, to the second; None for an id of another form."""
    found = _BEGUN.fullmatch(run)
    try:
        return float(timegm(strptime(found[1], "%Y%m%d-%H%M%S"))) if found else None
    except ValueError:
        return None
