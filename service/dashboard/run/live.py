"""The stream of what is new in a run, for its page: Server-Sent Events whose data are pieces of markup by their ids.

An event's id is the number of the log's last event in it, so who comes again says what they have, and is given all that
changed since: a piece that is there already is replaced, and none is missed. Left out: the pieces (`page`).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from service.dashboard.run.changes import Diffs
from service.dashboard.run.finding import Found
from service.dashboard.run.highlight import Budget
from service.dashboard.run.page import Entry, bars, entry, macros
from service.dashboard.run.reading import Readers
from service.dashboard.run.views import Part, RunView, Step

MOST_NEW: Final = 60  # parts; who misses more loads the page again
_AGAIN: Final = "event: again\ndata: {}\n\n"  # load the page once more
_END: Final = "event: end\ndata: {}\n\n"
_PAUSE: Final = 0.4  # seconds between two looks at the log
_ASK: Final = 2.0  # seconds between two questions to the database
_BREATH: Final = 15.0  # seconds of silence after which something is said


@dataclass(slots=True)
class Watch:
    """What one visitor was sent. `find`: the run as it is now, None when they may not look any more."""

    key: str
    readers: Readers
    diffs: Diffs
    find: Callable[[], Awaitable[Found | None]]
    after: int
    sent: dict[str, str] = field(default_factory=dict)

    async def events(self) -> AsyncIterator[str]:
        """Until the run has ended and all of it was sent."""
        found, asked, spoke = await self.find(), time.monotonic(), time.monotonic()
        while found is not None:
            view = await self._view(found)
            # Asked before the last look, so what is in the log of a run that has ended was seen.
            if (text := await self._message(found, view)) is not None:
                yield text
                if text == _AGAIN:
                    return
                spoke = time.monotonic()
            elif time.monotonic() - spoke > _BREATH:
                yield ": still here\n\n"
                spoke = time.monotonic()
            if found.active is None:
                break
            await asyncio.sleep(_PAUSE)
            if time.monotonic() - asked > _ASK:
                found, asked = await self.find(), time.monotonic()
        yield _END if found is not None else _AGAIN

    async def _view(self, found: Found) -> RunView:
        if found.folder is None:
            return RunView()
        return await asyncio.to_thread(self.readers.of(found.folder).view)

    async def _message(self, found: Found, view: RunView) -> str | None:
        if view.seq < self.after:  # another run, or a log that is gone
            self.after = -1
        parts = view.since(self.after)
        if len(parts) > MOST_NEW:
            return _AGAIN
        pieces = await self._pieces(found, parts)
        beside = await asyncio.to_thread(self._beside, found, view)
        changed = {name: text for name, text in beside.items() if self.sent.get(name) != text}
        self.sent |= changed
        if not pieces and not changed and view.seq == self.after:
            return None
        self.after = view.seq
        data = {
            "now": time.time(),
            "beside": changed,
            "pieces": pieces,
            "points": [_numbers(part) for part in parts if isinstance(part, Step)],
        }
        return f"id: {view.seq}\nevent: run\ndata: {json.dumps(data)}\n\n"

    async def _pieces(self, found: Found, parts: tuple[Part, ...]) -> list[dict[str, Any]]:
        budget = Budget()
        shown = [await entry(self.diffs, found.folder, part, budget) for part in parts]
        return await asyncio.to_thread(lambda: [piece for one in shown for piece in self._made(one)])

    def _made(self, shown: Entry) -> Iterator[dict[str, Any]]:
        """The part as a whole, or of a step that is there already what changed in it."""
        part = shown.part
        if not isinstance(part, Step) or part.seq > self.after:
            yield _piece(part.id, macros().part(self.key, shown), add=True)
            return
        yield _piece(f"line-{part.number}", macros().step_line(part), add=False)
        for call in part.calls:
            if call.seq > self.after:
                text = macros().call(self.key, part, call, shown.diffs)
                yield _piece(f"call-{part.number}-{call.index}", text, add=False)

    def _beside(self, found: Found, view: RunView) -> dict[str, str]:
        made = macros()
        shown = found.active or found.request
        return {
            "run-badges": str(made.badges(shown, view)),
            "run-now": str(made.now(shown, view, found.active is not None)),
            "run-evidence": str(made.evidence(view)),
            "run-phases": str(made.phases(view, bars(view))),
            "run-facts": str(made.facts(view)),
            "run-damage": str(made.damage(view)),
        }


def _numbers(step: Step) -> list[int | None]:
    """Of the step's turn: its number, tokens read, of those cached, written."""
    return [step.number, step.point.prompt, step.point.cached, step.point.written]


def _piece(name: str, text: object, *, add: bool) -> dict[str, Any]:
    """`add`: put it at the end where it isn't there yet."""
    return {"id": name, "html": str(text), "add": add}
