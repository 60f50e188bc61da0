"""What every way to reach a model must do, as checks that take a `Backend`.

A test module opens its backend and runs `CONTRACT` over it:

    @pytest.mark.parametrize("check", CONTRACT, ids=check_name)
    async def test_contract(backend, check): await check(backend)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import cast

import pytest

from runtime.ids import Ids
from runtime.models.base import (
    NO_OPTIONS,
    Chunk,
    ContextExceeded,
    Feature,
    FinishReason,
    Model,
    RequestOptions,
    Sampling,
)

GREEDY = Sampling(temperature=0, max_new_tokens=2000)
TOOL = {
    "type": "function",
    "function": {
        "name": "read_file",
        "description": "Show a file.",
        "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    },
}
OBSERVATION = "\n<|im_start|>user\n<tool_response>\nnothing new\n</tool_response><|im_end|>\n"


@dataclass(frozen=True)
class Backend:
    """A model, and prompts of which something is known."""

    model: Model
    prompt: Ids  # the answer stops, is the same each time, and has at least eight tokens
    long: Ids  # the answer takes at least a second
    open_requests: Callable[[], Awaitable[int]]
    whole: Callable[[Ids], Awaitable[list[int]]]  # the same answer, not streamed
    counts_cached: bool = True
    sampling: Sampling = GREEDY
    granularity: int = 1  # so many tokens at the end of a known prefix may be missing from the cache
    strange: Ids | None = None  # the answer has specials, characters of several tokens, and what else is rare
    strange_answer: tuple[int, ...] = ()
    least_room: int = 3  # tokens that a prompt must leave of the context for its answer


def stream_of(
    backend: Backend, ids: Ids, sampling: Sampling | None = None, options: RequestOptions = NO_OPTIONS
) -> AsyncGenerator[Chunk, None]:
    chunks = backend.model.stream(ids, sampling or backend.sampling, request_id="contract", options=options)
    return cast("AsyncGenerator[Chunk, None]", chunks)


async def chunks_of(
    backend: Backend, ids: Ids, sampling: Sampling | None = None, options: RequestOptions = NO_OPTIONS
) -> list[Chunk]:
    async with aclosing(stream_of(backend, ids, sampling, options)) as chunks:
        return [chunk async for chunk in chunks]


def joined(chunks: list[Chunk]) -> list[int]:
    return [token for chunk in chunks for token in chunk.ids]


async def settled(condition: Callable[[], Awaitable[bool]]) -> bool:
    for _ in range(200):
        if await condition():
            return True
        await asyncio.sleep(0.01)
    return False


async def streams_in_order_to_one_finish(backend: Backend) -> None:
    chunks = await chunks_of(backend, backend.prompt)
    ids = joined(chunks)
    end = backend.model.tokenizer.special("<|im_end|>")
    assert [chunk.finish for chunk in chunks] == [None] * (len(chunks) - 1) + [FinishReason.STOP]
    assert all(chunk.ids for chunk in chunks[:-1])
    assert ids[-1] == end
    assert ids.count(end) == 1
    assert len(ids) >= 8
    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (len(backend.prompt), len(ids))


async def equals_the_answer_not_streamed(backend: Backend) -> None:
    assert joined(await chunks_of(backend, backend.prompt)) == await backend.whole(backend.prompt)


async def ends_at_max_new_tokens(backend: Backend) -> None:
    full = joined(await chunks_of(backend, backend.prompt))
    chunks = await chunks_of(backend, backend.prompt, replace(backend.sampling, max_new_tokens=3))
    assert joined(chunks) == full[:3]
    assert chunks[-1].finish is FinishReason.LENGTH
    assert chunks[-1].usage.completion_tokens == 3


async def continues_a_turn_where_it_was_cut(backend: Backend) -> None:
    full = joined(await chunks_of(backend, backend.prompt))
    rest = joined(await chunks_of(backend, backend.prompt.extended(full[:4])))
    assert rest == full[4:]


async def counts_the_prefix_as_cached(backend: Backend) -> None:
    if not backend.counts_cached:
        pytest.skip("this backend doesn't report cached tokens")
    ids = backend.prompt.extended(joined(await chunks_of(backend, backend.prompt)))
    tokenizer = backend.model.tokenizer
    longer = ids.extended(tokenizer.encode_with_specials(OBSERVATION + "<|im_start|>assistant\n<think>\n"))
    usage = (await chunks_of(backend, longer, replace(backend.sampling, max_new_tokens=1)))[-1].usage
    assert len(ids) - backend.granularity <= usage.cached_tokens <= len(ids)


async def sums_its_counts_up(backend: Backend) -> None:
    """At both kinds of finish, and where a prompt ends inside of a turn."""
    full = joined(await chunks_of(backend, backend.prompt))
    cases = [(backend.prompt, 2000, len(full)), (backend.prompt, 5, 5)]
    if Feature.EXACT_IDS in backend.model.facts.features:  # another host writes the whole turn again
        cases.append((backend.prompt.extended(full[:5]), 2000, len(full) - 5))
    for ids, limit, written in cases:
        chunks = await chunks_of(backend, ids, replace(backend.sampling, max_new_tokens=limit))
        usage = chunks[-1].usage
        assert (usage.prompt_tokens, usage.completion_tokens) == (len(ids), written)
        assert 0 <= usage.cached_tokens < len(ids)
        assert 0 <= usage.reasoning_tokens <= written
        assert usage.cost is None or usage.cost >= 0


async def takes_every_parameter(backend: Backend) -> None:
    """A host leaves out what it doesn't know, or takes it; none refuses."""
    drawn = Sampling(0.6, 0.95, 20, 0.05, 0.1, 1.05, max_new_tokens=8, seed=5)
    chunks = await chunks_of(backend, backend.prompt, drawn)
    assert 1 <= len(joined(chunks)) <= 8
    assert chunks[-1].finish in (FinishReason.STOP, FinishReason.LENGTH)


