"""A whole assistant turn: thinking, content, calls, and what is neither.

Works on the complete text, because what an early tag means can depend on a later one. The pieces that it
cuts the text into always join to exactly that text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from runtime import tool_call_report as report
from runtime.tool_call_body import read_arguments, read_body
from runtime.tool_call_extent import Extent, find_extent, starts_call
from runtime.tool_call_markup import PARAMETERS, Markup, Tag
from runtime.tool_call_specs import ToolBook
from runtime.tool_call_types import ParsedTurn, Piece, PieceKind, Problem, ToolCall

_THINK_AGAIN = re.compile(r"\s{0,8}<think>\n?")
_ONLY_CLOSERS = re.compile(r"(?:\s*<[ \t]*/[ \t]*(?:tool_call|function|parameter)[^<>]{0,40}>)+\s*\Z")
_CALL_LIKE = re.compile(r"^(?:<tool_call>\s*(\{)?|<function=[^<>\n]{1,256}>\s*(<parameter=))", re.MULTILINE)


def read_turn(text: str, book: ToolBook, *, thinking: bool, finished: bool) -> ParsedTurn:
    """The turn that `text` is; `finished` is False where the model was cut off (finish reason `length`)."""
    return _TurnReader(text, book, finished).read(thinking)


@dataclass
class _TurnReader:
    text: str
    book: ToolBook
    finished: bool
    pieces: list[Piece] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    done: int = 0  # characters that are in pieces
    attempts: int = 0  # calls, good or broken, seen since the thinking ended

    def __post_init__(self) -> None:
        self.markup = Markup(self.text)

    def read(self, thinking: bool) -> ParsedTurn:
        opened = False  # thinking that nothing closes
        if thinking:
            again = _THINK_AGAIN.match(self.text)
            if again:
                self._take(PieceKind.FRAMING, again.end())
            end, mused = self._thinking_end()
            opened = end is None
            if end is not None:
                self._close_thinking(end, mused)
        if not thinking or opened:
            self._scan(0, PieceKind.REASONING if opened else PieceKind.CONTENT)
        pieces = tuple(self.pieces)
        said = {kind: "".join(p.text for p in pieces if p.kind is kind) for kind in PieceKind}
        return ParsedTurn(
            reasoning=said[PieceKind.REASONING] if thinking else None,
            content=said[PieceKind.CONTENT],
            calls=tuple(self.calls),
            problems=tuple(dict.fromkeys(self.problems)),
            pieces=pieces,
        )

    # Thinking

    def _thinking_end(self) -> tuple[int | None, list[tuple[int, int, Extent]]]:
        """The mark of the `</think>` that ends the thinking, and the whole calls of known tools before it."""
        marks, ends = self.markup.marks, self._thinking_ends_before_call()
        mused: list[tuple[int, int, Extent]] = []
        at = 0
        while at < len(marks):
            if marks[at].tag is Tag.THINK_END:
                return at, mused
            found = self._whole_call(at)
            if found is not None:
                inside = bisect_left(ends, at)
                if inside == len(ends) or ends[inside] >= found[2].end:
                    mused.append(found)
                    at = found[2].end
                    continue
            at += 1
        return None, []

    def _thinking_ends_before_call(self) -> list[int]:
        """Every `</think>` that a call or nothing follows: no value of a call can go on over it."""
        markup = self.markup
        return [
            at
            for at, mark in enumerate(markup.marks)
            if mark.tag is Tag.THINK_END and markup.touches(at) and markup.tag(at + 1) in (Tag.CALL, Tag.FUNCTION, None)
        ]

    def _whole_call(self, at: int) -> tuple[int, int, Extent] | None:
        """The complete call of a known tool that begins here, wrapped and with all its closing tags."""
        markup = self.markup
        function = markup.header(at) if markup.tag(at) is Tag.CALL else None
        if function is None or not self.book.knows(self.book.proper(markup.marks[function].name)):
            return None
        if markup.tag(function + 1) in PARAMETERS and at not in markup.partner:
            return None
        extent = find_extent(markup, self.book, at, function)
        return (at, function, extent) if isinstance(extent, Extent) and extent.closed else None

    def _close_thinking(self, end: int, mused: list[tuple[int, int, Extent]]) -> None:
        """The thinking up to the mark `end`, then everything behind it."""
        mark = self.markup.marks[end]
        before, self.pieces = self.pieces, []
        started, self.done = self.done, mark.end
        if self.text.startswith("\n\n", self.done):
            self._take(PieceKind.FRAMING, self.done + 2)
        self._scan(end + 1, PieceKind.CONTENT)
        after, self.pieces, self.done = self.pieces, before, started
        rescued = not self.attempts
        later_calls, later_problems = self.calls, self.problems
        self.calls, self.problems = [], []
        for at, function, extent in mused if rescued else ():
            self._take(PieceKind.REASONING, self.markup.marks[at].start)
            self._take_call(at, function, extent, in_thinking=True)
        if mused and not rescued:
            names = [self.markup.marks[function].name for _, function, _ in mused]
            self.problems.append(report.ignored_in_thinking(names))
        framed = self.text.endswith("\n", self.done, mark.start)
        self._take(PieceKind.REASONING, mark.start - 1 if framed else mark.start)
        self._take(PieceKind.FRAMING, mark.end)
        self.calls += later_calls
        self.problems += later_problems
        self.pieces += after
        self.done = len(self.text)

    # Content and calls

    def _scan(self, at: int, kind: PieceKind) -> None:
        """Everything from the mark `at` on; text is of this kind up to the first call, then content."""
        in_thinking = kind is PieceKind.REASONING
        for begin, function, end in self._attempts(at, in_thinking):
            self._take_text(kind, self.markup.marks[begin].start, before_call=True)
            self.attempts += 1
            if isinstance(end, Extent):
                self._take_call(begin, function, end, in_thinking=in_thinking)
            else:
                self._take_broken(function, end)
            kind, in_thinking = PieceKind.CONTENT, False
        self._take_text(kind, len(self.text), before_call=False)

    def _attempts(self, at: int, in_thinking: bool) -> Iterator[tuple[int, int, Extent | int]]:
        """Every attempt at a call from the mark `at` on: its first mark, its function's mark, its end.

        The end is an Extent for a call that can be read, else the mark that the unreadable text runs up to.
        Thinking that nothing closes is full of mentions: in it an unreadable attempt counts only where it is a
        call that the end of the text cuts off.
        """
        markup = self.markup
        while at < len(markup):
            function = markup.function_of(at)
            end: Extent | int | None = None
            if starts_call(markup, self.book, at):
                assert function is not None
                end = find_extent(markup, self.book, at, function)
                if isinstance(end, Extent) and not self._may_run(function, end):
                    end = end.end
                if in_thinking and not isinstance(end, Extent) and end < len(markup):
                    end = None
            elif markup.tag(at) is Tag.CALL and not in_thinking:
                end = self._broken_end(at, function)
            if end is None:
                at += 1
                continue
            in_thinking = False
            yield at, at if function is None else function, end
            at = end.end if isinstance(end, Extent) else end

    def _may_run(self, function: int, extent: Extent) -> bool:
        """Whether a call whose closing tags are missing may still be taken for finished."""
        markup = self.markup
        if extent.closed or extent.end < len(markup):
            return True
        if not self.finished:
            return False
        if markup.tag(extent.end - 1) in (Tag.FUNCTION_END, Tag.CALL_END):
            return True
        spec = self.book.spec(self.book.proper(markup.marks[function].name))
        names = {name for name, _ in read_body(markup, function + 1, extent, spec).values}
        return names.issuperset(spec.required)

    def _broken_end(self, at: int, function: int | None) -> int | None:
        """Where an attempt without a full header ends, or None where `<tool_call>` is only mentioned."""
        markup = self.markup
        if function is None:
            rest = self.text[markup.marks[at].end : markup.marks[at].end + 64].lstrip()
            last = at + 1 == len(markup) and "<function=".startswith(rest) and markup.at_line_start(at)
            return len(markup) if last else None
        after = function + 1
        while after < len(markup) and markup.tag(after) is not Tag.CALL_END:
            if starts_call(markup, self.book, after):
                break
            if markup.tag(after) is Tag.CALL and markup.function_of(after) is not None:
                break
            after += 1
        if markup.tag(after) is Tag.CALL_END:
            return after + 1
        mark = markup.marks[function]
        placeholder = mark.tag is Tag.FUNCTION and self.text[mark.end : mark.end + 64].strip() != ""
        if placeholder and not self.book.declares(self.book.proper(mark.name)):
            return None
        return after

    def _take_call(self, at: int, function: int, extent: Extent, *, in_thinking: bool) -> None:
        markup, index = self.markup, len(self.calls)
        spec = self.book.spec(self.book.proper(markup.marks[function].name))
        body = read_body(markup, function + 1, extent, spec)
        raw = self.text[markup.marks[at].start : markup.marks[extent.end - 1].end]
        said = report.deviations(markup, self.book, at, function, extent, in_thinking=in_thinking)
        if not said and not body.problems and raw != report.canonical(markup.marks[function].name, body.values):
            said.append(report.SPACING)
        arguments, problems = read_arguments(body, spec, index)
        self.problems += [Problem(kind, f"Call of `{spec.name}`: {message}.", index) for kind, message in said]
        self.problems += problems
        self.calls.append(ToolCall(spec.name, arguments, raw))
        self._take(PieceKind.CALL, markup.marks[extent.end - 1].end)

    def _take_broken(self, function: int, end: int) -> None:
        """An attempt that can't be read as a call: kept as text, reported, not run."""
        marks, start = self.markup.marks, self.done
        mark, last = marks[function], marks[end - 1]
        at_end = end == len(marks) and last.tag is not Tag.CALL_END
        following = marks[end].start if end < len(marks) else len(self.text)
        self._take(PieceKind.BROKEN, last.end if last.tag is Tag.CALL_END else following)
        rest = self.text[mark.end : mark.end + 64].strip()
        begun = not rest or (rest.startswith("<") and mark.tag is not Tag.BROKEN_FUNCTION)
        if at_end and (begun or not self.finished):
            self.problems.append(report.truncated(mark.name, self.done - start))
        else:
            self.problems.append(report.malformed(mark.name))

    def _take_text(self, kind: PieceKind, end: int, *, before_call: bool) -> None:
        """Text up to `end`, without the newlines that only separate it from its neighbours."""
        text = self.text[self.done : end]
        if not text:
            return
        if text.isspace() and (before_call or self.done):
            self._take(PieceKind.FRAMING, end)
        elif self.attempts and _ONLY_CLOSERS.match(text):
            self.problems.append(report.STRAY_CLOSERS)
            self._take(PieceKind.BROKEN, end)
        else:
            if self.calls and self.attempts:
                self.problems.append(report.TEXT_AFTER_CALL)
            if _looks_like_call(text):
                self.problems.append(report.CALL_LIKE_TEXT)
            framed = before_call and not self.attempts and kind is PieceKind.CONTENT and text.endswith("\n\n")
            self._take(kind, end - 2 if framed else end)
            self._take(PieceKind.FRAMING, end)

    def _take(self, kind: PieceKind, end: int) -> None:
        if end > self.done:
            self.pieces.append(Piece(kind, self.text[self.done : end]))
            self.done = end


def _looks_like_call(text: str) -> bool:
    """Whether a line of the text begins as a call does, other than by naming the tag."""
    found = _CALL_LIKE.search(text)
    return found is not None and bool(found[1] or found[2] or text.find("</tool_call>", found.end()) >= 0)
