"""What the tool-call parser hands out: the parsed turn, its calls and problems, and the live events.

Plain frozen data, no behaviour. `runtime.tool_calls` re-exports all of it; import it from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from runtime.schema_values import JSON


class ProblemKind(StrEnum):
    """Every way in which a turn can leave the documented format."""

    CALL_IN_THINKING = "call_in_thinking"  # a call written before `</think>`, or without one
    IGNORED_IN_THINKING = "ignored_in_thinking"  # the same, not executed: calls follow after `</think>`
    MISSING_OPENER = "missing_opener"  # no `<tool_call>`
    MISSING_CLOSER = "missing_closer"  # `</parameter>`, `</function>` or `</tool_call>` left out
    DRIFTED_TAG = "drifted_tag"  # `</parameter1>`, `<parameter=x` without `>`, `<function="x">`
    SPACING = "spacing"  # newlines or blanks other than the format's
    EMBEDDED_MARKUP = "embedded_markup"  # a value holds tags that may have been meant as tags
    TRUNCATED = "truncated"  # the text ends inside a call; it is not returned
    MALFORMED = "malformed"  # looks like a call and can't be read as one; it is not returned
    UNKNOWN_TOOL = "unknown_tool"
    UNKNOWN_PARAMETER = "unknown_parameter"
    MISSING_PARAMETER = "missing_parameter"
    DUPLICATE_PARAMETER = "duplicate_parameter"  # the last one counts
    SCHEMA_MISMATCH = "schema_mismatch"
    TEXT_AFTER_CALL = "text_after_call"


@dataclass(frozen=True)
class Problem:
    """One deviation. `message` tells a model what was wrong and how to write it right.

    `call` is the index into `ParsedTurn.calls`, or None where no returned call is concerned.
    """

    kind: ProblemKind
    message: str
    call: int | None = None


@dataclass(frozen=True)
class ToolCall:
    """A call to run. `arguments` are JSON-safe; `raw` is the call's text exactly as the model wrote it."""

    name: str
    arguments: dict[str, JSON]
    raw: str


class PieceKind(StrEnum):
    """What a stretch of the model's text is."""

    REASONING = "reasoning"
    CONTENT = "content"
    CALL = "call"
    BROKEN = "broken"  # a call that was truncated, malformed or not to be executed, and stray tags
    FRAMING = "framing"  # think tags and the newlines between the parts


@dataclass(frozen=True)
class Piece:
    """A stretch of the model's text; all pieces of a turn, joined, are the text."""

    kind: PieceKind
    text: str


@dataclass(frozen=True)
class ParsedTurn:
    """One assistant turn. `reasoning` is None when the prompt had closed the thinking already."""

    reasoning: str | None
    content: str
    calls: tuple[ToolCall, ...]
    problems: tuple[Problem, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class ReasoningDelta:
    """More of the thinking."""

    text: str


@dataclass(frozen=True)
class ContentDelta:
    """More of the text that the model says outside its thinking and its calls."""

    text: str


@dataclass(frozen=True)
class CallStarted:
    """The header of a call was seen."""

    name: str


@dataclass(frozen=True)
class CallDelta:
    """More of the markup of the call that is being written, as it stands."""

    text: str


@dataclass(frozen=True)
class CallFinished:
    """The call that was being written was closed."""

    call: ToolCall


ParseEvent: TypeAlias = ReasoningDelta | ContentDelta | CallStarted | CallDelta | CallFinished
