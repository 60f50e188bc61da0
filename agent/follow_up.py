"""What a user says to a run, as a review does: the same transcript goes on, with its thinking and prefix.

Mostly it has ended; one that was stopped, or whose model went away, hears it as well and goes on from there.

A run that is asked for more has a `follow_up` event with the words, the work tree to go on from if that isn't the one
that it left, and limits that grant it as much again. It has joined the transcript when a `followed` event is behind it;
until then `agent resume` takes it up as any cut-off run. Left out: where the words come from, and delivery.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.ends import InputProblem
from agent.events import Event, EventLog, EventType
from agent.limits import Limits
from agent.request import FixRequest

MAX_CHARACTERS = 100_000  # of one message
_FRAME = "{text}\n\n(The work tree is as you left it{but}. Go on from there, and submit again when it is done.)"
_MOVED = ", with the commits of others that came on top of it"
NOT_RUN = "Not executed: the run ended before."


@dataclass(frozen=True, slots=True)
class FollowUp:
    """What is said. `tree`: a tree object of the run's repository that others made of its work, "" for its own."""

    text: str
    tree: str = ""
    source: str = "the command line"


def ask(log: EventLog, request: FixRequest, more: FollowUp) -> FixRequest:
    """Write the follow-up down and return the request with its limits extended. Raises InputProblem."""
    text = more.text.strip()
    if not text:
        raise InputProblem("what is said to the run is empty: there is nothing to go on with")
    if len(text) > MAX_CHARACTERS:
        raise InputProblem(f"what is said to the run is longer than {MAX_CHARACTERS} characters: shorten it")
    if log.last(EventType.PROMPT) is None:
        raise InputProblem(f"run {log.run_id} ended before the model was asked anything: start it again")
    log.append(EventType.FOLLOW_UP, text=text, tree=more.tree, source=more.source)
    return replace(request, limits=_granted_again(log, request.limits))


def reopened(log: EventLog) -> bool:
    """Whether something was said since the run last ended."""
    said, ended = log.last(EventType.FOLLOW_UP), log.last(EventType.RUN_ENDED)
    return said is not None and (ended is None or said.seq > ended.seq)


def after(log: EventLog, event: Event | None) -> bool:
    """Whether something was said after an event."""
    said = log.last(EventType.FOLLOW_UP)
    return said is not None and event is not None and said.seq > event.seq


def waiting(log: EventLog) -> str | None:
    """The message that hasn't joined the transcript yet, as the model is to read it."""
    joined = log.last(EventType.FOLLOWED)
    said = [event.data for event in log.of_type(EventType.FOLLOW_UP) if joined is None or event.seq > joined.seq]
    if not said:
        return None
    moved = any(data["tree"] for data in said)
    return _FRAME.format(text="\n\n".join(data["text"] for data in said), but=_MOVED if moved else "")


def _granted_again(log: EventLog, limits: Limits) -> Limits:
    """As much as the run was given at first, on top of what it has used."""
    started = log.last(EventType.RUN_STARTED)
    first = FixRequest.from_json(started.data["request"]).limits if started else limits
    usages = [event.data["usage"] for event in log.of_type(EventType.TURN)]
    told = [event.data["spent"] for event in log.events if isinstance(event.data.get("spent"), int | float)]
    return replace(
        limits,
        steps=max(limits.steps, first.steps + len(usages)),
        tokens=max(limits.tokens, first.tokens + sum(usage["completion"] for usage in usages)),
        seconds=max(limits.seconds, first.seconds + (float(told[-1]) if told else 0.0)),
        cost=None if first.cost is None else first.cost + sum(usage.get("cost") or 0.0 for usage in usages),
    )
