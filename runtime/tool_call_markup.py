"""The tags in a model's text, and which of them open and close whole calls.

One pass finds every tag of the tool-call format, exact or drifted, and what lies between neighbouring tags.
From that alone follow the full headers (`<tool_call>`, `<function=NAME>` and then a parameter or a closer),
the triples (`</parameter>`, `</function>`, `</tool_call>` with nothing but blanks between) and, with a stack,
which triple closes which header. All of it is linear in the text; nothing here knows about tools.
"""

from __future__ import annotations

import re
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple


class Tag(IntEnum):
    """What a tag is."""

    CALL = 0
    CALL_END = 1
    FUNCTION = 2
    BROKEN_FUNCTION = 3  # `<function=NAME` without `>`
    FUNCTION_END = 4
    PARAMETER = 5
    BROKEN_PARAMETER = 6  # `<parameter=NAME` without `>`
    PARAMETER_END = 7
    DRIFTED_END = 8  # `</parameter1>`, `</parameter/>`, `</parameter` and the like
    THINK_END = 9


class Gap(IntEnum):
    """What lies between a tag and the next one (or the end of the text)."""

    NONE = 0
    NEWLINE = 1  # exactly one
    BLANK = 2
    TEXT = 3


class Mark(NamedTuple):
    """One tag: where it is, its name (functions and parameters), whether it is spelled exactly."""

    tag: Tag
    start: int
    end: int
    name: str
    exact: bool


PARAMETERS = (Tag.PARAMETER, Tag.BROKEN_PARAMETER)
PARAMETER_ENDS = (Tag.PARAMETER_END, Tag.DRIFTED_END)
CLOSERS = (Tag.PARAMETER_END, Tag.DRIFTED_END, Tag.FUNCTION_END, Tag.CALL_END)

MAX_NAME = 256  # characters; a longer name is no name

_TAG = re.compile(
    r"<[ \t]{0,3}(?:"
    r"(?P<call>/?)[ \t]{0,3}tool_call[ \t]{0,3}>"
    r"|(?P<think>/)[ \t]{0,3}think[ \t]{0,3}>"
    rf"|(?P<kind>function|parameter)[ \t]{{0,3}}=(?P<name>[^<>\n]{{0,{MAX_NAME}}})(?P<bracket>>?)"
    r"|/[ \t]{0,3}(?:(?P<function_end>function)[ \t]{0,3}>|parameter(?P<parameter_end>[^<>\n]{0,32}>?))"
    r")"
)


