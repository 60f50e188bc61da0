"""A prefix that several conversations share is computed once, by the rules of each kind of prefix cache."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.ids import Ids
from runtime.models.base import HostFacts, ModelRefused, RequestOptions, Usage
from runtime.models.scripted import ScriptedServer
from runtime.models.sglang import SGLangModel
from runtime.models.warm import warm
from runtime.qwen_bpe import qwen_tokenizer
from tests.runtime.models.helpers import ask, prompt


def script(cache: dict[str, Any], *faults: dict[str, Any]) -> dict[str, Any]:
    return {"cache": cache, "turns": [{"text": "I look.\n</think>\n\nDone.", "faults": list(faults)}]}


def of_length(length: int) -> Ids:
    end = prompt()
    return Ids([*[7] * (length - len(end)), *end])


def host(server: ScriptedServer, **options: Any) -> SGLangModel:
    return SGLangModel(server.url, qwen_tokenizer(), name="m", **({"context_length": 99_999} | options))


GRID = 64


@pytest.mark.parametrize(
    ("strategy", "tail"),
    [("tokens", lambda n: 1), ("no_buffer", lambda n: 1), ("extra_buffer", lambda n: n - (n - 1) // GRID * GRID)],
)
@pytest.mark.parametrize("length", [300, 320, 321, 383, 384, 385])
async def test_attempts_compute_only_the_tail(strategy: str, tail: Any, length: int) -> None:
    ids = of_length(length)
    async with ScriptedServer(script({"strategy": strategy})) as server:
        model = host(server)
        usage = await warm(model, ids, request_id="w")
        for _ in range(3):
            await ask(model, ids)
        await model.close()
    first, *attempts = server.requests
    assert usage == Usage(length - 1, 0, 1, 1)
    assert (list(first.prompt_ids), first.written) == (list(ids[:-1]), 1)
    assert [length - attempt.cached_tokens for attempt in attempts] == [tail(length)] * 3


async def test_a_failure_is_told() -> None:
    async with ScriptedServer(script({}, {"kind": "http", "status": 400})) as server:
        model = host(server)
        with pytest.raises(ModelRefused):
            await warm(model, of_length(100), request_id="w")
        await model.close()


async def test_the_routing_key_goes_along_and_the_constraint_stays_away() -> None:
    options = RequestOptions("a", constrain_to=({"function": {"name": "f"}},))
    async with ScriptedServer(script({})) as server:
        model = host(server)
        await warm(model, of_length(100), request_id="w", options=options)
        await model.close()
    (request,) = server.requests
    assert request.body["routing_key"] == "a"
    assert "structural_tag" not in request.body["sampling_params"]


async def test_hosts_without_ids_and_empty_prefixes_are_left_alone() -> None:
    async with ScriptedServer(script({})) as server:
        chat = host(server, facts=HostFacts("chat", features=frozenset()))
        assert await warm(chat, of_length(100), request_id="w") == Usage()
        ids = host(server)
        assert await warm(ids, Ids([5]), request_id="w") == Usage()
        await chat.close()
        await ids.close()
    assert not server.requests
