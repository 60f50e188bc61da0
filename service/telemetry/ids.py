"""Ids of traces and spans, made of what they are about: every process knows them without being told.

A request's trace has the id that its own id gives, and a run's spans those of their places in its log. Left out:
spans (`service.telemetry.traces`).
"""

from __future__ import annotations

import hashlib


def trace_id(request: str) -> str:
    """32 hexadecimal digits."""
    return hashlib.sha256(f"trace {request}".encode()).hexdigest()[:32]


def span_id(*parts: object) -> str:
    """16 hexadecimal digits."""
    return hashlib.sha256(" ".join(map(str, ("span", *parts))).encode()).hexdigest()[:16]
