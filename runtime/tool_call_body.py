r"""The inside of a call: where each value ends, and what the arguments are.

A value ends at `\n</parameter>\n<parameter=KNOWN>\n` or at the call's own closing tags, and nowhere else where
the text is as documented; nested calls are stepped over. Looser endings (`</parameter>` inline, drifted or
missing) count only where a parameter begins that the tool declares and that the call doesn't have otherwise:
so a value keeps tags that would only make sense as text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from runtime.schema_values import JSON
from runtime.tool_call_extent import Extent
from runtime.tool_call_markup import PARAMETER_ENDS, PARAMETERS, Markup, Tag
from runtime.tool_call_specs import ToolSpec
from runtime.tool_call_types import Problem, ProblemKind

MAX_PROBLEMS = 30  # of one call; more would only fill the model's context


@dataclass
class Body:
    """The parameters of one call as text, in the order written, and what was wrong with them."""

    values: list[tuple[str, str]] = field(default_factory=list)
    problems: dict[tuple[ProblemKind, str], None] = field(default_factory=dict)

    def add(self, kind: ProblemKind, message: str) -> None:
        """Record a deviation, once, and not endlessly many."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems[kind, message] = None


def read_body(markup: Markup, first: int, extent: Extent, spec: ToolSpec) -> Body:
    """The parameters between the tag at `first`, which follows the header, and the call's end."""
    return _BodyReader(markup, first, extent.stop, spec).read()


class _BodyReader:
    def __init__(self, markup: Markup, first: int, stop: int, spec: ToolSpec) -> None:
        self._markup, self._first, self._stop, self._spec = markup, first, stop, spec
        self._body = Body()
        self._given: set[str] = set()
        self._tried: set[str] = set()
        marks = markup.marks
        self._strict_last = {marks[at + 1].name: at for at in self._top_level(first) if markup.is_strict_boundary(at)}

    def read(self) -> Body:
        at = self._first
        while at < self._stop:
            mark = self._markup.marks[at]
            self._given.add(mark.name)
            if mark.tag is Tag.BROKEN_PARAMETER:
                self._body.add(
                    ProblemKind.DRIFTED_TAG, f"the tag `<parameter={mark.name}` has no `>`; close every tag with `>`"
                )
            end, following = self._value_end(at)
            self._body.values.append((mark.name, _unframed(self._between(at, end))))
            at = following
        return self._body

    def _top_level(self, start: int) -> Iterator[int]:
        """Indices from `start` up to the call's end, without those of nested calls."""
        at = start
        while at < self._stop:
            inner = self._markup.partner.get(at)
            if inner is not None and inner + 2 < self._stop:
                at = inner + 3
                continue
            yield at
            at += 1

    def _value_end(self, opened: int) -> tuple[int, int]:
        """The tag that ends the value opened at `opened`, and the tag where reading goes on."""
        markup = self._markup
        for at in self._top_level(opened + 1):
            tag = markup.tag(at)
            if tag in PARAMETER_ENDS and markup.touches(at) and at + 1 < self._stop:
                if markup.tag(at + 1) in PARAMETERS and self._ends_before_parameter(opened, at):
                    return at, at + 1
            elif tag in PARAMETERS and self._begins_unclosed(opened, at):
                closer = f"the value of `{markup.marks[opened].name}` has no `</parameter>`"
                self._body.add(ProblemKind.MISSING_CLOSER, f"{closer}; end every value with a line `</parameter>`")
                return at, at
        return self._stop, self._stop

    def _ends_before_parameter(self, opened: int, at: int) -> bool:
        """Whether the value ends at this `</parameter>` (exact or drifted) that a parameter follows."""
        markup, name = self._markup, self._markup.marks[at + 1].name
        strict = markup.is_strict_boundary(at)
        if strict and self._spec.accepts(name):
            return True
        inline = not markup.at_line_end(opened)
        if markup.tag(at) is Tag.DRIFTED_END:
            if not self._vacant(name, at):
                return False
            tag = markup.text[markup.marks[at].start : markup.marks[at].end]
            self._body.add(ProblemKind.DRIFTED_TAG, f"`{tag}` is no closing tag; write `</parameter>`")
            return True
        if self._spec.accepts(name):
            if self._spec.open and not self._spec.declares(name):
                return (inline or markup.at_line_start(at)) and name not in self._given
            return self._vacant(name, at)
        if inline or not self._spec.takes_text(markup.marks[opened].name):
            return markup.tag(at + 1) is Tag.PARAMETER
        if strict:
            self._note_kept_tags(opened, name)
        return False

    def _begins_unclosed(self, opened: int, at: int) -> bool:
        """Whether a parameter tag inside a value begins the next parameter, `</parameter>` being left out."""
        markup, mark = self._markup, self._markup.marks[at]
        whole_line = markup.at_line_end(at) or not markup.at_line_end(opened)
        if mark.tag is not Tag.PARAMETER or not whole_line or not markup.at_line_start(at):
            return False
        if mark.name in self._tried or not self._vacant(mark.name, at):
            return False
        self._tried.add(mark.name)
        end = markup.next_parameter_end[at]
        if end is None or end >= self._stop:
            end = self._stop
        elif not (markup.touches(end) and markup.tag(end + 1) in PARAMETERS):
            return False
        return self._spec.convert(mark.name, _unframed(self._between(at, end))).complaint is None

    def _vacant(self, name: str, at: int) -> bool:
        """Whether the tool declares this parameter and the call has it neither before nor properly later."""
        return self._spec.declares(name) and name not in self._given and self._strict_last.get(name, -1) <= at

    def _note_kept_tags(self, opened: int, name: str) -> None:
        current = self._markup.marks[opened].name
        self._body.add(
            ProblemKind.EMBEDDED_MARKUP,
            f"the value of `{current}` holds the lines `</parameter>` and `<parameter={name}>`, which were kept as "
            f"text because `{name}` is no parameter of this tool; its parameters are {_listed(self._spec)}",
        )

    def _between(self, opened: int, end: int) -> str:
        return self._markup.text[self._markup.marks[opened].end : self._markup.marks[end].start]


def _unframed(text: str) -> str:
    """The value without the one newline after its opening tag and the one before its closing tag."""
    return text.removeprefix("\n").removesuffix("\n")


def read_arguments(body: Body, spec: ToolSpec, call: int) -> tuple[dict[str, JSON], list[Problem]]:
    """The arguments by the tool's schema, and every problem of the body, naming the tool."""
    arguments: dict[str, JSON] = {}
    for name, text in body.values:
        if name in arguments:
            body.add(ProblemKind.DUPLICATE_PARAMETER, f"`{name}` was given more than once; the last value counts")
        if not spec.accepts(name):
            body.add(
                ProblemKind.UNKNOWN_PARAMETER,
                f"there is no parameter `{name[:80]}`; the parameters are {_listed(spec)}",
            )
        converted = spec.convert(name, text)
        arguments[name] = converted.value
        if converted.complaint is not None:
            body.add(ProblemKind.SCHEMA_MISMATCH, f"parameter `{name}`: {converted.complaint}")
    for name in spec.required:
        if name not in arguments:
            body.add(ProblemKind.MISSING_PARAMETER, f"the required parameter `{name}` is missing")
    return arguments, [Problem(kind, f"Call of `{spec.name}`: {said}.", call) for kind, said in body.problems]


def _listed(spec: ToolSpec) -> str:
    return ", ".join(f"`{name}`" for name in list(spec.parameters)[:40]) or "none"
