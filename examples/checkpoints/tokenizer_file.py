"""Writes `tokenizer.json`: byte-level BPE of Qwen's kind, trained on texts or with Qwen3.6's own vocabulary.

Qwen3.6's vocabulary comes from a package as a list of tokens by rank (`runtime.bpe_vocabulary`), with which our own
tokenizer works. A server wants the `tokenizers` library's file, which holds the vocabulary once more as merges.
Tested to give the same ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from runtime import qwen_bpe
from runtime.bpe_vocabulary import QWEN36
from runtime.models.embedded_tokenizer import byte_letters


def train(
    texts: Iterable[str], file: Path, *, vocabulary_size: int, specials: Sequence[str], min_frequency: int = 0
) -> None:
    """A vocabulary made for the texts, of at most `vocabulary_size` tokens without the special ones."""
    from tokenizers import pre_tokenizers, trainers
    from tokenizers.models import BPE

    tokenizer = _of_qwens_kind(BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=min_frequency,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    _save(tokenizer, specials, file)


def save_qwen36(file: Path) -> None:
    """Qwen3.6's tokenizer (33 MB)."""
    from tokenizers.models import BPE

    written, merges = qwen36_vocabulary()
    model = BPE({text: rank for rank, text in enumerate(written)}, merges, fuse_unk=False)
    _save(_of_qwens_kind(model), qwen_bpe.SPECIAL_TOKENS, file)


def qwen36_vocabulary() -> tuple[list[str], list[tuple[str, str]]]:
    """The ordinary tokens by rank, in the letters that stand for bytes, and the pairs that are joined, in order."""
    tokenizer, letters = qwen_bpe.qwen_tokenizer(), byte_letters()
    tokens = [tokenizer.decode_bytes([rank]) for rank in range(QWEN36.tokens)]
    written = ["".join([letters[byte] for byte in token]) for token in tokens]
    return written, list(_merges(tokens, written))


def _merges(tokens: list[bytes], written: list[str]) -> Iterator[tuple[str, str]]:
    """Every pair that joins to a token, in the order in which the joined tokens come.

    Ranks join any two neighbours that make a token, so a token's file needs all its pairs and not only the one
    that training found.
    """
    rank_of = {token: rank for rank, token in enumerate(tokens)}
    for token in tokens:
        pairs = ((rank_of.get(token[:cut]), rank_of.get(token[cut:])) for cut in range(1, len(token)))
        for left, right in sorted((left, right) for left, right in pairs if left is not None and right is not None):
            yield written[left], written[right]


def _of_qwens_kind(model: Any) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(qwen_bpe.PIECE_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _save(tokenizer: Any, specials: Sequence[str], file: Path) -> None:
    from tokenizers import AddedToken

    # As in Qwen's file: the <|...|> are special, <think> and its kin are added tokens that aren't.
    tokenizer.add_tokens([AddedToken(text, special=text[1] == "|", normalized=False) for text in specials])
    tokenizer.save(str(file))
