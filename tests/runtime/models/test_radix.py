"""Prefix counts against the plain definition."""

from __future__ import annotations

from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st

from runtime.models.radix import PrefixTree

SEQUENCES = st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=30)


def common(one: list[int], other: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


@given(SEQUENCES)
def test_counts_the_longest_prefix_of_anything_before(sequences: list[list[int]]) -> None:
    tree = PrefixTree()
    for number, ids in enumerate(sequences):
        expected = max((common(ids, before) for before in sequences[:number]), default=0)
        assert tree.shared(ids) == expected
        assert tree.insert(ids) == expected
        assert tree.shared(ids) == len(ids)


@given(SEQUENCES)
def test_size_is_the_number_of_different_prefixes(sequences: list[list[int]]) -> None:
    tree = PrefixTree()
    for ids in sequences:
        tree.insert(ids)
    assert tree.size == len({tuple(ids[: n + 1]) for ids in sequences for n in range(len(ids))})


@given(SEQUENCES)
def test_stays_within_its_capacity_and_counts_no_more_than_was_seen(sequences: list[list[int]]) -> None:
    tree = PrefixTree(capacity=16)
    for number, ids in enumerate(sequences):
        assert tree.insert(ids) <= max((common(ids, before) for before in sequences[:number]), default=0)
        assert tree.size <= 16


def test_forgets_what_was_used_longest_ago() -> None:
    tree = PrefixTree(capacity=8)
    tree.insert([1, 1, 1])
    tree.insert([2, 2, 2])
    tree.shared([1, 1, 1])
    tree.insert([3, 3, 3])
    assert (tree.shared([1, 1, 1]), tree.shared([2, 2, 2]), tree.shared([3, 3, 3])) == (3, 0, 3)


def test_clear_forgets_everything() -> None:
    tree = PrefixTree()
    tree.insert([1, 2])
    tree.clear()
    assert (tree.shared([1, 2]), tree.size) == (0, 0)
