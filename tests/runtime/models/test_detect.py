"""What `connect` finds out about servers: scripted ones of every kind, and answers as other hosts give them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime.models import connect
from runtime.models.base import Feature, HostFacts, Model, ModelBusy, ModelRefused, Pools, Sampling, Usage
from runtime.models.chat_host import ChatModel
from runtime.models.connect import FORMS
from runtime.models.hosts import KINDS
from runtime.models.llamacpp import LlamaCppModel
from runtime.models.scripted import Dialect, ScriptedServer
from runtime.models.sglang import SGLangModel
from runtime.models.vllm import VLLMModel
from runtime.prefix import CacheRules, Strategy
from tests.runtime.models.helpers import ask, encoded, prompt

SCRIPT: dict[str, Any] = {"name": "served", "context_length": 4096, "turns": [{"text": "one"}]}
CLASSES: dict[Dialect, type] = {
    Dialect.SGLANG: SGLangModel,
    Dialect.VLLM: VLLMModel,
    Dialect.LLAMACPP: LlamaCppModel,
    Dialect.CHAT: ChatModel,
}
Answers = Mapping[str, tuple[int, Any]]


@asynccontextmanager
async def answering(answers: Answers) -> AsyncIterator[str]:
    """A server with these answers by path, or by method and path; 404 elsewhere."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, _ = head.decode().split(" ", 2)
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-len")), 0)
        await reader.readexactly(length)
        path = path.partition("?")[0]
        status, body = answers.get(f"{method} {path}", answers.get(path, (404, {"detail": "Not Found"})))
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        writer.write(f"HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {len(content)}\r\n\r\n".encode())
        writer.write(content)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@asynccontextmanager
async def reached(target: str, **options: Any) -> AsyncIterator[Model]:
    model = await connect(target, **options)
    try:
        yield model
    finally:
        await model.close()


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("ending", ["", "/v1", "/v1/chat/completions"])
async def test_every_kind_of_server_by_its_url(dialect: Dialect, ending: str) -> None:
    async with ScriptedServer(SCRIPT, dialect=dialect) as server, reached(server.url + ending) as model:
        assert type(model) is CLASSES[dialect]
        assert (model.name, model.context_length, model.facts.engine) == ("served", 4096, dialect.value)
        assert (Feature.EXACT_IDS in model.facts.features) == (dialect is not Dialect.CHAT)
        assert encoded("one")[0] in (await ask(model, prompt()))[0]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_kind_that_is_named(kind: str) -> None:
    dialect = Dialect(KINDS[kind].value)
    async with ScriptedServer(SCRIPT, dialect=dialect) as server:
        for url in (server.url, server.url.removeprefix("http://")):
            async with reached(f"{kind}:{url}") as model:
                assert type(model) is CLASSES[dialect]


@pytest.mark.parametrize("dialect", [Dialect.SGLANG, Dialect.VLLM, Dialect.LLAMACPP])
@pytest.mark.parametrize("named", [Dialect.SGLANG, Dialect.VLLM, Dialect.LLAMACPP])
async def test_a_wrong_kind_is_told_with_what_to_write(dialect: Dialect, named: Dialect) -> None:
    async with ScriptedServer(SCRIPT, dialect=dialect) as server:
        if dialect is named:
            return
        with pytest.raises(ModelRefused, match=f"is {dialect}, not {named}. Write {dialect}:http://127"):
            await connect(f"{named}:{server.url}")


@pytest.mark.parametrize("named", ["sglang", "vllm", "llamacpp"])
async def test_a_kind_where_there_is_another_thing(named: str) -> None:
    async with ScriptedServer(SCRIPT, dialect=Dialect.CHAT) as server:
        with pytest.raises(
            ModelRefused, match=f"doesn't answer as {named} does. It lists models; try chat:http.*#MODEL"
        ):
            await connect(f"{named}:{server.url}")
    async with answering({}) as url:
        with pytest.raises(ModelRefused, match=f"doesn't answer as {named} does. Check the address and the port"):
            await connect(f"{named}:{url}")


async def test_what_sglang_says_of_itself() -> None:
    info = {"enable_priority_scheduling": True, "version": "0.5.23", "max_running_requests": 48, "page_size": 1}
    script = {**SCRIPT, "cache": {"strategy": "extra_buffer"}}
    async with ScriptedServer(script, info=info) as server, reached(server.url) as model:
        facts = model.facts
    assert (facts.engine, facts.version, facts.pools.requests) == ("sglang", "0.5.23", 48)
    assert facts.features >= {Feature.EXACT_IDS, Feature.CACHED_TOKENS, Feature.PRIORITY, Feature.CONSTRAINED}
    assert facts.cache is not None
    assert facts.cache.strategy is Strategy.EXTRA_BUFFER


