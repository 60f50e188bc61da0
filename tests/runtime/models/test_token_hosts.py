"""The clients for vLLM and llama.cpp against the scripted server in their shapes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from runtime.ids import Ids
from runtime.models import connect
from runtime.models.base import (
    ContextExceeded,
    Feature,
    FinishReason,
    Model,
    ModelBusy,
    ModelChanged,
    ModelFailed,
    ModelRefused,
    ModelUnreachable,
    RequestOptions,
    Sampling,
    StreamCut,
    Usage,
)
from runtime.models.llamacpp import LlamaCppModel
from runtime.models.scripted import Dialect, ScriptedServer
from runtime.models.vllm import VLLMModel
from runtime.qwen_bpe import qwen_tokenizer
from tests.runtime.models.contract import CONTRACT, Backend, check_name
from tests.runtime.models.helpers import ask, encoded, http, prompt, raw_server

END = 248046
TURN = "Look around.\n</think>\n\nGrüße 🎉 and so on"
STRANGE = "crab \N{DNA DOUBLE HELIX}\N{SNOWMAN} 🏳️\u200d🌈 <tool_call>é</think>\N{EGYPTIAN HIEROGLYPH A001}"
IDS = [*encoded(TURN), END]
BOTH = [Dialect.VLLM, Dialect.LLAMACPP]


@asynccontextmanager
async def served(
    dialect: Dialect, turn: dict[str, Any] | str = TURN, **options: Any
) -> AsyncIterator[tuple[ScriptedServer, Model]]:
    turns = [{"text": turn} if isinstance(turn, str) else turn]
    script = {"name": "served", "context_length": 4096, "turns": turns}
    async with ScriptedServer(script, dialect=dialect, **options) as server:
        model = await connect(server.url, idle_timeout=5)
        try:
            yield server, model
        finally:
            await model.close()


@pytest.fixture(params=[(Dialect.VLLM, 1), (Dialect.VLLM, 5), (Dialect.LLAMACPP, 1)], ids=lambda case: f"{case}")
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    dialect, interval = request.param
    script = {
        "context_length": 16_384,
        "turns": [{"text": TURN}, {"text": "second"}],
        "conversations": [
            {
                "match": "long",
                "turns": [{"text": "word " * 400, "faults": [{"kind": "slow", "seconds": 0.01, "times": "always"}]}],
            },
            {"match": "strange", "turns": [{"text": STRANGE}]},
        ],
    }
    async with ScriptedServer(script, dialect=dialect, stream_interval=interval) as server:
        model = await connect(server.url)

        async def open_requests() -> int:
            return server.open_requests

        async def whole(ids: Ids) -> list[int]:
            if dialect is Dialect.VLLM:
                body = {"prompt": list(ids), "max_tokens": 2000, "return_token_ids": True}
                choice = (await http(server.url, "/v1/completions", body)).json()["choices"][0]
                return list(choice["token_ids"])
            answer = await http(server.url, "/completion", {"prompt": list(ids), "return_tokens": True})
            return list(answer.json()["tokens"])

        yield Backend(
            model,
            prompt(),
            prompt("a long one"),
            open_requests,
            whole,
            strange=prompt("a strange one"),
            strange_answer=(*encoded(STRANGE), END),
        )
        await model.close()


@pytest.mark.parametrize("check", CONTRACT, ids=check_name)
async def test_contract(backend: Backend, check: Callable[[Backend], Awaitable[None]]) -> None:
    await check(backend)


SAMPLING = Sampling(0.5, 0.8, 7, 0.1, 0.2, 1.1, 99, seed=3)


async def test_what_vllm_is_asked() -> None:
    async with served(Dialect.VLLM, info={"priority": True}) as (server, model):
        await ask(model, prompt(), SAMPLING)
        async for _ in model.stream(prompt(), Sampling(), request_id="x", options=RequestOptions("key", priority=4)):
            pass
        first, second = server.requests
    assert list(first.prompt_ids) == list(prompt())
    assert first.body == {
        "model": "served",
        "temperature": 0.5,
        "top_p": 0.8,
        "top_k": 7,
        "min_p": 0.1,
        "presence_penalty": 0.2,
        "repetition_penalty": 1.1,
        "max_tokens": 99,
        "stop_token_ids": [END, 248044],
        "skip_special_tokens": False,
        "return_token_ids": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": 3,
    }
    assert second.body["priority"] == -4
    assert second.body["max_tokens"] == 4096 - len(prompt())


async def test_what_llamacpp_is_asked() -> None:
    async with served(Dialect.LLAMACPP) as (server, model):
        await ask(model, prompt(), SAMPLING)
        (request,) = server.requests
    assert list(request.prompt_ids) == list(prompt())
    fields = request.body.pop("response_fields")
    assert request.body == {
        "n_predict": 99,
        "temperature": 0.5,
        "top_p": 0.8,
        "top_k": 7,
        "min_p": 0.1,
        "presence_penalty": 0.2,
        "repeat_penalty": 1.1,
        "samplers": ["penalties", "temperature", "top_k", "top_p", "min_p"],
        "cache_prompt": True,
        "return_tokens": True,
        "return_progress": True,
        "stream": True,
        "seed": 3,
    }
    assert "prompt" not in fields


async def test_characters_that_llamacpp_tells_late_cost_one_request() -> None:
    async with served(Dialect.LLAMACPP, STRANGE) as (server, model):
        received, _ = await ask(model, prompt())
        assert received == [*encoded(STRANGE), END]
        assert len(server.requests) == 1


@pytest.mark.parametrize("limit", range(1, len(encoded(STRANGE)) + 1))
async def test_an_answer_of_llamacpp_that_ends_inside_of_a_character(limit: int) -> None:
    async with served(Dialect.LLAMACPP, STRANGE) as (_, model):
        received, last = await ask(model, prompt(), Sampling(max_new_tokens=limit))
        assert tuple(received) == encoded(STRANGE)[:limit]
        assert (last.finish, last.usage) == (FinishReason.LENGTH, Usage(len(prompt()), 0, limit))


@pytest.mark.parametrize("dialect", BOTH)
async def test_a_broken_stream_keeps_what_came(dialect: Dialect) -> None:
    async with served(dialect, {"text": TURN, "faults": [{"kind": "cut", "tokens": 4}]}) as (_, model):
        received: list[int] = []
        with pytest.raises(StreamCut, match="after 4 tokens"):
            async for chunk in model.stream(prompt(), Sampling(), request_id="x"):
                received += chunk.ids
        assert received == IDS[:4]


@pytest.mark.parametrize("dialect", BOTH)
@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ({"kind": "http", "status": 500}, ModelFailed, "answered 500"),
        ({"kind": "http", "status": 503, "retry_after": 3}, ModelBusy, "busy"),
        ({"kind": "http", "status": 401}, ModelRefused, "PATCHWRIGHT_API_KEY"),
        ({"kind": "empty"}, StreamCut, "ended the stream after 0 tokens"),
        ({"kind": "abort", "tokens": 2, "status": 503}, ModelBusy, "503"),
        ({"kind": "garbage"}, ModelRefused, "with token ids as"),
        ({"kind": "stall", "seconds": 60}, StreamCut, "sent nothing for 5 s"),
    ],
    ids=lambda value: value.get("kind", "") + str(value.get("status", "")) if isinstance(value, dict) else "",
)
async def test_what_goes_wrong_has_a_name(
    dialect: Dialect, fault: dict[str, Any], error: type[Exception], words: str
) -> None:
    async with served(dialect, {"text": TURN, "faults": [fault]}) as (_, model):
        with pytest.raises(error, match=words):
            await ask(model, prompt())
        assert (await ask(model, prompt()))[0] == IDS


@pytest.mark.parametrize("dialect", BOTH)
async def test_a_server_that_has_gone(dialect: Dialect) -> None:
    async with served(dialect) as (server, model):
        await server.close()
        with pytest.raises(ModelUnreachable, match="Check that the server runs"):
            await ask(model, prompt())


@pytest.mark.parametrize("dialect", BOTH)
async def test_the_servers_own_refusal_of_a_long_prompt(dialect: Dialect) -> None:
    """As where the context was lowered behind our back."""
    async with served(dialect) as (_, model):
        model._context_length = 10_000  # type: ignore[attr-defined]
        with pytest.raises(ContextExceeded, match="4096"):
            await ask(model, prompt().extended([220] * 5000))


def sse(*events: dict[str, Any]) -> bytes:
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def choice(ids: list[int], finish: str | None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": "", "token_ids": ids, "finish_reason": finish}]}


def completion(ids: list[int], stop_type: str | None, written: int) -> dict[str, Any]:
    ended = {"stop_type": stop_type, "timings": {"cache_n": 3}} if stop_type else {}
    return {"content": "", "tokens": ids, "stop": bool(stop_type), "tokens_predicted": written, **ended}


@pytest.mark.parametrize(
    ("kind", "events"),
    [
        (VLLMModel, [choice([5], None), choice([248044], "stop")]),
        (VLLMModel, [choice([5], None), choice([], "stop")]),
        (VLLMModel, [choice([5, END], "stop")]),
        (LlamaCppModel, [completion([5], None, 1), completion([], "eos", 1)]),
        (LlamaCppModel, [completion([5], None, 1), completion([END], None, 2), completion([], "eos", 2)]),
        (LlamaCppModel, [completion([5], None, 1), completion([], "word", 1)]),
    ],
    ids=["another end", "no end", "the end", "no end", "the end", "a stop word"],
)
async def test_a_turn_ends_with_its_end_however_the_server_says_it(
    kind: type[VLLMModel | LlamaCppModel], events: list[dict[str, Any]]
) -> None:
    """And where the counts don't come behind it."""
    async for url in raw_server([sse(*events)]):
        model = kind(url, qwen_tokenizer(), name="m", context_length=4096)
        received, last = await ask(model, prompt())
        assert received == [5, END]
        cached = 3 if kind is LlamaCppModel else 0
        assert (last.finish, last.usage) == (FinishReason.STOP, Usage(len(prompt()), cached, 2))
        await model.close()


