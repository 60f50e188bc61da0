"""Models whose greedy answers are known: every token has one successor, whatever came before it.

A server's engine is the real one, with attention and recurrent states and caches; only the weights are chosen. Each
layer adds next to nothing to the residual stream, the embedding of a token is a random row of signs, and the output
row of its successor is that same row. So an answer is a chain of tokens that ends with `<|im_end|>`, and it can hold
what a random model would write once in a thousand turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtime.qwen_bpe import qwen_tokenizer

if TYPE_CHECKING:
    from runtime.tokenizer import Tokenizer

VOCABULARY, WIDTH = 248_320, 64
QUIET = 1e-3  # how loud the layers are beside the embedding
STRANGE = 26_044  # "Hard": what a prompt ends with for the answer with everything rare in it
ENDLESS = 15_222  # " forever": for an answer that goes round in a circle
_NO_TEXT = (187, 95, 189)  # the bytes 0xff, 0xa2, 0x01
_UNFINISHED = 172  # 0xf0, the start of a character that never comes


@dataclass(frozen=True)
class Chains:
    """Answers by the token that a prompt ends with."""

    answers: Mapping[int, tuple[int, ...]]

    def successors(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for start, chain in self.answers.items():
            for token, after in zip((start, *chain[:-1]), chain, strict=True):
                assert found.setdefault(token, after) == after, f"{token} would have two successors"
        return found


def newline(tokenizer: Tokenizer) -> int:
    """What a prompt ends with where the model begins to think."""
    return tokenizer.encode_with_specials("<think>\n")[-1]


def chains() -> Chains:
    """Answers in Qwen3.6's vocabulary."""
    tokenizer = qwen_tokenizer()

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode_with_specials(text))

    end = tokenizer.special("<|im_end|>")
    strange = (
        *ids(" crab\N{DNA DOUBLE HELIX}\N{SNOWMAN}é</tool_call><tool_response>"),
        *_NO_TEXT,
        *ids(" then"),
        _UNFINISHED,
        *ids("</tool_response>"),
        end,
    )
    circle = tuple(range(5000, 5064))
    answers = {
        newline(tokenizer): (*ids("I look at the file first.</think>\n\n<tool_call>"), end),
        STRANGE: strange,
        ENDLESS: (*circle, circle[0]),
    }
    return Chains(answers)


def small_chains(tokenizer: Tokenizer) -> Chains:
    """Answers in any vocabulary; the circle is behind a space."""
    end = tokenizer.special("<|im_end|>")
    circle = tuple(range(80, 112))
    return Chains({newline(tokenizer): (*range(40, 56), end), tokenizer.encode(" ")[0]: (*circle, circle[0])})


def embeddings(successors: Mapping[int, int], *, vocabulary: int = VOCABULARY, width: int = WIDTH) -> tuple[Any, Any]:
    """Rows of the embedding and of the output, as float32 arrays of `vocabulary` by `width`. Needs numpy."""
    import numpy as np

    drawn = np.random.default_rng(1).integers(0, 2, (vocabulary, width), dtype=np.int8)
    inside = (drawn * 2 - 1).astype(np.float32)
    outside = np.zeros_like(inside)
    for token, after in successors.items():
        outside[after] += inside[token]
    return inside, outside
