"""Answers of chat hosts byte by byte, in the shapes of each kind of host, and a client to read them with."""

from __future__ import annotations

import json
from typing import Any

from runtime.models.base import FinishReason, Usage
from runtime.models.chat_dialects import DIALECTS
from runtime.models.chat_host import ChatModel
from runtime.qwen_bpe import qwen_tokenizer
from tests.runtime.models.helpers import ask, prompt, raw_server

T = qwen_tokenizer()
CALL_TEXT = "<tool_call>\n<function=bash>\n<parameter=command>\nls\n</parameter>\n</function>\n</tool_call>"


def client(url: str, dialect: str = "chat", **options: Any) -> ChatModel:
    chosen = {"context_length": 262_144} | options
    return ChatModel(f"{url}/v1", "m", T, dialect=DIALECTS[dialect], **chosen)


def status(code: int, body: Any, head: str = "") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {code} X\r\n{head}content-length: {len(content)}\r\n\r\n".encode() + content


def sse(*events: Any, done: bool = True, head: str = "", kind: str = "text/event-stream") -> bytes:
    body = b"".join(
        (event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode()) + b"\n\n" for event in events
    )
    body += b"data: [DONE]\n\n" if done else b""
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body


def delta(finish: str | None = None, **said: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


def fragment(
    name: str | None = None, arguments: str = "", index: int = 0, call_id: str | None = None
) -> dict[str, Any]:
    function: dict[str, Any] = {"arguments": arguments} | ({"name": name} if name is not None else {})
    return {"index": index, "type": "function", "function": function} | ({"id": call_id} if call_id is not None else {})


def part(text: str) -> dict[str, Any]:
    return {"type": "reasoning.text", "text": text}


COUNTS = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
DETAILED = COUNTS | {
    "prompt_tokens_details": {"cached_tokens": 80},
    "completion_tokens_details": {"reasoning_tokens": 5},
}

STREAMS = {
    # Model Studio: ids and names are there once and empty afterwards; counts behind the finish, without choices.
    "dashscope": (
        sse(
            delta(role="assistant", content=None, reasoning_content=""),
            delta(content=None, reasoning_content="Look"),
            delta(content=None, reasoning_content="."),
            delta(content="I look.", reasoning_content=None),
            delta(content=None, tool_calls=[fragment("bash", "", call_id="call_1")]),
            delta(content=None, tool_calls=[fragment("", '{"command": ', call_id="")]),
            delta(content=None, tool_calls=[fragment("", '"ls"}', call_id="")]),
            delta("tool_calls", content="", tool_calls=[fragment(None, "", call_id="")]),
            {"choices": [], "usage": DETAILED, "object": "chat.completion.chunk"},
            {"choices": [], "usage": None},
        ),
        Usage(100, 80, 20, 5),
    ),
    # OpenRouter: comments while it waits, thinking twice in each delta, an empty delta with the counts and the cost.
    "openrouter": (
        sse(
            b": OPENROUTER PROCESSING",
            b": OPENROUTER PROCESSING",
            delta(
                role="assistant", content="", reasoning="Look.",
                reasoning_details=[{"type": "reasoning.text", "text": "Look.", "index": 0}],
            ),
            delta(content="I look."),
            delta(content="", tool_calls=[fragment("bash", '{"command": "ls"}', call_id="call_1")]),
            delta("tool_calls", content=""),
            delta(content="") | {"usage": DETAILED | {"cost": 0.0125}},
        ),
        Usage(100, 80, 20, 5, cost=0.0125),
    ),
    "details alone": (
        sse(
            delta(reasoning_details=[part("Lo"), part("ok.")]),
            delta(content=[{"type": "text", "text": "I look."}]),
            delta("tool_calls", tool_calls=[fragment("bash", '{"command": "ls"}')]),
        ),
        None,
    ),
    # Ollama: `reasoning`, whole calls, no details in the counts.
    "ollama": (
        sse(
            delta(role="assistant", content="", reasoning="Look."),
            delta(role="assistant", content="I look."),
            delta(role="assistant", content="", tool_calls=[fragment("bash", '{"command":"ls"}', call_id="call_x")]),
            delta("tool_calls", role="assistant", content=""),
            {"choices": [], "usage": COUNTS},
        ),
        Usage(100, 0, 20),
    ),
    # SGLang: line breaks of the chat format are left on thinking and content.
    "sglang": (
        sse(
            delta(role="assistant", content="", reasoning_content=None, tool_calls=None),
            delta(content=None, reasoning_content="Look.\n"),
            delta(content="\n\nI look.\n\n", reasoning_content=None),
            delta(tool_calls=[fragment("bash", "", call_id="call_9")]),
            delta(tool_calls=[fragment(None, '{"command": "l')]),
            delta(tool_calls=[fragment(None, 's"}')]),
            delta("tool_calls", content=None),
            {"choices": [], "usage": DETAILED | {"reasoning_tokens": 5, "completion_tokens_details": None}},
        ),
        Usage(100, 80, 20, 5),
    ),
    # vLLM: `reasoning`; llama.cpp: counts in the last delta; both without [DONE] where a proxy ends the answer.
    "vllm": (
        sse(
            delta(role="assistant", content=""),
            delta(reasoning="Look."),
            delta(content="I look."),
            delta("tool_calls", tool_calls=[fragment("bash", '{"command": "ls"}', call_id="chatcmpl-tool-1")]),
            done=False,
        ),
        None,
    ),
    "llamacpp": (
        sse(
            delta(role="assistant", content=None),
            delta(reasoning_content="Look."),
            delta(content="I look."),
            delta(tool_calls=[fragment("bash", '{"command":', call_id="a")]),
            delta(tool_calls=[fragment(None, '"ls"}')]),
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], "usage": COUNTS, "timings": {}},
        ),
        Usage(100, 0, 20),
    ),
    # No reasoning parser and no tool parser: everything is content.
    "raw": (
        sse(delta(content="<think>\nLook.\n</thi"), delta(content="nk>\n\nI look.\n\n" + CALL_TEXT), delta("stop")),
        None,
    ),
    # Hosts that don't stream although they were asked to, and ones that name their stream wrongly.
    "whole": (
        b"".join(
            (
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n",
                json.dumps(
                    {
                        "choices": [
                            {
                                "message": {
                                    "reasoning_content": "Look.",
                                    "content": "I look.",
                                    "tool_calls": [fragment("bash", '{"command": "ls"}', call_id="a")],
                                },
                                "finish_reason": "tool_calls",
                            }
                        ],
                        "usage": DETAILED,
                    }
                ).encode(),
            )
        ),
        Usage(100, 80, 20, 5),
    ),
    "wrong type": (
        sse(
            delta(reasoning_content="Look."),
            delta(content="I look."),
            delta("function_call", tool_calls=[fragment("bash", '{"command": "ls"}')]),
            kind="application/json",
        ),
        None,
    ),
}  # fmt: skip


async def said(answer: bytes, dialect: str = "chat", **options: Any) -> tuple[str, FinishReason | None, Usage]:
    async for url in raw_server([answer]):
        model = client(url, dialect, **options)
        try:
            ids, last = await ask(model, prompt())
        finally:
            await model.close()
        return T.decode(ids), last.finish, last.usage
    raise AssertionError