async def test_llamacpp_ends_a_connection_behind_every_stream_and_loses_no_request() -> None:
    """It doesn't say so, and the next request may be on its way by then."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split()[0])
        await reader.readexactly(length)
        writer.write(sse(completion([5, END], "eos", 2)))
        await reader.read(1)  # the next request, or the end of the client's
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        model = LlamaCppModel(url, qwen_tokenizer(), name="m", context_length=4096)
        for _ in range(3):
            assert (await ask(model, prompt()))[0] == [5, END]
        await model.close()


async def test_vllm_that_returns_no_ids_gets_messages() -> None:
    async with served(Dialect.VLLM, info={"token_ids": False}) as (server, model):
        assert Feature.EXACT_IDS not in model.facts.features
        assert "It doesn't return token ids" in model.facts.notes[0]
        assert (await ask(model, prompt()))[0][-1] == END
        assert server.requests[-1].path == "/v1/chat/completions"


@pytest.mark.parametrize("other", ["/other.gguf", "/served.gguf"])
async def test_another_file_behind_llamacpp_is_noticed_after_a_cut(other: str) -> None:
    info = {"model_path": "/served.gguf"}
    turn = {"text": TURN, "faults": [{"kind": "cut", "tokens": 2}]}
    async with served(Dialect.LLAMACPP, turn, info=info) as (server, model):
        with pytest.raises(StreamCut):
            await ask(model, prompt())
        server.info["model_path"] = other
        if other == "/served.gguf":
            assert (await ask(model, prompt()))[0] == IDS
            return
        for _ in range(2):
            with pytest.raises(ModelChanged, match=r"serves served \(/other.gguf"):
                await ask(model, prompt())
