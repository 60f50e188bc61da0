"""What a server says, checked before it is believed: JSON, token ids and counts.

A server may be of another version than those that we know, broken, or not a model server at all. Nothing that it
sends may end in anything but a named error. Left out: what the fields mean, which each kind of server's module knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

MOST_ID: Final = 2**20
"""More than any vocabulary has. Ours can't be the bound: models write ids of the padding of their embeddings too."""
_MOST_COUNT: Final = 2**48


def parse_json(data: bytes | str) -> Any:
    """The value. Raises ValueError for what is no JSON, and for what is nested deeper than Python reads."""
    try:
        return json.loads(data if isinstance(data, str) else data.decode())
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def parse_object(data: bytes | str) -> dict[str, Any]:
    """The JSON object. Raises ValueError for everything else."""
    value = parse_json(data)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def checked_ids(value: object) -> list[int]:
    """The token ids. Raises ValueError for what isn't a list of them."""
    if not isinstance(value, list):
        raise ValueError("the token ids are no list")
    for item in value:
        if type(item) is not int or not 0 <= item < MOST_ID:
            raise ValueError(f"{str(item)[:40]!r} is no token id")
    return value


def count(value: object) -> int:
    """A number of tokens; 0 for everything that can't be one."""
    return value if type(value) is int and 0 < value < _MOST_COUNT else 0


def fields(value: object) -> Mapping[str, Any]:
    """The object; an empty one for everything else."""
    return value if isinstance(value, dict) else {}
