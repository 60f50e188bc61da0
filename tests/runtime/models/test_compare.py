"""Servers whose tokenizer or template is or isn't ours, in the dialects of the engines."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime import chat
from runtime.models import compare_cache
from runtime.models.compare import CONVERSATION, SAMPLE, TOOLS, Agreement, Comparison, compare
from runtime.models.compare_cache import recent_comparison
from runtime.models.http_client import Transport, open_transport
from runtime.models.http_server import Exchange, HttpError, HttpServer
from runtime.models.scripted import ScriptedServer
from runtime.models.scripted_reading import ShiftedTokenizer
from runtime.qwen_bpe import qwen_tokenizer

Render = Callable[[list[dict[str, Any]], list[dict[str, Any]]], str]


def as_qwen(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
    return chat.render(messages, tools)


def without_thinking(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
    """A template that forgets the thinking of earlier turns."""
    return chat.render([{**message, "reasoning_content": ""} for message in messages], tools)


class Host:
    """The endpoints of one engine that render and encode, over real HTTP."""

    def __init__(self, engine: str, tokenizer: Any = None, render: Render = as_qwen) -> None:
        self.engine = engine
        self.tokenizer = tokenizer or qwen_tokenizer()
        self.render = render
        self.asked: list[str] = []

    async def handle(self, exchange: Exchange) -> None:
        path, body = exchange.request.path, exchange.request.json()
        self.asked.append(path)
        if path == "/tokenize" and self.engine != "none":
            await exchange.json({"tokens": self._tokens(body)})
        elif path == "/apply-template" and self.engine == "llamacpp":
            await exchange.json({"prompt": self._rendered(body)})
        elif path == "/detokenize" and self.engine not in ("none", "plain"):
            await exchange.json(
                {"text" if self.engine == "sglang" else "prompt": self.tokenizer.decode(body["tokens"])}
            )
        else:
            raise HttpError(404, "not here")

    def _tokens(self, body: dict[str, Any]) -> list[int]:
        if self.engine == "llamacpp":
            text = body.get("content", "")  # what it doesn't know, it ignores
        elif "messages" in body and self.engine != "plain":
            text = self._rendered(body)
        elif "prompt" in body:
            text = body["prompt"]
        else:
            raise HttpError(422, "prompt is missing")
        return self.tokenizer.encode_with_specials(text)

    def _rendered(self, body: dict[str, Any]) -> str:
        assert body["chat_template_kwargs"]["preserve_thinking"]
        messages = [dict(message) for message in body["messages"]]
        for message in messages:
            for call in message.get("tool_calls", ()):
                assert isinstance(call["function"]["arguments"], str)
                call["function"] = {**call["function"], "arguments": json.loads(call["function"]["arguments"])}
        tools = body["tools"]
        if self.engine == "sglang":  # its models of the request write every field, in their order
            tools = [
                {"type": t["type"], "function": dict(sorted(t["function"].items())) | {"strict": None}} for t in tools
            ]
        return self.render(messages, tools)


@asynccontextmanager
async def reached(host: Host) -> AsyncIterator[Transport]:
    server = HttpServer(host.handle)
    port = await server.listen("127.0.0.1", 0)
    transport = open_transport(f"http://127.0.0.1:{port}", idle_timeout=10)
    try:
        yield transport
    finally:
        await transport.close()
        await server.close()


async def comparison(host: Host) -> Comparison:
    async with reached(host) as transport:
        return await compare(transport, qwen_tokenizer())


def verdicts(found: Comparison) -> tuple[Agreement, Agreement]:
    return found.tokenizer.agreement, found.template.agreement


@pytest.mark.parametrize("engine", ["sglang", "vllm", "llamacpp"])
async def test_our_own_tokenizer_and_template_are_recognised(engine: str) -> None:
    found = await comparison(Host(engine))
    assert verdicts(found) == (Agreement.SAME, Agreement.SAME)
    assert found.mismatch is None


async def test_agreement_costs_one_request() -> None:
    host = Host("vllm")
    await comparison(host)
    assert host.asked == ["/tokenize"]


@pytest.mark.parametrize("engine", ["sglang", "vllm", "llamacpp"])
async def test_another_vocabulary_is_found_and_named(engine: str) -> None:
    found = await comparison(Host(engine, ShiftedTokenizer(qwen_tokenizer())))
    assert verdicts(found) == (Agreement.DIFFERS, Agreement.SAME)
    assert found.mismatch is not None
    assert found.mismatch.what == "tokenizer"
    first = qwen_tokenizer().special("<|im_start|>")
    assert f"at token 0 of a sample text it has [{first + 1}" in found.mismatch.message


@pytest.mark.parametrize("engine", ["sglang", "vllm", "llamacpp"])
async def test_another_template_is_found_and_the_place_is_shown(engine: str) -> None:
    found = await comparison(Host(engine, render=without_thinking))
    assert verdicts(found) == (Agreement.SAME, Agreement.DIFFERS)
    assert found.mismatch is not None
    assert found.mismatch.what == "template"
    assert "The file must be read first." in found.mismatch.message


async def test_one_differing_split_is_enough() -> None:
    class Older(ShiftedTokenizer):
        def encode_with_specials(self, text: str) -> list[int]:
            ids = self._inner.encode_with_specials(text)
            seven = self._inner.encode("7")[0]
            return [piece for token in ids for piece in ([token, seven] if token == seven else [token])]

    found = await comparison(Host("vllm", Older(qwen_tokenizer())))
    assert found.tokenizer.agreement is Agreement.DIFFERS


async def test_a_server_without_these_endpoints_is_no_mismatch() -> None:
    assert verdicts(await comparison(Host("none"))) == (Agreement.UNKNOWN, Agreement.UNKNOWN)
    assert verdicts(await comparison(Host("plain"))) == (Agreement.SAME, Agreement.UNKNOWN)


async def test_a_dead_server_is_no_mismatch() -> None:
    async with reached(Host("vllm")) as transport:
        pass
    assert (await compare(transport, qwen_tokenizer())).mismatch is None


def test_the_conversation_is_one_that_the_template_takes() -> None:
    text = chat.render(CONVERSATION, TOOLS)
    assert SAMPLE.strip() in text
    assert text.count("<|im_start|>user\n") == 2  # one query, one answer of a tool


async def test_the_scripted_server_with_another_vocabulary() -> None:
    async with ScriptedServer({"turns": [{"text": "Done."}], "tokenizer": "other"}) as server:
        transport = open_transport(server.url, idle_timeout=10)
        found = await compare(transport, qwen_tokenizer())
        await transport.close()
    assert found.tokenizer.agreement is Agreement.DIFFERS


class Through:
    """A transport whose server has another name than this machine."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.sent = 0

    async def send(self, method: str, path: str, body: bytes = b"") -> Any:
        self.sent += 1
        return await self._inner.send(method, path, body)

    async def close(self) -> None:
        await self._inner.close()


async def test_agreement_is_remembered_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path))
    async with reached(Host("vllm")) as inner:
        transport = Through(inner)

        async def ask(url: str = "http://gpu:8000", identity: str = "vllm 1") -> int:
            before = transport.sent
            assert (await recent_comparison(url, transport, qwen_tokenizer(), identity=identity)).mismatch is None
            return transport.sent - before

        assert [await ask(), await ask()] == [1, 0]
        assert await ask(identity="vllm 2") == 1
        assert await ask("http://other:8000") == 1
        assert [await ask("http://127.0.0.1:8000"), await ask("http://127.0.0.1:8000")] == [1, 1]
        for file in (tmp_path / "hosts").iterdir():
            os.utime(file, (1, os.stat(file).st_mtime - compare_cache.VALID_SECONDS))
        assert await ask() == 1


async def test_a_mismatch_is_looked_at_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path))
    host = Host("vllm", ShiftedTokenizer(qwen_tokenizer()))
    async with reached(host) as transport:
        assert (await recent_comparison("http://gpu:8000", transport, qwen_tokenizer())).mismatch is not None
        host.tokenizer = qwen_tokenizer()
        assert (await recent_comparison("http://gpu:8000", transport, qwen_tokenizer())).mismatch is None
