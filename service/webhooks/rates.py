"""How often a repository or a person may ask: token buckets, in memory, for a bounded number of them.

A restart forgets them, which lets a burst through and nothing worse. Left out: limits on deliveries that ask for
nothing, which cost next to nothing, and on repeated ones, whose sender must be answered.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

_MOST: Final = 10_000  # buckets of one limit; the longest unused one is forgotten, and would be full by then


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a minute on the long run, and so many at once."""

    a_minute: int
    burst: int


@dataclass(slots=True)
class _Bucket:
    tokens: float
    seen: float


class RateLimit:
    """One limit for many who ask, each with a bucket of their own."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def wait(self, who: Hashable) -> float:
        """Seconds until this one may ask; 0: now."""
        return max(0.0, 1.0 - self._filled(who).tokens) * 60.0 / self._rate.a_minute

    def take(self, who: Hashable, count: float = 1.0) -> None:
        """Counts what was asked; a negative number gives back."""
        bucket = self._filled(who)
        bucket.tokens = min(float(self._rate.burst), bucket.tokens - count)

    def _filled(self, who: Hashable) -> _Bucket:
        moment = self._clock()
        bucket = self._buckets.get(who)
        if bucket is None:
            bucket = self._buckets[who] = _Bucket(float(self._rate.burst), moment)
            if len(self._buckets) > _MOST:
                self._buckets.popitem(last=False)
        gained = (moment - bucket.seen) * self._rate.a_minute / 60.0
        bucket.tokens, bucket.seen = min(float(self._rate.burst), bucket.tokens + gained), moment
        self._buckets.move_to_end(who)
        return bucket


class RateLimits:
    """Several limits that all have to allow it."""

    def __init__(self, limits: Sequence[RateLimit]) -> None:
        self._limits = limits

    def take(self, who: Sequence[Hashable]) -> float:
        """Takes one from each and gives 0, or takes none and gives the seconds to wait."""
        pairs = list(zip(self._limits, who, strict=True))
        longest = max(limit.wait(one) for limit, one in pairs)
        if longest == 0.0:
            for limit, one in pairs:
                limit.take(one)
        return longest

    def give_back(self, who: Sequence[Hashable]) -> None:
        for limit, one in zip(self._limits, who, strict=True):
            limit.take(one, -1.0)