class Markup:
    """The tags of one text, with the answers that need the neighbours. Indices are into `marks`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.marks = [_mark(found) for found in _TAG.finditer(text)]
        self.gaps = [self._gap(index) for index in range(len(self.marks))]

    def __len__(self) -> int:
        return len(self.marks)

    def tag(self, index: int) -> Tag | None:
        """The tag at `index`, or None beyond the last."""
        return self.marks[index].tag if 0 <= index < len(self.marks) else None

    def touches(self, index: int) -> bool:
        """Whether nothing but blanks lies between this tag and what comes next."""
        return self.gaps[index] is not Gap.TEXT

    def at_line_start(self, index: int) -> bool:
        """Whether the tag begins a line."""
        start = self.marks[index].start
        return start == 0 or self.text[start - 1] == "\n"

    def at_line_end(self, index: int) -> bool:
        """Whether a newline follows the tag."""
        return self.text.startswith("\n", self.marks[index].end)

    def function_of(self, index: int) -> int | None:
        """The function tag of the call attempt that begins at `index`: itself, or the one after `<tool_call>`."""
        if self.tag(index) is Tag.CALL and self.touches(index):
            index += 1
        elif self.tag(index) is Tag.CALL or (index and self.tag(index - 1) is Tag.CALL and self.touches(index - 1)):
            return None
        return index if self.tag(index) in (Tag.FUNCTION, Tag.BROKEN_FUNCTION) else None

    def header(self, index: int) -> int | None:
        """The function tag of a full header at `index`: named, and followed by a parameter or a closer."""
        function = self.function_of(index)
        if function is None or self.tag(function) is not Tag.FUNCTION or not self.touches(function):
            return None
        follows = self.tag(function + 1)
        closes = follows is Tag.FUNCTION_END or (follows is Tag.CALL_END and function > index)
        return function if self.marks[function].name and (closes or follows in PARAMETERS) else None

    def is_triple(self, index: int) -> bool:
        """Whether `</parameter>`, `</function>`, `</tool_call>` begin here, with only blanks between."""
        return (
            self.tag(index) is Tag.PARAMETER_END
            and self.tag(index + 1) is Tag.FUNCTION_END
            and self.tag(index + 2) is Tag.CALL_END
            and self.touches(index)
            and self.touches(index + 1)
        )

    def is_strict_triple(self, index: int) -> bool:
        r"""Whether exactly `\n</parameter>\n</function>\n</tool_call>` begins at this tag."""
        return (
            self.is_triple(index)
            and self.at_line_start(index)
            and all(mark.exact for mark in self.marks[index : index + 3])
            and self.gaps[index] is self.gaps[index + 1] is Gap.NEWLINE
        )

    def is_strict_boundary(self, index: int) -> bool:
        r"""Whether `\n</parameter>\n<parameter=NAME>\n` begins at this tag."""
        return (
            self.tag(index) is Tag.PARAMETER_END
            and self.tag(index + 1) is Tag.PARAMETER
            and self.gaps[index] is Gap.NEWLINE
            and self.marks[index].exact
            and self.marks[index + 1].exact
            and self.at_line_start(index)
            and self.at_line_end(index + 1)
        )

    @cached_property
    def partner(self) -> dict[int, int]:
        """The triple that closes each wrapped header with parameters, innermost first."""
        found: dict[int, int] = {}
        opened: list[int] = []
        for index, mark in enumerate(self.marks):
            if mark.tag is Tag.CALL:
                function = self.header(index)
                if function is not None and self.tag(function + 1) in PARAMETERS:
                    opened.append(index)
            elif opened and self.is_triple(index):
                found[opened.pop()] = index
        return found

    @cached_property
    def next_triple(self) -> list[int | None]:
        """For each index, the first triple at or after it."""
        return self._next([index for index in range(len(self.marks)) if self.is_triple(index)])

    @cached_property
    def next_parameter_end(self) -> list[int | None]:
        """For each index, the first `</parameter>` at or after it."""
        return self._next([index for index, mark in enumerate(self.marks) if mark.tag is Tag.PARAMETER_END])

    def _next(self, wanted: list[int]) -> list[int | None]:
        answers: list[int | None] = [None] * (len(self.marks) + 1)
        for index in wanted:
            answers[index] = index
        for index in range(len(self.marks) - 1, -1, -1):
            if answers[index] is None:
                answers[index] = answers[index + 1]
        return answers

    def _gap(self, index: int) -> Gap:
        start = self.marks[index].end
        end = self.marks[index + 1].start if index + 1 < len(self.marks) else len(self.text)
        between = self.text[start:end]
        if not between:
            return Gap.NONE
        if between == "\n":
            return Gap.NEWLINE
        return Gap.BLANK if between.isspace() else Gap.TEXT


def _mark(found: re.Match[str]) -> Mark:
    start, end = found.span()
    spelled = found.group()
    if found["kind"]:
        name = found["name"].strip()
        closed, function = bool(found["bracket"]), found["kind"] == "function"
        whole, broken = (Tag.FUNCTION, Tag.BROKEN_FUNCTION) if function else (Tag.PARAMETER, Tag.BROKEN_PARAMETER)
        return Mark(whole if closed else broken, start, end, name, spelled == f"<{found['kind']}={name}>")
    if found["call"] is not None:
        tag = Tag.CALL_END if found["call"] else Tag.CALL
        return Mark(tag, start, end, "", spelled in ("<tool_call>", "</tool_call>"))
    if found["think"]:
        return Mark(Tag.THINK_END, start, end, "", spelled == "</think>")
    if found["function_end"]:
        return Mark(Tag.FUNCTION_END, start, end, "", spelled == "</function>")
    tag = Tag.PARAMETER_END if found["parameter_end"].strip() == ">" else Tag.DRIFTED_END
    return Mark(tag, start, end, "", spelled == "</parameter>")
