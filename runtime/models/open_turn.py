"""What the end of a prompt says about the turn that is open there, read off its token ids.

A request may begin inside a turn, where a stream was cut or a budget was spent, so what holds for a turn (is this
still thinking, how much of it was there) can't be kept beside the requests. Left out: turns that are over
(`runtime.tool_calls`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from runtime.tokenizer import Tokenizer

_FIRST_LOOK: Final = 16  # ids; nearly every prompt ends with the opening of a turn


class ThinkingMarks:
    """The special tokens that begin and end thinking.

    Thinking ends with `</think>`, with the turn, and with `<tool_call>`: a model that calls in the middle of its
    thinking means the call (`docs/decisions/0001-tool-call-conventions.md`).
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Raises KeyError for a tokenizer that has no such tokens."""
        self.opens = tokenizer.special("<think>")
        self.ends = frozenset(
            tokenizer.special(text) for text in ("</think>", "<tool_call>", "<|im_end|>", "<|endoftext|>")
        )
        self._bounds = self.ends | {tokenizer.special("<|im_start|>")}

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> ThinkingMarks | None:
        """None for a tokenizer without these tokens."""
        try:
            return cls(tokenizer)
        except KeyError:
            return None

    def length(self, ids: Sequence[int]) -> int | None:
        """Tokens of thinking since the generation prompt, when `ids` end inside thinking; else None."""
        for behind, token in enumerate(_backwards(ids)):
            if token == self.opens:
                return max(0, behind - 1)  # the line break behind `<think>` belongs to the generation prompt
            if token in self._bounds:
                return None
        return None


def _backwards(ids: Sequence[int]) -> Iterator[int]:
    end, size = len(ids), _FIRST_LOOK
    while end > 0:
        start = max(0, end - size)
        yield from reversed(ids[start:end])
        end, size = start, size * 8
