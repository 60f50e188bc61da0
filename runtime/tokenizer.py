"""What the runtime needs of a tokenizer, and nothing of how one is built.

Implementations: `runtime.qwen_bpe` (Qwen3.5/3.6's vocabulary, compact and quick to load) and the
tokenizer that comes with an in-process checkpoint (`runtime.models.embedded`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Tokenizer(Protocol):
    """Text to token ids and back, lossless for text that is valid Unicode."""

    @property
    def name(self) -> str:
        """Stable name that goes into the event log, e.g. `qwen3.6`."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of `text` with every special token disallowed: `<|im_end|>` in it becomes ordinary tokens."""
        ...

    def encode_with_specials(self, text: str) -> list[int]:
        """Ids of text that we or the model wrote, in which special tokens mean themselves."""
        ...

    def special(self, text: str) -> int:
        """Id of one special token, e.g. `<|im_end|>`. Raises KeyError for a text that is none."""
        ...

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Bytes of the ids; specials as their text. A partial character at either end stays as it is."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """`decode_bytes` as UTF-8, undecodable bytes replaced by U+FFFD."""
        ...
