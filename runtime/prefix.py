"""Where a server's prefix cache can be hit: rules as data.

A hybrid model's recurrent state can be reused only exactly where the server kept a copy, so a prompt that begins
with a known one isn't a hit up to its last common token, but up to the last kept state before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
