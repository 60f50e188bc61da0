"""Secrets are taken out of what is written for people: those this process was given, and whatever looks like one.

Known values are looked for as they are, as base64 and as parts of addresses; others by the shapes that forges, our own
API and servers give theirs. Left out: keeping secrets from where they shouldn't be in the first place
(`agent.forges.base.Secret`); this is the net below.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus, unquote

HIDDEN: Final = "[hidden]"
_SHORTEST: Final = 8  # characters; a shorter value would be found in ordinary words
_NAMED: Final = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY|APP_KEY|PRIVATE|CREDENTIAL", re.IGNORECASE)
_USERINFO: Final = re.compile(r"://([^/@\s]*):([^/@\s]+)@")
_SHAPES: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\bgh[a-z]_[A-Za-z0-9_]{10,}"  # tokens of people, Apps, installations
    r"|\bgithub_pat_[A-Za-z0-9_]{10,}"
    r"|\bpw_[0-9a-f]{12}_[A-Za-z0-9_-]{20,}"  # our API's
    r"|\bsk-[A-Za-z0-9_-]{16,}"  # of hosts of models
    r"|\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*"  # JWT
    r"|(?P<kept>\b(?:Bearer|Basic|token)\s+)[A-Za-z0-9._~+/=-]{10,}"
    r"|(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,20}://)[^/@\s'\"]+@",
    re.IGNORECASE,
)


class Redactor:
    """Takes known values and shapes of secrets out of texts. Safe for any thread."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        return _SHAPES.sub(_hidden, text)


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """The values of variables that are secrets by their names, of the files they name, and passwords in addresses.

    A file that can't be read holds none: whoever needs it says so.
    """
    found: list[str] = []
    for name, value in environment.items():
        found += [unquote(match[2]) for match in _USERINFO.finditer(value)]
        found += [match[2] for match in _USERINFO.finditer(value)]
        if name.startswith("OTEL_") and name.endswith("HEADERS"):
            found += [unquote(pair.partition("=")[2].strip()) for pair in value.split(",")]
        elif _NAMED.search(name):
            found.append(_file(value) if name.endswith("_FILE") else value)
        elif name == "PATCHWRIGHT_DATABASE_FILE":
            found += [match[2] for match in _USERINFO.finditer(_file(value))]
    return [value.strip() for value in found if len(value.strip()) >= _SHORTEST]


def _file(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError):
        return ""


def _forms(secret: str) -> Iterator[str]:
    """A value as it may turn up; of a text of several lines, such as a key, each line."""
    lines = [line.strip() for line in secret.splitlines()] if "\n" in secret else []
    for value in (secret.strip(), *(line for line in lines if len(line) >= 24 and not line.startswith("-----"))):
        if len(value) < _SHORTEST:
            continue
        plain = value.encode("utf-8", "surrogateescape")
        yield value
        yield quote(value, safe="", errors="surrogateescape")
        yield quote_plus(value, errors="surrogateescape")
        yield base64.b64encode(plain).decode().rstrip("=")
        yield base64.urlsafe_b64encode(plain).decode().rstrip("=")


def _hidden(match: re.Match[str]) -> str:
    if match["scheme"]:
        return f"{match['scheme']}{HIDDEN}@"
    return f"{match['kept'] or ''}{HIDDEN}"
