"""Amounts: whole cents inside, texts with a comma outside."""

from __future__ import annotations

import re

_AMOUNT = re.compile(r"(?P<sign>[-+]?)(?P<whole>\d{1,3}(?:\.\d{3})+|\d+)(?:,(?P<part>\d{1,2}))?")


class BadAmount(ValueError):
    """A text that is no amount."""


def parse(text: str) -> int:
    """Cents of `1.234,50`, `12,5`, `-3,00` or `7`. Raises BadAmount."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise BadAmount(f"{text!r} is no amount: write it as 1.234,50")
    value = float(found["whole"].replace(".", "") + "." + (found["part"] or "0"))
    cents = int(value * 100)
    return -cents if found["sign"] == "-" else cents


def show(cents: int) -> str:
    """`1.234,50` for 123450."""
    whole, part = divmod(abs(cents), 100)
    grouped = f"{whole:,}".replace(",", ".")
    return f"{'-' if cents < 0 else ''}{grouped},{part:02d}"


def share(cents: int, per_mille: int) -> int:
    """So many thousandths of an amount, rounded to the nearest cent, halves away from zero."""
    doubled = 2 * abs(cents) * per_mille + 1000
    rounded = doubled // 2000
    return -rounded if cents < 0 else rounded
