"""The collected parser cases of other engines, whole and in pieces, against our conventions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from runtime.tool_calls import ParsedTurn, ToolCallParser, parse
from tests.runtime.tool_call_cases import joined
from tests.shared_data import SHARED, needs_shared

CASES = SHARED / "data" / "parser_cases.jsonl"
ROWS: dict[str, dict[str, Any]] = (
    {row["id"]: row for row in map(json.loads, CASES.read_text("utf-8").splitlines())} if CASES.exists() else {}
)

# Rows where we follow another convention, with what we expect instead. The reasons are in
# docs/decisions/0001-tool-call-conventions.md.
OURS: dict[str, dict[str, Any]] = {
    # The blank line between content and call is framing (ollama-qwen38-01 wants it so).
    "sglang-02": {"content": "Let me check the weather for you."},
    "sglang-05": {"content": "Let me help you."},
    # The newline between two calls is framing (rtp-stream-001 wants it so).
    "sgljax-005": {"content": ""},
    # `<tool_call>` that no function follows is text, and text is never dropped.
    "sgljax-001": {"content": "<tool_call>\nthis is not valid xml\n</tool_call>\n"},
    # Calls of unknown tools are returned, with a problem (rtp-stream-001 wants it so).
    "sgljax-006": {"tool_calls": [{"name": "mystery", "arguments": {"x": "1"}}]},
    # Values are never unescaped.
    "sgljax-007": {
        "tool_calls": [{"name": "execute_bash", "arguments": {"command": "echo &quot;hi&quot; &amp;&amp; ls"}}]
    },
    # A call that was cut off is never returned (issue-11 wants it so).
    "rtp-stream-026": {
        "tool_calls": [
            {
                "name": "search_codebase",
                "arguments": {
                    "query": "AI artificial intelligence machine learning NLP features",
                    "key_words": "AI,ML,NLP",
                },
            }
        ]
    },
    # The string `null` is a string (derived-01 wants it so).
    "ollama-value-27": {"tool_calls": [{"name": "f", "arguments": {"p": "null"}}]},
    # What is no boolean is not silently false.
    "ollama-value-35": {"tool_calls": [{"name": "f", "arguments": {"p": "yes"}}]},
}


def _check(row: dict[str, Any], turn: ParsedTurn, text: str) -> None:
    expected = {**row["expected"], **OURS.get(row["id"], {})}
    assert [{"name": c.name, "arguments": c.arguments} for c in turn.calls] == expected["tool_calls"]
    assert turn.content == expected["content"]
    if "reasoning" in expected:
        assert (turn.reasoning or "") == expected["reasoning"]
    assert joined(turn) == text


def _variants(row: dict[str, Any]) -> Iterator[tuple[str, bool, list[str]]]:
    """The row's text with its mode and its own chunks; rows without a mode run in both."""
    mode, chunks = row.get("thinking_prefilled"), row.get("streaming_chunks") or []
    if mode is not None:
        yield row["text"], mode, chunks
        return
    yield row["text"], False, chunks
    yield "</think>\n\n" + row["text"], True, ["</think>\n\n", *chunks] if chunks else []


@needs_shared
@pytest.mark.parametrize("identifier", ROWS)
def test_row(identifier: str) -> None:
    row = ROWS[identifier]
    for text, thinking, chunks in _variants(row):
        whole = parse(text, row["tools"], thinking=thinking)
        _check(row, whole, text)
        for cut in (
            [text[i : i + 1] for i in range(len(text))],
            [text[i : i + 3] for i in range(0, len(text), 3)],
            chunks,
        ):
            if cut:
                parser = ToolCallParser(row["tools"], thinking=thinking)
                for chunk in cut:
                    parser.feed(chunk)
                assert parser.close() == whole


@needs_shared
def test_all_rows_are_there() -> None:
    assert len(ROWS) == 167
    assert OURS.keys() <= ROWS.keys()


@needs_shared
@pytest.mark.parametrize("identifier", OURS)
def test_our_conventions_are_really_other(identifier: str) -> None:
    """A row listed here must differ from what the row itself expects, or it has no business in the list."""
    assert {**ROWS[identifier]["expected"], **OURS[identifier]} != ROWS[identifier]["expected"]


@needs_shared
@pytest.mark.parametrize("identifier", ROWS)
def test_row_text_as_a_value(identifier: str) -> None:
    """A model that writes about this very format: each row's text survives as the value of another call."""
    if identifier == "rtp-stream-026":
        pytest.skip("a closed call, then one that is cut off: as a value it can't be told from two calls")
    value = f"Doc:\n\n{ROWS[identifier]['text']}\n\nEnd.\n"
    written = f"<tool_call>\n<function=note>\n<parameter=text>\n{value}\n</parameter>\n</function>\n</tool_call>"
    note = {"name": "note", "parameters": {"type": "object", "properties": {"text": {"type": "string"}}}}
    turn = parse(written, [note], thinking=False)
    assert [(c.name, c.arguments) for c in turn.calls] == [("note", {"text": value})]
