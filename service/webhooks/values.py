"""Looks into JSON that somebody else wrote: each value has the type, size and form that is asked for, or is told off.

Left out: what the values mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from agent.forges.base import Person

MAX_TEXT: Final = 65_536  # characters: GitHub's limit for a body
_LARGEST: Final = 2**63 - 1  # of a database's integers
_SLUG = re.compile(r"(?!\.{1,2}/)[A-Za-z0-9_.-]{1,100}/(?!\.{1,2}$)[A-Za-z0-9_.-]{1,100}")
_LOGIN = re.compile(r"[A-Za-z0-9_.-]{1,100}(\[bot\])?")
_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_NOT_TEXT = re.compile(r"[\x00\ud800-\udfff]")


def as_text(found: str) -> str:
    """What neither UTF-8 nor a database can hold is replaced."""
    return _NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", found)


class Malformed(Exception):
    """A value is missing or isn't what it should be; the message says which."""


class Value:
    """A mapping of the payload, and where it lies."""

    def __init__(self, found: Mapping[Any, Any], path: str = "") -> None:
        self._found, self._path = found, path

    @classmethod
    def of(cls, payload: Any) -> Value:
        if not isinstance(payload, Mapping):
            raise Malformed("the payload isn't a JSON object")
        return cls(payload)

    def _malformed(self, key: str, wanted: str) -> Malformed:
        return Malformed(f"`{self._path}{key}` isn't {wanted}")

    def has(self, key: str) -> bool:
        return self._found.get(key) is not None

    def maybe(self, key: str) -> Value | None:
        """The mapping below, or None where there is none."""
        found = self._found.get(key)
        return Value(found, f"{self._path}{key}.") if isinstance(found, Mapping) else None

    def at(self, key: str) -> Value:
        found = self.maybe(key)
        if found is None:
            raise self._malformed(key, "an object")
        return found

    def each(self, key: str, most: int) -> Iterator[Value]:
        """The mappings in a list, at most so many."""
        found = self._found.get(key)
        for place, one in enumerate(found[:most] if isinstance(found, list) else ()):
            if isinstance(one, Mapping):
                yield Value(one, f"{self._path}{key}[{place}].")

    def number(self, key: str) -> int:
        found = self.maybe_number(key)
        if found is None:
            raise self._malformed(key, "a positive number")
        return found

    def maybe_number(self, key: str) -> int | None:
        found = self._found.get(key)
        return found if type(found) is int and 0 < found <= _LARGEST else None

    def flag(self, key: str) -> bool:
        return self._found.get(key) is True

    def text(self, key: str, most: int = MAX_TEXT) -> str:
        """Any text as `as_text` gives it, empty where there is none."""
        found = self._found.get(key)
        return as_text(found[:most]) if isinstance(found, str) else ""

    def slug(self, key: str) -> str:
        return self._formed(key, _SLUG, "a repository's owner/name")

    def sha(self, key: str) -> str:
        return self._formed(key, _SHA, "a commit's hash")

    def maybe_sha(self, key: str) -> str | None:
        found = self.text(key, 100)
        return found if _SHA.fullmatch(found) else None

    def _formed(self, key: str, form: re.Pattern[str], wanted: str) -> str:
        found = self._found.get(key)
        if not isinstance(found, str) or not form.fullmatch(found):
            raise self._malformed(key, wanted)
        return found

    def time(self, *keys: str) -> str:
        """The first of these times that is there, to the second, in UTC. GitHub writes ISO 8601 or seconds."""
        for key in keys:
            if self.has(key):
                return self._time(key)
        raise self._malformed(keys[0], "a time")

    def _time(self, key: str) -> str:
        found = self._found[key]
        try:
            moment = datetime.fromtimestamp(found, UTC) if type(found) is int else datetime.fromisoformat(found)
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, TypeError, OverflowError, OSError):
            raise self._malformed(key, "a time") from None
        return f"{moment.year:04}{moment:-%m-%dT%H:%M:%SZ}"

    def person(self, key: str) -> Person | None:
        """An account; None for one that was deleted."""
        if not self.has(key):
            return None
        found = self.at(key)
        login = found._formed("login", _LOGIN, "an account's name")
        bot = found.text("type", 40) == "Bot" or login.endswith("[bot]")
        return Person(id=found.number("id"), login=login, bot=bot)
