"""What no good server sends ends in a named error or in ids that can be used, with every kind of server."""

from __future__ import annotations

import json
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from runtime.models.base import (
    Chunk,
    FinishReason,
    HostFacts,
    Model,
    ModelError,
    ModelRefused,
    Sampling,
    StreamCut,
)
from runtime.models.chat_dialects import DIALECTS
from runtime.models.chat_host import ChatModel
from runtime.models.llamacpp import LlamaCppModel
from runtime.models.retry import RetryPolicy, with_retries
from runtime.models.sglang import SGLangModel
from runtime.models.vllm import VLLMModel
from runtime.qwen_bpe import qwen_tokenizer
from tests.runtime.models.helpers import ask, prompt, raw_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KINDS = ["sglang", "vllm", "llamacpp", "chat"]
KEY = "sk-not-a-real-key-1234"
DEEP = b'{"a":' + b"[" * 100_000


def model(kind: str, url: str, key: str | None = None) -> Model:
    """With retries as in a run, but without patience."""
    common: dict[str, Any] = {"context_length": 1000, "idle_timeout": 5, "api_key": key}
    tokenizer = qwen_tokenizer()
    match kind:
        case "sglang":
            found: Model = SGLangModel(url, tokenizer, name="m", **common)
        case "vllm":
            found = VLLMModel(url, tokenizer, name="m", facts=HostFacts(kind), **common)
        case "llamacpp":
            found = LlamaCppModel(url, tokenizer, name="m", **common)
        case _:
            found = ChatModel(f"{url}/v1", "m", tokenizer, dialect=DIALECTS["chat"], **common)
    return with_retries(found, RetryPolicy(retries=0))


def stream(*events: Any) -> bytes:
    datas = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in (*events, b"[DONE]")]
    body = b"".join(b"data: " + data + b"\n\n" for data in datas)
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + body


@asynccontextmanager
async def answering(kind: str, answer: bytes, key: str | None = None) -> AsyncIterator[Model]:
    async with aclosing(raw_server([answer])) as servers:  # type: ignore[type-var]
        async for url in servers:
            found = model(kind, url, key)
            try:
                yield found
            finally:
                await found.close()
            break


async def answered(kind: str, answer: bytes, key: str | None = None) -> tuple[list[int], Chunk]:
    async with answering(kind, answer, key) as found:
        return await ask(found, prompt(), Sampling(max_new_tokens=100))


def sglang(ids: Any = (1, 2), **meta: Any) -> dict[str, Any]:
    counts = {"prompt_tokens": 10, "completion_tokens": 2, "cached_tokens": 0, "finish_reason": {"type": "length"}}
    return {"output_ids": ids, "meta_info": counts | meta}


def vllm(ids: Any = (1, 2), finish: Any = "length", **more: Any) -> dict[str, Any]:
    return {"choices": [{"token_ids": ids, "text": "ab", "finish_reason": finish, "index": 0}], **more}


def llamacpp(**fields: Any) -> dict[str, Any]:
    return {"content": "a", "tokens": [1], "stop": True, "stop_type": "limit", "tokens_predicted": 1} | fields


