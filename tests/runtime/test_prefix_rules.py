"""Where a server's prefix cache is hit, against what a real server was seen to do."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from runtime.models.sglang_facts import facts_of
from runtime.prefix import CacheRules, ServerCache, Strategy

NO_BUFFER = CacheRules(Strategy.NO_BUFFER)
EXTRA_BUFFER = CacheRules(Strategy.EXTRA_BUFFER, decode_interval=64)
EVERY_256 = CacheRules(Strategy.EXTRA_BUFFER)
TOKENS = CacheRules(Strategy.TOKENS)

WORDS = random.Random(7)


def fresh(length: int) -> list[int]:
    return [WORDS.randrange(100_000) for _ in range(length)]


def ask(cache: ServerCache, prompt: list[int], written: list[int]) -> int:
    """One request from start to end; what it found cached."""
    found = cache.prefill(prompt).tokens
    cache.finish(prompt, written)
    return found


# Measured on SGLang 0.5.23 with a hybrid checkpoint, in this order: what was asked, what was cached with no_buffer,
# and with extra_buffer and a state each 64 tokens of the decode.
MEASURED = [
    ("300 new ids", 0, 0),
    ("the same", 0, 256),
    ("turn 2: + 20 written + 50 new", 319, 256),
    ("turn 3: + 20 written + 50 new", 389, 384),
    ("turn 3 again", 389, 384),
    ("320 ids of turn 3, then others", 319, 320),
    ("340 ids of turn 3, then others", 319, 320),
    ("the same", 319, 320),
    ("150 of the 300, then others", 0, 0),
    ("the same", 0, 128),
    ("3000 new ids", 0, 0),
    ("the same", 0, 2944),
    ("1500 of the 3000, then others", 0, 0),
    ("1500 of the 3000, then yet others", 0, 1472),
]


def _asked() -> Iterator[tuple[list[int], list[int]]]:
    """The prompts of the rows and what was written to each."""
    first, written, second = fresh(300), fresh(20), fresh(20)
    turn_2 = first + written + fresh(50)
    turn_3 = turn_2 + second + fresh(50)
    at_340, at_150, long = turn_3[:340] + fresh(40), first[:150] + fresh(40), fresh(3000)
    for prompt, answer in [(first, written), (first, written), (turn_2, second), (turn_3, fresh(20))]:
        yield prompt, answer
    for prompt in [turn_3, turn_3[:320] + fresh(40), at_340, at_340, at_150, at_150]:
        yield prompt, fresh(20)
    for prompt in [long, long, long[:1500] + fresh(20), long[:1500] + fresh(20)]:
        yield prompt, fresh(8)


@pytest.mark.parametrize(("rules", "column"), [(NO_BUFFER, 1), (EXTRA_BUFFER, 2)], ids=["no_buffer", "extra_buffer"])
def test_every_row_that_was_measured(rules: CacheRules, column: int) -> None:
    cache = ServerCache(rules)
    found = [ask(cache, prompt, written) for prompt, written in _asked()]
    assert list(zip((row[0] for row in MEASURED), found, strict=True)) == [(row[0], row[column]) for row in MEASURED]


def test_without_states_all_but_the_last_token_is_a_hit() -> None:
    cache = ServerCache(TOKENS)
    prompt = fresh(27)
    assert [ask(cache, prompt, fresh(16)), ask(cache, prompt, fresh(16))] == [0, 26]
    assert ask(cache, prompt[:12] + fresh(2), fresh(8)) == 12


def test_what_was_written_is_cached_but_for_its_last_token() -> None:
    cache = ServerCache(TOKENS)
    prompt, written = fresh(100), fresh(30)
    ask(cache, prompt, written)
    assert ask(cache, prompt + written + fresh(5), fresh(1)) == 129


def test_pages_are_hit_whole() -> None:
    cache = ServerCache(CacheRules(Strategy.TOKENS, page=16))
    prompt = fresh(100)
    ask(cache, prompt, fresh(1))
    assert ask(cache, prompt, fresh(1)) == 96
    assert ask(cache, prompt[:90] + fresh(90), fresh(1)) == 80


@pytest.mark.parametrize(("written", "found"), [(100, 256), (213, 512), (212, 256), (600, 768)])
def test_of_an_answer_only_the_last_mark_is_kept(written: int, found: int) -> None:
    cache = ServerCache(EVERY_256)
    prompt, answer = fresh(300), fresh(written)
    ask(cache, prompt, answer)
    assert cache.hit(prompt + answer + fresh(10)).tokens == found
    at_mark = (prompt + answer)[:found]
    assert cache.hit(at_mark[: found - 1] + fresh(9)).tokens <= 256  # one token earlier only the prefill's is left


def test_an_extension_below_the_grid_makes_no_checkpoint() -> None:
    cache = ServerCache(EVERY_256)
    prompt = fresh(256)
    ask(cache, prompt, fresh(3))
    for _ in range(5):
        prompt = prompt + fresh(10)
        assert ask(cache, prompt, fresh(3)) == 256
    prompt = prompt + fresh(14)
    assert ask(cache, prompt, fresh(3)) == 256  # 64 behind the last checkpoint, so this one makes the next
    assert ask(cache, prompt + fresh(1), fresh(3)) == 320


def test_each_part_of_a_long_prefill_ends_in_a_checkpoint() -> None:
    cache = ServerCache(CacheRules(Strategy.EXTRA_BUFFER, prefill_chunk=512))
    prompt = fresh(1500)
    ask(cache, prompt, fresh(3))
    assert [cache.hit(prompt[:cut] + fresh(9)).tokens for cut in (1499, 1471, 1023, 600, 511)] == [
        1472,
        1024,
        512,
        512,
        0,
    ]


def test_states_lie_on_pages_longer_than_the_grid() -> None:
    cache = ServerCache(CacheRules(Strategy.EXTRA_BUFFER, page=256))
    prompt = fresh(1000)
    ask(cache, prompt, fresh(3))
    assert cache.hit(prompt).tokens == 768


def test_two_requests_at_once_find_the_prefill_of_the_first() -> None:
    cache = ServerCache(EVERY_256)
    prompt = fresh(640)
    found = [cache.prefill(prompt + fresh(5)).tokens for _ in range(4)]
    assert found == [0, 640, 640, 640]


def test_a_full_pool_of_states_forgets_the_oldest() -> None:
    cache = ServerCache(EVERY_256, most_states=2)
    prompts = [fresh(300) for _ in range(3)]
    for prompt in prompts:
        ask(cache, prompt, fresh(3))
    assert [cache.hit(prompt).tokens for prompt in prompts] == [0, 256, 256]


@pytest.mark.parametrize(
    ("named", "hybrid", "strategy"),
    [
        ("extra_buffer", True, Strategy.EXTRA_BUFFER),
        ("extra_buffer_lazy", True, Strategy.EXTRA_BUFFER),
        ("no_buffer", None, Strategy.NO_BUFFER),
        ("auto", True, Strategy.UNKNOWN),
        ("auto", False, Strategy.TOKENS),
    ],
)
def test_a_server_says_by_which_rules_it_keeps(named: str, hybrid: bool | None, strategy: Strategy) -> None:
    said = {"mamba_radix_cache_strategy": named, "mamba_track_interval": 64, "page_size": 1}
    rules = facts_of({}, said if hybrid is None else {**said, "uses_mamba_radix_cache": hybrid}).cache
    assert rules == CacheRules(strategy, decode_interval=64)
