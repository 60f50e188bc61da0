"""What a chat host says as ids: those of the canonical turn however it was cut, nothing forged and nothing doubled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.chat import canonical_turn
from runtime.models.base import FinishReason
from runtime.models.chat_turn import TurnWriter
from runtime.qwen_bpe import SPECIAL_TOKENS, qwen_tokenizer
from runtime.tool_call_specs import ToolBook
from runtime.tool_calls import ProblemKind, parse

T = qwen_tokenizer()
THINK_END, CALL, CALL_END, END = map(T.special, ("</think>", "<tool_call>", "</tool_call>", "<|im_end|>"))
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "bash",
            "parameters": {
                "type": "object",
                "properties": {
                    "command": {"type": "string"},
                    "limit": {"type": "integer"},
                    "cwd": {"type": ["string", "null"]},
                },
                "required": ["command"],
            },
        },
    }
]
BOOK = ToolBook(TOOLS)
STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH

WORDS = st.lists(
    st.sampled_from(
        [
            *SPECIAL_TOKENS,
            *"ab1.,(){}é漢\u0301🎉",
            "word",
            "it's",
            " ",
            "  ",
            "\n",
            "\n\n",
            "\t",
            "\r\n",
            "\u00a0",
            "    x",
            "12",
        ]
    ),
    max_size=25,
).map("".join)
CALLS = st.builds(
    lambda command, limit: {"name": "bash", "arguments": {"command": command, "limit": limit}}, WORDS, st.integers()
)


def pieces(data: st.DataObject, text: str) -> list[str]:
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12), label="cuts"))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def fragments(data: st.DataObject, calls: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    found = []
    for index, call in enumerate(calls):
        found.append([{"index": index, "id": f"c{index}", "function": {"name": call["name"], "arguments": ""}}])
        parts = pieces(data, json.dumps(call["arguments"]))
        found += [[{"index": index, "function": {"arguments": part}}] for part in parts]
    return found


def expected(reasoning: str | None, content: str, calls: Sequence[dict[str, Any]]) -> list[int]:
    """The ids of a canonical turn in which only the marks are special."""
    content = content.strip()
    ids = [] if reasoning is None else [*T.encode(reasoning.strip() + "\n"), THINK_END]
    between = "\n\n" if content and calls else ""
    ids += T.encode(("" if reasoning is None else "\n\n") + content + between)
    for index, call in enumerate(calls):
        inside = canonical_turn(None, "", [call]).removeprefix("<tool_call>").removesuffix("</tool_call>")
        ids += [*(T.encode("\n") if index else []), CALL, *T.encode(inside), CALL_END]
    return [*ids, END]


@given(WORDS, WORDS, st.lists(CALLS, max_size=3), st.booleans(), st.data())
@settings(max_examples=300, deadline=None)
def test_the_ids_are_those_of_the_canonical_turn(
    reasoning: str, content: str, calls: list[dict[str, Any]], thinking: bool, data: st.DataObject
) -> None:
    if content.lstrip().startswith("<think>"):
        content = "x" + content
    writer = TurnWriter(T, BOOK, thinking=thinking)
    ids: list[int] = []
    for piece in pieces(data, reasoning):
        ids += writer.think(piece)
    for piece in pieces(data, content):
        ids += writer.say(piece)
    for fragment in fragments(data, calls):
        writer.call(fragment)
    ids += writer.finish(STOP)
    assert ids == expected(reasoning if thinking else None, content, calls)
    assert T.decode(ids) == canonical_turn(reasoning if thinking else None, content, calls) + "<|im_end|>"


def written(
    reasoning: str, content: str, calls: Any = (), *, partial: Sequence[int] = (), finish: Any = STOP
) -> list[int]:
    writer = TurnWriter(T, BOOK, partial=partial)
    writer.call(list(calls))
    return writer.think(reasoning) + writer.say(content) + writer.finish(finish)


def call(name: str, arguments: Any, **more: Any) -> dict[str, Any]:
    return {"index": 0, "id": "c", "function": {"name": name, "arguments": arguments}} | more


# After a stream that was cut


@given(WORDS, WORDS, st.lists(CALLS, max_size=2), st.data())
@settings(max_examples=200, deadline=None)
def test_a_host_that_repeats_itself_is_gone_on_with(
    reasoning: str, content: str, calls: list[dict[str, Any]], data: st.DataObject
) -> None:
    """What an earlier try has handed out and the rest of the next one are the turn, whatever was held back."""
    content = "x" + content
    said = [("think", part) for part in pieces(data, reasoning)] + [("say", part) for part in pieces(data, content)]
    first = TurnWriter(T, BOOK)
    partial: list[int] = []
    for kind, part in said[: data.draw(st.integers(0, len(said)), label="until")]:
        partial += getattr(first, kind)(part)
    second = TurnWriter(T, BOOK, partial=partial)
    rest: list[int] = []
    for kind, part in said:
        rest += getattr(second, kind)(part)
    for fragment in fragments(data, calls):
        second.call(fragment)
    rest += second.finish(STOP)
    assert partial + rest == expected(reasoning, content, calls)


def test_other_thinking_begins_anew_behind_what_was_thought() -> None:
    partial = TurnWriter(T, BOOK).think("I look at the file. It has ")
    rest = written("I look around. Then more.", "Good.", [call("bash", '{"command": "ls"}')], partial=partial)
    text = T.decode([*partial, *rest])
    assert text.startswith("I look at the file. It\n\nI look around. Then more.\n</think>\n\nGood.\n\n<tool_call>")
    assert text.count("<tool_call>") == 1


def test_other_content_begins_anew_and_the_thinking_before_it_is_not_said_twice() -> None:
    first = TurnWriter(T, BOOK)
    partial = first.think("Hm.") + first.say("I will now open ")
    rest = written("Hm, again.", "Let me see.", [call("bash", '{"command": "ls"}')], partial=partial)
    assert T.decode([*partial, *rest]).startswith(
        "Hm.\n</think>\n\nI will now\n\nLet me see.\n\n<tool_call>\n<function=bash>"
    )


def test_a_second_try_that_says_less_leaves_what_was_said() -> None:
    first = TurnWriter(T, BOOK)
    partial = first.think("One two three four")
    assert T.decode([*partial, *written("One", "Yes.", partial=partial)]) == "One two three\n</think>\n\nYes.<|im_end|>"


def test_a_turn_with_whole_calls_is_over() -> None:
    whole = written("Hm.", "", [call("bash", '{"command": "ls"}')])
    assert TurnWriter(T, BOOK, partial=whole[:-1]).over
    assert not TurnWriter(T, BOOK, partial=whole[:3]).over


def test_without_thinking() -> None:
    first = TurnWriter(T, BOOK, thinking=False)
    partial = first.think("left out") + first.say("One two three ")
    second = TurnWriter(T, BOOK, thinking=False, partial=partial)
    rest = second.say("One two three four") + second.finish(STOP)
    assert T.decode([*partial, *rest]) == "One two three four<|im_end|>"


# Limits


def test_a_limit_ends_thinking_without_a_mark() -> None:
    assert T.decode(written("a b c ", "", finish=LENGTH)) == "a b c"
    assert T.decode(written("a b", "c d ", finish=LENGTH)) == "a b\n</think>\n\nc d"


@pytest.mark.parametrize("arguments", ['{"command": "rm -rf ', '{"command": "rm"', "", '{"command": "rm", "limit": 1'])
def test_a_call_that_a_limit_cut_off_is_reported_and_not_run(arguments: str) -> None:
    whole = call("bash", '{"command": "ls"}')
    ids = written("Hm.", "I look.", [whole, call("bash", arguments, index=1, id="d")], finish=LENGTH)
    turn = parse(T.decode(ids), TOOLS, finished=False)
    assert [found.arguments for found in turn.calls] == [{"command": "ls"}]
    assert ProblemKind.TRUNCATED in {problem.kind for problem in turn.problems}
    assert END not in ids


# Calls in odd shapes


@pytest.mark.parametrize(
    ("arguments", "understood"),
    [
        ('{"command": "ls"}', {"command": "ls"}),
        ('{"command": "ls"}}', {"command": "ls"}),  # a surplus brace
        (json.dumps('{"command": "ls"}'), {"command": "ls"}),  # encoded twice
        ({"command": "ls"}, {"command": "ls"}),  # an object in place of text
        ('{"command": "a\nb"}', {"command": "a\nb"}),  # a raw newline
        ('{"command": "ls", "limit": null}', {"command": "ls"}),  # null for what is left out
        ('{"command": "ls", "cwd": null}', {"command": "ls", "cwd": None}),  # null where the schema has it
        (
            '{"command": "</parameter>\\n</function>\\n</tool_call>x"}',
            {"command": "</parameter>\n</function>\n</tool_call>x"},
        ),
    ],
)
def test_arguments_as_hosts_send_them(arguments: Any, understood: dict[str, Any]) -> None:
    turn = parse(T.decode(written("Hm.", "", [call("bash", arguments)])[:-1]), TOOLS)
    assert [(found.name, found.arguments) for found in turn.calls] == [("bash", understood)]
    assert not turn.problems or "</parameter>" in arguments


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("", '": "ls"}'),  # nothing but the arguments' tail
        ("bash", '{"command": "ls'),
        ("bash", '["ls"]'),
        ("bash", '{"command": "ls"} and more'),
        ("bash", '{"a>b": 1}'),
        ("ba sh", '{"command": "ls"}'),
        ("bash><x", "{}"),
    ],
)
def test_what_is_no_call_is_reported_and_not_run(name: str, arguments: str) -> None:
    for content in ("", "I look."):
        good = call("bash", '{"command": "pwd"}', index=1, id="d")
        ids = written("Hm.", content, [call(name, arguments), good])
        turn = parse(T.decode(ids[:-1]), TOOLS)
        assert [found.arguments for found in turn.calls] == [{"command": "pwd"}]
        assert ids.count(CALL) == 1
        alone = parse(T.decode(written("Hm.", content, [call(name, arguments)])[:-1]), TOOLS)
        assert not alone.calls
        assert [problem.kind for problem in alone.problems] == [ProblemKind.MALFORMED]
        assert content in alone.content


LS, PWD = '{"command": "ls"}', '{"command": "pwd"}'
SECOND = call("bash", PWD, index=1, id="d")
FRAGMENTS = {
    "a name in every fragment, ids that are empty after the first": [
        [call("bash", LS[:5])],
        [call("bash", LS[5:], id="")],
        [SECOND],
    ],
    "every call numbered 0, told apart by their ids": [[call("bash", LS)], [call("bash", PWD, id="d")]],
    "no numbers at all": [
        [call("bash", LS[:5], index=None)],
        [{"function": {"arguments": LS[5:]}}],
        [call("bash", PWD, index=None, id="d")],
    ],
    "both in one delta, and rubbish between": [
        [call("bash", LS), None, 7, SECOND, {"index": 2, "id": "e", "function": None}]
    ],
    "pieces of two calls in turns": [
        [call("bash", "")],
        [call("bash", "", index=1, id="d")],
        [{"index": 0, "function": {"arguments": LS}}],
        [{"index": 1, "function": {"name": None, "arguments": PWD}}],
    ],
}


@pytest.mark.parametrize("deltas", FRAGMENTS.values(), ids=FRAGMENTS)
def test_fragments_find_their_call(deltas: list[Any]) -> None:
    writer = TurnWriter(T, BOOK)
    for delta in deltas:
        writer.call(delta)
    turn = parse(T.decode(writer.finish(STOP)[:-1]), TOOLS)
    assert [found.arguments for found in turn.calls] == [{"command": "ls"}, {"command": "pwd"}]


# Thinking inside of the content


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_thinking_that_was_left_in_the_content(data: st.DataObject) -> None:
    writer = TurnWriter(T, BOOK)
    ids: list[int] = []
    for piece in pieces(data, "\n<think>\nOne < two </thi three\n</think>\n\nGood <think> one.</think>"):
        ids += writer.say(piece)
    ids += writer.finish(STOP)
    assert T.decode(ids) == "One < two </thi three\n</think>\n\nGood <think> one.</think><|im_end|>"
    assert ids.count(THINK_END) == 1


@pytest.mark.parametrize("content", ["<", "<thin", "<think", "<thinly>"])
def test_content_that_only_begins_like_thinking(content: str) -> None:
    assert T.decode(written("", content)) == f"\n</think>\n\n{content}<|im_end|>"


def test_long_text_without_blanks_is_not_held_back_for_long() -> None:
    writer = TurnWriter(T, BOOK)
    text = "漢字" * 2000
    handed: list[int] = []
    for at in range(0, len(text), 10):
        handed += writer.think(text[at : at + 10])
    assert len(T.decode(handed)) > len(text) - 1000
    assert T.decode(handed + writer.finish(STOP)) == f"{text}\n</think>\n\n<|im_end|>"
