"""An immutable sequence of token ids that grows without being copied.

`Ids.extended` gives a longer sequence that shares its storage with the shorter one; only where two sequences grow
apart is anything copied. The ids as JSON text are kept beside them, so that a request pays for what is new.

Left out: what the ids mean (`runtime.transcript`). Not made for several threads at once.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import eq
from typing import Final, overload

_TYPE: Final = "i"


class _Tape:
    """Ids that several sequences share; each knows how much of it is its own. Only ever appended to."""

    __slots__ = ("chunks", "stops", "values")

    def __init__(self) -> None:
        self.values = array(_TYPE)
        self.chunks: list[bytes] = []  # JSON of the ids up to each stop; all but the first begin with a comma
        self.stops: list[int] = []

    def copy(self, length: int) -> _Tape:
        tape, chunks = _Tape(), bisect_right(self.stops, length)
        tape.values = self.values[:length]
        tape.chunks, tape.stops = self.chunks[:chunks], self.stops[:chunks]
        return tape


class Ids(Sequence[int]):
    """Token ids; equal to every sequence of the same integers, not hashable."""

    __slots__ = ("_length", "_tape")

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._tape = _Tape()
        self._tape.values.extend(ids)
        self._length = len(self._tape.values)

    def extended(self, ids: Iterable[int]) -> Ids:
        """These ids and then those, in time proportional to those unless another sequence grew from this one.

        Raises TypeError or OverflowError, before anything has changed, for what isn't an integer of 32 bits.
        """
        added = array(_TYPE, ids)
        tape = self._tape if len(self._tape.values) == self._length else self._tape.copy(self._length)
        tape.values.extend(added)
        longer = Ids.__new__(Ids)
        longer._tape, longer._length = tape, self._length + len(added)
        return longer

    def json(self) -> bytes:
        """The ids as a JSON array without spaces."""
        return b"".join(self.json_parts())

    def json_parts(self) -> list[bytes]:
        """What `json` joins. All but the ids that are new since the last call is shared, not copied."""
        tape, length = self._tape, self._length
        known = bisect_right(tape.stops, length)
        parts = [b"[", *tape.chunks[:known]]
        start = tape.stops[known - 1] if known else 0
        if start < length:
            comma = "," if start else ""
            chunk = (comma + ",".join(map(str, tape.values[start:length]))).encode()
            parts.append(chunk)
            if known == len(tape.stops):
                tape.chunks.append(chunk)
                tape.stops.append(length)
        parts.append(b"]")
        return parts

    def __len__(self) -> int:
        return self._length

    def tobytes(self) -> bytes:
        """The ids as 32-bit integers of this machine, one after another: one copy of memory."""
        return memoryview(self._tape.values)[: self._length].tobytes()

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[int, ...]: ...
    def __getitem__(self, index: int | slice) -> int | tuple[int, ...]:
        if isinstance(index, slice):
            start, stop, step = index.indices(self._length)
            if step > 0:
                return tuple(self._tape.values[start:stop:step])
            return tuple(map(self._tape.values.__getitem__, range(start, stop, step)))
        if not -self._length <= index < self._length:
            raise IndexError(f"Index {index} is outside of {self._length} ids.")
        return self._tape.values[index % self._length]

    def __iter__(self) -> Iterator[int]:
        return islice(self._tape.values, self._length)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Ids) and other._tape is self._tape:
            return other._length == self._length
        if not isinstance(other, Sequence | array) or isinstance(other, str | bytes):
            return NotImplemented
        return len(other) == self._length and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(str, self[:8])) + (", ..." if self._length > 8 else "")
        return f"<Ids: {self._length} [{shown}]>"
