r"""Qwen's XML tool calls out of the text that a model wrote: incremental, lenient, lossless.

`parse` reads a whole turn; `ToolCallParser` takes it in chunks, shows what is happening, and gives the very
same turn in the end, however the text was cut. Neither raises on anything a model writes, and neither loses
text: the pieces of a turn, joined, are the text. What leaves the documented format becomes a `Problem` whose
message can go back to the model. The conventions are recorded in docs/decisions/0001-tool-call-conventions.md.

Left out: running calls, checking arguments beyond their types, and special tokens (`<|im_end|>` is the
caller's to cut off).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runtime.schema_values import JSON
from runtime.tool_call_live import LiveView
from runtime.tool_call_specs import ToolBook
from runtime.tool_call_turn import read_turn
from runtime.tool_call_types import (
    CallDelta,
    CallFinished,
    CallStarted,
    ContentDelta,
    ParsedTurn,
    ParseEvent,
    Piece,
    PieceKind,
    Problem,
    ProblemKind,
    ReasoningDelta,
    ToolCall,
)

__all__ = [
    "JSON",
    "CallDelta",
    "CallFinished",
    "CallStarted",
    "ContentDelta",
    "ParseEvent",
    "ParsedTurn",
    "Piece",
    "PieceKind",
    "Problem",
    "ProblemKind",
    "ReasoningDelta",
    "ToolBook",
    "ToolCall",
    "ToolCallParser",
    "parse",
]


def parse(
    text: str, tools: Iterable[Mapping[str, Any]] | None, *, thinking: bool = True, finished: bool = True
) -> ParsedTurn:
    """The turn that `text` is.

    text: what the model wrote after the generation prompt, its thinking included. tools: OpenAI-style
    function specs, or the bare function dicts; without any, every name is accepted. thinking: False where
    the prompt had closed the thinking, so that the text begins as content. finished: False where the model
    was cut off (finish reason `length`): a call that isn't closed then is never returned.
    """
    return read_turn(text, ToolBook(tools), thinking=thinking, finished=finished)


class ToolCallParser:
    """The same for a stream: feed chunks as they arrive, then close.

    The events of `feed` are provisional, for the eye; the turn that `close` returns is what counts. `tools` may
    be a `ToolBook`, so that many turns read the specs once.
    """

    def __init__(self, tools: Iterable[Mapping[str, Any]] | ToolBook | None, *, thinking: bool = True) -> None:
        self._book = tools if isinstance(tools, ToolBook) else ToolBook(tools)
        self._thinking = thinking
        self._chunks: list[str] = []
        self._live = LiveView(self._book, thinking=thinking)
        self._turns: dict[bool, ParsedTurn] = {}

    def feed(self, chunk: str) -> list[ParseEvent]:
        """Take a chunk, of any length; what can be shown of the turn now that could not before."""
        self._turns.clear()
        self._chunks.append(chunk)
        return self._live.feed(chunk)

    def close(self, *, finished: bool = True) -> ParsedTurn:
        """The turn that all chunks together are; `finished` as in `parse`. Can be called again."""
        if finished not in self._turns:
            text = "".join(self._chunks)
            self._turns[finished] = read_turn(text, self._book, thinking=self._thinking, finished=finished)
        return self._turns[finished]
