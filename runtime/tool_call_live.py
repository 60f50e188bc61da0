"""The live view of a turn while it is being written: text as it comes, calls as they open and close.

It looks only at what it has and holds back next to nothing, so what it shows is provisional: a late tag may
turn a call into text or text into a call, and `runtime.tool_call_turn` has the last word once the turn is
over. For text as documented both agree. Calls inside the thinking are shown as thinking.
"""

from __future__ import annotations

import re

from runtime.tool_call_markup import MAX_NAME
from runtime.tool_call_specs import ToolBook
from runtime.tool_call_turn import read_turn
from runtime.tool_call_types import (
    CallDelta,
    CallFinished,
    CallStarted,
    ContentDelta,
    ParseEvent,
    ReasoningDelta,
)

_NAME = rf"[^<>\n]{{1,{MAX_NAME}}}"
_THINK_END = re.compile(r"\n?</think>")
_THINK_END_BEGUN = re.compile(r"\n?(?:<(?:/[a-z]{0,5})?)?\Z")
_HEADER = re.compile(
    rf"\n{{0,2}}(?P<wrapper><tool_call>\s{{0,4}})?<function=(?P<name>{_NAME})>(?=\s{{0,4}}<(?:parameter=|/function>))"
)
_HEADER_BEGUN = re.compile(
    r"\n{0,2}(?:<tool_call>\s{0,4})?"
    rf"(?:<(?:[a-z_]{{0,9}}|function=(?:{_NAME})?(?:>\s{{0,4}}(?:<[a-z/]{{0,9}})?)?))?\Z"
)
_NESTING = re.compile(
    rf"(?P<opened>\n<tool_call>\n<function={_NAME}>\n<parameter=)|</function>(?P<closed>\s{{0,8}}</tool_call>)?"
)
_WINDOW = MAX_NAME + 64  # characters behind us that a tag just completed may reach back into


class LiveView:
    """Chunks in, events out."""

    def __init__(self, book: ToolBook, *, thinking: bool) -> None:
        self._book = book
        self._thinking = thinking
        self._pending = ""  # not shown yet
        self._framing = 0  # newlines that may still follow `</think>` as framing
        self._call: _OpenCall | None = None
        self._called = False

    def feed(self, chunk: str) -> list[ParseEvent]:
        """Everything that can be shown after this chunk."""
        self._pending += chunk
        events: list[ParseEvent] = []
        while self._pending and self._step(events):
            pass
        return events

    def _step(self, events: list[ParseEvent]) -> bool:
        """One move from a state to the next; False where more text is needed."""
        if self._call is not None:
            return self._in_call(self._call, events)
        return self._in_thinking(events) if self._thinking else self._in_content(events)

    def _in_thinking(self, events: list[ParseEvent]) -> bool:
        found = _THINK_END.search(self._pending) if "<" in self._pending else None
        if found is None:
            self._show(events, _held(_THINK_END_BEGUN, self._pending))
            return False
        self._show(events, found.start())
        self._pending = self._pending[len(found.group()) :]
        self._thinking, self._framing = False, 2
        return True

    def _in_content(self, events: list[ParseEvent]) -> bool:
        while self._framing and self._pending.startswith("\n"):
            self._pending, self._framing = self._pending[1:], self._framing - 1
        if not self._pending:
            return False
        self._framing = 0
        for found in _HEADER.finditer(self._pending) if "<" in self._pending else ():
            if found["wrapper"] or self._book.knows(self._book.proper(found["name"])):
                self._show(events, found.start())
                events.append(CallStarted(self._book.proper(found["name"].strip())))
                self._call = _OpenCall(found.group().lstrip("\n"), wrapped=bool(found["wrapper"]))
                self._pending = self._pending[len(found.group()) :]
                return True
        self._show(events, _held(_HEADER_BEGUN, self._pending))
        return False

    def _in_call(self, call: _OpenCall, events: list[ParseEvent]) -> bool:
        taken = call.take(self._pending)
        events.append(CallDelta(self._pending[:taken]))
        self._pending = self._pending[taken:]
        if not call.closed:
            return False
        turn = read_turn(call.text(), self._book, thinking=False, finished=True)
        events.extend(CallFinished(found) for found in turn.calls[:1])
        self._call, self._called = None, True
        return True

    def _show(self, events: list[ParseEvent], stop: int) -> None:
        text, self._pending = self._pending[:stop], self._pending[stop:]
        if text and not (self._called and text.isspace()):
            events.append(ReasoningDelta(text) if self._thinking else ContentDelta(text))


class _OpenCall:
    """A call that is being written: counts the calls nested in its values to know its own end."""

    def __init__(self, header: str, *, wrapped: bool) -> None:
        self._parts = [header]
        self._behind = header[-_WINDOW:]
        self._wrapped = wrapped
        self._depth = 0
        self.closed = False

    def take(self, text: str) -> int:
        """Take this text, up to the call's end where it lies in it; how many characters were taken."""
        window, new = self._behind + text, len(self._behind)
        taken = len(text)
        for found in _NESTING.finditer(window) if ">" in text or "=" in text else ():
            if found.end() <= new:
                continue
            if found["opened"]:
                self._depth += 1
            elif found["closed"] and self._depth:
                self._depth -= 1
            elif found["closed"] or not (self._wrapped or self._depth):
                self.closed, taken = True, found.end() - new
                break
        self._parts.append(text[:taken])
        self._behind = window[: new + taken][-_WINDOW:]
        return taken

    def text(self) -> str:
        """All of the call so far."""
        return "".join(self._parts)


def _held(begun: re.Pattern[str], text: str) -> int:
    """Where the end of the text begins that may be the beginning of a tag."""
    found = begun.search(text)
    return found.start() if found else len(text)
