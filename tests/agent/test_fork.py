"""Attempts from one prefix: what the server computes for them, and what they take of memory."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import pytest

from agent.fork import forked
from runtime.models.base import RequestOptions, Sampling
from runtime.models.connect import connect
from runtime.models.scripted import ScriptedServer
from runtime.qwen_bpe import qwen_tokenizer
from runtime.transcript import Observations, Prompt, Transcript, Turn

TURN = {"reasoning": "One of several ways.", "content": "Done."}


def conversation(lines: int = 150) -> Transcript:
    """A prompt, a turn and its answer."""
    transcript = Transcript(qwen_tokenizer())
    text = "\n".join(f"{number}. Something is said about the number {number}." for number in range(lines))
    transcript.append(Prompt([{"role": "user", "content": text}]))
    transcript.append(Turn(qwen_tokenizer().encode_with_specials("Hm.\n</think>\n\nI look.")))
    transcript.append(Observations([text]))
    return transcript


@pytest.mark.parametrize("cache", [{"strategy": "tokens"}, {"strategy": "extra_buffer"}, {"strategy": "no_buffer"}])
async def test_attempts_from_one_prefix_cost_one_prefill(cache: dict[str, Any]) -> None:
    start = conversation()
    async with ScriptedServer({"turns": [TURN, TURN, TURN], "cache": cache}) as server:
        model = await connect(server.url)
        options = RequestOptions(routing_key="run")
        attempts = await forked(model, start, 4, request_id="run-warm", options=options)

        async def go_on(number: int) -> None:
            ids = attempts[number].ids
            async for _ in model.stream(ids, Sampling(), request_id=f"run-{number}", options=options):
                pass

        await asyncio.gather(*map(go_on, range(4)))
        await model.close()
        computed = [len(request.prompt_ids) - request.cached_tokens for request in server.requests]
        keys = {request.body.get("routing_key") for request in server.requests}
    assert len(computed) == 5
    assert computed[0] == len(start.ids) - 1
    assert all(tokens <= 64 for tokens in computed[1:])
    assert keys == {"run"}


async def test_a_single_attempt_needs_no_warming() -> None:
    async with ScriptedServer([TURN, TURN]) as server:
        model = await connect(server.url)
        (attempt,) = await forked(model, conversation(3), 1, request_id="run")
        await model.close()
        assert len(server.requests) == 0
    assert attempt.ids == conversation(3).ids


def test_forks_share_what_is_there() -> None:
    start = Transcript(qwen_tokenizer())
    start.append(Prompt([{"role": "user", "content": "A long story. " * 40_000}]))
    start.ids.json()
    whole = len(start.ids.json()) + 4 * len(start.ids)
    assert whole > 1_000_000
    turn = qwen_tokenizer().encode_with_specials("I do it otherwise.\n</think>\n\nDone.")
    tracemalloc.start()
    try:
        forks = [start.fork() for _ in range(16)]
        untouched = tracemalloc.get_traced_memory()[0]
        for fork in forks:
            fork.append(Turn(turn))
            fork.ids.json_parts()
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert untouched < 16 * 2_000
    assert grown < 16 * (4 * len(start.ids) * 1.3 + 20_000)  # the ids again, but none of their text
    assert all(fork.ids[: len(start.ids)] == tuple(start.ids) for fork in forks[:2])
