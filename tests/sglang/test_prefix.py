"""The model of the prefix cache against the cache of a real SGLang server: every hit is foreseen to the token."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from random import Random

import pytest

from runtime.ids import Ids
from runtime.models.base import Chunk, Model, Sampling
from runtime.models.connect import connect
from runtime.prefix import CacheRules, PrefixModel, PrefixUse, Reason, ServerCache, Strategy
from runtime.qwen_bpe import qwen_tokenizer
from runtime.transcript import Observations, Prompt, Transcript, Turn, UserMessage
from tests.servers.sglang import ask
from tests.servers.shared import Server

pytestmark = [pytest.mark.sglang, pytest.mark.timeout(1800)]

WRITTEN = (5, 20, 40, 80, 130, 300)  # tokens of an answer; the last crosses a mark of the decode
TURNS = 30


async def write(model: Model, ids: Ids, length: int, name: str) -> tuple[list[int], Chunk]:
    written, last = list[int](), Chunk(())
    async for last in model.stream(ids, Sampling(max_new_tokens=length, temperature=0.7, seed=1), request_id=name):
        written += last.ids
    return written, last


def words(random: Random, count: int) -> str:
    return " ".join(
        random.choice(("alpha", "beta", "gamma", "delta")) + str(random.randrange(999)) for _ in range(count)
    )


async def test_thirty_turns_are_foreseen(sglang_hybrid: Server) -> None:
    """A run as the agent does it: its ids in, the model's ids out, tool answers and one user message between."""
    ask(sglang_hybrid, "/flush_cache")
    random, transcript = Random(30), Transcript(qwen_tokenizer())
    transcript.append(Prompt([{"role": "system", "content": words(random, 150)}, {"role": "user", "content": "Go."}]))
    model = await connect(sglang_hybrid.url)
    watch, uses = PrefixModel(model.facts.cache), list[PrefixUse]()
    try:
        for number in range(TURNS):
            prompt = transcript.ids
            written, last = await write(model, prompt, random.choice(WRITTEN), f"turn-{number}")
            usage = last.usage
            uses.append(watch.took(prompt, written, usage.cached_tokens, prompt_tokens=usage.prompt_tokens))
            transcript.append(Turn(written, str(last.finish)))
            answer = words(random, random.choice((2, 15, 60)))
            transcript.append(UserMessage(answer) if number == TURNS // 2 else Observations([answer]))
    finally:
        await model.close()
    assert [use.cached for use in uses] == [use.expected for use in uses]
    assert [use.prompt for use in uses[1:]] == sorted(use.prompt for use in uses[1:])
    for use in uses[1:]:
        assert set(use.uncached) <= {Reason.NEW, Reason.GRANULARITY}
    assert uses[-1].cached is not None
    assert uses[-1].cached > uses[-1].prompt // 2


def requests(random: Random, count: int, most: int) -> Generator[tuple[str, list[int], int], list[int], None]:
    """Prompts that grow from, branch off and repeat what was asked before; the caller puts the answers in `send`."""
    seen: list[tuple[list[int], list[int]]] = []
    for _ in range(count):
        kind = random.choice(("new", "grow", "grow", "grow", "branch", "branch", "again")) if seen else "new"
        prompt, answer = random.choice(seen) if seen else ([], [])
        whole, fresh = prompt + answer, [random.randrange(100, 900) for _ in range(random.randrange(1, 200))]
        match kind:
            case "new":
                prompt = [random.randrange(100, 900) for _ in range(random.randrange(1, 800))]
            case "grow":
                prompt = whole + fresh
            case "branch":
                prompt = whole[: random.randrange(1, len(whole))] + fresh
        answer = yield kind, prompt[:most], random.choice((1, 2, 5, 20, 70))
        seen.append((prompt[:most], answer))


def differences(server: Server, rules: CacheRules, *, seed: int, count: int) -> list[str]:
    """Requests in which a server found something else than a cache of these rules would have."""
    ask(server, "/flush_cache?timeout=60")
    cache, found = ServerCache(rules), list[str]()
    source = requests(Random(seed), count, 1500)
    step = next(source, None)
    while step is not None:
        kind, prompt, length = step
        sampling = {"max_new_tokens": length, "temperature": 0, "ignore_eos": True}
        answer = ask(server, "/generate", {"input_ids": prompt, "sampling_params": sampling})
        foreseen, seen = cache.prefill(prompt), answer["meta_info"]["cached_tokens"]
        cache.finish(prompt, answer["output_ids"])
        if seen != foreseen.tokens:
            found.append(f"{kind}, {len(prompt)} tokens: {seen} cached, {foreseen} foreseen")
        try:
            step = source.send(answer["output_ids"])
        except StopIteration:
            step = None
    return found


@pytest.mark.parametrize("seed", [1, 2])
async def test_branches_and_repetitions_with_extra_buffer(sglang_hybrid: Server, seed: int) -> None:
    rules = CacheRules(Strategy.EXTRA_BUFFER)
    assert await asyncio.to_thread(differences, sglang_hybrid, rules, seed=seed, count=30) == []


async def test_branches_and_repetitions_with_no_buffer(sglang_demo: Server) -> None:
    rules = CacheRules(Strategy.NO_BUFFER)
    assert await asyncio.to_thread(differences, sglang_demo, rules, seed=3, count=30) == []
