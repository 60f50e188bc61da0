"""Edits of a file's text that touch nothing else: pure functions from text to text.

A file is decoded without loss, so that encoding gives back the same bytes. Searching and inserting treat `\\r\\n` and
`\\n` as one line break; what is put in takes the line breaks that are around it. Left out: reading and writing
(`tools.str_replace_editor`) and why a text wasn't found (`tools.near_match`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_COOKIE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", re.ASCII)
_SURROGATES = re.compile("[\ud800-\udfff]")
_BREAK = r"(?:\r\n|(?<!\r)\n)"
MAX_PLACES = 50


class NotText(Exception):
    """The bytes are no text that can be edited; the message says what they look like."""


class EditRefused(Exception):
    """An edit that can't be done as asked; the message is for the model."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A file's text with what it takes to get the same bytes back."""

    text: str
    codec: str
    errors: str = "strict"

    def encode(self, text: str) -> bytes:
        try:
            return text.encode(self.codec, self.errors)
        except UnicodeEncodeError as error:
            raise EditRefused(
                f"the file is encoded in {self.codec}, which has no {error.object[error.start]!r}. Write it as an "
                "escape, or convert the file first."
            ) from None


@dataclass(frozen=True, slots=True)
class Edit:
    """The whole text after an edit, and the lines of it (from 1, both ends in) that the edit brought."""

    text: str
    first: int
    last: int


# -- bytes and text


def decode(data: bytes) -> Decoded:
    """UTF-8 (a byte order mark stays in the text), else what a Python source declares, else Latin-1.

    A file that is UTF-8 except for a few bytes stays UTF-8, with those bytes kept as lone surrogates. Raises NotText.
    """
    if problem := _no_text(data):
        raise NotText(problem)
    try:
        return Decoded(data.decode(), "utf-8")
    except UnicodeDecodeError:
        pass
    for line in data.split(b"\n", 2)[:2]:
        if (match := _COOKIE.match(line)) and (decoded := _lossless(data, match[1].decode())):
            return decoded
    text = data.decode(errors="surrogateescape")
    stray = sum("\udc80" <= character <= "\udcff" for character in text)
    beyond_ascii = sum(character > "\x7f" for character in text) - stray
    if beyond_ascii > stray:
        return Decoded(text, "utf-8", "surrogateescape")
    return Decoded(data.decode("latin-1"), "latin-1")


def _lossless(data: bytes, codec: str) -> Decoded | None:
    try:
        text = data.decode(codec)
        return Decoded(text, codec) if text.encode(codec) == data else None
    except (LookupError, UnicodeError):
        return None


_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF-": "a PDF document",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x7fELF": "an ELF binary",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


def _no_text(data: bytes) -> str | None:
    if b"\0" not in data[:65536]:
        known = next((name for start, name in _SIGNATURES.items() if data.startswith(start)), "")
        return known if known.startswith(("a PNG", "a JPEG", "a GIF", "a gzip")) else None
    return next((name for start, name in _SIGNATURES.items() if data.startswith(start)), "a binary file")


# -- lines


def lines_of(text: str) -> list[str]:
    """The lines without their breaks, as they are shown; a last line without a break counts."""
    lines = text.removeprefix("\ufeff").split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def numbered(lines: list[str], first: int, *, longest: int = 2000) -> str:
    """Lines in the form of `cat -n`, starting with number `first`; very long ones are cut."""
    return "\n".join(f"{number:6d}\t{_shown(line, longest)}" for number, line in enumerate(lines, first))


def _shown(line: str, longest: int) -> str:
    if len(line) > longest:
        line = f"{line[:longest]} [... {len(line) - longest} more characters in this line ...]"
    return line if line.isascii() else _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", line)


def line_at(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def unix(text: str) -> str:
    return text.replace("\r\n", "\n")


def break_near(text: str, offset: int) -> str:
    """The line break in use at a place: the next one, else the one before, else `\\n`."""
    place = text.find("\n", offset)
    if place < 0:
        place = text.rfind("\n", 0, offset)
    return "\r\n" if place > 0 and text[place - 1] == "\r" else "\n"


# -- edits


def find_all(text: str, wanted: str, *, most: int = MAX_PLACES) -> list[tuple[int, int]]:
    """Start and end of each place where `wanted` stands, overlapping ones too, whatever the line breaks are."""
    return [place for place, _ in zip(_places(text, wanted), range(most), strict=False)]


def _places(text: str, wanted: str) -> Iterator[tuple[int, int]]:
    pattern = re.compile(_BREAK.join(re.escape(line) for line in unix(wanted).split("\n")))
    match = pattern.search(text)
    while match:
        yield match.span()
        match = pattern.search(text, match.start() + 1)


def replace_once(text: str, old: str, new: str) -> Edit | list[int]:
    """Replace the only place where `old` stands. Where there is none or several: the lines of those (or nothing).

    What `old` and `new` have in common at their ends stays as it is in the file, byte for byte.
    """
    if not old:
        raise EditRefused("`old_str` is empty. Give the text to replace, or use the command `insert`.")
    places = find_all(text, old)
    old, new = unix(old), unix(new)
    if old == new:
        raise EditRefused("`old_str` and `new_str` are the same, so nothing would change.")
    if len(places) != 1:
        return [line_at(text, start) for start, _ in places]
    start, end = places[0]
    before = _common(old, new)
    after = _common(old[before:][::-1], new[before:][::-1])
    ends = _offsets(text[start:end], (before, len(old) - after))
    put_in = new[before : len(new) - after].replace("\n", break_near(text, start))
    changed = text[: start + ends[0]] + put_in + text[start + ends[1] :]
    first = line_at(changed, start + ends[0])
    last = line_at(changed, start + ends[0] + len(put_in)) - put_in.endswith("\n")
    return Edit(changed, first, max(first, last))


def _common(left: str, right: str) -> int:
    """Length of the common start."""
    length = min(len(left), len(right))
    return next((index for index in range(length) if left[index] != right[index]), length)


def _offsets(raw: str, wanted: tuple[int, int]) -> tuple[int, int]:
    """Where in `raw` the given offsets of its form with plain `\\n` lie."""
    if "\r\n" not in raw:
        return wanted
    begin, end = (_offset(raw, count) for count in wanted)
    return begin, end


def _offset(raw: str, count: int) -> int:
    position = 0
    for _ in range(count):
        position += 2 if raw.startswith("\r\n", position) else 1
    return position


def insert_after(text: str, line: int, new: str) -> Edit:
    """Put `new` as whole lines after line number `line`; 0 stands for the top of the file.

    A file without a last line break still has none when the text is put at its end.
    """
    count = len(lines_of(text))
    if not 0 <= line <= count:
        raise EditRefused(f"`insert_line` must be between 0 and {count}, the number of lines, not {line}.")
    start = 1 if text.startswith("\ufeff") else 0
    for _ in range(line):
        found = text.find("\n", start)
        start = found + 1 if found >= 0 else len(text)
    ending = break_near(text, max(start - 1, 0))
    block = unix(new).removesuffix("\n").replace("\n", ending)
    open_end = start > 0 and start == len(text) and text[-1] not in "\n\ufeff"
    # a last line that is empty is only there when a break ends it
    put_in = block + ending if not open_end or unix(block)[-1:] in ("", "\n") else block
    put_in = ending + put_in if open_end else put_in
    added = unix(block).count("\n") + 1
    return Edit(text[:start] + put_in + text[start:], line + 1, line + added)
