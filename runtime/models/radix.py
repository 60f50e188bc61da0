"""How much of a prompt a prefix cache would have: a radix tree over token ids, as SGLang keeps one.

It counts and holds no states. What is left out: pages (every token counts), the places where a hybrid model's
recurrent state was kept, and that a real server has computed one token less than it has written.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Final

_WIDTH: Final = 4  # bytes per id, so that comparing two stretches of ids is one memcmp


class _Node:
    __slots__ = ("children", "edge", "used")

    def __init__(self, edge: bytes, used: int) -> None:
        self.edge = edge
        self.used = used
        self.children: dict[bytes, _Node] = {}


class PrefixTree:
    """Token sequences seen so far; holds at most `capacity` tokens and forgets what was used longest ago."""

    def __init__(self, capacity: int = 4_000_000) -> None:
        self._capacity = capacity
        self._clock = 0
        self.clear()

    def clear(self) -> None:
        self._root = _Node(b"", 0)
        self.size = 0

    def shared(self, ids: Iterable[int]) -> int:
        """Number of tokens that `ids` has in common, from its start, with anything inserted before."""
        return self._walk(_key(ids))[2] // _WIDTH

    def insert(self, ids: Iterable[int]) -> int:
        """Remember `ids`; how many of its first tokens were known already."""
        key = _key(ids)
        node, matched_edge, known = self._walk(key)
        if matched_edge:
            node = self._split(node, key, known - matched_edge, matched_edge)
        if known < len(key):
            node.children[key[known : known + _WIDTH]] = _Node(key[known:], self._clock)
            self.size += (len(key) - known) // _WIDTH
            if self.size > self._capacity:
                self._evict()
        return known // _WIDTH

    def _walk(self, key: bytes) -> tuple[_Node, int, int]:
        """The last node reached whole, how many bytes of the edge below it match, and of the key in all."""
        self._clock += 1
        node, at = self._root, 0
        while at < len(key):
            child = node.children.get(key[at : at + _WIDTH])
            if child is None:
                break
            child.used = self._clock
            if not key.startswith(child.edge, at):
                common = _common(child.edge, key, at)
                return node, common, at + common
            node, at = child, at + len(child.edge)
        return node, 0, at

    def _split(self, parent: _Node, key: bytes, at: int, length: int) -> _Node:
        first = key[at : at + _WIDTH]
        lower = parent.children[first]
        upper = _Node(lower.edge[:length], self._clock)
        lower.edge = lower.edge[length:]
        upper.children[lower.edge[:_WIDTH]] = lower
        parent.children[first] = upper
        return upper

    def _evict(self) -> None:
        """Drop whole leaves, oldest first, down to three quarters of the capacity."""
        while self.size > self._capacity * 3 // 4:
            leaves: list[tuple[int, _Node, bytes]] = []
            pending = [self._root]
            while pending:
                parent = pending.pop()
                for first, child in parent.children.items():
                    if child.children:
                        pending.append(child)
                    else:
                        leaves.append((child.used, parent, first))
            for _, parent, first in sorted(leaves, key=lambda leaf: leaf[0]):
                self.size -= len(parent.children.pop(first).edge) // _WIDTH
                if self.size <= self._capacity * 3 // 4:
                    return


def _key(ids: Iterable[int]) -> bytes:
    return array("i", ids).tobytes()


def _common(edge: bytes, key: bytes, at: int) -> int:
    """Bytes in common, a multiple of the width; bisection, because a slice's comparison costs next to nothing."""
    low, high = 0, min(len(edge), len(key) - at) // _WIDTH
    while low < high:
        middle = (low + high + 1) // 2
        if key.startswith(edge[: middle * _WIDTH], at):
            low = middle
        else:
            high = middle - 1
    return low * _WIDTH
