"""The budget for thinking: what is written for the model, where, and that nothing of the turn is lost beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.ids import Ids
from runtime.models.base import ContextExceeded, FinishReason, Model, Sampling
from runtime.models.open_turn import ThinkingMarks
from runtime.models.retry import RetryPolicy, with_retries
from runtime.models.scripted import ScriptedServer
from runtime.models.sglang import SGLangModel
from runtime.models.thinking import CLOSING, with_thinking_budget
from runtime.qwen_bpe import qwen_tokenizer
from tests.runtime.models.helpers import ask, encoded, prompt

END, THINK_END = 248046, 248069
THINKING = "First I look. Grüße 🎉 then 漢字, and I wonder"
TURN = [*encoded(f"{THINKING}\n</think>\n\nDone as asked."), END]
CLOSED = [*encoded("Then so it is."), END]
CLOSE = encoded(f"{CLOSING}\n</think>\n\n")
THOUGHTS = TURN.index(THINK_END)
QUICK = RetryPolicy(retries=6, first_delay=0.0005, longest_delay=0.001)


@asynccontextmanager
async def thinker(
    faults: list[dict[str, Any]] | None = None, *, outer_retries: bool = False, context: int = 262_144, **options: Any
) -> AsyncIterator[tuple[ScriptedServer, Model]]:
    turn = {"text": f"{THINKING}\n</think>\n\nDone as asked.", "when_closed": "Then so it is.", "faults": faults or []}
    async with ScriptedServer([turn], **options) as server:
        host = SGLangModel(server.url, qwen_tokenizer(), name="m", context_length=context)
        if outer_retries:
            model = with_retries(with_thinking_budget(host), QUICK)
        else:
            model = with_thinking_budget(with_retries(host, QUICK))
        try:
            yield server, model
        finally:
            await model.close()


def expected(budget: int) -> list[int]:
    """The turn under a budget, by its definition."""
    return TURN if THINK_END in TURN[:budget] else [*TURN[:budget], *CLOSE, *CLOSED]


CUTS = st.lists(
    st.one_of(
        st.builds(lambda n: {"kind": "cut", "tokens": n}, st.integers(0, 30)),
        st.builds(lambda n: {"kind": "abort", "tokens": n}, st.integers(0, 30)),
        st.builds(lambda status: {"kind": "http", "status": status}, st.sampled_from([429, 500, 503])),
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(
    budget=st.integers(1, THOUGHTS + 4),
    cuts=CUTS,
    incremental=st.booleans(),
    interval=st.integers(1, 6),
    limit=st.integers(1, len(TURN) + len(CLOSE) + len(CLOSED)),
    outer=st.booleans(),
)
def test_no_way_of_streaming_and_no_cut_changes_a_turn_under_a_budget(
    budget: int, cuts: list[dict[str, Any]], incremental: bool, interval: int, limit: int, outer: bool
) -> None:
    async def run() -> None:
        options: dict[str, Any] = {"incremental": incremental, "stream_interval": interval}
        async with thinker(cuts, outer_retries=outer, **options) as (_, model):
            ids, last = await ask(model, prompt(), Sampling(max_new_tokens=limit, thinking_budget=budget))
        wanted = expected(budget)
        assert ids == wanted[:limit]
        assert last.finish is (FinishReason.STOP if limit >= len(wanted) else FinishReason.LENGTH)
        assert last.usage.completion_tokens == len(ids)
        assert last.usage.prompt_tokens == len(prompt())

    asyncio.run(run())


async def test_the_turn_goes_on_behind_the_closing_in_a_second_request() -> None:
    async with thinker(stream_interval=3) as (server, model):
        ids, last = await ask(model, prompt(), Sampling(max_new_tokens=100, thinking_budget=4))
    first, second = server.requests
    assert ids == [*TURN[:4], *CLOSE, *CLOSED]
    assert list(second.prompt_ids) == [*prompt(), *TURN[:4], *CLOSE]
    assert [r.body["sampling_params"]["max_new_tokens"] for r in server.requests] == [100, 100 - 4 - len(CLOSE)]
    assert second.cached_tokens >= len(prompt())
    assert not second.body.get("require_reasoning")
    assert (last.usage.cached_tokens, last.usage.reasoning_tokens) == (0, 4)
    assert first.rid != second.rid


async def test_the_first_request_is_ended_on_the_server() -> None:
    faults = [{"kind": "stall", "tokens": 5, "seconds": 60}]
    async with thinker(faults) as (server, model):
        ids, _ = await ask(model, prompt(), Sampling(thinking_budget=5))
        assert ids == expected(5)
        assert [str(request.outcome) for request in server.requests] == ["abort", "stop"] or server.open_requests == 0
        assert server.requests[0].written == 5


@pytest.mark.parametrize("budget", [None, THOUGHTS + 1, 10_000])
async def test_a_budget_that_isn_t_reached_changes_nothing(budget: int | None) -> None:
    async with thinker() as (server, model):
        ids, last = await ask(model, prompt(), Sampling(thinking_budget=budget))
    assert (ids, last.finish, len(server.requests)) == (TURN, FinishReason.STOP, 1)


async def test_a_budget_of_nothing_writes_only_the_marks() -> None:
    async with thinker() as (server, model):
        ids, _ = await ask(model, prompt(), Sampling(thinking_budget=0))
    assert ids == [*encoded("\n</think>\n\n"), *CLOSED]
    assert len(server.requests) == 1


async def test_what_the_open_turn_holds_counts() -> None:
    async with thinker() as (_, model):
        ids, _ = await ask(model, prompt().extended(TURN[:3]), Sampling(thinking_budget=5))
        assert ids == expected(5)[3:]
        ids, _ = await ask(model, prompt().extended(TURN[:6]), Sampling(thinking_budget=5))
        assert ids == [*CLOSE, *CLOSED]
        ids, _ = await ask(model, prompt().extended(TURN[: THOUGHTS + 1]), Sampling(thinking_budget=1))
        assert ids == TURN[THOUGHTS + 1 :]


async def test_a_turn_without_thinking_has_no_budget() -> None:
    async with ScriptedServer([{"content": "Done."}]) as server:
        model = with_thinking_budget(SGLangModel(server.url, qwen_tokenizer(), name="m", context_length=9999))
        opening = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
        ids, _ = await ask(model, prompt(opening=opening), Sampling(thinking_budget=0))
        await model.close()
    assert ids == [*encoded("Done."), END]


async def test_a_call_ends_thinking() -> None:
    text = "I call.\n<tool_call>\n<function=bash>\n</function>\n</tool_call>"
    async with ScriptedServer([{"text": text}]) as server:
        model = with_thinking_budget(SGLangModel(server.url, qwen_tokenizer(), name="m", context_length=9999))
        ids, _ = await ask(model, prompt(), Sampling(thinking_budget=6))
        await model.close()
    assert ids == [*encoded(text), END]
    assert ids.index(248058) == 5 - 1  # the call's opening is within the budget; the rest of the call isn't


@pytest.mark.parametrize("room", [3, 4, 4 + len(CLOSE) - 1, 4 + len(CLOSE), 4 + len(CLOSE) + 2])
async def test_a_context_that_ends_near_the_closing(room: int) -> None:
    async with thinker(context=len(prompt()) + room) as (_, model):
        ids, last = await ask(model, prompt(), Sampling(thinking_budget=4))
        assert (ids, last.finish) == (expected(4)[:room], FinishReason.LENGTH)
        with pytest.raises(ContextExceeded):
            await ask(model, prompt().extended([7] * room), Sampling(thinking_budget=4))


def test_where_thinking_stands() -> None:
    marks = ThinkingMarks(qwen_tokenizer())
    assert marks.length(prompt()) == 0
    assert marks.length(prompt().extended(TURN[:5])) == 5
    assert marks.length(prompt().extended(range(5000, 5400))) == 400
    assert marks.length(prompt().extended(TURN)) is None
    assert marks.length(prompt().extended(TURN[: THOUGHTS + 1])) is None
    assert marks.length(encoded("<think>")) == 0
    assert marks.length(encoded("<think>\n<|im_start|>user\n")) is None
    assert marks.length(prompt().extended(encoded("I <tool_call>\n"))) is None
    assert marks.length(Ids()) is None
