"""A run's events, one after the other, into what its page shows: `take` each, then `view`.

Feeding a log in pieces gives what feeding it whole gives. The time is linear in the log, and what is held is bounded
for each step. Left out: reading the log (`reading`), diffs (`changes`), where time went (`phases`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from agent.ends import Outcome
from agent.events import Event, EventType
from agent.step_diffs import Change, Trees
from service.dashboard.run import values
from service.dashboard.run.phases import PhaseClock
from service.dashboard.run.views import (
    Answer,
    CallView,
    Chapter,
    CheckView,
    Facts,
    Note,
    NoteKind,
    Now,
    Part,
    Piece,
    Result,
    RunView,
    Step,
    Totals,
    TurnPoint,
)

MOST_TEXT: Final = 6_000  # characters of one text that are shown at first
_MOST_CALLS: Final = 40  # of one turn
_MOST_NOTES: Final = 200
_MOST_FILES: Final = 200
_MOST_CHECKS: Final = 40
_MOST_COMMAND: Final = 2_000  # characters of a check's


class Timeline:
    """What there is of a run so far. Not for several threads at once."""

    def __init__(self, most: int = MOST_TEXT) -> None:
        """`most`: characters of a text that are kept."""
        self._most = most
        self._parts: list[Part] = []
        self._points: list[TurnPoint] = []
        self._trees, self._clock = Trees(), PhaseClock()
        self._facts, self._now, self._totals = Facts(), Now(), Totals()
        self._seq, self._time = -1, 0.0
        self._chapters = self._notes = self._left_out = 0
        self._step: int | None = None  # its place among the parts
        self._result: int | None = None
        self.damage = ""

    def take(self, event: Event, at: int = 0) -> None:
        """`at`: where it begins in the log, in bytes."""
        self._seq, self._time = event.seq, event.time
        self._clock.take(event)
        change = self._trees.take(event)
        try:
            if (handler := _HANDLERS.get(event.type)) is not None:
                handler(self, event, change, at)
        except (KeyError, TypeError, ValueError, AttributeError):
            # A log of another release, or one that was tampered with: the rest of it can still be shown.
            self._note(event, NoteKind.TROUBLE, f"An event ({event.type}) can't be shown.")

    def view(self) -> RunView:
        """As it is now; what is taken later doesn't change it."""
        return RunView(
            seq=self._seq,
            time=self._time,
            facts=self._facts,
            now=self._now,
            totals=replace(self._totals, seconds=self._clock.whole),
            parts=tuple(self._parts),
            points=tuple(self._points),
            phases=self._clock.shares(),
            tree=(self._trees.base, self._trees.now),
            left_out=self._left_out,
            damage=self.damage,
        )

    # -- the beginning, and what is said later ----------------------------------------------------------------------

    def _started(self, event: Event, _: Change | None, __: int) -> None:
        data, issue = event.data, event.data.get("issue") or {}
        text, limits = str(issue.get("text", "")), (data.get("request") or {}).get("limits") or {}
        self._facts = replace(
            self._facts,
            run=str(data.get("run", "")),
            title=values.line(text.strip()),
            base=str(data["base"]["commit"]),
            notes=tuple(values.line(str(note)) for note in data["base"]["notes"][:20]),
            most_steps=limits.get("steps"),
        )
        self._chapter(event, text, str(issue.get("source", "")), others=False)
        self._going("preparing the sandbox", event)

    def _followed_up(self, event: Event, _: Change | None, __: int) -> None:
        data = event.data
        self._no_answers(event)
        self._chapter(event, str(data["text"]), str(data.get("source", "")), others=bool(data.get("tree")))
        self._facts = replace(self._facts, summary="")
        self._going("preparing the sandbox", event)

    def _chapter(self, event: Event, text: str, source: str, *, others: bool) -> None:
        self._chapters += 1
        self._step = self._result = None
        self._parts.append(Chapter(self._chapters, event.seq, self._cut(text.strip()), values.line(source), others))

    def _resumed(self, event: Event, _: Change | None, __: int) -> None:
        self._no_answers(event)
        after_end = isinstance(self._parts[-1] if self._parts else None, Chapter)
        if not after_end:
            self._note(event, NoteKind.INFO, "The run was cut off here and went on later.")
        if self._last_result().outcome is not None:
            self._result = None
        self._going("preparing the sandbox", event)

    def _connected(self, event: Event, _: Change | None, __: int) -> None:
        data = event.data
        engine = " ".join(str(data[key]) for key in ("engine", "version") if data.get(key))
        self._facts = replace(
            self._facts, model=values.line(str(data["name"])), engine=values.line(engine), context=data.get("context")
        )
        for text in data.get("notes") or ():
            self._note(event, NoteKind.INFO, str(text))

    def _opened(self, event: Event, _: Change | None, __: int) -> None:
        data = event.data
        image = str(data.get("image") or "")
        image = image.rsplit("/", 1)[-1] if image.startswith("/") else image
        network = str(data.get("network", "none"))
        self._facts = replace(
            self._facts, sandbox=values.line(str(data["kind"])), image=values.line(image), network=network
        )

    def _network(self, event: Event, _: Change | None, __: int) -> None:
        allowed, refused = self._facts.requests
        if event.data["allowed"]:
            self._facts = replace(self._facts, requests=(allowed + 1, refused))
            return
        self._facts = replace(self._facts, requests=(allowed, refused + 1))
        target = event.data.get("target") or "a request"
        self._note(event, NoteKind.TROUBLE, f"The network refused {target}: {event.data.get('why', '')}")

    # -- turns ------------------------------------------------------------------------------------------------------

    def _turn_started(self, event: Event, _: Change | None, __: int) -> None:
        self._going("thinking", event)

    def _turn(self, event: Event, _: Change | None, at: int) -> None:
        data = event.data
        point = values.point(data)
        calls = data.get("calls") or []
        self._step = len(self._parts)
        self._parts.append(
            Step(
                number=point.turn + 1,
                seq=event.seq,
                at=at,
                time=event.time,
                thinking=self._cut(str(data.get("reasoning") or "").strip()),
                text=self._cut(str(data.get("content") or "").strip()),
                calls=tuple(
                    values.call(index, one, event.seq, self._most) for index, one in enumerate(calls[:_MOST_CALLS])
                ),
                more_calls=max(0, len(calls) - _MOST_CALLS),
                problems=tuple(values.line(str(one.get("message", ""))) for one in (data.get("problems") or [])[:10]),
                point=point,
                cut_off=str(data.get("finish", "stop")) != "stop",
            )
        )
        self._points.append(point)
        self._totals = values.summed(self._totals, point)
        self._going("going on", event)

    def _dropped(self, event: Event, _: Change | None, __: int) -> None:
        self._note(event, NoteKind.TROUBLE, f"A turn was dropped: {event.data.get('why', '')}")

    def _retried(self, event: Event, _: Change | None, __: int) -> None:
        self._note(event, NoteKind.TROUBLE, f"The model was asked again: {event.data.get('why', '')}")

    def _call_started(self, event: Event, _: Change | None, __: int) -> None:
        self._answered(event, lambda call: replace(call, seq=event.seq, answer=Answer.RUNNING, started=event.time))
        self._going("running", event, str(event.data.get("name", "")))

    def _observation(self, event: Event, change: Change | None, __: int) -> None:
        data, given = event.data, event.data.get("facts")
        facts = given if isinstance(given, dict) else {}
        pictures = facts.get("images")
        self._answered(
            event,
            lambda call: replace(
                call,
                seq=event.seq,
                answer=Answer.FAILED if data.get("failed") else Answer.GIVEN,
                seconds=data.get("seconds"),
                exit_code=facts["exit_code"] if isinstance(facts.get("exit_code"), int) else None,
                end=str(facts.get("end") or ""),
                output=self._cut(values.output(str(data.get("text", "")), command=call.name == "bash")),
                pictures=len(pictures) if isinstance(pictures, list) else 0,
                change=change,
            ),
        )
        if data.get("ends_run"):
            self._facts = replace(self._facts, summary=str(facts.get("summary", ""))[:MOST_TEXT])
        self._going("going on", event)

    def _observed(self, event: Event, _: Change | None, __: int) -> None:
        step = self._open_step()
        if step is not None and event.data.get("nudge"):
            self._put(replace(step, seq=event.seq, nudge=self._cut(values.text(event.data["nudge"]))))

    def _open_step(self) -> Step | None:
        found = self._parts[self._step] if self._step is not None else None
        return found if isinstance(found, Step) else None

    def _put(self, step: Step) -> None:
        assert self._step is not None
        self._parts[self._step] = step

    def _answered(self, event: Event, changed: Callable[[CallView], CallView]) -> None:
        step, index = self._open_step(), int(event.data["call"])
        if step is not None and 0 <= index < len(step.calls) and event.data.get("turn") == step.number - 1:
            calls = (*step.calls[:index], changed(step.calls[index]), *step.calls[index + 1 :])
            self._put(replace(step, calls=calls))

    def _no_answers(self, event: Event) -> None:
        """What the last turn's calls wait for doesn't come by itself any more."""
        step = self._open_step()
        if step is None or not any(call.answer in (Answer.WAITING, Answer.RUNNING) for call in step.calls):
            return
        still = (Answer.WAITING, Answer.RUNNING)
        calls = (
            replace(call, seq=event.seq, answer=Answer.NONE) if call.answer in still else call for call in step.calls
        )
        self._put(replace(step, calls=tuple(calls)))

    # -- the end ----------------------------------------------------------------------------------------------------

    def _loop_ended(self, event: Event, change: Change | None, __: int) -> None:
        self._no_answers(event)
        self._result = None
        end, message = str(event.data["end"]), str(event.data["message"])
        self._ending(event, end=end, message=message[:MOST_TEXT], change=change)
        self._going("keeping the patch", event)

    def _patch(self, event: Event, _: Change | None, __: int) -> None:
        files = tuple((str(status)[:1], str(path)) for status, path in event.data["files"][:_MOST_FILES])
        more = max(0, len(event.data["files"]) - _MOST_FILES)
        self._ending(event, files=files, more_files=more, bytes=event.data.get("bytes"), checks=(), more_checks=0)
        self._going("verifying", event)

    def _check_started(self, event: Event, _: Change | None, __: int) -> None:
        data, checks = event.data, self._last_result().checks
        if len(checks) < _MOST_CHECKS:
            command = str(data["command"])[:_MOST_COMMAND]
            self._ending(event, checks=(*checks, CheckView(command, values.line(str(data["source"])))))
        self._going("verifying", event, str(data["command"]))

    def _check(self, event: Event, _: Change | None, __: int) -> None:
        data, result = event.data, self._last_result()
        if data["kind"] == "apply":
            self._ending(event, applies=bool(data["passed"]))
            return
        before, after = (values.side(data[key], self._most) for key in ("before", "after"))
        command = str(data["command"])[:_MOST_COMMAND]
        check = CheckView(command, values.line(str(data["source"])), str(data["verdict"]), before, after)
        known = result.checks[:-1] if result.checks and not result.checks[-1].verdict else result.checks
        if len(known) < _MOST_CHECKS:
            self._ending(event, checks=(*known, check))
        else:
            self._ending(event, more_checks=result.more_checks + 1)

    def _verified(self, event: Event, _: Change | None, __: int) -> None:
        self._ending(event, verified=bool(event.data["verified"]))

    def _ended(self, event: Event, _: Change | None, __: int) -> None:
        self._no_answers(event)
        result = self._last_result()
        message = result.message or str(event.data["message"])[:MOST_TEXT]
        self._ending(event, outcome=Outcome(event.data["outcome"]), message=message)
        self._now = Now("ended", "", event.time, ended=True)

    def _last_result(self) -> Result:
        found = self._parts[self._result] if self._result is not None else None
        return found if isinstance(found, Result) else Result(self._seq, self._seq)

    def _ending(self, event: Event, **changed: Any) -> None:
        result = replace(self._last_result(), seq=event.seq, **changed)
        if self._result is None:
            self._result = len(self._parts)
            self._parts.append(result)
        else:
            self._parts[self._result] = result

    # -- shared -----------------------------------------------------------------------------------------------------

    def _died(self, event: Event, _: Change | None, __: int) -> None:
        then = "A new one goes on from the last step." if event.data.get("replaced") else "The run gives up."
        self._note(event, NoteKind.TROUBLE, f"The sandbox died: {event.data.get('why', '')} {then}")

    def _note(self, event: Event, kind: NoteKind, text: str) -> None:
        self._notes += 1
        if self._notes > _MOST_NOTES:
            self._left_out += 1
            return
        self._parts.append(Note(event.seq, event.time, kind, values.line(text, 1_000)))

    def _going(self, words: str, event: Event, about: str = "") -> None:
        self._now = Now(words, values.line(about), event.time)

    def _cut(self, text: str) -> Piece:
        return values.cut(text, self._most)


