"""The contract of models over the real SGLang server, with a checkpoint whose answers are known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from runtime.ids import Ids
from runtime.models import connect
from tests.runtime.models.contract import CONTRACT, Backend, check_name, chunks_of, joined
from tests.runtime.models.helpers import prompt
from tests.servers.chain_model import ENDLESS, STRANGE, chains
from tests.servers.sglang import CONTEXT, POOL, ask
from tests.servers.shared import Server

pytestmark = pytest.mark.sglang

GRANULARITY = 64 + 16  # tokens between points of the grid, and those of the answer


@pytest.fixture
async def backend(sglang_chains: Server) -> AsyncIterator[Backend]:
    async def open_requests() -> int:
        (load,) = (await asyncio.to_thread(ask, sglang_chains, "/v1/loads"))["loads"]
        # It counts a request as running some steps late; its tokens are told from the first step on.
        return int(load["num_total_tokens"] > 0)

    async def whole(ids: Ids) -> list[int]:
        parameters = {"temperature": 0, "max_new_tokens": 2000, "skip_special_tokens": False}
        body = {"input_ids": list(ids), "sampling_params": parameters}
        return list((await asyncio.to_thread(ask, sglang_chains, "/generate", body))["output_ids"])

    question = "Fix it. " * 40  # longer than the grid is wide, so that something of it can be kept
    model = await connect(sglang_chains.url)
    try:
        yield Backend(
            model,
            prompt(question),
            prompt(question).extended([ENDLESS]),
            open_requests,
            whole,
            granularity=GRANULARITY,
            strange=prompt(question).extended([STRANGE]),
            strange_answer=chains().answers[STRANGE],
            least_room=7,  # SGLang refuses a prompt that leaves less, and writes 5 tokens at most
        )
    finally:
        await model.close()


@pytest.mark.parametrize("check", CONTRACT, ids=check_name)
async def test_contract(backend: Backend, check: Callable[[Backend], Awaitable[None]]) -> None:
    await check(backend)


async def test_the_server_is_recognised(backend: Backend) -> None:
    facts = backend.model.facts
    assert (facts.engine, facts.version) == ("sglang", "0.5.23")
    assert facts.notes == ()
    assert backend.model.context_length == CONTEXT
    assert (facts.pools.kv_tokens, facts.pools.requests) == (POOL, 8)


async def test_a_long_answer_leaves_states_at_the_interval(backend: Backend) -> None:
    """Every 64 tokens here; `test_prefix` has the default of 256."""
    begun = backend.long
    written = joined(await chunks_of(backend, begun, backend.sampling.limited_to(200)))
    whole = begun.extended(written)
    (chunk,) = await chunks_of(backend, whole.extended([ENDLESS]), backend.sampling.limited_to(1))
    assert chunk.usage.cached_tokens == (len(whole) - 1) // 64 * 64
    assert chunk.usage.cached_tokens > len(begun) + 128
