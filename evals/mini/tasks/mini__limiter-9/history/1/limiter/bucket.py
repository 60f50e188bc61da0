"""Tokens that come back at a steady rate, up to a capacity."""

from __future__ import annotations

import threading
import time

SLACK = 1e-6  # of a token: sums of fractions may miss a whole one by less


class Bucket:
    """Full at first."""

    def __init__(self, rate: float, capacity: float) -> None:
        if rate <= 0 or capacity <= 0:
            raise ValueError(f"rate and capacity are above 0, not {rate} and {capacity}")
        self.rate = rate
        self.capacity = capacity
        self._tokens = float(capacity)
        self._seen = time.monotonic()
        self._lock = threading.Lock()

    def take(self, count: float = 1) -> bool:
        """Takes so many tokens if they are there; whether they were."""
        with self._lock:
            self._refill()
            if count > self._tokens + SLACK:
                return False
            self._tokens -= count
            return True

    def wait_time(self, count: float = 1) -> float:
        """Seconds until so many tokens are there, 0 if they are. ValueError if they never will be."""
        if count > self.capacity:
            raise ValueError(f"{count} tokens never fit into a bucket of {self.capacity}")
        with self._lock:
            self._refill()
            return max(0.0, (count - self._tokens) / self.rate)

    def acquire(self, count: float = 1) -> None:
        """Takes so many tokens, and waits until they are there."""
        while not self.take(count):
            time.sleep(self.wait_time(count))

    def _refill(self) -> None:
        now = time.monotonic()
        self._tokens = min(self.capacity, self._tokens + (now - self._seen) * self.rate)
        self._seen = now
