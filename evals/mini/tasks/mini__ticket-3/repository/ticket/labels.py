"""Labels for the printer at the till."""

from __future__ import annotations

from ticket.codes import encode

WIDTH = 12  # characters of the label that is in use


def label(number: int, event: str) -> list[str]:
    """Two lines: what it is for, and the code in groups of four, both centred."""
    code = encode(number)
    groups = "-".join(code[start : start + 4] for start in range(0, len(code), 4))
    return [event[:WIDTH].center(WIDTH).rstrip(), groups.center(WIDTH).rstrip()]
