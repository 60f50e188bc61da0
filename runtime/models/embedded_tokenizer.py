"""The tokenizer that comes with a checkpoint (`tokenizer.json`, byte-level BPE) as our `Tokenizer`.

Two encoders are made from one file. One knows the added tokens and is for text that we or the model wrote.
The other has no added tokens at all, so that no text can spell one: the library's own switch for this
(`encode_special_tokens`) covers only tokens marked special, and `<think>` or `<tool_call>` aren't.

Qwen's file asks for NFC normalisation. It is dropped here: a tool may print a decomposed file name, and a
model that is shown the composed one would name a file that doesn't exist. Text in NFC, which is nearly all,
gets the same ids either way.

Left out: chat templates (`runtime.chat`) and tokenizers that aren't byte-level.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.models.base import ModelRefused

_UNKNOWN = "\N{REPLACEMENT CHARACTER}".encode()


class CheckpointTokenizer:
    """Lossless `Tokenizer` over the text of a `tokenizer.json`. Safe for several threads."""

    def __init__(self, source: str, *, where: str) -> None:
        """`source` is the file's text, `where` names it in errors. Raises `ModelRefused` for another kind."""
        spec = _parse(source, where)
        self._name = "json-" + hashlib.sha256(source.encode()).hexdigest()[:12]
        added = {str(token["content"]): int(token["id"]) for token in spec.get("added_tokens") or ()}
        self._special_ids = added
        self._bytes_of = {number: text.encode() for text, number in added.items()}
        self._byte_of_letter = {letter: value for value, letter in enumerate(byte_letters())}
        self._with_specials = _encoder(spec, where)
        self._without_specials = _encoder({**spec, "added_tokens": []}, where)

    @classmethod
    def from_file(cls, path: Path) -> CheckpointTokenizer:
        return cls(path.read_text(encoding="utf-8"), where=str(path))

    @property
    def name(self) -> str:
        return self._name

    @property
    def vocabulary_size(self) -> int:
        """One more than the greatest id; the checkpoint's embedding may have more rows than this."""
        vocabulary: dict[str, int] = self._with_specials.get_vocab(with_added_tokens=True)
        return 1 + max(vocabulary.values())

    def encode(self, text: str) -> list[int]:
        return _ids(self._without_specials, text)

    def encode_with_specials(self, text: str) -> list[int]:
        return _ids(self._with_specials, text)

    def special(self, text: str) -> int:
        return self._special_ids[text]

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return b"".join([self._bytes_of.get(number) or self._look_up(number) for number in ids])

    def decode(self, ids: Sequence[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def _look_up(self, number: int) -> bytes:
        token = self._with_specials.id_to_token(number) if number >= 0 else None
        # Rows that pad the embedding have no text; a model that picks one is shown as writing nonsense.
        data = _UNKNOWN if token is None else bytes([self._byte_of_letter[letter] for letter in token])
        self._bytes_of[number] = data
        return data


def byte_letters() -> list[str]:
    """The letter that byte-level vocabularies write for each of the 256 bytes.

    Printable Latin-1 stands for itself; the others take the code points from U+0100 on, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (value for value in range(256) if value not in printable)
    shifted = {value: chr(0x100 + index) for index, value in enumerate(others)}
    return [shifted.get(value, chr(value)) for value in range(256)]


def _parse(source: str, where: str) -> dict[str, Any]:
    try:
        spec = json.loads(source)
    except ValueError as error:
        raise ModelRefused(f"{where} isn't JSON ({error}). Fetch tokenizer.json again.") from error
    if not isinstance(spec, dict) or "ByteLevel" not in json.dumps(spec.get("decoder")):
        raise ModelRefused(f"{where} isn't a byte-level tokenizer. Use a checkpoint that has Qwen's kind of tokenizer.")
    return spec


def _encoder(spec: dict[str, Any], where: str) -> Any:
    from tokenizers import Tokenizer

    plain = {**spec, "normalizer": None, "post_processor": None, "truncation": None, "padding": None}
    try:
        return Tokenizer.from_str(json.dumps(plain, ensure_ascii=False))
    except Exception as error:  # the library raises plain Exception for every fault in a file
        raise ModelRefused(f"{where} can't be read by the tokenizers library: {error}") from error


def _ids(encoder: Any, text: str) -> list[int]:
    # Lone surrogates have no bytes; they come from broken output and are shown as the model would see them.
    clean = text.encode("utf-8", "replace").decode() if not text.isascii() else text
    ids: list[int] = encoder.encode(clean, add_special_tokens=False).ids
    return ids
