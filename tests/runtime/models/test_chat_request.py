"""What chat hosts are asked: each in its dialect, pictures where it takes them, and the key in the header alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from runtime.models.base import Feature, Image, ModelRefused, RequestOptions, Sampling
from runtime.models.chat_dialects import DIALECTS
from runtime.models.chat_request import wire_messages
from runtime.models.pictures import data_url
from runtime.models.scripted import ScriptedServer
from runtime.qwen_bpe import qwen_tokenizer
from runtime.transcript import Prompt, Transcript
from tests.runtime.models.chat_streams import STREAMS, client
from tests.runtime.models.helpers import ask, prompt

T = qwen_tokenizer()
KEY = "sk-not-a-real-key-1234"
TURN = {"reasoning": "One.", "content": "Two."}
TOOL = {
    "type": "function",
    "function": {
        "name": "bash",
        "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
    },
}


async def request_of(dialect: str, *, thinking: bool = True, sampling: Sampling | None = None, tools: Any = ()) -> Any:
    transcript = Transcript(T, enable_thinking=thinking)
    messages = [
        {"role": "user", "content": "Fix it."},
        {"role": "assistant", "content": "I look.", "reasoning_content": "Look."},
        {"role": "user", "content": "Go on."},
    ]
    transcript.append(Prompt(messages, tools))
    async with ScriptedServer([TURN, TURN]) as server:
        model = client(server.url, dialect)
        await ask(model, transcript.ids, sampling)
        await model.close()
    return server.requests[0].body


USUAL = {"temperature": 0.6, "top_p": 0.95, "presence_penalty": 0.0}
SERVERS = USUAL | {"top_k": 20, "min_p": 0.0, "repetition_penalty": 1.0}
TOP_LEVEL = {"enable_thinking": True, "preserve_thinking": True}
ROUTER = {"reasoning": {"enabled": True}, "usage": {"include": True}}
DETAIL = {"type": "reasoning.text", "text": "Look.", "index": 0}
KEPT = {"chat_template_kwargs": {"enable_thinking": True, "preserve_thinking": True}}


@pytest.mark.parametrize(
    ("dialect", "more", "back"),
    [
        ("dashscope", USUAL | {"top_k": 20, "repetition_penalty": 1.0} | TOP_LEVEL, {"reasoning_content": "Look."}),
        ("openrouter", SERVERS | ROUTER, {"reasoning": "Look.", "reasoning_details": [DETAIL]}),
        ("ollama", USUAL, {"reasoning_content": "Look.", "reasoning": "Look."}),
        ("sglang", SERVERS | KEPT, {"reasoning_content": "Look."}),
        ("vllm", SERVERS | KEPT, {"reasoning_content": "Look.", "reasoning": "Look."}),
        ("llamacpp", USUAL | {"top_k": 20, "min_p": 0.0, "repeat_penalty": 1.0} | KEPT, {"reasoning_content": "Look."}),
        ("chat", USUAL, {"reasoning_content": "Look."}),
    ],
)  # fmt: skip
async def test_each_host_is_asked_in_its_dialect(dialect: str, more: dict[str, Any], back: dict[str, Any]) -> None:
    body = await request_of(dialect, sampling=Sampling(max_new_tokens=99))
    messages = body.pop("messages")
    assert body == {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 99} | more
    assert messages[1] == {"role": "assistant", "content": "I look."} | back
    assert "tool_choice" not in body


@pytest.mark.parametrize(
    ("dialect", "thinking", "budget", "expected"),
    [
        ("dashscope", True, 500, {"enable_thinking": True, "preserve_thinking": True, "thinking_budget": 500}),
        ("dashscope", False, 500, {"enable_thinking": False, "preserve_thinking": True}),
        ("openrouter", True, 500, {"reasoning": {"max_tokens": 500}}),
        ("openrouter", False, None, {"reasoning": {"enabled": False}}),
        ("ollama", False, None, {"reasoning_effort": "none"}),
        ("sglang", False, None, {"chat_template_kwargs": {"enable_thinking": False, "preserve_thinking": True}}),
    ],
)
async def test_thinking_and_its_budget(
    dialect: str, thinking: bool, budget: int | None, expected: dict[str, Any]
) -> None:
    body = await request_of(dialect, thinking=thinking, sampling=Sampling(thinking_budget=budget))
    names = (
        "enable_thinking",
        "preserve_thinking",
        "thinking_budget",
        "reasoning",
        "reasoning_effort",
        "chat_template_kwargs",
    )
    assert {name: body[name] for name in names if name in body} == expected


async def test_tools_and_seed() -> None:
    body = await request_of("dashscope", sampling=Sampling(seed=7), tools=[TOOL])
    assert (body["tools"], body["seed"]) == ([TOOL], 7)
    assert "tools" not in await request_of("dashscope")


async def test_pictures_travel_as_data() -> None:
    transcript = Transcript(T)
    transcript.append(Prompt([{"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image"}]}]))
    image = Image(b"\x89PNG", "image/png")

    async def asked(*images: Image) -> Any:
        async with ScriptedServer([TURN]) as server:
            model = client(server.url)
            try:
                async for _ in model.stream(
                    transcript.ids, Sampling(), request_id="x", options=RequestOptions(images=images)
                ):
                    pass
            finally:
                await model.close()
        return server.requests[0].body["messages"]

    (message,) = await asked(image)
    assert message["content"] == [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
    ]
    with pytest.raises(ModelRefused, match="doesn't bring"):
        await asked()
    with pytest.raises(ModelRefused, match="more pictures"):
        await asked(image, image)


PICTURE = {"type": "image"}
SHOWN = [
    {"role": "user", "content": "Look."},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "a", "function": {"name": "view", "arguments": {}}}]},
    {"role": "tool", "tool_call_id": "a", "content": [PICTURE, {"type": "text", "text": "It is red."}]},
    {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "Two:"}, PICTURE]},
    {"role": "assistant", "content": "Hm."},
    {"role": "tool", "tool_call_id": "c", "content": "no picture"},
]


def test_what_a_tool_shows_comes_from_the_user_where_tools_cannot_show() -> None:
    red, blue = Image(b"red", "image/png"), Image(b"blue", "image/png")
    wired = wire_messages(SHOWN, DIALECTS["chat"], (red, blue))
    assert [message["role"] for message in wired] == ["user", "assistant", "tool", "tool", "user", "assistant", "tool"]
    assert wired[2]["content"] == "[picture 1 of these answers]\nIt is red."
    assert wired[3]["content"] == "Two:\n[picture 2 of these answers]"
    names, shown = wired[4]["content"][::2], wired[4]["content"][1::2]
    assert [part["text"] for part in names] == ["[picture 1 of these answers]", "[picture 2 of these answers]"]
    assert [part["image_url"]["url"] for part in shown] == [data_url(red), data_url(blue)]
    assert wire_messages(SHOWN[:4], DIALECTS["chat"], (red, blue))[4] == wired[4]


def test_servers_of_our_own_take_pictures_in_answers_of_tools() -> None:
    image = Image(b"red", "image/png")
    wired = wire_messages(SHOWN, DIALECTS["vllm"], (image, image))
    assert len(wired) == len(SHOWN)
    assert [part["type"] for part in wired[2]["content"]] == ["image_url", "text"]


async def test_the_key_goes_into_the_header_alone(capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[Any] = []
    async with ScriptedServer([TURN], on_done=seen.append) as server:
        model = client(server.url, api_key=KEY)
        await ask(model, prompt())
        await model.close()
    assert KEY not in json.dumps(seen[0].body)
    assert KEY not in repr(model.facts) + model.name
    assert KEY not in "".join(capfd.readouterr())


async def test_a_router_gets_the_routing_key() -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(STREAMS["sglang"][0])
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for dialect in ("sglang", "chat"):
            model = client(url, dialect, api_key=KEY)
            options = RequestOptions(routing_key="run-7")
            async for _ in model.stream(prompt(), Sampling(), request_id="x", options=options):
                pass
            await model.close()
    assert [b"x-smg-routing-key: run-7\r\n" in head for head in heads] == [True, False]
    assert all(f"authorization: Bearer {KEY}\r\n".encode() in head for head in heads)


async def test_such_a_host_has_no_exact_ids() -> None:
    model = client("http://127.0.0.1:1")
    assert Feature.EXACT_IDS not in model.facts.features
    await model.close()