async def test_ktransformers_is_sglang_with_experts_on_the_cpu() -> None:
    info = {"kt_weight_path": "/models/cpu", "kt_method": "AMXINT4"}
    async with ScriptedServer(SCRIPT, info=info) as server, reached(server.url) as model:
        assert (type(model), model.facts.engine) == (SGLangModel, "ktransformers")


async def test_what_vllm_says_of_itself() -> None:
    async with ScriptedServer(SCRIPT, dialect=Dialect.VLLM) as server, reached(server.url) as model:
        assert model.facts == HostFacts(
            "vllm",
            "0.32.0",
            frozenset({Feature.EXACT_IDS, Feature.CACHED_TOKENS, Feature.CONSTRAINED}),
            Pools(kv_tokens=server.script.pool_tokens // 16 * 16),
            CacheRules(Strategy.TOKENS, page=16),
        )


@pytest.mark.parametrize(
    ("info", "has", "lacks", "note"),
    [
        ({"priority": True}, Feature.PRIORITY, None, ""),
        ({"version": "0.11.2"}, Feature.EXACT_IDS, Feature.CONSTRAINED, ""),
        ({"cached_tokens": False}, Feature.EXACT_IDS, Feature.CACHED_TOKENS, "--enable-prompt-tokens-details"),
    ],
    ids=["priority", "old", "counts nothing"],
)
async def test_what_vllm_was_started_with(info: dict[str, Any], has: Feature, lacks: Feature | None, note: str) -> None:
    async with ScriptedServer(SCRIPT, dialect=Dialect.VLLM, info=info) as server, reached(server.url) as model:
        assert has in model.facts.features
        assert lacks not in model.facts.features
        assert note in "".join(model.facts.notes)


VLLM_CARD = {"data": [{"id": "Qwen/Qwen3.6-27B", "owned_by": "vllm", "max_model_len": 131_072}]}


async def test_a_vllm_that_fails_to_write() -> None:
    answers: Answers = {
        "/v1/models": (200, VLLM_CARD),
        "/version": (200, {"version": "0.33.0"}),
        "/metrics": (200, 'vllm:cache_config_info{block_size="16",kv_cache_size_tokens="9000",num_gpu_blocks="9"} 1'),
        "POST /v1/completions": (500, {"error": {"message": "out of luck", "code": 500}}),
    }
    async with answering(answers) as url, reached(url) as model:
        assert (type(model), model.name, model.context_length) == (VLLMModel, "Qwen/Qwen3.6-27B", 131_072)
        assert model.facts.pools.kv_tokens == 9000
        assert model.facts.cache is None
        assert "out of luck" in model.facts.notes[0]


async def test_what_llamacpp_says_of_itself() -> None:
    async with ScriptedServer(SCRIPT, dialect=Dialect.LLAMACPP) as server, reached(server.url) as model:
        features = frozenset({Feature.EXACT_IDS, Feature.CACHED_TOKENS})
        assert model.facts == HostFacts("llamacpp", "b1-scripted", features, Pools(4096, requests=4, slots=4))


async def test_a_server_that_still_loads() -> None:
    loading = (503, {"error": {"message": "Loading model", "code": 503}})
    async with answering({"/v1/models": loading, "/props": loading}) as url:
        with pytest.raises(ModelBusy, match="Loading model"):
            await connect(url)


WRONG_IDS = {"tokens": [1, 2, 3], "count": 3}


@pytest.mark.parametrize("named", [False, True])
async def test_another_vocabulary_gets_messages_unless_the_kind_is_named(named: bool) -> None:
    answers: Answers = {
        "/model_info": (200, {"model_path": "llama"}),
        "/server_info": (200, {"context_length": 4096}),
        "/tokenize": (200, WRONG_IDS),
        "/v1/models": (200, {"data": [{"id": "llama", "owned_by": "sglang", "max_model_len": 4096}]}),
    }
    async with answering(answers) as url, reached(f"sglang:{url}" if named else url) as model:
        assert type(model) is (SGLangModel if named else ChatModel)
        assert (Feature.EXACT_IDS in model.facts.features) == named
        (note,) = model.facts.notes
        assert "The served tokenizer isn't the one that prompts are made with" in note
        assert ("It gets ids all the same" if named else f"write sglang:{url} to send ids") in note
        assert (model.name, model.context_length) == ("llama", 4096)


# -- hosts of messages ---------------------------------------------------------------------------------------------


async def test_several_models_have_to_be_chosen_from() -> None:
    cards = [{"id": f"m{number}", "context_length": 1000 + number} for number in range(12)]
    async with answering({"/v1/models": (200, {"data": cards})}) as url:
        for target in (url, f"chat:{url}"):
            with pytest.raises(ModelRefused, match=r"m0, m1, .* and 4 more. Name one: chat:http.*#MODEL"):
                await connect(target)
        for target in (f"{url}#m3", f"chat:{url}/v1#m3"):
            async with reached(target) as model:
                assert (model.name, model.context_length) == ("m3", 1003)


async def test_a_host_that_lists_nothing() -> None:
    async with answering({}) as url:
        with pytest.raises(ModelRefused, match="doesn't say which models it has"):
            await connect(f"chat:{url}")
        async with reached(f"chat:{url}#qwen3.6-plus") as model:
            assert model.context_length == 1_000_000
            assert "doesn't say how long a context" in model.facts.notes[0]
        async with reached(f"chat:{url}#unheard-of") as model:
            assert model.context_length == 262_144


@pytest.mark.parametrize(
    ("loaded", "shown", "length"),
    [
        ([{"model": "qwen", "context_length": 4096}], "", 4096),
        ([], "num_ctx    32768\ntop_k 20", 32_768),
        ([], "", 262_144),
    ],
    ids=["loaded", "set", "unknown"],
)
async def test_ollama(monkeypatch: pytest.MonkeyPatch, loaded: list[Any], shown: str, length: int) -> None:
    answers: Answers = {
        "/v1/models": (200, {"data": [{"id": "qwen", "owned_by": "library"}]}),
        "/api/ps": (200, {"models": loaded}),
        "POST /api/show": (200, {"parameters": shown}),
    }
    async with answering(answers) as url:
        monkeypatch.setenv("OLLAMA_HOST", url.removeprefix("http://"))
        for target in (url, "ollama:qwen"):
            async with reached(target) as model:
                assert (type(model), model.context_length) == (ChatModel, length)


async def test_openrouter_says_its_price_and_context(monkeypatch: pytest.MonkeyPatch) -> None:
    pricing = {"prompt": "0.0000005", "completion": "0.000003", "input_cache_read": "0.00000005"}
    card = {"id": "qwen/qwen3.6-plus", "context_length": 999_000, "pricing": pricing}
    async with answering({"/v1/models": (200, {"data": [card, {"id": "other"}]})}) as url:
        monkeypatch.setenv("OPENROUTER_BASE_URL", f"{url}/v1")
        monkeypatch.setenv("OPENROUTER_API_KEY", "k")
        async with reached("openrouter:qwen/qwen3.6-plus") as model:
            assert model.context_length == 999_000
            price = model._price  # type: ignore[attr-defined]
            assert price.cost(Usage(1_000_000, 400_000, 100_000)) == pytest.approx(0.3 + 0.02 + 0.3)


async def test_the_catalog_has_the_price_where_the_host_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering({}) as url:
        monkeypatch.setenv("DASHSCOPE_BASE_URL", url)
        monkeypatch.setenv("DASHSCOPE_API_KEY", "k")
        async with reached("dashscope:qwen3.6-plus") as model:
            assert model._price.cost(Usage(1_000_000, 0, 0)) > 0.1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("host", "variable"), [("dashscope", "DASHSCOPE_API_KEY"), ("openrouter", "OPENROUTER_API_KEY")]
)
async def test_a_hosted_model_wants_a_key(monkeypatch: pytest.MonkeyPatch, host: str, variable: str) -> None:
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ModelRefused, match=f"wants a key; put it into {variable}"):
        await connect(f"{host}:qwen3.6-plus")


async def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 404 X\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    monkeypatch.setenv("PATCHWRIGHT_API_KEY", "sesame")
    with pytest.raises(ModelRefused):
        await connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    server.close()
    assert seen
    assert all("authorization: Bearer sesame\r\n" in head for head in seen)


@pytest.mark.parametrize("target", ["sglang:", "chat:", "ollama:", "nothing:here", "vllm"])
async def test_what_names_no_model_is_told_the_forms(target: str) -> None:
    with pytest.raises(ModelRefused) as caught:
        await connect(target)
    assert FORMS in str(caught.value)


async def test_an_address_that_is_none() -> None:
    with pytest.raises(ModelRefused, match="can't be asked"):
        await connect("http://")


async def test_the_scripted_kinds_are_asked_as_the_real_ones(tmp_path: Path) -> None:
    """A script's own target stays SGLang's kind."""
    path = tmp_path / "s.json"
    path.write_text(json.dumps(SCRIPT))
    async with reached(f"script:{path}") as model:
        assert model.facts.engine == "sglang"
        assert (await ask(model, prompt(), Sampling(temperature=0)))[0][:1] == list(encoded("one"))
