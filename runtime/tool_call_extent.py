"""Where a call ends.

A value may hold any text, whole example calls included, so the end of a call can't be told from one tag:

1. `</parameter>`, `</function>`, `</tool_call>` together (a triple) end a call. Calls nested in a value are
   balanced out: the triple that ends a call is the one that closes its own header. Where headers and triples
   don't balance, the first triple ends the call, and a header inside it is text, reported as a problem.
2. A plausible header of a known tool that comes right after a closing tag is a new call, so two calls of
   which the first lacks some of its closing tags are never read as one.
3. A triple with text behind it that runs into another triple, with no header between, was part of the value.
4. Where no triple is left, fewer closing tags will do, but only with nothing but blanks behind them.
5. Otherwise the call was cut off.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.tool_call_markup import CLOSERS, PARAMETER_ENDS, PARAMETERS, Markup, Tag
from runtime.tool_call_specs import ToolBook


@dataclass(frozen=True)
class Extent:
    """A call's end. Indices are into the marks of the `Markup`.

    stop: the first closing tag, where the last value ends. end: one past the last tag of the call.
    closed: every closing tag is there (a call without `<tool_call>` needs no `</tool_call>`).
    swallowed: a full header of another call lies in it that no triple of its own closes.
    """

    stop: int
    end: int
    closed: bool = True
    swallowed: bool = False


@dataclass
class _Weak:
    """The last place where a call could end with fewer closing tags than it should have."""

    pair: Extent | None = None  # two of the three closing tags
    single: Extent | None = None


def starts_call(markup: Markup, book: ToolBook, index: int) -> bool:
    """Whether a call begins here: a full header, and without `<tool_call>` only that of a known tool."""
    function = markup.header(index)
    if function is None:
        return False
    return markup.tag(index) is Tag.CALL or book.knows(book.proper(markup.marks[function].name))


def find_extent(markup: Markup, book: ToolBook, index: int, function: int) -> Extent | int:
    """The end of the call whose full header is at `index`, or where the text of the unfinished call ends."""
    first = function + 1
    if markup.tag(first) in (Tag.FUNCTION_END, Tag.CALL_END):
        return _without_parameters(markup, index, first)
    wrapped = function > index
    balanced = markup.partner.get(index) if wrapped else None
    target = markup.next_triple[first] if wrapped and balanced is None else balanced
    weak, nested_end, swallowed = _Weak(), -1, False
    at = first
    while at < len(markup):
        if at == target:
            return _stretch(markup, book, at, swallowed)
        if at > first and starts_call(markup, book, at):
            alone = balanced is None
            if at - 1 != nested_end and _is_next_call(markup, book, at, weak, wrapped=wrapped, balanced=not alone):
                break
            nested = _nested_end(markup, at, whole=not (alone and wrapped))
            if nested is not None:
                nested_end, at = nested - 1, nested
                continue
            swallowed = True
        _note_weak_end(markup, weak, at, wrapped)
        at += 1
    return _weak_extent(markup, weak, at, wrapped) or at


def _is_next_call(markup: Markup, book: ToolBook, at: int, weak: _Weak, *, wrapped: bool, balanced: bool) -> bool:
    """Whether the header at `at` begins a new call, the one before it being closed well enough (rule 2)."""
    closed_here = [extent for extent in (weak.pair, weak.single) if extent is not None and extent.end == at]
    opener = markup.tag(at) is Tag.CALL
    if closed_here and markup.touches(at - 1):
        by_pair = closed_here[0] is weak.pair
        if opener and by_pair and markup.tag(at - 1) is Tag.CALL_END and markup.tag(at + 2) in PARAMETERS:
            return True
        return (opener or by_pair) and _plausible(markup, book, at)
    if balanced or weak.pair is None:
        return False
    return (opener or (not wrapped and markup.at_line_start(at))) and _plausible(markup, book, at)


def _plausible(markup: Markup, book: ToolBook, at: int) -> bool:
    """Whether the header at `at` is one that a real call of a known tool can have."""
    function = markup.header(at)
    name = book.proper(markup.marks[function].name) if function is not None else ""
    if function is None or not book.knows(name):
        return False
    spec, follows = book.spec(name), markup.marks[function + 1]
    return spec.accepts(follows.name) if follows.tag in PARAMETERS else not spec.required


def _nested_end(markup: Markup, at: int, *, whole: bool) -> int | None:
    """One past the call that begins at `at` inside a value, where it is whole; with parameters only if asked."""
    function = markup.header(at)
    if function is not None and markup.tag(function + 1) is Tag.FUNCTION_END:
        return function + (3 if markup.touches(function + 1) and markup.tag(function + 2) is Tag.CALL_END else 2)
    inner = markup.partner.get(at) if whole else None
    return None if inner is None else inner + 3


def _without_parameters(markup: Markup, index: int, first: int) -> Extent:
    """A call without arguments: its closing tags follow the header directly."""
    bare = markup.tag(index) is not Tag.CALL
    if markup.tag(first) is Tag.CALL_END:
        return Extent(first, first + 1)
    if markup.touches(first) and markup.tag(first + 1) is Tag.CALL_END:
        return Extent(first, first + 2)
    return Extent(first, first + 1, closed=bare)


def _stretch(markup: Markup, book: ToolBook, triple: int, swallowed: bool) -> Extent:
    """The call that this triple ends, or a later one that must have it in its last value (rule 3)."""
    while True:
        text_between = not markup.touches(triple + 2)
        at = triple + 3
        while at < len(markup) and not markup.is_triple(at):
            attempt = markup.tag(at) is Tag.CALL and markup.function_of(at) is not None
            if attempt or markup.tag(at) is Tag.THINK_END or starts_call(markup, book, at):
                return Extent(triple, triple + 3, swallowed=swallowed)
            text_between = text_between or not markup.touches(at) or markup.tag(at) not in CLOSERS
            at += 1
        stricter = at < len(markup) and markup.is_strict_triple(at) and not markup.is_strict_triple(triple)
        if at >= len(markup) or not (text_between or stricter):
            return Extent(triple, triple + 3, swallowed=swallowed)
        triple = at


def _note_weak_end(markup: Markup, weak: _Weak, at: int, wrapped: bool) -> None:
    tag = markup.tag(at)
    follows = markup.tag(at + 1) if markup.touches(at) else None
    after = markup.tag(at - 1) if at and markup.touches(at - 1) else None
    if tag is Tag.FUNCTION_END:
        stop = at - 1 if after in PARAMETER_ENDS else at
        if not _ends_value(markup, stop):
            return
        if follows is Tag.CALL_END:
            weak.pair = Extent(stop, at + 2, closed=stop < at)
        elif stop < at:
            weak.pair = Extent(stop, at + 1, closed=not wrapped)
    elif tag is Tag.CALL_END and after is not Tag.FUNCTION_END:
        if after in PARAMETER_ENDS:
            weak.single = Extent(at - 1, at + 1, closed=False)
        elif markup.at_line_start(at):
            weak.single = Extent(at, at + 1, closed=False)
    elif tag is Tag.PARAMETER_END and follows not in CLOSERS and _ends_value(markup, at):
        weak.single = Extent(at, at + 1, closed=False)


def _ends_value(markup: Markup, at: int) -> bool:
    """Whether this `</parameter>` stands where one is written: on its own line, or behind an inline value."""
    inline = markup.tag(at - 1) in PARAMETERS and not markup.at_line_end(at - 1)
    return inline or markup.at_line_start(at)


def _weak_extent(markup: Markup, weak: _Weak, limit: int, wrapped: bool) -> Extent | None:
    """The weakest end that still counts: a pair before a new call, else one with only blanks behind it."""
    if weak.pair is not None and (limit < len(markup) or not wrapped):
        return weak.pair
    for extent in (weak.pair, weak.single):
        if extent is not None and extent.end == limit and markup.touches(limit - 1):
            return extent
    return None