async def takes_every_option(backend: Backend) -> None:
    options = RequestOptions(routing_key="run-7", priority=3, constrain_to=(TOOL,))
    alone = joined(await chunks_of(backend, backend.prompt))
    assert joined(await chunks_of(backend, backend.prompt, options=options)) == alone


async def hands_on_the_very_ids(backend: Backend) -> None:
    if backend.strange is None:
        pytest.skip("this backend can't be made to write anything strange")
    chunks = await chunks_of(backend, backend.strange)
    assert joined(chunks) == list(backend.strange_answer)
    assert chunks[-1].finish is FinishReason.STOP
    for cut in range(1, len(backend.strange_answer)):
        start = replace(backend.sampling, max_new_tokens=cut)
        assert joined(await chunks_of(backend, backend.strange, start)) == list(backend.strange_answer[:cut])


async def keeps_streams_apart(backend: Backend) -> None:
    other = backend.strange or backend.prompt.extended(joined(await chunks_of(backend, backend.prompt))[:3])
    prompts = (backend.prompt, other, backend.prompt, other)
    alone = [joined(await chunks_of(backend, ids)) for ids in prompts[:2]] * 2
    many = await asyncio.gather(*(chunks_of(backend, ids) for ids in prompts))
    assert [joined(chunks) for chunks in many] == alone


async def serves_several_at_once(backend: Backend) -> None:
    alone = joined(await chunks_of(backend, backend.prompt))
    many = await asyncio.gather(*(chunks_of(backend, backend.prompt) for _ in range(4)))
    assert [joined(chunks) for chunks in many] == [alone] * 4


async def early_close_ends_the_request(backend: Backend) -> None:
    async with aclosing(stream_of(backend, backend.long)) as chunks:
        async for chunk in chunks:
            assert chunk.finish is None
            break
        assert await backend.open_requests() == 1
    assert await settled(lambda: _none_open(backend))
    assert joined(await chunks_of(backend, backend.prompt))


async def cancellation_ends_the_request(backend: Backend) -> None:
    task = asyncio.create_task(chunks_of(backend, backend.long))
    assert await settled(lambda: _one_open(backend))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await settled(lambda: _none_open(backend))


async def refuses_a_prompt_that_fills_the_context(backend: Backend) -> None:
    prompt = Ids([backend.prompt[0]] * backend.model.context_length)
    with pytest.raises(ContextExceeded, match=str(backend.model.context_length)):
        await chunks_of(backend, prompt)


async def ends_where_the_context_does(backend: Backend) -> None:
    model = backend.model
    if Feature.EXACT_IDS not in model.facts.features:
        pytest.skip("the host counts the tokens of a prompt by itself")
    head, tail = backend.prompt[:3], backend.prompt[3:]
    room = model.context_length - len(backend.prompt) - backend.least_room
    filler = (model.tokenizer.encode(" a")[-1],) * room
    chunks = await chunks_of(backend, Ids((*head, *filler, *tail)))
    ids = joined(chunks)
    assert 1 <= len(ids) <= backend.least_room
    ended = ids[-1] == model.tokenizer.special("<|im_end|>")
    assert chunks[-1].finish is (FinishReason.STOP if ended else FinishReason.LENGTH)


async def _none_open(backend: Backend) -> bool:
    return await backend.open_requests() == 0


async def _one_open(backend: Backend) -> bool:
    return await backend.open_requests() == 1


CONTRACT = (
    streams_in_order_to_one_finish,
    equals_the_answer_not_streamed,
    ends_at_max_new_tokens,
    continues_a_turn_where_it_was_cut,
    counts_the_prefix_as_cached,
    sums_its_counts_up,
    takes_every_parameter,
    takes_every_option,
    hands_on_the_very_ids,
    keeps_streams_apart,
    serves_several_at_once,
    early_close_ends_the_request,
    cancellation_ends_the_request,
    refuses_a_prompt_that_fills_the_context,
    ends_where_the_context_does,
)


def check_name(check: Callable[..., object]) -> str:
    return check.__name__
