"""`/v1/chat/completions` of the scripted server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.models.scripted import ScriptedServer
from tests.runtime.models.helpers import Answer, http

USER = {"role": "user", "content": "Fix it."}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "bash",
            "parameters": {"type": "object", "properties": {"command": {"type": "string"}}},
        },
    }
]
CALLING = {"reasoning": "Look.", "content": "I look.", "calls": [{"name": "bash", "arguments": {"command": "ls ü"}}]}
RAW = {
    "text": "Look.\n</think>\n\nI look.\n\n<tool_call>\n<function=bash>\n<parameter=command>\nls ü\n</parameter>\n"
    "</function>\n</tool_call>"
}


async def chat(server: ScriptedServer, messages: list[Any], **more: Any) -> Answer:
    return await http(server.url, "/v1/chat/completions", {"messages": messages, "model": "m"} | more)


def message_of(answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = answer.json()["choices"][0]["message"]
    return message


def assembled(answer: Answer) -> dict[str, Any]:
    """A streamed answer put together as a client does it."""
    *events, done = answer.events()
    assert done == "[DONE]"
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": []}
    finish = None
    for event in map(json.loads, events):
        for choice in event["choices"]:
            finish = choice["finish_reason"] or finish
            delta = choice["delta"]
            message["content"] += delta.get("content") or ""
            message["reasoning_content"] += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls") or ():
                if call["index"] == len(message["tool_calls"]):
                    message["tool_calls"].append(call)
                else:
                    message["tool_calls"][call["index"]]["function"]["arguments"] += call["function"]["arguments"]
    return message | {"finish": finish}


@pytest.mark.parametrize("turn", [CALLING, RAW], ids=["structured", "raw"])
async def test_a_turn_with_a_call(turn: dict[str, Any]) -> None:
    async with ScriptedServer([turn]) as server:
        answer = await chat(server, [USER], tools=TOOLS)
        streamed = assembled(await chat(server, [USER], tools=TOOLS, stream=True))
    message = message_of(answer)
    (call,) = message["tool_calls"]
    assert (message["reasoning_content"], message["content"]) == ("Look.", "I look.")
    assert (call["id"], call["type"], call["function"]["name"]) == ("call_0_0", "function", "bash")
    assert json.loads(call["function"]["arguments"]) == {"command": "ls ü"}
    assert answer.json()["choices"][0]["finish_reason"] == "tool_calls"
    assert streamed == {
        "content": "I look.",
        "reasoning_content": "Look.",
        "tool_calls": [call],
        "finish": "tool_calls",
    }


async def test_a_conversation_goes_on_and_is_counted() -> None:
    async with ScriptedServer([CALLING, {"reasoning": "Done.", "content": "All good."}]) as server:
        first = message_of(await chat(server, [USER], tools=TOOLS))
        result = {"role": "tool", "tool_call_id": "call_0_0", "content": "a.py"}
        answer = await chat(server, [USER, first, result], tools=TOOLS)
    usage = answer.json()["usage"]
    one, two = server.requests
    assert message_of(answer)["content"] == "All good."
    assert answer.json()["choices"][0]["finish_reason"] == "stop"
    assert usage["prompt_tokens"] == len(two.prompt_ids)
    assert usage["prompt_tokens_details"]["cached_tokens"] == len(one.prompt_ids) + one.written - 1
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_an_edited_history_is_no_hit() -> None:
    async with ScriptedServer([CALLING, {"content": "All good."}]) as server:
        first = message_of(await chat(server, [USER])) | {"reasoning_content": None}
        usage = (await chat(server, [USER, first, {"role": "tool", "content": "x"}])).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] < len(server.requests[0].prompt_ids) + 3


async def test_max_tokens_and_usage_in_the_stream() -> None:
    async with ScriptedServer([{"reasoning": "a b c d e f", "content": "g"}]) as server:
        answer = await chat(server, [USER], max_tokens=3)
        streamed = await chat(
            server, [USER], max_completion_tokens=3, stream=True, stream_options={"include_usage": True}
        )
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert answer.json()["usage"]["completion_tokens"] == 3
    assert message_of(answer)["reasoning_content"].startswith("a b c")
    assert message_of(answer)["content"] == ""
    assert assembled(streamed)["finish"] == "length"
    assert json.loads(streamed.events()[-2])["usage"]["completion_tokens"] == 3


async def test_without_thinking() -> None:
    async with ScriptedServer([{"reasoning": "r", "content": "c"}, {"text": "raw text"}]) as server:
        options = {"chat_template_kwargs": {"enable_thinking": False}}
        first = message_of(await chat(server, [USER], **options))
        second = message_of(await chat(server, [USER, first, USER], **options))
    assert (first["reasoning_content"], first["content"]) == (None, "c")
    assert (second["reasoning_content"], second["content"]) == (None, "raw text")


async def test_arguments_that_are_no_json_are_refused() -> None:
    call = {"id": "x", "type": "function", "function": {"name": "bash", "arguments": "{"}}
    async with ScriptedServer([CALLING]) as server:
        answer = await chat(server, [USER, {"role": "assistant", "content": "", "tool_calls": [call]}])
    assert answer.status == 400
    assert "aren't JSON" in answer.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "complete"),
    [
        ({"kind": "cut", "tokens": 2}, 200, False),
        ({"kind": "http", "status": 429}, 429, True),
        ({"kind": "garbage", "tokens": 2}, 200, True),
        ({"kind": "empty"}, 200, True),
    ],
)
async def test_faults(fault: dict[str, Any], status: int, complete: bool, stream: bool) -> None:
    async with ScriptedServer([CALLING | {"faults": [fault]}]) as server:
        answer = await chat(server, [USER], stream=stream)
        cut_at_once = not stream and not complete
        assert (answer.status, answer.complete) == (0 if cut_at_once else status, complete)
        assert b'finish_reason": "tool_calls' not in answer.body
        assert message_of(await chat(server, [USER]))["content"] == "I look."
