"""The code of a number: base 32, and a check character."""

from __future__ import annotations

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CHECKS = ALPHABET + "*~$=U"  # 37 characters: a prime, so that no swap and no slip goes unnoticed
MAX_NUMBER = 9_999_999_999

_READ_AS = str.maketrans("ILO", "110")
_VALUES = {character: value for value, character in enumerate(ALPHABET)}


class BadCode(ValueError):
    """Text that is no code: what is wrong with it."""


def encode(number: int) -> str:
    """The code of a number from 0 to MAX_NUMBER; ValueError for others."""
    if not 0 <= number <= MAX_NUMBER:
        raise ValueError(f"{number} is no ticket number: they go from 0 to {MAX_NUMBER}")
    return _digits(number) + CHECKS[number % len(CHECKS)]


def _digits(number: int) -> str:
    digits = ALPHABET[number % 32]
    while number >= 32:
        number //= 32
        digits = ALPHABET[number % 32] + digits
    return digits


def decode(code: str) -> int:
    """The number of a code, in capital or small letters and with hyphens anywhere. Raises BadCode."""
    plain = code.strip().replace("-", "").upper()
    if len(plain) < 2:
        raise BadCode(f"{code!r} is too short for a code")
    number = 0
    for character in plain[:-1].translate(_READ_AS):
        if character not in _VALUES:
            raise BadCode(f"{code!r} holds {character!r}, which is in no code")
        number = number * 32 + _VALUES[character]
    if CHECKS[number % len(CHECKS)] != _check_of(plain[-1]):
        raise BadCode(f"{code!r} has a wrong character: its check fails")
    if number > MAX_NUMBER:
        raise BadCode(f"{code!r} is beyond the last ticket number")
    return number


def _check_of(character: str) -> str:
    return character.translate(_READ_AS)
