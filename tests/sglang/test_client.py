"""The client against the real SGLang server: what the scripted one imitates, it must have from here.

The hybrid checkpoint's weights are random, so its answers mean nothing; at temperature 0 they are the same each time
and hardly ever end, which is all that is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from agent.fork import forked
from runtime.ids import Ids
from runtime.models.base import (
    Chunk,
    Feature,
    FinishReason,
    Model,
    ModelBusy,
    ModelRefused,
    RequestOptions,
    Sampling,
)
from runtime.models.constrained import with_constraints
from runtime.models.retry import Retry, with_retries
from runtime.models.sglang import SGLangModel
from runtime.models.sglang_facts import facts_of, identity_of, low_priority_first
from runtime.models.thinking import CLOSING, with_thinking_budget
from runtime.prefix import Strategy
from runtime.qwen_bpe import qwen_tokenizer
from runtime.transcript import SegmentKind, Transcript, Turn, UserMessage
from tests.runtime.models.helpers import OPEN, encoded
from tests.servers.sglang import HYBRID, Setup, ask, metrics, serve
from tests.servers.shared import Server

pytestmark = [pytest.mark.sglang, pytest.mark.timeout(900)]

SPEC = {"type": "function", "function": {"name": "bash", "parameters": {"properties": {"command": {"type": "string"}}}}}


def prompt(seed: str, length: int = 100) -> Ids:
    random = Random(seed)
    words = [random.randrange(1000, 240_000) for _ in range(length)]
    return Ids([*encoded("<|im_start|>user\n"), *words, *encoded(f"<|im_end|>\n{OPEN}")])


@asynccontextmanager
async def client(server: Server) -> AsyncIterator[SGLangModel]:
    info, about = ask(server, "/model_info"), ask(server, "/server_info")
    model = SGLangModel(
        server.url,
        qwen_tokenizer(),
        name="m",
        context_length=about["context_length"],
        facts=facts_of(info, about),
        identity=identity_of(info),
        low_priority_first=low_priority_first(about),
    )
    try:
        yield model
    finally:
        await model.close()


async def answer(
    model: Model, ids: Ids, new: int = 24, *, options: RequestOptions | None = None, **sampling: Any
) -> tuple[list[int], Chunk]:
    received: list[int] = []
    last = Chunk(())
    asked = Sampling(temperature=0, max_new_tokens=new, **sampling)
    async for chunk in model.stream(ids, asked, request_id="t", options=options or RequestOptions()):
        received += chunk.ids
        last = chunk
    return received, last


async def test_what_is_known_of_the_server(sglang_hybrid: Server) -> None:
    async with client(sglang_hybrid) as model:
        facts = model.facts
    assert facts.version == "0.5.23"
    assert {Feature.EXACT_IDS, Feature.CACHED_TOKENS, Feature.CONSTRAINED, Feature.ROUTING} <= facts.features
    assert not {Feature.PRIORITY, Feature.SESSIONS} & facts.features
    assert facts.cache is not None
    assert facts.cache.strategy is Strategy.EXTRA_BUFFER
    assert (facts.pools.kv_tokens, facts.pools.states, facts.pools.requests) == (32_768, 96, 8)


async def test_thinking_is_counted_and_the_budget_kept(sglang_hybrid: Server) -> None:
    ids, close = prompt("thinking"), encoded(f"{CLOSING}\n</think>\n\n")
    async with client(sglang_hybrid) as host:
        free, last = await answer(host, ids, 40)
        assert last.usage.reasoning_tokens == len(free)
        after, _ = await answer(host, ids.extended([*free[:10], *close]), 40 - 10 - len(close))
        model = with_thinking_budget(with_retries(host))
        kept, last = await answer(model, ids, 40, thinking_budget=10)
    assert kept == [*free[:10], *close, *after]
    assert last.finish is FinishReason.LENGTH
    assert (last.usage.completion_tokens, last.usage.reasoning_tokens) == (40, 10)


async def test_a_turn_goes_on_from_its_own_ids(sglang_hybrid: Server) -> None:
    ids = prompt("continue")
    async with client(sglang_hybrid) as model:
        whole, _ = await answer(model, ids)
        rest, last = await answer(model, ids.extended(whole[:9]), 15)
    assert rest == whole[9:]
    assert last.usage.prompt_tokens == len(ids) + 9


async def test_a_constraint_that_compiles_and_one_that_does_not(sglang_hybrid: Server) -> None:
    ids = prompt("constrained")
    nonsense = {"function": {"name": "f", "parameters": {"properties": {"a": {"type": "nonsense"}}}}}
    retries: list[Retry] = []
    async with client(sglang_hybrid) as host:
        free, _ = await answer(host, ids)
        with pytest.raises(ModelRefused, match="grammar"):
            await answer(host, ids, options=RequestOptions(constrain_to=(nonsense,)))
        model = with_constraints(with_retries(host), on_retry=retries.append)
        assert (await answer(model, ids, options=RequestOptions(constrain_to=(SPEC,))))[0] == free
        assert retries == []
        assert (await answer(model, ids, options=RequestOptions(constrain_to=(nonsense,))))[0] == free
    (retry,) = retries
    assert (retry.kept, retry.dropped) == (0, 0)


async def test_four_attempts_from_one_prefix_cost_one_prefill(sglang_hybrid: Server) -> None:
    """By the server's own counters: the prefix once, what each attempt has of its own, and less than a grid's width."""
    start = Transcript(qwen_tokenizer())
    start.append_ids(SegmentKind.PROMPT, prompt("attempts", 1000))
    start.append(Turn(encoded("Several ways lead there.\n</think>\n\nI look.")))
    before = metrics(sglang_hybrid)
    async with client(sglang_hybrid) as model:
        attempts = await forked(model, start, 4, request_id="w")
        own = [len(attempt.append(UserMessage(f"Take way {way}."))) for way, attempt in enumerate(attempts)]
        await asyncio.gather(*(answer(model, attempt.ids, 8) for attempt in attempts))
    after = metrics(sglang_hybrid)
    prompts, cached = (
        after.get(name, 0) - before.get(name, 0)  # a counter shows up with its first token
        for name in ("sglang:prompt_tokens_total", "sglang:cached_tokens_total")
    )
    assert prompts == len(start.ids) - 1 + sum(len(attempt.ids) for attempt in attempts)
    assert prompts - cached <= len(start.ids) + 4 * 64 + sum(own)
    assert prompts - cached >= len(start.ids)


CROWDED = Setup(
    "crowded",
    HYBRID.checkpoint,
    (
        *HYBRID.options,
        *("--max-running-requests", "1", "--max-queued-requests", "1"),
        *("--enable-priority-scheduling", "--schedule-low-priority-values-first", "--enable-session-radix-cache"),
    ),
)


@pytest.mark.heavy
async def test_a_full_queue_and_priorities(servers_folder: Any) -> None:
    with serve(CROWDED, servers_folder) as server:
        async with client(server) as model:
            assert {Feature.PRIORITY, Feature.SESSIONS} <= model.facts.features
            running = [
                asyncio.create_task(answer(model, prompt(f"busy {number}"), 300, options=RequestOptions(priority=5)))
                for number in range(2)
            ]
            await asyncio.sleep(2)
            with pytest.raises(ModelBusy, match="queue is full"):
                await answer(model, prompt("too many"), options=RequestOptions(priority=4))
            first, _ = await answer(model, prompt("urgent"), options=RequestOptions("run-1", priority=6))
            assert len(first) == 24
            ends = await asyncio.gather(*running, return_exceptions=True)
            assert sorted(type(end).__name__ for end in ends) == ["ModelBusy", "tuple"]
            _, last = await answer(model, prompt("urgent"), options=RequestOptions("run-1"))
            assert last.usage.cached_tokens > 0
