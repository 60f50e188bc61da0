"""The real router before scripted servers: what is behind it is known, as without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime.admission import admission_for
from runtime.models import connect
from runtime.models.base import Feature, ModelChanged, Pools
from runtime.models.chat_host import ChatModel
from runtime.models.scripted import ScriptedServer
from runtime.models.scripted_reading import ShiftedTokenizer
from runtime.models.sglang import SGLangModel
from runtime.qwen_bpe import qwen_tokenizer
from tests.runtime.models.helpers import ask, encoded, prompt
from tests.runtime.models.test_detect import Answers, answering
from tests.servers.router import routed

pytestmark = pytest.mark.heavy  # `make test` doesn't install the router

SCRIPT: dict[str, Any] = {
    "turns": [{"text": "one", "repeat": 9}],
    "context_length": 90_000,
    "pool_tokens": 100_000,
    "pool_states": 117,
    "cache": {"strategy": "extra_buffer"},
}


@asynccontextmanager
async def behind_a_router(folder: Path, count: int) -> AsyncIterator[tuple[str, list[ScriptedServer]]]:
    info = {"enable_session_radix_cache": True, "enable_priority_scheduling": True, "max_running_requests": 24}
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(ScriptedServer(SCRIPT, info=info)) for _ in range(count)]
        yield await stack.enter_async_context(routed([server.url for server in servers], folder)), servers


async def test_facts_are_those_of_the_servers_behind_it(tmp_path: Path) -> None:
    async with behind_a_router(tmp_path, 2) as (url, servers):
        alone = await connect(servers[0].url)
        for target in (url, f"sglang:{url}"):
            model = await connect(target)
            assert isinstance(model, SGLangModel)
            assert (model.name, model.context_length) == (alone.name, 90_000)
            assert model.facts.pools == Pools(200_000, 234, 48)
            assert model.facts.cache == alone.facts.cache
            # What the router doesn't pass on to the servers isn't promised.
            assert alone.facts.features - model.facts.features == {Feature.CONSTRAINED, Feature.SESSIONS}
            assert admission_for(model.facts.pools, model.facts.cache).bounded
            (note,) = model.facts.notes
            assert "a router before 2 servers" in note
            assert encoded("one")[0] in (await ask(model, prompt()))[0]
            await model.close()
        await alone.close()


async def test_another_tokenizer_behind_it_is_found(tmp_path: Path) -> None:
    async with (
        ScriptedServer(SCRIPT, ShiftedTokenizer(qwen_tokenizer())) as server,
        routed([server.url], tmp_path) as url,
    ):
        model = await connect(url)
        assert type(model) is ChatModel
        assert "The served tokenizer isn't the one that prompts are made with" in "".join(model.facts.notes)
        await model.close()


async def test_servers_that_cannot_be_asked_are_told_of(tmp_path: Path) -> None:
    """Behind a router that lists nothing that can be reached from here."""
    router: Answers = {
        "/get_model_info": (200, {"model_path": "m"}),
        "/get_server_info": (200, {"router_manager": True, "workers_count": 2}),
        "/workers": (200, {"workers": [{"url": "http://127.0.0.1:9", "is_healthy": True}, {"url": "grpc://h:1"}]}),
    }
    async with answering(router) as url:
        model = await connect(url)
        told = "".join(model.facts.notes)
        assert "a router before 2 servers, and none of them can be asked from here" in told
        assert "couldn't be compared" in told
        await model.close()


async def test_another_model_behind_it_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.models.same_server.SILENCE_BEFORE_DOUBT", 0.0)
    async with behind_a_router(tmp_path, 1) as (url, servers):
        model = await connect(url)
        assert encoded("one")[0] in (await ask(model, prompt()))[0]
        servers[0].info["served_model_name"] = "other"
        await asyncio.sleep(0.01)
        monkeypatch.setattr("runtime.models.http_client.DirectTransport.resting", False)
        with pytest.raises(ModelChanged, match=r"serves other .* it was scripted"):
            await ask(model, prompt())
        await model.close()
