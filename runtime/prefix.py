"""What a server's prefix cache holds, by its rules, and how a run's prompts fared in it.

A hybrid model's recurrent state can be reused only exactly where the server kept a copy, so a prompt that begins
with a known one isn't a hit up to its last common token, but up to the last kept state before it. `ServerCache` says
where that is, and `PrefixModel` compares it with what a host reports and names the reason for each token that was
computed again. The rules are those of SGLang 0.5.23 (`docs/prefix-cache.md`).

Left out: eviction by other users of the server, which is only seen in what it reports; a second cache in the host's
memory; prompts that the server lengthens, such as pictures, of which only the host's own counts are taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from runtime.prefix_tree import Key, PrefixTree, key_of


class Strategy(StrEnum):
    """How a server keeps recurrent states; named as SGLang's `--mamba-radix-cache-strategy`."""

    TOKENS = "tokens"  # no recurrent states (or none that matter): every common token is a hit
    NO_BUFFER = "no_buffer"  # one state where a request ended
    EXTRA_BUFFER = "extra_buffer"  # states on a grid in the prefill and at marks in the decode
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CacheRules:
    """The rules of one server. Lengths in tokens."""

    strategy: Strategy
    page: int = 1
    prefill_grid: int = 64
    decode_interval: int = 256
    prefill_chunk: int | None = None  # longest part of a prompt computed in one go; each part's end is a checkpoint

    @property
    def grid(self) -> int:
        """A prefill's checkpoint lies a multiple of this behind where the prefill began."""
        return math.lcm(self.prefill_grid, self.page)

    @property
    def marks(self) -> int:
        """A decode keeps its state at multiples of this, counted from the start of the prompt."""
        return math.lcm(self.grid, self.decode_interval)


@dataclass(frozen=True, slots=True)
class Hit:
    """What a cache has for a prompt, in tokens from its start."""

    tokens: int  # that needn't be computed
    branching: int | None = None  # where tokens, but no state, are known, and a checkpoint will be made on this pass


class ServerCache:
    """The prefix cache of one server: the sequences it knows and where it kept states. Not safe for several threads.

    `most_tokens` and `most_states` are the sizes of its pools.
    """

    def __init__(self, rules: CacheRules, most_tokens: int = 4_000_000, most_states: int | None = None) -> None:
        self.rules = rules
        self.tree = PrefixTree(most_tokens, most_states)

    @property
    def stateful(self) -> bool:
        return self.rules.strategy in (Strategy.NO_BUFFER, Strategy.EXTRA_BUFFER)

    def hit(self, prompt: Sequence[int] | Key) -> Hit:
        """What a request for `prompt` would find. Its last token is always computed, for the first one after it."""
        key, page = _key(prompt), self.rules.page
        found = self.tree.match(key, (_length(key) - 1) // page * page)
        known = found.known // page * page
        if not self.stateful:
            return Hit(known)
        branching = known // self.rules.grid * self.rules.grid
        worth = self.rules.strategy is Strategy.EXTRA_BUFFER and branching > found.state
        return Hit(found.state, branching if worth else None)

    def prefill(self, prompt: Sequence[int] | Key, hit: Hit | None = None) -> Hit:
        """A request comes in and its prompt is computed, from `hit` on: what it found. Others find it from now on."""
        key = _key(prompt)
        hit = hit or self.hit(key)
        at, end = hit.tokens, _length(key)
        while at < end:
            stop = self._chunk_end(at, end)
            self._keep_prefilled(key, at, stop, hit.branching)
            at = stop
        return hit

    def finish(self, prompt: Sequence[int] | Key, written: Sequence[int]) -> None:
        """A request has ended after it wrote these tokens, of which the last was never computed."""
        if not written:
            return
        prompt_key = _key(prompt)
        key = Key(prompt_key + key_of(written))
        prompt_length, computed = _length(prompt_key), _length(key) - 1
        match self.rules.strategy:
            case Strategy.EXTRA_BUFFER:
                if (mark := computed // self.rules.marks * self.rules.marks) > prompt_length:
                    self.tree.insert(key, mark, state=True)
            case Strategy.NO_BUFFER:
                self.tree.insert(key, computed, state=True)
            case _:
                self.tree.insert(key, computed // self.rules.page * self.rules.page)

    def clear(self) -> None:
        self.tree.clear()

    def _chunk_end(self, at: int, end: int) -> int:
        chunk, page = self.rules.prefill_chunk, self.rules.page
        if not chunk or end - at <= chunk:
            return end
        return max((at + chunk) // page * page, at + 1)

    def _keep_prefilled(self, key: Key, at: int, stop: int, branching: int | None) -> None:
        """What stays of a part of a prompt: of a stateful cache, the tokens up to the state that it kept."""
        grid = self.rules.grid
        match self.rules.strategy:
            case Strategy.EXTRA_BUFFER:
                if stop - at < grid:
                    return
                point = at + (stop - at) // grid * grid
                if branching is not None and at < branching < stop and (branching - at) % self.rules.prefill_grid == 0:
                    point = branching  # there is one slot for a checkpoint in a pass, and the branch takes it
                self.tree.insert(key, point, state=True)
            case Strategy.NO_BUFFER:
                self.tree.insert(key, stop, state=True)
            case _:
                self.tree.insert(key, stop // self.rules.page * self.rules.page)


def _key(ids: Sequence[int] | Key) -> Key:
    return Key(ids) if isinstance(ids, bytes) else key_of(ids)


def _length(key: Key) -> int:
    return len(key) // 4
