"""A prefix that several conversations share is computed once, by the rules of each kind of prefix cache."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from runtime.ids import Ids
from runtime.models.base import HostFacts, ModelRefused, RequestOptions, Sampling, Usage
from runtime.models.scripted import ScriptedServer
from runtime.models.sglang import SGLangModel
from runtime.models.warm import Warmed, warm
from runtime.qwen_bpe import qwen_tokenizer
from tests.runtime.models.helpers import answered, ask, prompt

SLOW = {"kind": "slow", "seconds": 0.02, "times": "always"}


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


@pytest.mark.parametrize("strategy", ["tokens", "no_buffer", "extra_buffer"])
async def test_attempts_that_start_together_cost_one_prefill(strategy: str) -> None:
    ids = of_length(640)

    async def attempt(model: SGLangModel, warmed: Warmed, number: int) -> Usage | None:
        usage = await warmed.ready(ids, request_id=f"w{number}")
        turn, _ = await ask(model, ids, request_id=f"a{number}")
        await ask(model, answered(ids, turn[:3]), Sampling(max_new_tokens=1), request_id=f"b{number}")
        return usage

    turns = [{"text": "I look.\n</think>\n\nDone.", "repeat": 2}]
    async with ScriptedServer({"cache": {"strategy": strategy}, "turns": turns, "token_delay": 0.01}) as server:
        model = host(server)
        warmed = Warmed(model)
        usages = await asyncio.gather(*(attempt(model, warmed, number) for number in range(4)))
        await model.close()
    assert sum(usage is not None for usage in usages) == 1
    computed = [len(request.prompt_ids) - request.cached_tokens for request in server.requests]
    assert len(computed) == 1 + 4 + 4
    assert computed[0] == 639
    assert all(count < 2 * GRID for count in computed[1:])


async def test_who_is_cancelled_leaves_it_to_the_next() -> None:
    ids = of_length(100)
    async with ScriptedServer(script({}, SLOW)) as server:
        model = host(server)
        warmed = Warmed(model)
        first = asyncio.create_task(warmed.ready(ids, request_id="w1"))
        second = asyncio.create_task(warmed.ready(ids, request_id="w2"))
        while not server.requests:
            await asyncio.sleep(0.001)
        first.cancel()
        assert await second is not None
        assert await warmed.ready(ids, request_id="w3") is None
        await model.close()
    assert [request.rid[:2] for request in server.requests] == ["w1", "w2"]


async def test_a_failure_is_the_attempts_own_business() -> None:
    ids = of_length(100)
    async with ScriptedServer(script({}, {"kind": "http", "status": 400}, {"kind": "http", "status": 400})) as server:
        model = host(server)
        with pytest.raises(ModelRefused):
            await warm(model, ids, request_id="w")
        warmed = Warmed(model)
        assert await warmed.ready(ids, request_id="w") is None
        assert await warmed.ready(ids, request_id="w") is not None
        await model.close()
    assert len(server.requests) == 3


async def test_replicas_are_warmed_each_and_the_constraint_stays_away() -> None:
    ids = of_length(100)
    options = RequestOptions("a", constrain_to=({"function": {"name": "f"}},))
    async with ScriptedServer(script({})) as server:
        model = host(server)
        warmed = Warmed(model)
        assert await warmed.ready(ids, request_id="w", options=options) is not None
        assert await warmed.ready(ids, request_id="w", options=replace(options, routing_key="b")) is not None
        assert await warmed.ready(ids, request_id="w", options=options) is None
        await model.close()
    assert [request.body["routing_key"] for request in server.requests] == ["a", "b"]
    assert all("structural_tag" not in request.body["sampling_params"] for request in server.requests)


async def test_hosts_without_ids_and_empty_prefixes_are_left_alone() -> None:
    async with ScriptedServer(script({})) as server:
        chat = host(server, facts=HostFacts("chat", features=frozenset()))
        assert await warm(chat, of_length(100), request_id="w") == Usage()
        ids = host(server)
        assert await warm(ids, Ids([5]), request_id="w") == Usage()
        await chat.close()
        await ids.close()
    assert not server.requests
