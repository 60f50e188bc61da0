"""The client for `/generate` against the scripted server, and against bytes that no good server sends."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime.ids import Ids
from runtime.models.base import (
    Chunk,
    ContextExceeded,
    FinishReason,
    ModelBusy,
    ModelFailed,
    ModelRefused,
    ModelUnreachable,
    Sampling,
    StreamCut,
    Usage,
)
from runtime.models.scripted import ScriptedServer
from runtime.models.sglang import SGLangModel
from runtime.qwen_bpe import qwen_tokenizer
from tests.runtime.models.contract import CONTRACT, Backend, check_name
from tests.runtime.models.helpers import ask, encoded, http, prompt, raw_server

END = 248046
TURN = "Look around.\n</think>\n\nGrüße 🎉 and so on"
IDS = [*encoded(TURN), END]


@asynccontextmanager
async def client(url: str, **options: Any) -> AsyncIterator[SGLangModel]:
    model = SGLangModel(url, qwen_tokenizer(), name="m", **({"context_length": 262_144} | options))
    try:
        yield model
    finally:
        await model.close()


@asynccontextmanager
async def served(
    turn: dict[str, Any] | str = TURN, **options: Any
) -> AsyncIterator[tuple[ScriptedServer, SGLangModel]]:
    turns = [{"text": turn} if isinstance(turn, str) else turn]
    async with ScriptedServer({"turns": turns, **options}) as server, client(server.url) as model:
        yield server, model


@pytest.fixture(params=["cumulative", "incremental", "five tokens per event"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    script = {
        "turns": [{"text": TURN}, {"text": "second"}],
        "conversations": [
            {
                "match": "long",
                "turns": [{"text": "word " * 400, "faults": [{"kind": "slow", "seconds": 0.01, "times": "always"}]}],
            }
        ],
    }
    options: dict[str, Any] = {"incremental": request.param == "incremental"}
    if request.param == "five tokens per event":
        options["stream_interval"] = 5
    async with ScriptedServer(script, **options) as server, client(server.url) as model:

        async def open_requests() -> int:
            return server.open_requests

        async def whole(ids: Ids) -> list[int]:
            body = {"input_ids": list(ids), "sampling_params": {"max_new_tokens": 2000}}
            output: list[int] = (await http(server.url, "/generate", body)).json()["output_ids"]
            return output

        yield Backend(model, prompt(), prompt("a long one"), open_requests, whole)


@pytest.mark.parametrize("check", CONTRACT, ids=check_name)
async def test_contract(backend: Backend, check: Callable[[Backend], Awaitable[None]]) -> None:
    await check(backend)


async def test_what_is_asked() -> None:
    sampling = Sampling(0.5, 0.8, 7, 0.1, 0.2, 1.1, 99, seed=3)
    async with served() as (server, model):
        await ask(model, prompt(), sampling, "run7-s1")
    (request,) = server.requests
    assert list(request.prompt_ids) == list(prompt())
    assert request.rid.startswith("run7-s1~")
    assert request.body == {
        "rid": request.rid,
        "stream": True,
        "require_reasoning": True,
        "sampling_params": {
            "temperature": 0.5,
            "top_p": 0.8,
            "top_k": 7,
            "min_p": 0.1,
            "presence_penalty": 0.2,
            "repetition_penalty": 1.1,
            "max_new_tokens": 99,
            "sampling_seed": 3,
            "stop_token_ids": [END, 248044],
            "skip_special_tokens": False,
            "no_stop_trim": True,
        },
    }


async def test_two_requests_of_a_name_have_different_ids_and_none_is_the_start_of_another() -> None:
    async with served() as (server, model):
        await asyncio.gather(ask(model, prompt(), request_id="s1"), ask(model, prompt(), request_id="s1"))
        await ask(model, prompt(), request_id="s10")
    rids = [request.rid for request in server.requests]
    assert not any(a.startswith(b) for a in rids for b in rids if a is not b)


async def test_max_new_tokens_is_lowered_to_the_room_that_is_left() -> None:
    room = 6
    script = {"turns": [{"text": TURN}], "context_length": len(prompt()) + room}
    async with (
        ScriptedServer(script) as server,
        client(server.url, context_length=len(prompt()) + room) as model,
    ):
        ids, last = await ask(model, prompt())
    assert (ids, last.finish) == (IDS[:room], FinishReason.LENGTH)


async def test_a_context_that_the_server_finds_exceeded() -> None:
    async with served(context_length=10) as (_, model):
        with pytest.raises(ContextExceeded, match=r"longer than the model's context length.*Shorten"):
            await ask(model, prompt("a " * 20))


async def test_one_connection_serves_many_requests() -> None:
    async with served() as (server, model):
        for _ in range(5):
            assert (await ask(model, prompt()))[0] == IDS
    assert server.connections == 1


@pytest.mark.parametrize(
    ("fault", "error", "message", "kept"),
    [
        ({"kind": "cut", "tokens": 3}, StreamCut, "after 3 tokens", 3),
        ({"kind": "cut", "tokens": 99}, StreamCut, f"after {len(IDS)} tokens", len(IDS)),
        ({"kind": "empty"}, StreamCut, "ended the stream after 0 tokens", 0),
        ({"kind": "garbage", "tokens": 2}, ModelRefused, "doesn't answer /generate as SGLang does", 2),
        ({"kind": "http", "status": 500, "message": "CUDA"}, ModelFailed, "answered 500: CUDA.*The server failed", 0),
        ({"kind": "http", "status": 503, "retry_after": 2}, ModelBusy, "answered 503", 0),
        ({"kind": "http", "status": 429}, ModelBusy, "answered 429", 0),
        ({"kind": "http", "status": 401, "message": "no key"}, ModelRefused, "answered 401: no key", 0),
        ({"kind": "http", "status": 400, "message": "Input is longer than the model"}, ContextExceeded, "Shorten", 0),
    ],
)
async def test_each_fault_is_a_named_error(
    fault: dict[str, Any], error: type[Exception], message: str, kept: int
) -> None:
    received: list[int] = []
    async with served({"text": TURN, "faults": [fault]}) as (server, model):
        with pytest.raises(error, match=message) as caught:
            async for chunk in model.stream(prompt(), Sampling(), request_id="t"):
                received += chunk.ids
        assert received == IDS[:kept]
        assert server.url in str(caught.value)
        assert (await ask(model, prompt()))[0] == IDS
    if isinstance(caught.value, ModelBusy):
        assert caught.value.retry_after == fault.get("retry_after")


async def test_a_stalled_server_is_given_up_and_told() -> None:
    fault = {"kind": "stall", "tokens": 2, "seconds": 60}
    async with ScriptedServer([{"text": TURN, "faults": [fault]}]) as server:
        async with client(server.url, idle_timeout=0.2) as model:
            with pytest.raises(StreamCut, match=r"sent nothing for 0.2 s, after 2 tokens"):
                await ask(model, prompt())
        while server.open_requests:
            await asyncio.sleep(0.01)


async def test_slow_tokens_are_no_fault() -> None:
    script = [{"text": TURN, "faults": [{"kind": "slow", "seconds": 0.1}]}]
    async with ScriptedServer(script) as server, client(server.url, idle_timeout=0.7) as model:
        assert (await ask(model, prompt()))[0] == IDS


async def test_length_is_a_finish() -> None:
    async with served({"text": TURN, "faults": [{"kind": "length", "tokens": 4}]}) as (_, model):
        ids, last = await ask(model, prompt())
    assert (ids, last.finish, last.usage.completion_tokens) == (IDS[:4], FinishReason.LENGTH, 4)


async def test_abort_by_the_server_is_a_finish() -> None:
    async with served(token_delay=0.02) as (server, model):
        task = asyncio.create_task(ask(model, prompt()))
        while not (server.requests and server.requests[0].written):
            await asyncio.sleep(0.01)
        await http(server.url, "/abort_request", {"abort_all": True})
        ids, last = await task
    assert last.finish is FinishReason.ABORT
    assert IDS[: len(ids)] == ids


async def test_no_server() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with client(url) as model:
            with pytest.raises(ModelUnreachable, match=f"No answer from {url}.*Check that the server runs"):
                await ask(model, prompt())


@pytest.mark.parametrize("url", ["http://no-such-host.invalid:1", "https://127.0.0.1:1"])
async def test_hosts_that_are_not_there(url: str) -> None:
    async with client(url) as model:
        with pytest.raises(ModelUnreachable):
            await ask(model, prompt())


async def test_a_server_that_ends_in_mid_stream_and_cannot_be_told() -> None:
    async with served(token_delay=0.02) as (server, model):
        with pytest.raises(StreamCut):
            async with aclosing(model.stream(prompt(), Sampling(), request_id="t")) as chunks:
                async for _ in chunks:
                    await server.close()


def answer(*events: Any, status: str = "200 OK", end: bytes = b"data: [DONE]\n\n") -> bytes:
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + end
    return f"HTTP/1.1 {status}\r\ncontent-type: text/event-stream\r\n\r\n".encode() + body


def event(ids: list[int], total: int, finish: Any = None) -> dict[str, Any]:
    meta = {"finish_reason": finish, "prompt_tokens": 9, "completion_tokens": total, "cached_tokens": 4}
    return {"text": "", "output_ids": ids, "meta_info": meta}


STOP = {"type": "stop", "matched": END}


@pytest.mark.parametrize(
    ("events", "ids"),
    [
        ([event([5], 1), event([5, 6], 2), event([5, 6, END], 3, STOP)], [5, 6, END]),
        ([event([5], 1), event([5, 6], 3), event([END], 4, STOP)], [5, 5, 6, END]),
        ([event([5, 6, 7], 2), event([5, 6, 7, END], 4, STOP)], [5, 6, 7, END]),
        ([event([5], 1), event([5], 2), event([5], 3), event([END], 4, STOP)], [5, 5, 5, END]),
        ([event([5, 6], 2, STOP)], [5, 6, END]),
        ([event([5, 248044], 2, {"type": "stop", "matched": 248044})], [5, END]),
        ([event([5, END], 2), event([5, END], 2, STOP)], [5, END]),
        ([event([5, END], 2), event([], 2, STOP)], [5, END]),
        ([event([END], 1, STOP)], [END]),
    ],
    ids=[
        "cumulative",
        "incremental that looks cumulative",
        "cumulative and ahead of its count",
        "incremental, the same token",
        "the stop token was left out",
        "ended by endoftext",
        "cumulative, the finish comes alone",
        "incremental, the finish comes alone",
        "nothing but the end",
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["one read", "several reads"])
async def test_ways_of_streaming(events: list[dict[str, Any]], ids: list[int], together: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if together:
            writer.write(answer(*events))
        else:
            writer.write(answer(end=b""))
            for one in events:
                writer.write(b"data: " + json.dumps(one).encode() + b"\n\n")
                await asyncio.sleep(0.02)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as model:
        received, last = await ask(model, prompt())
    server.close()
    assert received == ids
    assert last.finish is FinishReason.STOP
    assert last.usage == Usage(9, 4, events[-1]["meta_info"]["completion_tokens"])


@asynccontextmanager
async def slow_end() -> AsyncIterator[tuple[SGLangModel, list[bytes], list[int]]]:
    """A server whose answers end some time behind their finish; what it was asked, and its connections."""
    asked: list[bytes] = []
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        while True:
            try:
                asked.append(await reader.readuntil(b"\r\n\r\n"))
                length = int(asked[-1].lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                asked[-1] += await reader.readexactly(length)
            except asyncio.IncompleteReadError:
                break
            first, second = answer(event([5], 1), end=b""), answer(event([5, END], 2, STOP)).partition(b"\r\n\r\n")[2]
            whole = first.partition(b"\r\n\r\n")[2] + second
            head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(whole)
            for piece in (head + whole[:40], whole[40:-8], whole[-8:]):
                writer.write(piece)
                await asyncio.sleep(0.03)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as model:
        yield model, asked, connections
    server.close()


async def test_an_answer_is_read_to_its_end_behind_the_finish() -> None:
    async with slow_end() as (model, asked, connections):
        for _ in range(3):
            assert (await ask(model, prompt()))[0] == [5, END]
    assert len(connections) == 1
    assert not any(b"abort" in request for request in asked)


async def test_the_server_is_told_of_an_early_close_by_the_id_of_the_request() -> None:
    async with ScriptedServer({"token_delay": 0.02, "turns": [{"text": TURN}]}) as server:
        relay, asked = await recording_relay(server)
        async with client(relay) as model, aclosing(stream_of(model)) as chunks:
            async for _ in chunks:
                break
            await chunks.aclose()
    told = next(request for request in asked if request.startswith(b"POST /abort_request"))
    assert told.endswith(json.dumps({"rid": server.requests[0].rid}).encode())


def stream_of(model: SGLangModel) -> AsyncGenerator[Chunk, None]:
    return model.stream(prompt(), Sampling(), request_id="t")


async def recording_relay(server: ScriptedServer) -> tuple[str, list[bytes]]:
    """A URL that leads to the server, and what is sent there, an item per connection."""
    asked: list[bytes] = []

    async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter, kept: int | None) -> None:
        while data := await source.read(65536):
            if kept is not None:
                asked[kept] += data
            sink.write(data)
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_read, to_write = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        asked.append(b"")
        await asyncio.gather(
            pipe(reader, to_write, len(asked) - 1), pipe(to_read, writer, None), return_exceptions=True
        )

    relay = await asyncio.start_server(serve, "127.0.0.1", 0)
    return f"http://127.0.0.1:{relay.sockets[0].getsockname()[1]}", asked


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (
            answer({"error": {"message": "Duplicate request ID", "code": 400}}),
            ModelRefused,
            "400: Duplicate request ID",
        ),
        (answer({"error": {"message": "busy", "code": 503}}), ModelBusy, "answered 503: busy"),
        (answer({"error": "text"}), ModelRefused, "answered 400: text"),
        (
            answer(event([], 0, {"type": "abort", "message": "out of memory", "status_code": 500})),
            ModelFailed,
            "memory",
        ),
        (answer(event([], 0, {"type": "abort", "message": "waited", "status_code": 503})), ModelBusy, "503: waited"),
        (answer(event([5], 1), event([6], 5)), StreamCut, "left out 3 tokens"),
        (answer([1, 2]), ModelRefused, "doesn't answer"),
        (answer({"choices": []}), ModelRefused, "doesn't answer"),
        (answer({"text": "x", "meta_info": {}}), ModelRefused, "doesn't answer"),
        (answer(event([5], 1)), StreamCut, "after 1 tokens, before its finish"),
        (answer(event([5], 1), end=b'data: {"out'), StreamCut, "after 1 tokens"),
        (answer(status="404 Not Found", end=b'{"detail": "Not Found"}'), ModelRefused, "answered 404: Not Found"),
        (answer(status="502 Bad Gateway", end=b"<html>bad</html>"), ModelFailed, "502: <html>bad</html>"),
        (answer(status="307 Temporary Redirect", end=b""), ModelRefused, "It redirects"),
        (b"", ModelUnreachable, "No answer"),
        (b"SSH-2.0-OpenSSH\r\n", ModelUnreachable, "No answer"),
    ],
)
async def test_answers_of_other_servers(reply: bytes, error: type[Exception], message: str) -> None:
    async for url in raw_server([reply]):
        async with client(url) as model:
            with pytest.raises(error, match=message):
                await ask(model, prompt())


def test_a_proxy_of_the_environment_is_not_asked_for_loopback() -> None:
    code = (
        "import asyncio\n"
        "from tests.runtime.models.test_sglang import IDS, ask, prompt, served\n"
        "async def main():\n"
        "    async with served() as (_, model):\n"
        "        assert (await ask(model, prompt()))[0] == IDS\n"
        "asyncio.run(main())\n"
    )
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3], env=os.environ | proxies, timeout=60
    )
