"""Rows out of a local file: JSON Lines, JSON or Parquet, plain or in .xz, .gz or .bz2; streamed and bounded.

A line that can't be read is handed on as a reason in its row's place, so that the rest goes on. A file that breaks off
(a torn archive) ends with such a reason.

Left out: what the fields of a row mean (`instance`).
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

MAX_LINE: Final = 64 << 20
"""Bytes of one row; the longest in public sets has about 5 MB."""
MAX_FILE: Final = 2 << 30
"""Bytes that a packed file may unfold to, and bytes of a JSON file, which has to be held whole."""

_OPENERS: Final = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
_KINDS: Final = (".jsonl", ".json", ".parquet")


class DatasetUnusable(Exception):
    """The whole data set can't be read; the message says what to do."""


@dataclass(frozen=True)
class Raw:
    """A row as it came, or why there is none. `place` counts lines (JSON Lines) or rows (others) from 1."""

    place: int
    value: Any = None
    broken: str = ""


def kind_of(path: Path) -> str:
    """.jsonl, .json or .parquet, by the name without what it is packed in. DatasetUnusable for others."""
    suffix = Path(path.stem).suffix if path.suffix in _OPENERS else path.suffix
    if suffix not in _KINDS:
        raise DatasetUnusable(
            f"{path} is no data set by its name: it should end in {', '.join(_KINDS)}, or with .xz, .gz"
        )
    return suffix


def read_rows(path: Path) -> Iterator[Raw]:
    """The rows of `path` in order. DatasetUnusable when nothing of it can be read."""
    kind = kind_of(path)
    if not path.is_file():
        raise DatasetUnusable(f"there is no file {path}: give a .jsonl, .json or .parquet file, or the name of a set")
    try:
        with _open(path) as file:
            if kind == ".jsonl":
                yield from _lines(file)
            elif kind == ".json":
                yield from _array(file, path)
            else:
                yield from _parquet(path if path.suffix == ".parquet" else _unfolded(file))
    except PermissionError as error:
        raise DatasetUnusable(f"{path} can't be read: {error.strerror}") from error


def _open(path: Path) -> IO[bytes]:
    return _OPENERS.get(path.suffix, open)(path, "rb")  # type: ignore[operator,no-any-return]


def _lines(file: IO[bytes]) -> Iterator[Raw]:
    place, total = 0, 0
    while True:
        place += 1
        try:
            line = file.readline(MAX_LINE + 1)
            total += len(line)
            if len(line) > MAX_LINE and not line.endswith(b"\n"):
                yield Raw(place, broken=f"the line is longer than {MAX_LINE >> 20} MB")
                total += _skip_line(file)
                continue
        except (OSError, EOFError, lzma.LZMAError) as error:
            yield Raw(place, broken=f"the file can't be read further: {error}")
            return
        if not line:
            return
        if total > MAX_FILE:
            yield Raw(place, broken=f"the file holds more than {MAX_FILE >> 30} GB; what follows was not read")
            return
        if line.strip():
            yield _parsed(line, place)


def _skip_line(file: IO[bytes]) -> int:
    skipped = 0
    while skipped < MAX_FILE:
        piece = file.readline(1 << 20)
        skipped += len(piece)
        if not piece or piece.endswith(b"\n"):
            break
    return skipped


def _parsed(line: bytes, place: int) -> Raw:
    try:
        return Raw(place, json.loads(line))
    except RecursionError:
        return Raw(place, broken="not JSON that can be read: nested too deeply")
    except ValueError as error:
        return Raw(place, broken=f"not JSON: {error}")


def _array(file: IO[bytes], path: Path) -> Iterator[Raw]:
    """A list of rows, or an object of rows by id."""
    try:
        data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise DatasetUnusable(f"{path} holds more than {MAX_FILE >> 30} GB of JSON: make JSON Lines of it")
        rows = json.loads(data)
    except (OSError, EOFError, lzma.LZMAError, ValueError, RecursionError) as error:
        raise DatasetUnusable(f"{path} is no JSON that can be read: {error}") from error
    if isinstance(rows, dict):
        rows = [rows] if "instance_id" in rows else list(rows.values())
    if not isinstance(rows, list):
        raise DatasetUnusable(f"{path} holds neither a list of rows nor an object of them")
    for place, row in enumerate(rows, 1):
        yield Raw(place, row)


def _unfolded(file: IO[bytes]) -> IO[bytes]:
    """Parquet is read from its end, so a packed one is unfolded into a file without a name."""
    whole = tempfile.TemporaryFile()  # noqa: SIM115 - the caller reads it
    size = 0
    try:
        while piece := file.read(1 << 20):
            size += len(piece)
            if size > MAX_FILE:
                raise DatasetUnusable(f"the packed Parquet file unfolds to more than {MAX_FILE >> 30} GB")
            whole.write(piece)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DatasetUnusable(f"the packed Parquet file can't be unfolded: {error}") from error
    whole.seek(0)
    return whole


def _parquet(source: Path | IO[bytes]) -> Iterator[Raw]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise DatasetUnusable("Parquet needs pyarrow: pip install 'patchwright[evals]'") from None
    place = 0
    try:
        with closing(parquet.ParquetFile(source)) as file:
            for batch in file.iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    place += 1
                    yield Raw(place, row)
    except (pyarrow.ArrowException, OSError) as error:
        if not place:
            raise DatasetUnusable(f"not a Parquet file that can be read: {error}") from error
        yield Raw(place + 1, broken=f"the file can't be read further: {error}")
