from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from runtime.chat import (
    GENERATION_PROMPT,
    GENERATION_PROMPT_WITHOUT_THINKING,
    ChatFormatError,
    canonical_turn,
    generation_prompt,
    render,
    render_system,
    render_tool_responses,
    render_user,
)
from tests.runtime import chat_cases
from tests.shared_data import SHARED, needs_shared

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "chat"
USER: dict[str, Any] = {"role": "user", "content": "Fix it."}
BASH = {
    "type": "function",
    "function": {
        "name": "bash",
        "description": 'Run a command <b>& more</b> – "é"',
        "parameters": {
            "type": "object",
            "properties": {"command": {"type": "string"}},
            "required": ["command"],
        },
    },
}


def official_template() -> Callable[..., str]:
    """The template in the environment that transformers gives it."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = refuse
    text = (SHARED / "data" / "qwen3.6_chat_template.jinja").read_text(encoding="utf-8")
    return environment.from_string(text).render


@needs_shared
@pytest.mark.heavy
def test_equals_the_official_template_or_refuses_with_it() -> None:
    template = official_template()
    accepted = refused = 0

    @settings(
        max_examples=2200,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(chat_cases.message_lists, chat_cases.tool_lists, chat_cases.flags)
    def compare(messages: Any, tools: Any, flags: dict[str, Any]) -> None:
        nonlocal accepted, refused
        try:
            expected = template(messages=chat_cases.fresh(messages), tools=chat_cases.fresh(tools), **flags)
        except Exception:  # noqa: BLE001 - the template refuses in many ways: its error, TypeError, ...
            refused += 1
            with pytest.raises(ChatFormatError):
                render(chat_cases.fresh(messages), chat_cases.fresh(tools), **flags)
            return
        accepted += 1
        assert render(chat_cases.fresh(messages), chat_cases.fresh(tools), **flags) == expected

    compare()
    assert accepted >= 1000, f"too few conversations that the template accepts: {accepted}"
    assert refused >= 50, f"too few conversations that the template refuses: {refused}"


ODD_MESSAGES: list[Any] = [
    {"role": "user", "content": chat_cases.Shouting("a straße ")},
    {"role": "user", "content": [{"text": chat_cases.Shouting("a")}, {"text": 3}, "some text", ("text",)]},
    {"role": "user", "content": chat_cases.OnceOnly([{"text": "seen only by the first reading"}])},
    {"role": "user", "content": ()},
    {"role": "user", "content": b""},
    {"role": "user", "content": b"x"},
    chat_cases.AsObject(role="user", content="an object"),
    {"role": "assistant", "reasoning_content": chat_cases.Colour.RED, "content": "</think>"},
    {"role": "assistant", "content": "</think>\n  indented"},
    {"role": "assistant", "content": "a<think>b<think>\n c \n</think>d</think>\n\n e"},
    {"role": "assistant", "tool_calls": ({"name": "f", "arguments": {"x": chat_cases.Shouting("ab")}},)},
    {"role": "assistant", "tool_calls": [{"name": chat_cases.Colour.RED, "arguments": {}}]},
    {"role": "assistant", "tool_calls": {"name": "f"}},
    {"role": "assistant", "tool_calls": "f"},
    {"role": "assistant", "tool_calls": 1},
    {"role": "assistant", "tool_calls": chat_cases.OnceOnly()},
    {"role": "assistant", "content": "x", "tool_calls": chat_cases.OnceOnly([{"name": "f"}, {"name": "g"}])},
    {"role": "assistant", "tool_calls": [{"function": None, "name": "f"}]},
    {"role": "assistant", "tool_calls": [{"name": "f", "arguments": []}]},
    {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"n": float("nan"), "i": 10**40}}]},
    {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"n": 10**5000}}]},
    {"role": "tool", "content": None},
    {"role": "tool"},
    {"role": "system", "content": "late"},
    chat_cases.Colour.RED,
    None,
]


@needs_shared
@pytest.mark.parametrize("place", ["first", "last", "alone"])
@pytest.mark.parametrize("message", ODD_MESSAGES, ids=range(len(ODD_MESSAGES)))
def test_an_odd_message_is_read_as_the_template_reads_it(message: Any, place: str) -> None:
    messages = {"first": [message, USER], "last": [USER, message], "alone": [message]}[place]
    flags: dict[str, Any] = {"enable_thinking": True, "preserve_thinking": False, "add_generation_prompt": True}
    try:
        expected = official_template()(messages=chat_cases.fresh(messages), **flags)
    except Exception:  # noqa: BLE001 - the template refuses in many ways: its error, TypeError, ...
        with pytest.raises(ChatFormatError):
            render(chat_cases.fresh(messages), **flags)
    else:
        assert render(chat_cases.fresh(messages), **flags) == expected


def agent_run() -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": "  You fix bugs.\n"},
        {"role": "user", "content": "\nThe sum is wrong.  "},
        {
            "role": "assistant",
            "reasoning_content": "\nLook first.\n",
            "content": "I'll look.",
            "tool_calls": [
                {"type": "function", "function": {"name": "bash", "arguments": {"command": "ls -l\ncat a"}}},
                {"function": {"name": "probe", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "   a\n"},
        {"role": "tool", "content": ""},
        {
            "role": "assistant",
            "reasoning_content": "Now edit.",
            "content": "",
            "tool_calls": [
                {
                    "name": "edit",
                    "arguments": {
                        "text": " keep </parameter> \n",
                        "line": 12,
                        "big": 9007199254740993,
                        "ratio": 1.0,
                        "all": True,
                        "none": None,
                        "where": {"b": [1, "é<"], "a": {}},
                    },
                }
            ],
        },
        {"role": "tool", "content": [{"type": "text", "text": "done"}]},
        {"role": "assistant", "content": "Fixed."},
        {"role": "user", "content": [{"type": "text", "text": "See "}, {"type": "image", "image": "x.png"}]},
        {"role": "assistant", "content": "<think>\nA picture.\n</think>\n\nI see it."},
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": " and this?"}]},
    ]


@pytest.mark.parametrize(
    ("name", "tools", "flags"),
    [
        ("tools_and_thinking_kept", [BASH], {}),
        ("thinking_dropped", [], {"preserve_thinking": False}),
        ("no_thinking", [], {"enable_thinking": False}),
        ("no_generation_prompt", [BASH, {"name": "x"}], {"add_generation_prompt": False}),
    ],
)
def test_golden(name: str, tools: list[Any], flags: dict[str, Any]) -> None:
    expected = (GOLDEN / f"{name}.txt").read_bytes().decode()
    assert render(agent_run(), tools, **flags) == expected


def test_a_small_conversation_in_full() -> None:
    assert render([USER, {"role": "assistant", "content": "", "reasoning_content": "Hm."}, USER]) == (
        "<|im_start|>user\nFix it.<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nHm.\n</think>\n\n<|im_end|>\n"
        "<|im_start|>user\nFix it.<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n"
    )


def test_thinking_after_the_last_query_is_always_kept() -> None:
    turns = [
        USER,
        {"role": "assistant", "content": "a", "reasoning_content": "r", "tool_calls": [{"name": "f"}]},
    ]
    responses: dict[str, Any] = {"role": "user", "content": " <tool_response>\nx\n</tool_response>\n"}
    shown = "<think>\nr\n</think>\n\na\n\n<tool_call>\n<function=f>\n</function>\n</tool_call><|im_end|>"
    assert shown in render([*turns, responses], preserve_thinking=False)
    assert "<think>\nr" not in render([*turns, USER], preserve_thinking=False)
    assert "<think>\nr" not in render([*turns, USER], preserve_thinking=1)  # type: ignore[arg-type]


def test_only_exactly_false_turns_thinking_off() -> None:
    assert generation_prompt() == GENERATION_PROMPT == "<|im_start|>assistant\n<think>\n"
    assert generation_prompt(False) == GENERATION_PROMPT_WITHOUT_THINKING
    assert generation_prompt(False) == "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert generation_prompt(0) == GENERATION_PROMPT  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("messages", "condition"),
    [
        ([], "No messages provided"),
        ([{"role": "system", "content": "s"}], "No user query found in messages"),
        (
            [{"role": "user", "content": "<tool_response>x</tool_response>"}],
            "No user query found in messages",
        ),
        ({"role": "user"}, "No user query found in messages"),
        ([USER, {"role": "system", "content": "late"}], "System message must be at the beginning"),
        ([{"role": "system", "content": [{"type": "image"}]}, USER], "System message cannot contain images"),
        ([{"role": "system", "content": [{"video": "v"}]}, USER], "System message cannot contain videos"),
        ([{"role": "user", "content": [{"type": "audio"}]}], "Unexpected item type in content"),
        ([{"role": "user", "content": [3]}], "Unexpected item type in content"),
        ([{"role": "user", "content": {"text": "x"}}], "Unexpected content type"),
        ([USER, {"role": "developer"}], "Message 1: .*Unexpected message role"),
        ([USER, {"content": "no role"}], "Unexpected message role"),
        ([USER, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{}"}]}], "from a mapping"),
        ([USER, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": None}]}], "from a mapping"),
        (
            [USER, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {1: 2}}]}],
            "name must be text",
        ),
        ([USER, {"role": "assistant", "tool_calls": [{"arguments": {}}]}], "needs a `name`"),
        ([USER, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"x": b""}}]}], "as JSON"),
    ],
)
def test_refusals_name_the_condition(messages: Any, condition: str) -> None:
    with pytest.raises(ChatFormatError, match=condition):
        render(messages)


def test_a_spec_that_is_no_json_is_refused() -> None:
    with pytest.raises(ChatFormatError, match="tool spec can't be written as JSON"):
        render([USER], [{"name": object()}])


def test_the_pieces_add_up_to_the_conversation() -> None:
    """What the transcript appends between turns, and what a scripted model writes, is what `render` shows."""
    call = SimpleNamespace(name="bash", arguments={"command": "ls", "timeout": 5})
    pieces = [
        render_system("You fix bugs.", [BASH]),
        render_user(" Go.\n"),
        generation_prompt() + canonical_turn("Look.\n", " First.\n", [call, call]) + "<|im_end|>\n",
        render_tool_responses([" one ", "two"]),
        generation_prompt() + canonical_turn("", "", [call]) + "<|im_end|>\n",
        render_tool_responses(["three"]),
        generation_prompt(False) + canonical_turn(None, "Done.") + "<|im_end|>\n",
    ]
    calls = [{"function": {"name": "bash", "arguments": call.arguments}}]
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You fix bugs."},
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": "First.", "reasoning_content": "Look.", "tool_calls": calls * 2},
        {"role": "tool", "content": "one"},
        {"role": "tool", "content": "two"},
        {"role": "assistant", "content": "", "reasoning_content": "", "tool_calls": calls},
        {"role": "tool", "content": "three"},
        {"role": "assistant", "content": "Done."},
    ]
    assert "".join(pieces) == render(messages, [BASH], add_generation_prompt=False)


def test_system_piece_without_text_or_tools() -> None:
    assert render_system("") == ""
    assert render_system("s") == "<|im_start|>system\ns<|im_end|>\n"
    assert render_system("", [BASH]).endswith("</IMPORTANT><|im_end|>\n")
