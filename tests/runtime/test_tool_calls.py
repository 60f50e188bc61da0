"""The tool-call parser, rule by rule, on cases of our own."""

from __future__ import annotations

import pytest

from runtime.tool_calls import (
    CallDelta,
    CallFinished,
    CallStarted,
    ContentDelta,
    ParsedTurn,
    ParseEvent,
    PieceKind,
    ProblemKind,
    ReasoningDelta,
    ToolCallParser,
    parse,
)
from tests.runtime.tool_call_cases import BASH, NOW, TOOLS, WRITE, call, calls_of, joined, kinds_of, tool

LS = call("bash", command="ls")
PWD = call("bash", command="pwd")


def read(text: str, *, thinking: bool = False, finished: bool = True) -> ParsedTurn:
    turn = parse(text, TOOLS, thinking=thinking, finished=finished)
    assert joined(turn) == text
    return turn


def test_documented_turn() -> None:
    turn = read(f"Look first.\n</think>\n\nI'll look.\n\n{LS}\n{PWD}", thinking=True)
    assert (turn.reasoning, turn.content) == ("Look first.", "I'll look.")
    assert calls_of(turn) == [("bash", {"command": "ls"}), ("bash", {"command": "pwd"})]
    assert [found.raw for found in turn.calls] == [LS, PWD]
    assert turn.problems == ()
    assert [(piece.kind, piece.text) for piece in turn.pieces] == [
        (PieceKind.REASONING, "Look first."),
        (PieceKind.FRAMING, "\n</think>"),
        (PieceKind.FRAMING, "\n\n"),
        (PieceKind.CONTENT, "I'll look."),
        (PieceKind.FRAMING, "\n\n"),
        (PieceKind.CALL, LS),
        (PieceKind.FRAMING, "\n"),
        (PieceKind.CALL, PWD),
    ]


def test_bare_function_dicts_are_specs_too() -> None:
    turn = parse(call("bash", command="1", timeout="2"), [BASH["function"]], thinking=False)
    assert calls_of(turn) == [("bash", {"command": "1", "timeout": 2})]


