"""Properties of the tool-call parser: it never raises, loses nothing, and does not see where chunks end."""

from __future__ import annotations

import json
import re

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from runtime.tool_calls import ToolCallParser, parse
from tests.runtime.tool_call_cases import TOOLS, call, calls_of, joined

FRAGMENTS = [
    "<tool_call>", "</tool_call>", "<function=bash>", "<function=write>", "<function=other>", "<function=bash",
    "</function>", "<parameter=command>", "<parameter=path>", "<parameter=x>", "<parameter=timeout>",
    "</parameter>", "</parameter1>", "</parameter", "<think>", "</think>", "<", ">", "</", "\n", "\n\n", " ", "ls", "5",
    "null", "&amp;", "\ud800", "{'a': 1}",
    "<tool_call>\n<function=bash>\n<parameter=command>\n",
    "\n</parameter>\n</function>\n</tool_call>",
    "\n</parameter>\n<parameter=timeout>\n",
]  # fmt: skip
MARKUP = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3)), max_size=40).map("".join)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "$ref", "anyOf", "enum", "properties", "function", "name", "parameters", "x"]),
            inner,
        )
    ),
    max_leaves=12,
)
# The lines that end a value by the documented format.
STRICT_END = re.compile(
    r"\n</parameter>\n(?:<parameter=(?:command|timeout|path|content|mode)>\n|</function>\n</tool_call>)"
)
# Tags that make sense as the next ones of a call whose closing tags were left out.
LOOSE_END = re.compile(
    r"^[ \t]*<parameter=(?:timeout|mode)>"
    r"|</(?:parameter|function|tool_call)[^<>\n]*>?\s*<(?:tool_call|function|parameter)\b",
    re.M,
)


@settings(deadline=None)
@given(MARKUP, st.booleans(), st.booleans(), st.sampled_from([TOOLS, [], TOOLS[:1]]), st.data())
def test_lossless_and_independent_of_chunks(
    text: str, thinking: bool, finished: bool, tools: list[dict[str, object]], data: st.DataObject
) -> None:
    whole = parse(text, tools, thinking=thinking, finished=finished)
    assert joined(whole) == text
    json.dumps([found.arguments for found in whole.calls], allow_nan=False)
    assert [piece.text for piece in whole.pieces if piece.kind == "call"] == [found.raw for found in whole.calls]
    assert all(problem.call is None or problem.call < len(whole.calls) for problem in whole.problems)
    parser = ToolCallParser(tools, thinking=thinking)
    rest = text
    while rest:
        size = data.draw(st.integers(0, len(rest)))
        parser.feed(rest[:size])
        rest = rest[size:]
        if size == 0:
            parser.feed(rest[:1])
            rest = rest[1:]
    assert parser.close(finished=finished) == whole


@settings(deadline=None)
@given(MARKUP, st.booleans())
def test_one_character_at_a_time(text: str, thinking: bool) -> None:
    parser = ToolCallParser(TOOLS, thinking=thinking)
    shown = [event for character in text for event in parser.feed(character)]
    assert parser.close() == parse(text, TOOLS, thinking=thinking)
    pieces = "".join(getattr(event, "text", "") for event in shown)
    assert len(pieces) <= len(text)


@settings(deadline=None)
@given(MARKUP, st.one_of(st.lists(ANY_JSON, max_size=3), ANY_JSON), st.booleans())
def test_never_raises_for_any_tools(text: str, tools: object, thinking: bool) -> None:
    assert joined(parse(text, tools, thinking=thinking)) == text  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.lists(MARKUP, min_size=1, max_size=3), st.sampled_from(["", "ok"]))
@example(["cat <<'E'\n</function>\nE"], "")
@example([call("bash", command="ls")], "ok")
@example(["\n", ""], "ok")
def test_documented_calls_round_trip(values: list[str], content: str) -> None:
    """What is written as documented is read back, for any text without the lines that end a value."""
    for value in values:
        rendered = f"\n{value}\n"
        nested = value == call("bash", command="ls")
        assume(nested or not (STRICT_END.search(rendered) or LOOSE_END.search(rendered)))
        assume(nested or "<tool_call>\n<function=bash>\n<parameter=command>" not in value)
    wanted = [("bash", {"command": value}) for value in values]
    written = "\n".join(call(name, **arguments) for name, arguments in wanted)
    turn = parse(f"hm\n</think>\n\n{content}" + ("\n\n" if content else "") + written, TOOLS)
    assert (turn.reasoning, turn.content, calls_of(turn)) == ("hm", content, wanted)


@settings(deadline=None)
@given(MARKUP, st.data())
def test_no_unclosed_call_is_run_at_the_length_limit(value: str, data: st.DataObject) -> None:
    """Cut anywhere: under `length` only calls that the whole text has are run."""
    assume("</parameter" not in value and "</function" not in value and "tool_call" not in value)
    text = call("bash", command="pwd") + "\n" + call("bash", command=value)
    cut = data.draw(st.integers(0, len(text) - 1))
    turn = parse(text[:cut], TOOLS, thinking=False, finished=False)
    assert calls_of(turn) == [("bash", {"command": "pwd"})][: len(turn.calls)]
