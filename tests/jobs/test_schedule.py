"""The benchmark's simulation of a schedule: what must hold of any."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.eval_schedule import Attempt, attempts, scheduled

SOME = st.lists(st.builds(Attempt, st.floats(1, 1000), st.just(1.0), st.integers(1, 100)), min_size=1, max_size=40)


def of(*seconds: float, tokens: int = 1) -> list[Attempt]:
    return [Attempt(one, one, tokens) for one in seconds]


def test_a_long_one_at_the_end_is_waited_for() -> None:
    late, early = scheduled(of(1, 1, 1, 1, 4), 2, 100), scheduled(of(4, 1, 1, 1, 1), 2, 100)
    assert (late.makespan, late.tail, late.idle, late.busy) == (6, 4, 4, 8)
    assert (early.makespan, early.tail, early.idle, early.lost) == (4, 1, 0, 0)


def test_tokens_let_in_less_than_workers_would() -> None:
    assert scheduled(of(1, 1, 1, 1, tokens=50), 4, 100).makespan == 2
    assert scheduled(of(1, 1, tokens=500), 4, 100).makespan == 2  # one that fits nowhere runs alone


@given(SOME, st.integers(1, 8), st.integers(1, 300))
def test_no_schedule_beats_its_bounds(wanted: list[Attempt], workers: int, pool: int) -> None:
    done = scheduled(wanted, workers, pool)
    assert done.slots <= workers
    assert done.makespan >= max(one.seconds for one in wanted)
    assert done.makespan * workers >= done.busy * (1 - 1e-9)
    assert sum(one.seconds * one.tokens for one in wanted) <= done.makespan * max(pool, 100) * (1 + 1e-9)


def test_an_evaluation_is_five_hundred_instances_four_times() -> None:
    assert len(attempts(0)) == 2000 and attempts(1) == attempts(1) != attempts(2)
