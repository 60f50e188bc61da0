"""Token sequences in a radix tree, and where along them a recurrent state is kept: what a prefix cache knows.

It counts and holds no tensors. Two bounds stand for a server's two pools, tokens and states; what was used longest
ago goes first. Left out: when a server keeps a state (`runtime.prefix`), and requests in flight, whose tokens a
real server never evicts.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Final, NewType

from runtime.ids import Ids

Key = NewType("Key", bytes)
"""Token ids as the tree compares them, four bytes each."""

_WIDTH: Final = 4  # bytes per id, so that comparing two stretches of ids is one memcmp


@dataclass(frozen=True, slots=True)
class Match:
    """How much of a sequence the tree has, in tokens from its start."""

    known: int
    state: int  # up to the last kept state, at most `known`


class _Node:
    __slots__ = ("children", "edge", "state", "state_used", "used")

    def __init__(self, edge: bytes, used: int) -> None:
        self.edge = edge
        self.used = used
        self.state = False  # a state is kept at the edge's end
        self.state_used = used
        self.children: dict[bytes, _Node] = {}


_Step = tuple[_Node, int]  # a node on the way, and how many bytes of the key there are up to its end


class PrefixTree:
    """What was seen; `tokens` and `states` are how many it holds now, at most as many as it was made for."""

    def __init__(self, most_tokens: int = 4_000_000, most_states: int | None = None) -> None:
        self._most_tokens = most_tokens
        self._most_states = most_states
        self._clock = 0
        self.clear()

    def clear(self) -> None:
        self._root = _Node(b"", 0)
        self.tokens = self.states = 0
        self._walked, self._path = b"", list[_Step]()

    def match(self, key: Key, limit: int | None = None) -> Match:
        """What is there of the first `limit` tokens of a sequence, or of the whole. It counts as used."""
        path, _, known = self._walk(key, len(key) if limit is None else max(0, limit) * _WIDTH)
        if self.states:
            for node, end in reversed(path):
                if node.state:
                    node.state_used = self._clock
                    return Match(known // _WIDTH, end // _WIDTH)
        return Match(known // _WIDTH, 0)

    def insert(self, key: Key, length: int | None = None, *, state: bool = False) -> int:
        """Remember the first `length` tokens, with a state at their end if one is kept there.

        Returns how many of them were known.
        """
        stop = len(key) if length is None else length * _WIDTH
        path, partial, known = self._walk(key, stop)
        parent, at = path[-1] if path else (self._root, 0)
        if partial is not None:
            parent = self._split(parent, partial, known - at)
            path.append((parent, known))
        if known < stop:
            child = _Node(key[known:stop], self._clock)
            parent.children[child.edge[:_WIDTH]] = child
            self.tokens += len(child.edge) // _WIDTH
            path.append((child, stop))
            parent = child
        if state and stop:
            self.states += not parent.state
            parent.state, parent.state_used = True, self._clock
        self._evict()
        return known // _WIDTH

    def forget_states(self, key: Key, above: int) -> None:
        """Drop the states along a sequence that lie further than `above` tokens from its start."""
        for node, end in self._walk(key, len(key))[0]:
            if node.state and end > above * _WIDTH:
                self._drop_state(node)

    def _walk(self, key: bytes, stop: int) -> tuple[list[_Step], _Node | None, int]:
        """Over the first bytes: nodes whose edges match as a whole, the one below that matches in part, bytes matched.

        Sequences mostly go on where the last one ended, so the walk begins where the last one's path leaves the key's.
        """
        self._clock += 1
        path = self._common_path(key, stop)
        self._walked, self._path = key, path
        node, at = path[-1] if path else (self._root, 0)
        partial = None
        while at < stop:
            child = node.children.get(key[at : at + _WIDTH])
            if child is None:
                break
            if not key.startswith(child.edge, at, stop):
                partial, at = child, at + _common(child.edge, key, at, stop)
                break
            node, at = child, at + len(child.edge)
            node.used = self._clock
            path.append((node, at))
        (partial or node).used = self._clock  # what lies above is never evicted before it
        return path, partial, at

    def _common_path(self, key: bytes, stop: int) -> list[_Step]:
        """As much of the last walk's path as is sure to be this key's too."""
        path = self._path[: bisect_right(self._path, stop, key=lambda step: step[1])]
        same = path and (key is self._walked or key.startswith(self._walked[: path[-1][1]]))
        return path if same else []

    def _split(self, parent: _Node, lower: _Node, length: int) -> _Node:
        """Cut a node's edge in two. The state stays at its end, so the new upper part has none."""
        upper = _Node(lower.edge[:length], self._clock)
        parent.children[upper.edge[:_WIDTH]] = upper
        lower.edge = lower.edge[length:]
        upper.children[lower.edge[:_WIDTH]] = lower
        return upper

    def _evict(self) -> None:
        """Down to both bounds. A state goes alone where sequences go on behind it, else with its leaf."""
        if self.tokens > self._most_tokens:
            self._evict_leaves(self._most_tokens * 31 // 32)  # some room at once, so that it isn't done each time
        if self._most_states is None or self.states <= self._most_states:
            return
        holders = sorted((found for found in self._nodes() if found[1].state), key=lambda found: found[1].state_used)
        for parent, node in holders[: self.states - self._most_states]:
            if node.children:
                self._drop_state(node)
            else:
                self._drop(parent, node)

    def _evict_leaves(self, target: int) -> None:
        """The oldest first; a node whose last child has gone is a leaf of the same age."""
        parents = {id(node): parent for parent, node in self._nodes()}
        leaves = [(node.used, id(node), node) for _, node in self._nodes() if not node.children]
        heapify(leaves)
        while leaves and self.tokens > target:
            leaf = heappop(leaves)[2]
            parent = parents[id(leaf)]
            self._drop(parent, leaf)
            if not parent.children and parent is not self._root:
                heappush(leaves, (parent.used, id(parent), parent))

    def _drop(self, parent: _Node, leaf: _Node) -> None:
        del parent.children[leaf.edge[:_WIDTH]]
        parent.used = max(parent.used, leaf.used)
        self._path = []
        self.tokens -= len(leaf.edge) // _WIDTH
        self.states -= leaf.state

    def _drop_state(self, node: _Node) -> None:
        node.state = False
        self.states -= 1

    def _nodes(self) -> list[tuple[_Node, _Node]]:
        """All nodes but the root, each behind its parent."""
        found, pending = list[tuple[_Node, _Node]](), [self._root]
        while pending:
            parent = pending.pop()
            found += [(parent, child) for child in parent.children.values()]
            pending += parent.children.values()
        return found


def key_of(ids: Iterable[int]) -> Key:
    """Token ids as a key; for `Ids` a plain copy of memory."""
    return Key(ids.tobytes() if isinstance(ids, Ids) else array("i", ids).tobytes())


def _common(edge: bytes, key: bytes, at: int, stop: int) -> int:
    """Bytes in common, a multiple of the width; bisection, because a slice's comparison costs next to nothing."""
    low, high = 0, min(len(edge), stop - at) // _WIDTH
    while low < high:
        middle = (low + high + 1) // 2
        if key.startswith(edge[: middle * _WIDTH], at):
            low = middle
        else:
            high = middle - 1
    return low * _WIDTH