_Handler = Callable[[Timeline, Event, Change | None, int], None]
_HANDLERS: Final[Mapping[EventType, _Handler]] = {
    EventType.RUN_STARTED: Timeline._started,
    EventType.RUN_RESUMED: Timeline._resumed,
    EventType.SANDBOX_OPENED: Timeline._opened,
    EventType.SANDBOX_DIED: Timeline._died,
    EventType.NETWORK: Timeline._network,
    EventType.MODEL_CONNECTED: Timeline._connected,
    EventType.TURN_STARTED: Timeline._turn_started,
    EventType.MODEL_RETRY: Timeline._retried,
    EventType.TURN_DROPPED: Timeline._dropped,
    EventType.TURN: Timeline._turn,
    EventType.CALL_STARTED: Timeline._call_started,
    EventType.OBSERVATION: Timeline._observation,
    EventType.OBSERVED: Timeline._observed,
    EventType.LOOP_ENDED: Timeline._loop_ended,
    EventType.PATCH: Timeline._patch,
    EventType.CHECK_STARTED: Timeline._check_started,
    EventType.CHECK: Timeline._check,
    EventType.VERIFIED: Timeline._verified,
    EventType.FOLLOW_UP: Timeline._followed_up,
    EventType.RUN_ENDED: Timeline._ended,
}
