"""Values as they are written."""

from __future__ import annotations

import re
from typing import Union

Single = Union[int, bool, str]
Value = Union[Single, list[Single]]

_PART = re.compile(r'\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^",#]*))\s*(?P<end>,|#.*|$)')
_WORDS = {"yes": True, "no": False}


def parse_value(text: str) -> Value:
    """The value of what stands behind `=`; ValueError when it is none."""
    parts: list[Single] = []
    start = 0
    while True:
        found = _PART.match(text, start)
        if found is None:
            raise ValueError(f"not a value: {text.strip()!r}")
        parts.append(_single(found))
        start = found.end()
        if found["end"] != ",":
            return parts if len(parts) > 1 else parts[0]


def _single(found: re.Match[str]) -> Single:
    if found["quoted"] is not None:
        return re.sub(r"\\(.)", r"\1", found["quoted"])
    plain = found["plain"].strip()
    if re.fullmatch(r"[-+]?\d+", plain):
        return int(plain)
    return _WORDS.get(plain, plain)
