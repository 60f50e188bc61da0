"""A run's prefix accounting: each token that was computed has one reason, and the right one."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runtime.prefix import CacheRules, PrefixModel, PrefixUse, Reason, ServerCache, Strategy, explain

RULES = {strategy: CacheRules(strategy) for strategy in Strategy}
KNOWN = [Strategy.TOKENS, Strategy.NO_BUFFER, Strategy.EXTRA_BUFFER]


@dataclass
class Run:
    """A conversation with a server of these rules, and the model that watches it."""

    rules: CacheRules
    server: ServerCache = field(init=False)
    model: PrefixModel = field(init=False)
    prompt: list[int] = field(default_factory=list)
    words: random.Random = field(default_factory=lambda: random.Random(3))

    def __post_init__(self) -> None:
        self.server = ServerCache(self.rules)
        self.model = PrefixModel(self.rules)

    def fresh(self, length: int) -> list[int]:
        return [self.words.randrange(100_000) for _ in range(length)]

    def turn(self, added: int, written: int) -> PrefixUse:
        """A prompt with so many more tokens, and an answer."""
        self.prompt += self.fresh(added)
        return self.ask(written)

    def ask(self, written: int) -> PrefixUse:
        answer = self.fresh(written)
        cached = self.server.prefill(self.prompt).tokens
        self.server.finish(self.prompt, answer)
        use = self.model.took(self.prompt, answer, cached)
        self.prompt = self.prompt + answer
        return use


TURNS = st.lists(st.tuples(st.integers(1, 900), st.integers(1, 900)), min_size=1, max_size=12)


@pytest.mark.parametrize("strategy", KNOWN)
@settings(deadline=None)
@given(turns=TURNS)
def test_a_run_that_only_grows_is_foreseen_exactly(strategy: Strategy, turns: list[tuple[int, int]]) -> None:
    run = Run(RULES[strategy])
    first, *later = [run.turn(added, written) for added, written in turns]
    assert first == PrefixUse(turns[0][0], 0, 0, 0, {Reason.FIRST_TURN: turns[0][0]})
    for use in later:
        assert use.cached == use.expected
        assert set(use.uncached) <= {Reason.NEW, Reason.GRANULARITY}
        assert sum(use.uncached.values()) == use.prompt - (use.cached or 0)
        assert use.uncached[Reason.NEW] == use.prompt - use.cacheable


CHANGES = st.one_of(
    st.tuples(st.just("turn"), st.integers(1, 400), st.integers(1, 400)),
    st.tuples(st.just("compact"), st.integers(0, 600), st.integers(1, 300)),
    st.tuples(st.just("restart"), st.just(0), st.just(0)),
    st.tuples(st.just("again"), st.just(0), st.integers(1, 100)),
)


@pytest.mark.parametrize("strategy", KNOWN)
@settings(deadline=None)
@given(changes=st.lists(CHANGES, max_size=15))
@example(changes=[("restart", 0, 0), ("compact", 127, 1), ("turn", 1, 1)])
def test_every_token_has_one_reason(strategy: Strategy, changes: list[tuple[str, int, int]]) -> None:
    """A restart shows where something was expected and nothing is there. Until then the server may be another than the
    model thinks: a prompt of which nothing was to be found tells nothing."""
    run = Run(RULES[strategy])
    run.turn(300, 50)
    lost = 0
    for kind, amount, written in changes:
        if kind == "restart":
            run.server.clear()
            lost = 1
            continue
        if kind == "compact":
            run.prompt = run.prompt[:amount]
        use = run.turn(amount if kind == "turn" else 1, max(1, written))
        assert use.cached is not None
        assert all(count > 0 for count in use.uncached.values())
        assert sum(use.uncached.values()) == use.prompt - use.cached
        assert (Reason.LOST in use.uncached) <= bool(lost)
        if not lost:
            assert use.cached == use.expected
        if use.expected and not use.cached:
            lost = 0  # seen, and known to be empty from here on
        assert PrefixUse.from_json(use.to_json()) == use


def test_a_restart_is_told_from_what_the_rules_cost() -> None:
    run = Run(RULES[Strategy.EXTRA_BUFFER])
    run.turn(1000, 100)
    run.server.clear()
    use = run.turn(50, 10)
    assert (use.expected, use.cached, use.cacheable) == (1024, 0, 1099)
    assert use.uncached == {Reason.LOST: 1024, Reason.GRANULARITY: 75, Reason.NEW: 51}
    assert (
        explain(use) == "1024 tokens again: 1024 tokens should have been cached: evicted, or the server was restarted"
    )
    assert Reason.LOST not in run.turn(50, 10).uncached  # the model knows by now what the server has


def test_a_checkpoint_that_lies_a_little_before_is_not_a_loss() -> None:
    run = Run(RULES[Strategy.EXTRA_BUFFER])
    run.turn(1000, 10)
    prompt = run.prompt + run.fresh(50)
    use = run.model.account(prompt, 960 - 10)
    assert (use.expected, use.uncached) == (960, {Reason.NEW: 51, Reason.GRANULARITY: 59})
    assert run.model.account(prompt, 960 - 64).uncached[Reason.LOST] == 64


def test_a_prompt_that_is_not_the_last_one_continued_diverges() -> None:
    run = Run(RULES[Strategy.TOKENS])
    run.turn(1000, 200)
    run.prompt = run.prompt[:400] + run.fresh(500)
    use = run.ask(10)
    assert use.uncached == {Reason.DIVERGENCE: 500}
    assert explain(use) == (
        "500 tokens again: the prompt differs from what the server had at token 400 "
        "(compaction, an edit, or another rendering)"
    )
    assert run.turn(20, 5).uncached == {Reason.NEW: 21}


def test_a_shorter_prompt_than_the_last_is_new_only_behind_its_length() -> None:
    run = Run(RULES[Strategy.TOKENS])
    run.turn(300, 1)
    run.prompt = run.prompt[:100] + run.fresh(400)
    assert run.ask(1).uncached == {Reason.DIVERGENCE: 200, Reason.NEW: 200}


def test_what_others_warmed_is_taken_as_it_comes() -> None:
    run = Run(RULES[Strategy.EXTRA_BUFFER])
    shared = run.fresh(640)
    run.server.prefill(shared)
    run.prompt = shared
    use = run.turn(100, 30)
    assert (use.expected, use.cached, use.uncached) == (0, 640, {Reason.FIRST_TURN: 100})
    later = run.turn(100, 30)
    assert later.cached == later.expected == 768  # a mark in the answer


def test_before_a_request_the_model_says_what_it_should_find() -> None:
    run = Run(RULES[Strategy.EXTRA_BUFFER])
    first = run.model.expect([1] * 300)
    assert (first.cached, first.cacheable, first.why) == (0, 0, Reason.FIRST_TURN)
    run.turn(300, 20)
    expected = run.model.expect(run.prompt + run.fresh(20))
    assert (expected.cached, expected.cacheable, expected.why) == (256, 319, Reason.GRANULARITY)
    expected = run.model.expect(run.prompt + run.fresh(2000))
    assert expected.why is Reason.NEW
    assert run.turn(7, 3).cached == 256  # asking has changed nothing


def test_a_host_that_says_nothing() -> None:
    model = PrefixModel(RULES[Strategy.TOKENS], says_cached=False)
    model.took([1, 2, 3], [4, 5], 0)
    use = model.took([1, 2, 3, 4, 5, 6], [7], 0)
    assert use == PrefixUse(6, None, 4, 4, {Reason.UNSAID: 6})
    assert explain(use) is None


def test_a_host_whose_rules_are_not_known() -> None:
    model = PrefixModel(None)
    model.took([1] * 2000, [4, 5], 0)
    use = model.took([1] * 2000 + [4, 5, 6], [7], 700)
    assert use == PrefixUse(2003, 700, 2001, None, {Reason.NEW: 2, Reason.OTHER: 1301})
    assert "1301 tokens again" in (explain(use) or "")


def test_a_host_that_counts_another_prompt_is_not_foreseen() -> None:
    model = PrefixModel(RULES[Strategy.TOKENS])
    model.took([1] * 100, [4, 5], 0, prompt_tokens=1100)
    use = model.took([1] * 100 + [4, 5, 6], [7], 1090, prompt_tokens=1105)
    assert use == PrefixUse(1105, 1090, 101, None, {Reason.NEW: 15})


def test_a_reason_of_a_later_version_is_read_as_other() -> None:
    use = PrefixUse.from_json(
        {"prompt": 9, "cached": 1, "cacheable": 3, "expected": None, "uncached": {"moonshine": 5, "other": 3}}
    )
    assert use.uncached == {Reason.OTHER: 8}
