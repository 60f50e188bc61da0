"""Retries: whatever goes wrong on the way, the turn that arrives is the one that was written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.models.base import (
    Chunk,
    FinishReason,
    HostFacts,
    Model,
    ModelBusy,
    ModelFailed,
    ModelRefused,
    ModelUnreachable,
    Sampling,
    StreamCut,
    Usage,
)
from runtime.models.connect import connect
from runtime.models.continued import ContinuedTurn
from runtime.models.retry import Retry, RetryPolicy, with_retries
from runtime.models.scripted import ScriptedServer
from runtime.models.sglang import SGLangModel
from runtime.qwen_bpe import qwen_tokenizer
from tests.runtime.models.helpers import ask, encoded, prompt

TURN = "Look around.\n</think>\n\nGrüße 🎉 and so on"
IDS = [*encoded(TURN), 248046]
QUICK = RetryPolicy(retries=4, first_delay=0.001, longest_delay=0.002)


@asynccontextmanager
async def patient(
    faults: list[dict[str, Any]], policy: RetryPolicy = QUICK, text: str = TURN, **options: Any
) -> AsyncIterator[tuple[ScriptedServer, Model, list[Retry]]]:
    retries: list[Retry] = []
    async with ScriptedServer([{"text": text, "faults": faults}], **options) as server:
        model = with_retries(await connect(server.url), policy, on_retry=retries.append)
        try:
            yield server, model, retries
        finally:
            await model.close()


BREAKS = st.lists(
    st.one_of(
        st.builds(lambda n: {"kind": "cut", "tokens": n}, st.integers(0, 20)),
        st.builds(lambda n: {"kind": "empty"}, st.none()),
        st.builds(lambda status: {"kind": "http", "status": status}, st.sampled_from([429, 500, 502, 503])),
    ),
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(BREAKS, st.booleans(), st.integers(1, 5), st.integers(1, 20))
def test_no_break_changes_the_turn(faults: list[dict[str, Any]], incremental: bool, interval: int, limit: int) -> None:
    async def run() -> None:
        async with patient(faults, incremental=incremental, stream_interval=interval) as (server, model, retries):
            ids, last = await ask(model, prompt(), Sampling(max_new_tokens=limit))
        assert ids == IDS[:limit]
        assert last.finish is (FinishReason.STOP if limit >= len(IDS) else FinishReason.LENGTH)
        assert last.usage.completion_tokens == len(ids)
        assert last.usage.prompt_tokens == len(prompt())
        assert sum(request.written for request in server.requests) == len(ids)
        assert len(retries) <= len(faults)

    asyncio.run(run())


async def test_a_retry_goes_on_behind_what_came_and_is_reported() -> None:
    async with patient([{"kind": "cut", "tokens": 3}, {"kind": "http", "status": 503}]) as (server, model, retries):
        ids, last = await ask(model, prompt(), Sampling(max_new_tokens=100), "run-1")
    assert ids == IDS
    assert [(retry.request_id, retry.number, retry.kept) for retry in retries] == [("run-1", 1, 3), ("run-1", 2, 3)]
    assert [type(retry.error) for retry in retries] == [StreamCut, ModelBusy]
    assert [list(request.prompt_ids) for request in server.requests] == [
        list(prompt()),
        [*prompt(), *IDS[:3]],
        [*prompt(), *IDS[:3]],
    ]
    limits = [request.body["sampling_params"]["max_new_tokens"] for request in server.requests]
    assert limits == [100, 97, 97]
    assert last.usage == Usage(len(prompt()), 0, len(IDS), IDS.index(248069) + 1)  # thinking of both requests


async def test_a_turn_of_which_only_the_finish_was_lost_is_not_asked_for_again() -> None:
    async with patient([{"kind": "cut", "tokens": 99}]) as (server, model, retries):
        ids, last = await ask(model, prompt())
    assert (ids, last.finish, len(server.requests), retries) == (IDS, FinishReason.STOP, 1, [])


async def test_the_transcripts_own_ids_are_left_as_they_were() -> None:
    ids = prompt()
    before = (list(ids), ids.json())
    async with patient([{"kind": "cut", "tokens": 3}]) as (_, model, _):
        await ask(model, ids)
    assert (list(ids), ids.json()) == before


async def test_patience_ends_by_count_and_begins_anew_with_each_token() -> None:
    policy = RetryPolicy(retries=2, first_delay=0.001, longest_delay=0.001)
    async with patient([{"kind": "http", "status": 500, "times": 3}], policy) as (server, model, retries):
        with pytest.raises(ModelFailed):
            await ask(model, prompt())
        assert (len(server.requests), len(retries)) == (3, 2)
    async with patient([{"kind": "cut", "tokens": 1, "times": 9}], policy) as (_, model, retries):
        assert (await ask(model, prompt()))[0] == IDS
    assert [retry.number for retry in retries] == [1] * 9


async def test_patience_ends_by_time() -> None:
    policy = RetryPolicy(retries=99, seconds=0.5, first_delay=0.1, longest_delay=0.1, jitter=0)
    async with patient([{"kind": "http", "status": 500, "times": "always"}], policy) as (_, model, retries):
        with pytest.raises(ModelFailed):
            await ask(model, prompt())
    assert {retry.delay for retry in retries} == {0.1}
    assert 1 <= len(retries) <= 4


async def test_silence_counts_and_one_retry_is_made_even_so() -> None:
    policy = RetryPolicy(retries=99, seconds=0.3, first_delay=0.01, longest_delay=0.01)
    stall = {"kind": "stall", "tokens": 0, "seconds": 60, "times": "always"}
    async with ScriptedServer([{"text": TURN, "faults": [stall]}]) as server:
        retries: list[Retry] = []
        host = SGLangModel(server.url, qwen_tokenizer(), name="m", context_length=9999, idle_timeout=0.4)
        with pytest.raises(StreamCut, match="sent nothing"):
            await ask(with_retries(host, policy, on_retry=retries.append), prompt())
        await host.close()
    assert len(retries) == 1


async def test_the_server_says_how_long_to_wait() -> None:
    async with patient([{"kind": "http", "status": 503, "retry_after": 0.2}]) as (_, model, retries):
        await ask(model, prompt())
    assert retries[0].delay == 0.2
    policy = RetryPolicy(seconds=5)
    async with patient([{"kind": "http", "status": 503, "retry_after": 60}], policy) as (_, model, retries):
        with pytest.raises(ModelBusy):
            await ask(model, prompt())
    assert retries == []


async def test_delays_grow_to_a_bound() -> None:
    policy = RetryPolicy(retries=4, first_delay=0.01, longest_delay=0.03, jitter=0.25)
    async with patient([{"kind": "http", "status": 500, "times": 4}], policy) as (_, model, retries):
        await ask(model, prompt())
    for retry, middle in zip(retries, [0.01, 0.02, 0.03, 0.03], strict=True):
        assert 0.75 * middle <= retry.delay <= 1.25 * middle


@pytest.mark.parametrize("fault", [{"kind": "garbage"}, {"kind": "http", "status": 400}])
async def test_what_would_be_refused_again_is_not_retried(fault: dict[str, Any]) -> None:
    async with patient([fault]) as (server, model, retries):
        with pytest.raises(ModelRefused):
            await ask(model, prompt())
        assert (len(server.requests), retries) == (1, [])


async def test_a_server_that_comes_back() -> None:
    server = ScriptedServer([{"text": TURN}])
    await server.start()
    model = await connect(server.url)
    port = int(server.url.rpartition(":")[2])
    await server.close()
    again = ScriptedServer([{"text": TURN}], port=port)
    errors: list[type[Exception]] = []
    back: list[asyncio.Task[None]] = []

    def report(retry: Retry) -> None:
        errors.append(type(retry.error))
        back.append(asyncio.create_task(again.start()))

    patient_model = with_retries(model, RetryPolicy(first_delay=0.2), on_retry=report)
    assert (await ask(patient_model, prompt()))[0] == IDS
    assert errors == [ModelUnreachable]
    await patient_model.close()
    await again.close()


async def test_cancelling_while_it_waits_asks_no_more() -> None:
    policy = RetryPolicy(first_delay=30, longest_delay=30)
    async with patient([{"kind": "http", "status": 500}], policy) as (server, model, retries):
        task = asyncio.create_task(ask(model, prompt()))
        while not retries:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(server.requests) == 1


def test_counts_of_a_turn_whose_first_request_told_none() -> None:
    """Hosts that count only at the end: a request that was cut before says nothing of the prompt."""

    class Host:
        tokenizer = qwen_tokenizer()
        context_length = 1000
        facts = HostFacts("scripted")

    turn = ContinuedTurn(cast(Model, Host()), prompt(), Sampling())
    turn.take(Chunk((5, 6)))
    turn.next_request()
    last = turn.take(Chunk((7,), FinishReason.STOP, Usage(len(prompt()) + 2, len(prompt()) + 1, 1, 1, cost=0.5)))
    assert last.usage == Usage(len(prompt()), len(prompt()), 3, 1, cost=0.5)
