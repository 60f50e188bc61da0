"""Noticing that the model does again what has just failed.

A model that sees the same failure twice tends to go on for ever; one plain sentence gets most of them out of it.
Left out: ending a run that is stuck (`agent.limits`).
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

_KEY = "repeat"
_VOLATILE = re.compile(r"\d+\.\d+|0x[0-9a-fA-F]+")  # durations and addresses differ between equal failures


def failures_in_a_row(state: dict[str, Any], call: str, outcome: str) -> int:
    """Count this failure; 1 for a new one, n when the same call failed in the same way n times running."""
    digest = hashlib.sha256(f"{call}\0{_VOLATILE.sub('#', outcome)}".encode(errors="replace")).hexdigest()[:16]
    last = state.get(_KEY) or {}
    count = last.get("count", 0) + 1 if last.get("digest") == digest else 1
    state[_KEY] = {"digest": digest, "count": count}
    return count


def forget_failures(state: dict[str, Any]) -> None:
    """Something worked or changed, so that the same call may end otherwise."""
    state.pop(_KEY, None)