@pytest.mark.parametrize(
    ("value", "as_text"),
    [
        ("", ""),
        ("\n", "\n"),
        ("  x  ", "  x  "),
        ("\n\nx\n\n", "\n\nx\n\n"),
        ("&amp; &lt;b&gt;", "&amp; &lt;b&gt;"),
        ("null", "null"),
        ("12", "12"),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_text_is_kept_byte_for_byte(value: str, as_text: str) -> None:
    turn = read(call("bash", command=value))
    assert calls_of(turn) == [("bash", {"command": as_text})]
    assert turn.problems == ()


@pytest.mark.parametrize(
    "value",
    [
        "echo '</parameter>'",
        "cat <<'E'\n</parameter>\nE",
        "cat <<'E'\n</function>\n</tool_call>\nE",
        "sed 's/<parameter=x>/y/'",
        "a\n<parameter=x>\nb",
        "a\n<parameter=command>\nb",
        "a\n</parameter>\n<parameter=x>\nb",
        "a\n<parameter=timeout>\n5\n</parameter>\nb",
        "a\n<parameter=timeout>\nnot a number",
        "</parameter1>\n</parameters>",
        "</think>\n\n<think>",
        "The tag <tool_call> opens",
        "<tool_call>\n<function=bash>\n",
        f"cat > doc <<'E'\n{LS}\nE",
        LS,
        f"{LS}\n{PWD}",
        f"# two\n{LS}\n\n{call('other', x=LS)}\nend",
        "<tool_call>\n<function=now>\n</function>\n</tool_call>\n" + LS,
        "tail of an example\n</parameter>\n</function>\n</tool_call>\nand more",
    ],
)
def test_values_keep_markup(value: str) -> None:
    turn = read(f"{call('bash', command=value)}\n{PWD}")
    assert calls_of(turn) == [("bash", {"command": value}), ("bash", {"command": "pwd"})]


def test_kept_tags_that_look_like_an_unknown_parameter_are_reported() -> None:
    turn = read(call("bash", command="ls\n</parameter>\n<parameter=shell>\nzsh"))
    assert kinds_of(turn) == [ProblemKind.EMBEDDED_MARKUP]
    assert "`shell`" in turn.problems[0].message
    assert "`command`, `timeout`" in turn.problems[0].message


OPEN = "<tool_call>\n<function=bash>\n<parameter=command>\nls\n"


@pytest.mark.parametrize(
    ("first", "missing"),
    [
        (OPEN + "</function>\n</tool_call>", "</parameter>"),
        (OPEN + "</parameter>\n</tool_call>", "</function>"),
        (OPEN + "</parameter>\n</function>", "</tool_call>"),
        (OPEN + "</tool_call>", "</parameter> and </function>"),
        (OPEN + "</parameter>", "</function> and </tool_call>"),
    ],
)
@pytest.mark.parametrize("second", ["", "\n" + PWD])
def test_missing_closers(first: str, missing: str, second: str) -> None:
    """With and without a second call behind, which must not end up in the first one's value."""
    turn = read(first + second)
    assert calls_of(turn) == [("bash", {"command": "ls"}), ("bash", {"command": "pwd"})][: 2 if second else 1]
    assert kinds_of(turn) == [ProblemKind.MISSING_CLOSER]
    assert f": {missing} missing" in turn.problems[0].message
    assert turn.problems[0].call == 0


def test_missing_closer_then_prose_then_a_call() -> None:
    turn = read(f"{OPEN}</function>\n</tool_call>\nand then\n{PWD}")
    assert calls_of(turn) == [("bash", {"command": "ls"}), ("bash", {"command": "pwd"})]
    assert turn.content == "\nand then\n"
    assert kinds_of(turn) == [ProblemKind.MISSING_CLOSER, ProblemKind.TEXT_AFTER_CALL]


def test_missing_closer_then_a_call_of_an_unknown_tool() -> None:
    turn = read(f"{OPEN}</function>\n</tool_call>\n{call('cd', path='/')}")
    assert calls_of(turn) == [("bash", {"command": "ls"}), ("cd", {"path": "/"})]


@pytest.mark.parametrize("between", ["\n", "\nand then\n"])
def test_two_calls_without_openers(between: str) -> None:
    bare = [one.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>") for one in (LS, PWD)]
    turn = read(between.join(bare))
    assert calls_of(turn) == [("bash", {"command": "ls"}), ("bash", {"command": "pwd"})]
    assert turn.content == ("" if between.isspace() else between)


def test_two_functions_in_one_wrapper() -> None:
    turn = read(LS.removesuffix("\n</tool_call>") + "\n" + PWD.removeprefix("<tool_call>\n"))
    assert calls_of(turn) == [("bash", {"command": "ls"}), ("bash", {"command": "pwd"})]
    assert kinds_of(turn) == [ProblemKind.MISSING_CLOSER, ProblemKind.MISSING_OPENER]


def test_a_call_that_begins_in_an_open_value_is_text() -> None:
    """By the documented format the first triple ends the first call; the problem says what may have been meant."""
    turn = read(f"{OPEN}{PWD}")
    assert calls_of(turn) == [("bash", {"command": "ls\n<tool_call>\n<function=bash>\n<parameter=command>\npwd"})]
    assert kinds_of(turn) == [ProblemKind.EMBEDDED_MARKUP]


def test_tag_of_a_parameter_that_is_properly_given_later_is_text() -> None:
    turn = read(call("write", content="a\n<parameter=path>\nb", path="/a"))
    assert calls_of(turn) == [("write", {"content": "a\n<parameter=path>\nb", "path": "/a"})]
    assert turn.problems == ()


def test_missing_closer_between_parameters() -> None:
    turn = read(
        "<tool_call>\n<function=write>\n<parameter=path>\n/a\n<parameter=content>\nx\n</parameter>\n</function>\n</tool_call>"
    )
    assert calls_of(turn) == [("write", {"path": "/a", "content": "x"})]
    assert kinds_of(turn) == [ProblemKind.MISSING_CLOSER]
    assert "`path`" in turn.problems[0].message


@pytest.mark.parametrize("closer", ["</parameter1>", "</parameter/>", "</parameter_function>", "</parameter"])
def test_drifted_closers(closer: str) -> None:
    turn = read(call("write", path="/a", content="x").replace("</parameter>", closer))
    assert calls_of(turn) == [("write", {"path": "/a", "content": "x"})]
    assert set(kinds_of(turn)) == {ProblemKind.DRIFTED_TAG}


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call><function=bash><parameter=command>ls</parameter><parameter=timeout>5</parameter></function></tool_call>",
        "<tool_call><function=bash><parameter=command>\nls\n</parameter><parameter=timeout>\n5\n</parameter>"
        "</function></tool_call>",
        "<tool_call >\n < function = bash >\n<parameter = command >\nls\n</ parameter>\n\n<parameter= timeout>\n5\n"
        "< /parameter>\n</ function>\n</ tool_call >",
    ],
)
def test_other_spacing(text: str) -> None:
    turn = read(text)
    assert calls_of(turn) == [("bash", {"command": "ls", "timeout": 5})]
    assert kinds_of(turn) == [ProblemKind.SPACING]


def test_tags_without_bracket_and_quoted_names() -> None:
    turn = read('<tool_call>\n<function="bash">\n<parameter=command\nls\n</parameter>\n</function>\n</tool_call>')
    assert calls_of(turn) == [("bash", {"command": "ls"})]
    assert kinds_of(turn) == [ProblemKind.DRIFTED_TAG, ProblemKind.DRIFTED_TAG]


@pytest.mark.parametrize("closer", ["", "\n</tool_call>"])
def test_missing_opener(closer: str) -> None:
    body = LS.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>")
    turn = read(f"Hi.\n\n{body}{closer}\n")
    assert (turn.content, calls_of(turn)) == ("Hi.", [("bash", {"command": "ls"})])
    assert kinds_of(turn) == [ProblemKind.MISSING_OPENER]


@pytest.mark.parametrize(
    "text",
    [
        "Calls are wrapped in <tool_call> tags.",
        "Write <tool_call> and then </tool_call>.",
        "Use <function=bash> for that.",
        "The format is `<tool_call><function=NAME>` and so on.",
        "Use <tool_call>",
        "a < b, <b>bold</b>, </parameter>",
    ],
)
def test_prose_that_mentions_the_format_is_content(text: str) -> None:
    for turn in (read(text), read(f"hm\n</think>\n\n{text}", thinking=True)):
        assert (turn.content, turn.calls, turn.problems) == (text, (), ())


@pytest.mark.parametrize(
    "text",
    [
        "<function=other>\n<parameter=a>\n1\n</parameter>\n</function>",
        '<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call>',
    ],
)
def test_text_that_looks_like_a_call_stays_content_and_is_reported(text: str) -> None:
    turn = read(text)
    assert (turn.content, turn.calls, kinds_of(turn)) == (text, (), [ProblemKind.MALFORMED])


@pytest.mark.parametrize(
    "broken",
    [
        "<tool_call>\n<function=bash\n<parameter=command>\nls\n</parameter>\n</function>\n</tool_call>",
        "<tool_call>\n<function=bash>\nls -la\n</function>\n</tool_call>",
        "<tool_call>\n<function=>\n<parameter=command>\nls\n</parameter>\n</function>\n</tool_call>",
    ],
)
def test_malformed_calls_are_kept_apart(broken: str) -> None:
    turn = read(f"Hi.\n\n{broken}\n{PWD}")
    assert (turn.content, calls_of(turn)) == ("Hi.", [("bash", {"command": "pwd"})])
    assert kinds_of(turn) == [ProblemKind.MALFORMED]
    assert [piece.text for piece in turn.pieces if piece.kind is PieceKind.BROKEN] == [broken]


def test_closing_tags_that_close_nothing() -> None:
    turn = read(f"{LS}\n</function>\n</tool_call>")
    assert (turn.content, calls_of(turn)) == ("", [("bash", {"command": "ls"})])
    assert kinds_of(turn) == [ProblemKind.MALFORMED]


def test_the_same_problem_is_reported_once() -> None:
    turn = read(f"{LS} and {PWD} and {LS} done")
    assert len(turn.calls) == 3
    assert (turn.content, kinds_of(turn)) == (" and  and  done", [ProblemKind.TEXT_AFTER_CALL])


def test_names_and_parameters_that_do_not_exist() -> None:
    turn = read(call("cd", path="/") + "\n" + call("bash", cmd="ls") + "\n" + call("now", x="1"))
    assert calls_of(turn) == [("cd", {"path": "/"}), ("bash", {"cmd": "ls"}), ("now", {"x": "1"})]
    assert [(problem.kind, problem.call) for problem in turn.problems] == [
        (ProblemKind.UNKNOWN_TOOL, 0),
        (ProblemKind.UNKNOWN_PARAMETER, 1),
        (ProblemKind.MISSING_PARAMETER, 1),
        (ProblemKind.UNKNOWN_PARAMETER, 2),
    ]
    assert "`bash`, `write`, `now`" in turn.problems[0].message


def test_without_tools_every_name_is_known() -> None:
    turn = parse(call("any thing", **{"a b": "1"}), [], thinking=False)
    assert (calls_of(turn), turn.problems) == ([("any thing", {"a b": "1"})], ())


def test_duplicate_parameter_last_wins() -> None:
    turn = read(OPEN + "</parameter>\n<parameter=command>\npwd\n</parameter>\n</function>\n</tool_call>")
    assert (calls_of(turn), kinds_of(turn)) == ([("bash", {"command": "pwd"})], [ProblemKind.DUPLICATE_PARAMETER])


def test_value_that_does_not_fit_its_schema() -> None:
    turn = read(call("bash", command="ls", timeout="soon"))
    assert calls_of(turn) == [("bash", {"command": "ls", "timeout": "soon"})]
    assert kinds_of(turn) == [ProblemKind.SCHEMA_MISMATCH]
    assert "integer" in turn.problems[0].message


def test_call_without_arguments() -> None:
    assert read(call("now")).problems == ()
    assert calls_of(read(call("now") + "\n" + LS)) == [("now", {}), ("bash", {"command": "ls"})]


# The end of the text


@pytest.mark.parametrize("cut", range(1, len(LS) - len("\n</parameter>\n</function>\n</tool_call>") + 1))
@pytest.mark.parametrize("finished", [True, False])
def test_cut_off_value_is_never_run(cut: int, finished: bool) -> None:
    turn = read(f"{PWD}\n{LS[:cut]}", finished=finished)
    assert calls_of(turn) == [("bash", {"command": "pwd"})]


def test_cut_off_call_is_reported_and_kept() -> None:
    turn = read("Hi.\n\n" + OPEN)
    assert (turn.content, turn.calls, kinds_of(turn)) == ("Hi.", (), [ProblemKind.TRUNCATED])
    assert turn.pieces[-1].text == OPEN
    assert "`bash`" in turn.problems[0].message


def test_cut_off_after_a_parameter_with_another_required() -> None:
    turn = read("<tool_call>\n<function=write>\n<parameter=path>\n/a\n</parameter>\n")
    assert (turn.calls, kinds_of(turn)) == ((), [ProblemKind.TRUNCATED])


def test_cut_off_in_a_value_that_holds_a_whole_call() -> None:
    text = f"<tool_call>\n<function=write>\n<parameter=path>\n/a\n</parameter>\n<parameter=content>\nDoc:\n{LS}\nmore"
    turn = read(text, finished=False)
    assert all(found.name != "bash" for found in turn.calls)


@pytest.mark.parametrize("cut", range(1, len(LS)))
def test_unclosed_call_is_not_run_at_the_length_limit(cut: int) -> None:
    assert read(LS[:cut], finished=False).calls == ()


def test_closed_call_is_run_at_the_length_limit() -> None:
    assert calls_of(read(LS, finished=False)) == [("bash", {"command": "ls"})]


# Thinking


def test_unclosed_thinking_is_all_reasoning() -> None:
    turn = read("I could use <tool_call> here.\n", thinking=True)
    assert (turn.reasoning, turn.content, turn.problems) == ("I could use <tool_call> here.\n", "", ())


def test_repeated_think_tag_is_dropped() -> None:
    assert read("<think>\nhm\n</think>\n\nYes", thinking=True).reasoning == "hm"


def test_only_canonical_framing_is_taken_off() -> None:
    turn = read("\n hm \n\n</think>\n\n\n Yes \n", thinking=True)
    assert (turn.reasoning, turn.content) == ("\n hm \n", "\n Yes \n")


def test_no_thinking() -> None:
    turn = read("</think> is a tag", thinking=False)
    assert (turn.reasoning, turn.content) == (None, "</think> is a tag")


def test_call_in_unclosed_thinking() -> None:
    turn = read(f"Let me look.\n{LS}\nbye", thinking=True)
    assert (turn.reasoning, turn.content) == ("Let me look.\n", "\nbye")
    assert calls_of(turn) == [("bash", {"command": "ls"})]
    assert kinds_of(turn) == [ProblemKind.CALL_IN_THINKING, ProblemKind.TEXT_AFTER_CALL]


def test_call_in_thinking_counts_only_if_none_follows() -> None:
    alone = read(f"Maybe\n{LS}\n</think>\n\n", thinking=True)
    assert (calls_of(alone), kinds_of(alone)) == ([("bash", {"command": "ls"})], [ProblemKind.CALL_IN_THINKING])
    both = read(f"Maybe\n{LS}\n</think>\n\n{PWD}", thinking=True)
    assert (calls_of(both), kinds_of(both)) == ([("bash", {"command": "pwd"})], [ProblemKind.IGNORED_IN_THINKING])
    assert both.reasoning == f"Maybe\n{LS}"
    cut_off = read(f"Maybe\n{LS}\n</think>\n\n{OPEN}", thinking=True)
    assert (cut_off.calls, kinds_of(cut_off)) == ((), [ProblemKind.IGNORED_IN_THINKING, ProblemKind.TRUNCATED])


def test_think_tag_in_a_value_does_not_end_the_thinking() -> None:
    turn = read(call("bash", command="grep '</think>' f"), thinking=True)
    assert (turn.reasoning, calls_of(turn)) == ("", [("bash", {"command": "grep '</think>' f"})])


def test_half_a_call_in_the_thinking_is_reasoning() -> None:
    turn = read(f"I'd write\n{OPEN}...\n</think>\n\n{PWD}", thinking=True)
    assert (turn.reasoning, calls_of(turn)) == (f"I'd write\n{OPEN}...", [("bash", {"command": "pwd"})])
    assert turn.problems == ()


def test_half_a_call_in_the_thinking_does_not_swallow_a_call_without_opener() -> None:
    turn = read(f"I'd write\n{OPEN}...\n</think>\n\n{PWD.removeprefix('<tool_call>')}", thinking=True)
    assert (turn.reasoning, calls_of(turn)) == (f"I'd write\n{OPEN}...", [("bash", {"command": "pwd"})])
    assert kinds_of(turn) == [ProblemKind.MISSING_OPENER]


def test_call_of_unknown_tool_in_the_thinking_is_reasoning() -> None:
    muse = call("other", x="1")
    turn = read(f"{muse}\n</think>\n\nYes", thinking=True)
    assert (turn.reasoning, turn.content, turn.calls) == (muse, "Yes", ())


# Streaming


def stream(text: str, *, size: int = 1, thinking: bool = True) -> tuple[list[ParseEvent], ParsedTurn]:
    parser = ToolCallParser(TOOLS, thinking=thinking)
    events = [event for at in range(0, len(text), size) for event in parser.feed(text[at : at + size])]
    return events, parser.close()


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_events_of_a_documented_turn_agree_with_the_turn(size: int) -> None:
    nested = call("write", path="/a", content=f"Doc:\n{LS}\nend")
    events, turn = stream(f"Look first.\n</think>\n\nUse <tool_call> so.\n\n{nested}\n{PWD}", size=size)
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == turn.reasoning
    assert "".join(event.text for event in events if isinstance(event, ContentDelta)) == turn.content
    assert [event.name for event in events if isinstance(event, CallStarted)] == ["write", "bash"]
    assert tuple(event.call for event in events if isinstance(event, CallFinished)) == turn.calls
    assert "".join(event.text for event in events if isinstance(event, CallDelta)).endswith("</tool_call>")


def test_stream_is_not_silent_for_prose_that_mentions_a_call() -> None:
    parser = ToolCallParser(TOOLS, thinking=False)
    parser.feed("Calls begin with <tool_call>")
    assert parser.feed(" and") == [ContentDelta("<tool_call> and")]
    assert parser.feed(" a < b") == [ContentDelta(" a < b")]


def test_empty_chunks_and_closing_twice() -> None:
    parser = ToolCallParser([WRITE, NOW], thinking=False)
    assert parser.feed("") == []
    parser.feed(call("now"))
    first = parser.close()
    assert parser.close() is first
    assert parser.close(finished=False) == first
    assert calls_of(first) == [("now", {})]


def test_lone_surrogates_and_odd_specs() -> None:
    odd = [None, 3, "x", {}, {"function": None}, {"name": 5}, {"name": "a", "parameters": {"properties": [1]}}]
    for tools in (None, odd, "bash", {"a": 1}):
        turn = parse(call("a", b="\ud800"), tools, thinking=False)  # type: ignore[arg-type]
        assert calls_of(turn) == [("a", {"b": "\ud800"})]


def test_reference_in_the_parameter_schema() -> None:
    spec = tool("t", {"cfg": {"$ref": "#/$defs/C"}}, **{"$defs": {"C": {"type": "object"}}})
    assert calls_of(parse(call("t", cfg='{"a": 1}'), [spec], thinking=False)) == [("t", {"cfg": {"a": 1}})]