def chat(finish: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": "a"}, "finish_reason": finish}], **more}


WRONG_IDS: list[Any] = [
    "ab",
    None,
    {"a": 1},
    [1.5, 2.0],
    ["1", "2"],
    [-1, 5],
    [2**40, 5],
    [10_000_000, 5],
    [True, False],
]
WRONG_CHOICES: list[Any] = [["a"], {"a": 1}, "a", [[]]]
WRONG_FINISHES: list[Any] = ["stop", ["stop"], {}, {"type": "odd"}, {"type": []}, 5]
NAMED: list[tuple[str, Any]] = [
    *(("sglang", sglang(ids)) for ids in WRONG_IDS),
    *(("vllm", vllm(ids)) for ids in WRONG_IDS),
    *(("llamacpp", llamacpp(tokens=ids)) for ids in WRONG_IDS),
    *(("sglang", sglang(finish_reason=value)) for value in WRONG_FINISHES),
    *(("sglang", sglang(completion_tokens=value)) for value in (None, "2", True)),
    ("sglang", {"output_ids": [1], "meta_info": []}),
    *(("vllm", vllm(finish=value)) for value in WRONG_FINISHES[1:]),
    *(("vllm", {"choices": value}) for value in WRONG_CHOICES),
    *(("llamacpp", llamacpp(stop=value)) for value in ("yes", None)),
    ("llamacpp", llamacpp(tokens_predicted="1")),
    *(("chat", chat(finish=value)) for value in (*WRONG_FINISHES[3:], [1])),
    *((kind, event) for kind in KINDS for event in (DEEP, [1, 2], b"5", b"NaN", b"\xff\xfe", b"9" * 5000)),
]


@pytest.mark.parametrize(("kind", "event"), NAMED)
async def test_what_is_of_another_type_is_a_named_error(kind: str, event: Any) -> None:
    with pytest.raises(ModelError):
        await answered(kind, stream(event))


COUNTS: list[Any] = ["10", None, [1], {"a": 1}, -5, True, 10**30, 1.5]
USABLE: list[tuple[str, Any]] = [
    *(("sglang", sglang(prompt_tokens=value)) for value in COUNTS),
    *(("sglang", sglang(cached_tokens=value)) for value in COUNTS),
    *(("sglang", sglang(reasoning_tokens=value)) for value in COUNTS),
    *(("sglang", sglang(cached_tokens=5, cached_tokens_details=value)) for value in ("x", {"device": None}, [1])),
    *(("vllm", vllm(usage={"prompt_tokens": value, "prompt_tokens_details": value})) for value in COUNTS),
    *(("vllm", vllm(usage={"prompt_tokens_details": {"cached_tokens": value}})) for value in COUNTS),
    ("vllm", vllm(usage=[1])),
    *(("llamacpp", llamacpp(timings={"cache_n": value})) for value in COUNTS),
    *(("llamacpp", llamacpp(timings=value)) for value in ("x", [1])),
    *(("chat", chat(usage={"prompt_tokens": value, "completion_tokens": value})) for value in COUNTS),
    *(("chat", chat(usage={"prompt_tokens_details": value})) for value in COUNTS),
]


@pytest.mark.parametrize(("kind", "event"), USABLE)
async def test_counts_that_are_none_are_not_believed(kind: str, event: Any) -> None:
    events = [vllm(finish="length"), event] if kind == "vllm" and not event["choices"] else [event]
    ids, last = await answered(kind, stream(*events))
    assert ids
    assert last.finish is not None
    usage = last.usage
    for value in (usage.prompt_tokens, usage.cached_tokens, usage.reasoning_tokens, usage.fetched_tokens):
        assert type(value) is int
        assert 0 <= value < 2**48


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", [DEEP, b"9" * 5000, b"[1,2]", b"\xff"])
async def test_refusals_whose_body_cannot_be_read(kind: str, body: bytes) -> None:
    with pytest.raises(ModelRefused, match="answered 400"):
        await answered(kind, b"HTTP/1.1 400 X\r\nconnection: close\r\n\r\n" + body)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "body", [b"<html>\n\n<p>Log in</p>\n\n</html>", b"\x1f\x8b\x08" + bytes(range(128, 180))], ids=["html", "gzip"]
)
async def test_a_page_instead_of_a_stream_is_not_asked_for_again(kind: str, body: bytes) -> None:
    with pytest.raises(ModelRefused, match=r"doesn't answer"):
        await answered(kind, b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_that_ends_inside_of_its_first_event_is_cut(kind: str) -> None:
    with pytest.raises(ModelRefused if kind == "chat" else StreamCut):
        await answered(kind, b'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\ndata: {"outp')


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 401 X\r\nconnection: close\r\n\r\n" + json.dumps({"error": f"bad key {KEY}"}).encode(),
        b"HTTP/1.1 500 X\r\nconnection: close\r\n\r\n" + b"x" * 490 + KEY.encode(),
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + f"<html>{KEY}</html>".encode(),
        stream({"error": {"message": f"bad key {KEY}", "code": 401}}),
        stream({"hello": KEY}),
    ],
)
async def test_no_error_shows_the_key(kind: str, answer: bytes) -> None:
    with pytest.raises(ModelError) as raised:
        await answered(kind, answer, KEY)
    assert "sk-" not in str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [400, 500])
async def test_long_words_of_a_server_are_cut(kind: str, status: int) -> None:
    body = json.dumps({"error": {"message": "y" * 60_000}}).encode()
    with pytest.raises(ModelError) as raised:
        await answered(kind, f"HTTP/1.1 {status} X\r\nconnection: close\r\n\r\n".encode() + body)
    assert len(str(raised.value)) < 800
    with pytest.raises(ModelError) as raised:
        await answered(kind, stream({"error": {"message": "y" * 60_000, "code": status}}))
    assert len(str(raised.value)) < 800


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), -5, -0.1, "free", True, 10**400])
async def test_a_cost_that_is_none_is_not_believed(cost: Any) -> None:
    _, last = await answered("chat", stream(chat(usage={"prompt_tokens": 1, "completion_tokens": 1, "cost": cost})))
    assert last.finish is FinishReason.STOP
    assert last.usage.cost is None


TOO_MANY = {
    "sglang": sglang(list(range(1, 500)), completion_tokens=499),
    "vllm": vllm(list(range(1, 500))),
    "llamacpp": llamacpp(tokens=list(range(1, 500)), tokens_predicted=499),
}


@pytest.mark.parametrize("kind", TOO_MANY)
async def test_what_is_written_beyond_the_limit_is_cut(kind: str) -> None:
    ids, last = await answered(kind, stream(TOO_MANY[kind]))
    assert ids == list(range(1, 101))
    assert (last.finish, last.usage.completion_tokens) == (FinishReason.LENGTH, 100)


async def test_a_chat_host_that_does_not_stop_is_stopped() -> None:
    event = {"choices": [{"delta": {"content": "word " * 200}}]}
    ids, last = await answered("chat", stream(*[event] * 50))
    assert len(ids) == 2 * 100 + 1024
    assert last.finish is FinishReason.LENGTH


@pytest.mark.parametrize("kind", ["sglang", "llamacpp"])
async def test_an_abort_that_is_not_ours_is_no_finished_turn(kind: str) -> None:
    event = sglang(finish_reason={"type": "abort"}) if kind == "sglang" else llamacpp(stop_type="none")
    received: list[int] = []
    async with answering(kind, stream(event)) as found:
        with pytest.raises(StreamCut, match=f"aborted its answer after {2 if kind == 'sglang' else 1} tokens"):
            async for chunk in found.stream(prompt(), Sampling(), request_id="test"):
                received += chunk.ids
    assert received == ([1, 2] if kind == "sglang" else [1])
