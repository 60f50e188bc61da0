"""Qwen3.5's and Qwen3.6's tokenizer: byte-level BPE that loads in milliseconds and a few megabytes.

It gives the ids that the reference implementation gives, except that text isn't normalised: what a tool printed
is what the model reads, byte for byte, so that an edit that quotes it matches (`docs/decisions/0002-tokenizer.md`).

Left out: the vocabulary's storage (`runtime.bpe_vocabulary`), training, and other families' patterns.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from functools import cache
from heapq import heapify, heappop, heappush
from itertools import chain
from typing import Final

import regex  # type: ignore[import-untyped]

from runtime.bpe_vocabulary import QWEN36, Vocabulary, load_vocabulary

PIECE_PATTERN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)
"""How text is cut before byte pairs are merged."""

_PIECE: Final = regex.compile(PIECE_PATTERN)

SPECIAL_TOKENS: Final = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<tts_pad>",
    "<tts_text_bos>",
    "<tts_text_eod>",
    "<tts_text_bos_single>",
    "<|audio_pad|>",
)
"""The added tokens in the order of their ids, which follow the last rank."""

_WINDOW: Final = 1 << 16  # characters that are cut into pieces at once; bounds the memory of a long text
_SAFE_CUT: Final = regex.compile(r"\n(?=\S)")  # no piece reaches from a newline into what isn't white space
_CACHED_PIECES: Final = 1 << 14
_CACHED_LENGTH: Final = 64  # characters; longer pieces seldom come back
_SHORT: Final = 96  # bytes; up to here scanning for the best pair is faster than a heap
_NO_RANK: Final = (1 << 31) - 1  # what -1 becomes under this mask: behind every rank


class QwenBPE:
    """A `Tokenizer` over a compiled vocabulary. Safe to share between threads."""

    def __init__(self, vocabulary: Vocabulary, *, name: str = QWEN36.name) -> None:
        self._vocabulary = vocabulary
        self._name = name
        self._specials = {text: len(vocabulary) + index for index, text in enumerate(SPECIAL_TOKENS)}
        self._special_bytes = {id_: text.encode() for text, id_ in self._specials.items()}
        self._special = re.compile("(" + "|".join(map(re.escape, SPECIAL_TOKENS)) + ")")
        self._pieces = _PieceCache(vocabulary)

    @property
    def name(self) -> str:
        return self._name

    @property
    def n_vocab(self) -> int:
        """One more than the highest id that has a meaning; a model's embedding may be padded beyond."""
        return len(self._vocabulary) + len(SPECIAL_TOKENS)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; what spells a special token becomes ordinary tokens. A lone surrogate reads as U+FFFD."""
        ids_of = self._pieces.__getitem__
        if len(text) <= _WINDOW:
            return list(chain.from_iterable(map(ids_of, _PIECE.findall(_valid(text)))))
        ids: list[int] = []
        for window in _windows(text):
            ids.extend(chain.from_iterable(map(ids_of, _PIECE.findall(_valid(window)))))
        return ids

    def encode_with_specials(self, text: str) -> list[int]:
        """Ids of `text` with each spelled special token as itself."""
        ids: list[int] = []
        for index, part in enumerate(self._special.split(text)):
            if index % 2:
                ids.append(self._specials[part])
            elif part:
                ids += self.encode(part)
        return ids

    def special(self, text: str) -> int:
        """Id of a special token; KeyError for any other text."""
        return self._specials[text]

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Bytes of the ids; an id without a meaning, such as one of the embedding's padding, reads as U+FFFD."""
        return self._vocabulary.join(ids, self._special_bytes)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids, undecodable bytes replaced by U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")


@cache
def qwen_tokenizer() -> QwenBPE:
    """The tokenizer of Qwen3.5 and Qwen3.6, one per process. Raises `VocabularyError` when its list is missing."""
    return QwenBPE(load_vocabulary(QWEN36))


class _PieceCache(dict[str, tuple[int, ...]]):
    """Pieces to ids, computed when asked for; forgets everything when it is full."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self._vocabulary = vocabulary

    def __missing__(self, piece: str) -> tuple[int, ...]:
        token = piece.encode()
        rank = self._vocabulary.rank(token)
        if rank >= 0:
            ids: tuple[int, ...] = (rank,)
        elif len(token) <= _SHORT:
            ids = _merge_short(self._vocabulary, token)
        else:
            ids = _merge_long(self._vocabulary, token)
        if len(piece) <= _CACHED_LENGTH:
            if len(self) >= _CACHED_PIECES:
                self.clear()
            self[piece] = ids
        return ids


def _windows(text: str) -> Iterator[str]:
    """Text in parts that are cut into pieces as the whole would be."""
    start = 0
    while len(text) - start > _WINDOW and (cut := _SAFE_CUT.search(text, start + _WINDOW)):
        yield text[start : cut.end()]
        start = cut.end()
    yield text[start:]


def _valid(text: str) -> str:
    """Text that UTF-8 can hold: surrogate pairs joined, lone ones replaced."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _merge_short(vocabulary: Vocabulary, piece: bytes) -> tuple[int, ...]:
    """Join the neighbours of the lowest rank, leftmost first, until no two make a token."""
    rank_of = vocabulary.rank
    parts = [piece[i : i + 1] for i in range(len(piece))]
    ranks = [rank_of(piece[i : i + 2]) & _NO_RANK for i in range(len(piece) - 1)]
    while ranks and (best := min(ranks)) != _NO_RANK:
        i = ranks.index(best)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
        del ranks[i]
        if i:
            ranks[i - 1] = rank_of(parts[i - 1] + parts[i]) & _NO_RANK
        if i < len(ranks):
            ranks[i] = rank_of(parts[i] + parts[i + 1]) & _NO_RANK
    return tuple(map(rank_of, parts))


def _merge_long(vocabulary: Vocabulary, piece: bytes) -> tuple[int, ...]:
    """The same as `_merge_short` in O(n log n): a heap of pairs over a linked list of parts."""
    size, longest = len(piece), vocabulary.longest
    after = array("q", range(1, size + 1))  # where the part that begins here ends
    before = array("q", range(-1, size - 1))  # where the part before this one begins
    known: dict[bytes, int] = {}

    def pair_rank(start: int) -> int:
        middle = after[start]
        end = after[middle] if middle < size else size + longest
        if end - start > longest:
            return _NO_RANK
        pair = piece[start:end]
        if (rank := known.get(pair)) is None:
            rank = known[pair] = vocabulary.rank(pair) & _NO_RANK
        return rank

    ranks = array("q", [pair_rank(start) for start in range(size)])
    heap = [ranks[start] << 32 | start for start in range(size) if ranks[start] != _NO_RANK]
    heapify(heap)
    while heap:
        rank, start = divmod(heappop(heap), 1 << 32)
        if ranks[start] != rank:
            continue  # one of the two was joined with another since
        middle = after[start]
        end = after[start] = after[middle]
        ranks[middle] = _NO_RANK
        if end < size:
            before[end] = start
        for changed in (start, before[start]):
            if changed >= 0:
                ranks[changed] = pair_rank(changed)
                if ranks[changed] != _NO_RANK:
                    heappush(heap, ranks[changed] << 32 | changed)
    ids, start = [], 0
    while start < size:
        ids.append(vocabulary.rank(piece[start : after[start]]))
        start = after[start]
    return tuple(ids)
