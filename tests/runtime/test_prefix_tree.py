"""The tree of known sequences and states against the plain definition."""

from __future__ import annotations

from itertools import takewhile

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.ids import Ids
from runtime.prefix_tree import Match, PrefixTree, key_of

SEQUENCES = st.lists(st.tuples(st.lists(st.integers(0, 3), max_size=12), st.booleans()), max_size=30)


def common(one: list[int], other: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def plain(ids: list[int], before: list[tuple[list[int], bool]]) -> Match:
    """A state is of use where its whole sequence begins the one that is asked for."""
    known = max((common(ids, seen) for seen, _ in before), default=0)
    states = [len(seen) for seen, state in before if state and seen == ids[: len(seen)]]
    return Match(known, max(states, default=0))


@settings(deadline=None)
@given(SEQUENCES)
def test_finds_the_longest_prefix_and_the_last_state(sequences: list[tuple[list[int], bool]]) -> None:
    tree = PrefixTree()
    for number, (ids, state) in enumerate(sequences):
        key, expected = key_of(ids), plain(ids, sequences[:number])
        assert tree.match(key) == expected
        assert tree.match(key, 5) == plain(ids[:5], sequences[:number])
        assert tree.insert(key, state=state) == expected.known
        assert tree.match(key).known == len(ids)


@settings(deadline=None)
@given(SEQUENCES)
def test_counts_what_it_holds(sequences: list[tuple[list[int], bool]]) -> None:
    tree = PrefixTree()
    for ids, state in sequences:
        tree.insert(key_of(ids), state=state)
    assert tree.tokens == len({tuple(ids[: n + 1]) for ids, _ in sequences for n in range(len(ids))})
    assert tree.states == len({tuple(ids) for ids, state in sequences if state and ids})


@settings(deadline=None)
@given(SEQUENCES)
def test_stays_within_its_bounds_and_claims_nothing_that_was_not_seen(sequences: list[tuple[list[int], bool]]) -> None:
    tree = PrefixTree(16, 3)
    for number, (ids, state) in enumerate(sequences):
        found, expected = tree.match(key_of(ids)), plain(ids, sequences[:number])
        assert found.known <= expected.known
        assert found.state <= expected.state
        tree.insert(key_of(ids), state=state)
        assert tree.tokens <= 16
        assert tree.states <= 3
    tree.clear()
    assert (tree.tokens, tree.states) == (0, 0)


@settings(deadline=None)
@given(SEQUENCES, st.lists(st.integers(0, 3), max_size=12), st.integers(0, 12))
def test_states_behind_a_point_are_forgotten(
    sequences: list[tuple[list[int], bool]], ids: list[int], above: int
) -> None:
    tree = PrefixTree()
    for seen, state in sequences:
        tree.insert(key_of(seen), state=state)
    tree.forget_states(key_of(ids), above)
    left = [(seen, state and not (len(seen) > above and seen == ids[: len(seen)])) for seen, state in sequences]
    assert tree.states == len({tuple(seen) for seen, state in left if state and seen})
    assert tree.match(key_of(ids)) == plain(ids, left)


def test_forgets_what_was_used_longest_ago() -> None:
    tree = PrefixTree(8)
    one, two, three = (key_of([n, n, n]) for n in (1, 2, 3))
    tree.insert(one)
    tree.insert(two)
    tree.match(one)
    tree.insert(three)
    assert [tree.match(key).known for key in (one, two, three)] == [3, 0, 3]


def test_a_whole_sequence_goes_before_a_younger_one_loses_its_end() -> None:
    tree = PrefixTree(10)
    old, young = [1, 2, 3, 4, 5], [6, 7, 8, 9]
    for length in range(1, 6):
        tree.insert(key_of(old[:length]))
    for length in range(1, 5):
        tree.insert(key_of(young[:length]))
    tree.insert(key_of([0, 0, 0, 0]))
    assert [tree.match(key_of(ids)).known for ids in (old, young, [0] * 4)] == [1, 4, 4]


def test_a_state_goes_alone_where_something_goes_on_behind_it() -> None:
    tree = PrefixTree(most_states=1)
    tree.insert(key_of([1, 2]), state=True)
    tree.insert(key_of([1, 2, 3, 4]), state=True)
    assert tree.match(key_of([1, 2, 3, 4])) == Match(4, 4)
    assert tree.match(key_of([1, 2])) == Match(2, 0)


def test_part_of_a_sequence_is_asked_for_by_its_length() -> None:
    tree = PrefixTree()
    tree.insert(key_of([1, 2, 3, 4]), 3, state=True)
    assert tree.match(key_of([1, 2, 3, 4])) == Match(3, 3)
    assert tree.match(key_of([1, 2, 3, 4]), 2) == Match(2, 0)
    assert tree.match(key_of([1]), -1) == Match(0, 0)


def test_shared_ids_give_the_same_key_as_a_list() -> None:
    ids = Ids([1, 2]).extended([3])
    Ids.extended(ids, [4])
    assert key_of(ids) == key_of([1, 2, 3])
