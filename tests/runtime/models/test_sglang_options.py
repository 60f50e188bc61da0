"""What a request to SGLang carries besides ids and sampling, and what is read out of its answers."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from runtime.models.base import (
    Chunk,
    ContextExceeded,
    Feature,
    FinishReason,
    HostFacts,
    Image,
    ModelBusy,
    ModelChanged,
    ModelError,
    ModelFailed,
    ModelRefused,
    RequestOptions,
    Sampling,
    StreamCut,
    Usage,
)
from runtime.models.pictures import most_tokens
from runtime.models.scripted import ScriptedServer
from runtime.models.scripted_sglang import IMAGE_TOKENS
from runtime.models.sglang import SGLangModel
from runtime.models.sglang_facts import Identity, facts_of, identity_of, low_priority_first
from runtime.models.structural_tag import structural_tag
from runtime.prefix import CacheRules, Strategy
from runtime.qwen_bpe import qwen_tokenizer
from tests.runtime.models.helpers import encoded, http, prompt, raw_server

END = 248046
TURN = "Look around.\n</think>\n\nGrüße 🎉 and so on"
IDS = [*encoded(TURN), END]
SPECS = ({"type": "function", "function": {"name": "bash", "parameters": {"properties": {"command": {}}}}},)
EVERY_FEATURE = HostFacts("sglang", features=frozenset(Feature))


def png(width: int, height: int) -> Image:
    return Image(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + struct.pack(">II", width, height), "image/png")


@asynccontextmanager
async def client(server: ScriptedServer | str, **options: Any) -> AsyncIterator[SGLangModel]:
    url = server if isinstance(server, str) else server.url
    model = SGLangModel(url, qwen_tokenizer(), name="m", **({"context_length": 262_144} | options))
    try:
        yield model
    finally:
        await model.close()


async def ask(
    model: SGLangModel, ids: Any, options: RequestOptions, sampling: Sampling | None = None
) -> tuple[list[int], Chunk]:
    received: list[int] = []
    last = Chunk(())
    async for chunk in model.stream(ids, sampling or Sampling(), request_id="t", options=options):
        received += chunk.ids
        last = chunk
    return received, last


@pytest.fixture(params=[False, True], ids=["cumulative", "incremental"])
def incremental(request: pytest.FixtureRequest) -> bool:
    value: bool = request.param
    return value


async def test_options_go_where_the_host_has_a_use_for_them() -> None:
    options = RequestOptions("run-7", 3, constrain_to=SPECS)
    async with ScriptedServer([{"text": TURN}]) as server:
        for facts, low_first in ((EVERY_FEATURE, False), (EVERY_FEATURE, True), (HostFacts("sglang"), False)):
            async with client(server, facts=facts, low_priority_first=low_first) as model:
                assert (await ask(model, prompt(), options))[0] == IDS
    full, low, bare = server.requests
    assert (full.body["routing_key"], full.body["session_id"], full.body["priority"]) == ("run-7", "run-7", 3)
    assert full.body["sampling_params"]["structural_tag"] == structural_tag(SPECS)
    assert low.body["priority"] == -3
    assert not {"routing_key", "session_id", "priority"} & bare.body.keys()
    assert "structural_tag" not in bare.body["sampling_params"]
    assert server.closed_sessions == ["run-7", "run-7"]  # when the two models were closed


async def test_the_routing_key_is_a_header_for_routers() -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as model:
        for key in ("run 7", "a\r\nx: y", "größe"):
            with pytest.raises(ModelError):
                await ask(model, prompt(), RequestOptions(routing_key=key))
    server.close()
    lines = [line for head in heads for line in head.split(b"\r\n") if line.startswith((b"x-smg", b"x:"))]
    assert [line.partition(b": ")[2] for line in lines] == [b"run 7", b"a%0D%0Ax: y", b"gr%C3%B6%C3%9Fe"]


async def test_priority_isn_t_sent_to_a_server_that_would_refuse_it() -> None:
    info = {"abort_on_priority_when_disabled": True}
    async with ScriptedServer([{"text": TURN}], info=info) as server:
        told = (await http(server.url, "/model_info")).json(), (await http(server.url, "/server_info")).json()
        async with client(server, facts=facts_of(*told)) as model:
            assert (await ask(model, prompt(), RequestOptions(priority=1)))[0] == IDS
        async with client(server, facts=EVERY_FEATURE) as model:
            with pytest.raises(ModelBusy, match="Using priority is disabled"):
                await ask(model, prompt(), RequestOptions(priority=1))


async def test_pictures_go_along_and_take_room(incremental: bool) -> None:
    shown = prompt("See <|vision_start|><|image_pad|><|vision_end|>.")
    picture = png(640, 320)
    limit = len(shown) + most_tokens(picture) + 5
    async with (
        ScriptedServer([{"text": TURN}], incremental=incremental) as server,
        client(server, facts=EVERY_FEATURE, context_length=limit) as model,
    ):
        ids, last = await ask(model, shown, RequestOptions(images=(picture,)))
        with pytest.raises(ContextExceeded):
            await ask(model, shown, RequestOptions(images=(picture, picture)))
    (request,) = server.requests
    assert (ids, last.finish) == (IDS[:6], FinishReason.LENGTH)
    assert request.body["image_data"] == ["data:image/png;base64," + base64.b64encode(picture.data).decode()]
    assert last.usage.prompt_tokens == len(shown) + IMAGE_TOKENS - 1


async def test_usage_of_an_answer(incremental: bool) -> None:
    async with (
        ScriptedServer([{"text": TURN, "repeat": 2}], incremental=incremental) as server,
        client(server) as model,
    ):
        await ask(model, prompt(), RequestOptions())
        _, last = await ask(model, prompt(), RequestOptions())
        _, open_turn = await ask(model, prompt().extended(IDS[:2]), RequestOptions())
        _, said = await ask(model, prompt().extended(IDS[:8]), RequestOptions())
    thinking = IDS.index(248069) + 1
    assert last.usage == Usage(len(prompt()), len(prompt()) - 1, len(IDS), thinking)
    assert open_turn.usage.reasoning_tokens == thinking - 2
    assert said.usage.reasoning_tokens == 0
    asked = [request.body.get("require_reasoning") for request in server.requests]
    assert asked == [True, True, True, None]


def event(ids: list[int], finish: Any = None, **meta: Any) -> bytes:
    body = {"output_ids": ids, "meta_info": {"finish_reason": finish, "completion_tokens": len(ids)} | meta}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
COUNTS = {"prompt_tokens": 9, "cached_tokens": 4, "reasoning_tokens": 1}


async def asked_of(*events: bytes) -> tuple[list[int], Chunk | ModelError]:
    """What comes of an answer of these events: the ids, and the last chunk or the error."""
    received: list[int] = []
    last = Chunk(())
    async for url in raw_server([HEAD + b"".join(events) + b"data: [DONE]\n\n"]):
        async with client(url) as model:
            try:
                async for chunk in model.stream(prompt(), Sampling(), request_id="t"):
                    received += chunk.ids
                    last = chunk
            except ModelError as error:
                return received, error
    return received, last


async def test_tokens_brought_back_from_memory_are_told_apart() -> None:
    details = {"device": 1, "host": 2, "storage": 1}
    stop = {"type": "stop", "matched": END}
    _, last = await asked_of(event([5, END], stop, **COUNTS, cached_tokens_details=details))
    assert isinstance(last, Chunk)
    assert last.usage == Usage(9, 4, 2, 1, fetched_tokens=3)
    _, last = await asked_of(event([5, END], stop, **COUNTS, cached_tokens_details=None))
    assert isinstance(last, Chunk)
    assert last.usage == Usage(9, 4, 2, 1)


def gave_up(status: int | None, message: str) -> dict[str, Any]:
    return {"type": "abort", "status_code": status, "message": message}


@pytest.mark.parametrize(
    ("events", "error", "kept"),
    [
        ([event([], gave_up(503, "The request queue is full."))], ModelBusy, []),
        ([event([0], gave_up(400, "Failed to compile"), prompt_tokens=1)], ModelRefused, []),
        ([event([5], **COUNTS), event([5, 6], gave_up(503, "Request running timeout reached."))], ModelBusy, []),
        ([event([5], **COUNTS), event([5], gave_up(500, "Out of memory"), **COUNTS)], ModelFailed, []),
    ],
    ids=["queue is full", "refused with a token", "given up in mid-turn", "failed in mid-turn"],
)
async def test_the_scheduler_s_reasons_are_errors_and_what_comes_with_them_isn_t_taken(
    events: list[bytes], error: type[ModelError], kept: list[int]
) -> None:
    ids, end = await asked_of(*events)
    assert type(end) is error
    assert ids == kept


async def test_an_abort_without_a_reason_keeps_the_counts_that_were_known() -> None:
    aborted = {"type": "abort", "message": "Aborted by AbortReq."}
    ids, last = await asked_of(event([5], **COUNTS), event([5, 6], aborted))
    assert isinstance(last, Chunk)
    assert (ids, last.finish) == ([5, 6], FinishReason.ABORT)
    assert last.usage.completion_tokens == 2


@pytest.mark.parametrize("incremental_server", [False, True])
async def test_a_full_queue_in_the_scripted_server_s_shape(incremental_server: bool) -> None:
    fault = {"kind": "abort", "tokens": 3, "message": "The request queue is full."}
    async with (
        ScriptedServer([{"text": TURN, "faults": [fault]}], incremental=incremental_server) as server,
        client(server) as model,
    ):
        received: list[int] = []
        with pytest.raises(ModelBusy, match="The request queue is full"):
            async for chunk in model.stream(prompt(), Sampling(), request_id="t"):
                received += chunk.ids
    assert received == IDS[: len(received)]
    assert len(received) <= 3


# -- the model behind the URL ---------------------------------------------------------------------------------


def restarted(server: ScriptedServer, **changes: Any) -> ScriptedServer:
    return ScriptedServer([{"text": TURN}], port=int(server.url.rpartition(":")[2]), info=changes)


@pytest.mark.parametrize(
    "changes",
    [{"served_model_name": "other"}, {"tokenizer_path": "other"}, {"model_path": "other"}],
)
async def test_another_model_behind_the_url_is_a_named_error(changes: dict[str, str]) -> None:
    fault = {"kind": "cut", "tokens": 2}
    server = ScriptedServer([{"text": TURN, "faults": [fault]}])
    await server.start()
    identity = identity_of((await http(server.url, "/model_info")).json())
    async with client(server, identity=identity) as model:
        with pytest.raises(StreamCut):
            await ask(model, prompt(), RequestOptions())
        await server.close()
        async with restarted(server, **changes) as other:
            for _ in range(2):
                with pytest.raises(ModelChanged, match=r"serves .*other.* now.*Serve that model again"):
                    await ask(model, prompt(), RequestOptions())
            assert not other.requests
        async with restarted(server) as same:
            assert (await ask(model, prompt(), RequestOptions()))[0] == IDS
            assert len(same.requests) == 1


async def test_a_server_exchanged_between_two_turns_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.models.same_server.SILENCE_BEFORE_DOUBT", 0.0)
    server = ScriptedServer([{"text": TURN}])
    await server.start()
    identity = identity_of((await http(server.url, "/model_info")).json())
    async with client(server, identity=identity) as model:
        await ask(model, prompt(), RequestOptions())
        await ask(model, prompt(), RequestOptions())
        assert server.connections == 2  # the test's own, and one for both turns
        await server.close()
        await asyncio.sleep(0.01)
        async with restarted(server, served_model_name="other"):
            with pytest.raises(ModelChanged):
                await ask(model, prompt(), RequestOptions())


async def test_a_server_that_doesn_t_say_what_it_serves_isn_t_asked_twice() -> None:
    async with ScriptedServer([{"text": TURN, "faults": [{"kind": "cut"}]}]) as server, client(server) as model:
        with pytest.raises(StreamCut):
            await ask(model, prompt(), RequestOptions())
        assert (await ask(model, prompt(), RequestOptions()))[0] == IDS


# -- facts ----------------------------------------------------------------------------------------------------

SERVER_INFO = {
    "version": "0.5.23",
    "max_total_num_tokens": 16384,
    "max_mamba_cache_size": 64,
    "max_running_requests": 8,
    "mamba_radix_cache_strategy": "extra_buffer",
    "mamba_track_interval": 128,
    "page_size": 1,
    "chunked_prefill_size": 8192,
    "grammar_backend": "xgrammar",
    "enable_priority_scheduling": True,
    "schedule_low_priority_values_first": True,
    "enable_session_radix_cache": True,
}


def test_facts_of_a_server() -> None:
    facts = facts_of({"has_image_understanding": True}, SERVER_INFO)
    assert facts.version == "0.5.23"
    assert facts.features == frozenset(Feature)
    assert (facts.pools.kv_tokens, facts.pools.states, facts.pools.requests) == (16384, 64, 8)
    assert facts.cache == CacheRules(Strategy.EXTRA_BUFFER, 1, 64, 128, 8192)
    assert low_priority_first(SERVER_INFO)


def test_facts_that_a_server_leaves_out_are_not_assumed() -> None:
    facts = facts_of({}, {})
    assert facts.features == {Feature.EXACT_IDS, Feature.CACHED_TOKENS, Feature.ROUTING}
    assert (facts.version, facts.cache, facts.pools.kv_tokens) == (None, None, None)
    assert not low_priority_first({})


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"grammar_backend": "none"}, Feature.CONSTRAINED),
        ({"skip_tokenizer_init": True}, Feature.CONSTRAINED),
        ({"language_model_only": True}, Feature.IMAGES),
        ({"enable_priority_scheduling": False}, Feature.PRIORITY),
        ({"enable_session_radix_cache": False}, Feature.SESSIONS),
    ],
)
def test_flags_that_take_a_feature_away(changes: dict[str, Any], missing: Feature) -> None:
    facts = facts_of({"has_image_understanding": True}, SERVER_INFO | changes)
    assert frozenset(Feature) - facts.features == {missing}


def test_a_server_without_a_prefix_cache_has_no_rules() -> None:
    assert facts_of({}, SERVER_INFO | {"disable_radix_cache": True}).cache is None
    assert facts_of({}, SERVER_INFO | {"mamba_radix_cache_strategy": "extra_buffer_lazy"}).cache is not None


def test_identity() -> None:
    assert identity_of({"model_path": "/m"}) == Identity("/m", "/m", "/m")
    assert str(identity_of({"model_path": "/m", "served_model_name": "q"})) == "q (/m, tokenizer /m)"
