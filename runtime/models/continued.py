"""One turn that is written over several requests: what has come of it, and how the next request goes on behind it.

Used by the models that ask again: after a cut (`retry`), behind a spent budget (`thinking`), without a constraint
(`constrained`). Left out: when and why to ask again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from runtime.models.base import Chunk, Feature, FinishReason, Model, Sampling, Usage

if TYPE_CHECKING:
    from runtime.ids import Ids

_SLACK: Final = 1024
"""Tokens over twice its limit that a chat host may write: it counts its own ones, and we those of our rendering."""


class ContinuedTurn:
    """The ids of a turn so far, and the usage of all the requests that it took.

    The prompt's counts are those of the first request, since the others find cached what it computed. What was
    written is counted here; thinking, and cost where a host says it, are added up.
    """

    def __init__(self, model: Model, ids: Ids, sampling: Sampling) -> None:
        self.received: list[int] = []
        self._ids = ids
        self._sampling = sampling
        self._end = model.tokenizer.special("<|im_end|>")
        self._limit = min(sampling.max_new_tokens, model.context_length - len(ids))
        exact = Feature.EXACT_IDS in model.facts.features
        self._most = self._limit if exact else 2 * self._limit + _SLACK
        self._first: Usage | None = None
        self._before = Usage()  # what the requests that are over have used
        self._latest = Usage()
        self._asked_again = False

    @property
    def left(self) -> int:
        """Tokens that the turn may still have."""
        return self._limit - len(self.received)

    def prompt(self) -> Ids:
        """The prompt of the next request."""
        return self._ids.extended(self.received) if self.received else self._ids

    def sampling(self) -> Sampling:
        """The sampling of the next request."""
        if not self.received:
            return self._sampling
        return replace(self._sampling, max_new_tokens=self._sampling.max_new_tokens - len(self.received))

    def next_request(self) -> None:
        """From here on chunks come from another request."""
        self._before, self._latest, self._asked_again = self._sum(), Usage(), True

    def take(self, chunk: Chunk) -> Chunk:
        """The chunk with the usage of the whole turn. What isn't taken doesn't count as written.

        A server that writes more than it was asked for is cut: the chunk has a finish then.
        """
        usage, ids, finish = chunk.usage, chunk.ids, chunk.finish
        if usage.prompt_tokens:
            self._first = self._first or self._of_prompt(usage)
            self._latest = usage
        if len(self.received) + len(ids) > self._most:
            ids, finish = ids[: max(0, self._most - len(self.received))], FinishReason.LENGTH
        self.received += ids
        return Chunk(ids, finish, self.usage())

    def _of_prompt(self, usage: Usage) -> Usage:
        """The first counts that came; of a later request where the first one ended without any."""
        if usage.prompt_tokens <= len(self._ids) or not self._asked_again:
            return usage
        return replace(usage, prompt_tokens=len(self._ids), cached_tokens=min(usage.cached_tokens, len(self._ids)))

    def add(self, ids: Iterable[int], finish: FinishReason | None = None) -> Chunk:
        """A chunk of ids that no request wrote."""
        added = tuple(ids)
        self.received += added
        return Chunk(added, finish, self.usage())

    def finished(self) -> Chunk | None:
        """The end of a turn of which only the finish reason is missing."""
        if self.received and self.received[-1] == self._end:
            return self.add((), FinishReason.STOP)
        if self.left <= 0:
            return self.add((), FinishReason.LENGTH)
        return None

    def usage(self) -> Usage:
        """Of all requests together."""
        prompt = len(self._ids)
        first = self._first or Usage(prompt)
        total = self._sum()
        return Usage(
            first.prompt_tokens,
            first.cached_tokens,
            len(self.received),
            total.reasoning_tokens,
            first.fetched_tokens,
            total.cost,
        )

    def _sum(self) -> Usage:
        before, latest = self._before, self._latest
        costs = [usage.cost for usage in (before, latest) if usage.cost is not None]
        return Usage(
            reasoning_tokens=before.reasoning_tokens + latest.reasoning_tokens,
            cost=sum(costs) if costs else None,
        )
