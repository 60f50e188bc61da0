"""Token ids to text as they arrive: a character whose bytes are split over tokens waits for the rest of them.

Left out: everything about what the text means (`runtime.tool_calls`).
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Sequence

from runtime.tokenizer import Tokenizer


class IncrementalDecoder:
    """What `feed` and `close` return, joined, is `tokenizer.decode` of all ids, however they were cut."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._characters = getincrementaldecoder("utf-8")("replace")

    def feed(self, ids: Sequence[int]) -> str:
        """The text that is complete now; may be empty."""
        return self._characters.decode(self._tokenizer.decode_bytes(ids))

    def close(self) -> str:
        """U+FFFD when a character was left incomplete, else nothing. The decoder can be used anew afterwards."""
        rest = self._characters.decode(b"", final=True)
        self._characters.reset()
        return rest
