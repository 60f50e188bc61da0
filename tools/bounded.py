"""Text of bounded length for the model: head and tail, cut between lines and never inside a character.

Left out: where the whole output is kept (the sandbox does that) and how much a run may show (`ToolContext`).
"""

from __future__ import annotations

import re

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_LONGEST_SEARCH = 1 / 2  # a line boundary is only looked for in this share of a piece


def decoded(head: bytes, tail: bytes = b"") -> tuple[str, str]:
    """Two ends of an output as text; a character that the cut between them split is dropped on both sides.

    With an empty tail the head is the whole, and bytes that are no UTF-8 show as the replacement character.
    """
    if not tail:
        return head.decode(errors="replace"), ""
    return _without_open_end(head).decode(errors="replace"), _without_open_start(tail).decode(errors="replace")


def _without_open_end(data: bytes) -> bytes:
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:  # a start byte: how many bytes does it ask for?
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if length > back else data
        if byte < 0x80:
            break
    return data


def _without_open_start(data: bytes) -> bytes:
    start = 0
    while start < min(3, len(data)) and 0x80 <= data[start] < 0xC0:
        start += 1
    return data[start:]


def head_of_lines(text: str) -> str:
    """The text up to its last line break, unless that would cost more than half of it."""
    end = text.rfind("\n")
    return text[: end + 1] if end + 1 >= len(text) * _LONGEST_SEARCH else text


def tail_of_lines(text: str) -> str:
    """The text after its first line break, unless that would cost more than half of it."""
    start = text.find("\n") + 1
    return text[start:] if start <= len(text) * _LONGEST_SEARCH else text


def cut_middle(text: str, limit: int, *, where: str | None = None) -> str:
    """The text, or its head and tail with a line between them, at most `limit` characters in all.

    `where` says where the whole is. A limit that has no room for that line gives the head alone.
    """
    if len(text) <= limit:
        return text
    room = limit - len(omission(len(text), "characters", where)) - 2
    if room <= 0:
        return text[: max(limit, 0)]
    head, tail = head_of_lines(text[: room // 2]), tail_of_lines(text[len(text) - room // 2 :])
    return joined(head, omission(len(text) - len(head) - len(tail), "characters", where), tail)


def omission(count: int, unit: str, where: str | None = None) -> str:
    return f"[... {count} {unit} left out{f'; {where}' if where else ''} ...]"


def joined(head: str, line: str, tail: str) -> str:
    """The pieces with `line` standing on a line of its own."""
    before = "" if not head or head.endswith("\n") else "\n"
    return f"{head}{before}{line}\n{tail}"


def plain(text: str) -> str:
    """What a terminal would have left standing: no escape sequences, and of an overwritten line the last state."""
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    if "\r" in text:
        text = "\n".join(_last_state(line) for line in text.replace("\r\n", "\n").split("\n"))
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _last_state(line: str) -> str:
    states = [state for state in line.split("\r") if state]
    return states[-1] if states else ""
