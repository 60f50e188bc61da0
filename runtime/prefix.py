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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

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
        if written:
            key = _key(prompt)
            self.keep_written(Key(key + key_of(written[:-1])), _length(key))

    def keep_written(self, key: Key, prompt_length: int) -> None:
        """As `finish`, given all that was computed for the request as one key."""
        computed = _length(key)
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


class Reason(StrEnum):
    """Why a token of a prompt was computed."""

    NEW = "new"  # nobody had computed it: what a turn and its observations add
    FIRST_TURN = "first turn"
    GRANULARITY = "checkpoint granularity"  # known, but behind the last place where the server kept a state
    DIVERGENCE = "divergence"  # the prompt isn't the last one continued: compaction, an edit, another rendering
    LOST = "eviction or restart"  # the rules say that it was kept, and it wasn't there
    UNSAID = "host doesn't say"
    OTHER = "other"  # known, and the host's rules are not


@dataclass(frozen=True, slots=True)
class Expected:
    """What the rules foresee for a prompt. Counts of tokens from its start."""

    cached: int | None  # None: the host's rules are not known
    cacheable: int  # computed before, so it could be cached
    why: Reason  # what most of the rest will be computed for


@dataclass(frozen=True, slots=True)
class PrefixUse:
    """How one prompt fared. Counts of tokens; those in `uncached` add up to what was computed of the prompt."""

    prompt: int
    cached: int | None  # None: the host doesn't say
    cacheable: int
    expected: int | None
    uncached: Mapping[Reason, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "prompt": self.prompt,
            "cached": self.cached,
            "cacheable": self.cacheable,
            "expected": self.expected,
            "uncached": {str(reason): count for reason, count in self.uncached.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PrefixUse:
        """A reason of another version counts as `OTHER`."""
        uncached = dict[Reason, int]()
        for name, count in data["uncached"].items():
            reason = Reason(name) if name in _REASONS else Reason.OTHER
            uncached[reason] = uncached.get(reason, 0) + count
        return cls(data["prompt"], data["cached"], data["cacheable"], data["expected"], uncached)


_REASONS: Final = frozenset(map(str, Reason))
_ORDINARY: Final = 512  # tokens that a server may well compute again for want of a checkpoint, turn by turn


class PrefixModel:
    """Follows the requests of one run and says what each should find cached. Not safe for several threads.

    Sequences are token ids or keys. `says_cached`: whether the host reports how much it found.
    """

    def __init__(self, rules: CacheRules | None, *, says_cached: bool = True) -> None:
        self._knows_rules = rules is not None and rules.strategy is not Strategy.UNKNOWN
        self._says_cached = says_cached
        self._server = ServerCache(rules or CacheRules(Strategy.UNKNOWN))
        self._computed = PrefixTree()  # all that the host has computed for this run, whatever it kept
        self._last = 0  # tokens of the last request, its answer included
        self._requests = 0
        self._asked = Key(b"")  # the last prompt: the same object is recognised as the same without being compared

    def expect(self, prompt: Sequence[int] | Key) -> Expected:
        """What a request for `prompt` should find."""
        key = self._key(prompt)
        known, hit, length = self._computed.match(key).known, self._server.hit(key), _length(key)
        cacheable = min(known, length - 1)
        cached = hit.tokens if self._knows_rules else None
        found = cacheable if cached is None else cached
        uncached = self._reasons(length, found, cached, cacheable, known)
        return Expected(cached, cacheable, max(uncached, key=lambda reason: uncached[reason]))

    def account(
        self, prompt: Sequence[int] | Key, cached: int | None, *, prompt_tokens: int | None = None
    ) -> PrefixUse:
        """How `prompt` fared; `cached` is what the host says that it found. Changes nothing.

        `prompt_tokens` is the host's count of the prompt. Where it isn't ours, because of pictures or because the
        host renders the prompt itself, nothing is foreseen.
        """
        key = self._key(prompt)
        length, known = _length(key), self._computed.match(key).known
        ours = prompt_tokens in (None, 0, length)
        total = length if ours else int(prompt_tokens or 0)
        seen = min(cached, total) if cached is not None and self._says_cached else None
        expected = self._server.hit(key).tokens if self._knows_rules and ours else None
        cacheable = min(known, length - 1, total)
        uncached = {Reason.UNSAID: total} if seen is None else self._reasons(total, seen, expected, cacheable, known)
        return PrefixUse(total, seen, cacheable, expected, {why: count for why, count in uncached.items() if count})

    def took(
        self,
        prompt: Sequence[int] | Key,
        written: Sequence[int],
        cached: int | None,
        *,
        prompt_tokens: int | None = None,
    ) -> PrefixUse:
        """A request has ended after it wrote these ids: account for it, and go on from there."""
        key = self._key(prompt)
        use, hit = self.account(key, cached, prompt_tokens=prompt_tokens), self._server.hit(key)
        if use.cached is not None and use.prompt == _length(key) and use.cached != hit.tokens:
            hit = self._corrected(key, use.cached, hit)
        self._server.prefill(key, hit)
        whole = Key(key + key_of(written[:-1])) if written else key
        if written:
            self._server.keep_written(whole, _length(key))
        self._computed.insert(whole)
        self._last, self._requests = _length(whole), self._requests + 1
        return use

    def _key(self, prompt: Sequence[int] | Key) -> Key:
        key = _key(prompt)
        if key != self._asked:
            self._asked = key
        return self._asked

    def _reasons(self, total: int, seen: int, expected: int | None, cacheable: int, known: int) -> dict[Reason, int]:
        computed = total - seen
        if not self._requests:
            return {Reason.FIRST_TURN: computed}
        again = max(0, cacheable - seen)
        lost = 0 if expected is None else max(0, min(expected, cacheable) - seen)
        if self._server.rules.strategy is Strategy.EXTRA_BUFFER and lost < self._server.rules.grid:
            lost = 0  # beside others a prompt is cut into parts anywhere, which shifts its checkpoints that far
        diverged = min(max(0, min(self._last, total) - max(known, seen)), computed - again)
        return {
            Reason.NEW: computed - again - diverged,
            Reason.GRANULARITY: 0 if expected is None else again - lost,
            Reason.DIVERGENCE: diverged,
            Reason.LOST: lost,
            Reason.OTHER: again if expected is None else 0,
        }

    def _corrected(self, key: Key, seen: int, foreseen: Hit) -> Hit:
        """Learn from what the host found: less was evicted, more was computed for somebody else."""
        if not seen:
            self._server.clear()
            return Hit(0)
        if seen < foreseen.tokens:
            self._server.tree.forget_states(key, seen)
        self._server.tree.insert(key, seen, state=self._server.stateful)
        return Hit(seen, self._server.hit(key).branching)


def explain(use: PrefixUse) -> str | None:
    """In words what a prompt lost that it need not have lost; None where it fared as it should."""
    shown = {
        Reason.DIVERGENCE: f"the prompt differs from what the server had at token {use.cacheable} "
        "(compaction, an edit, or another rendering)",
        Reason.LOST: f"{use.expected} tokens should have been cached: evicted, or the server was restarted",
        Reason.OTHER: "they were computed before; what this server keeps isn't known",
        Reason.GRANULARITY: "they were computed before, but the server kept no state there",
    }
    parts = [
        f"{count} tokens again: {shown[reason]}"
        for reason, count in use.uncached.items()
        if reason in shown and count > (_ORDINARY if reason in (Reason.GRANULARITY, Reason.OTHER) else 0)
    ]
    return "; ".join(parts) or None


def _key(ids: Sequence[int] | Key) -> Key:
    return Key(ids) if isinstance(ids, bytes) else key_of(ids)


def _length(key: Key) -> int:
    return len(key) // 4
