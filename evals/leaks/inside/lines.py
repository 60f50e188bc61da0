"""Lines of gold that nobody writes by chance, found again by salted digests: the lines themselves never come in.

A line is looked at stripped, also behind a patch's `+` or `-` and between the quotes and `\\n` of JSON. Only lines as
long as a wanted one are hashed, so that searching costs little more than splitting.
"""

import hashlib
from typing import Dict, Iterable, Set

_LONG = 300  # characters of a line that is taken for data rather than for code


class Lines:
    """The wanted lines: digest -> length in characters, both in hexadecimal and in bytes as they were sent."""

    def __init__(self, salt: bytes, wanted: Dict[str, int]) -> None:
        self._salt = salt
        self.wanted = {bytes.fromhex(digest): length for digest, length in wanted.items()}
        self._lengths = set(self.wanted.values())

    @property
    def shortest(self) -> int:
        """No smaller file holds a wanted line."""
        return min(self._lengths, default=0)

    def __bool__(self) -> bool:
        return bool(self.wanted)

    def known(self, content: bytes) -> None:
        """What the base commit holds is no gold."""
        for digest in self.found(content):
            del self.wanted[digest]
        self._lengths = set(self.wanted.values())

    def found(self, content: bytes) -> Set[bytes]:
        """Digests of the wanted lines that stand in `content`."""
        if not self.wanted:
            return set()
        lines = content.split(b"\n")
        candidates = self._fitting(lines)
        for line in lines:
            if len(line) > _LONG and (b"\\n" in line or b'"' in line):
                plain = line.replace(b'\\"', b'"').replace(b"\\t", b"\t")
                candidates |= self._fitting(plain.replace(b"\\\\", b"\\").split(b"\\n"))
                candidates |= self._fitting(line.split(b'"'))
        return {digest for digest in map(self._digest, candidates) if digest in self.wanted}

    def _fitting(self, lines: Iterable[bytes]) -> Set[bytes]:
        lengths = self._lengths
        stripped = {line.strip() for line in lines}
        fitting = {line for line in stripped if len(line) in lengths}
        for line in stripped:
            if line[:1] in (b"+", b"-"):
                inner = line[1:].strip()
                if len(inner) in lengths:
                    fitting.add(inner)
        return fitting

    def _digest(self, line: bytes) -> bytes:
        return hashlib.blake2b(line, key=self._salt, digest_size=16).digest()

    def enough(self, digests: Set[bytes]) -> bool:
        """Whether these lines together give a text away: three of them, or all of fewer when they say enough."""
        if len(digests) >= 3:
            return True
        return bool(digests) and len(digests) == len(self.wanted) and sum(self.wanted[d] for d in digests) >= 40
