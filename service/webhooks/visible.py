"""What of a comment's Markdown is its writer's own words to others: no quotes, no code, nothing hidden.

It errs to leaving out: what is lost here is a command that has to be written again, what is kept wrongly is a command
that nobody gave. Time is linear in the text. Left out: rendering; only what can hold a mention is looked at.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_QUOTE = re.compile(r" {0,3}(?:(?:[-*+]|\d{1,9}[.)]) {1,4})*>")
_INDENTED = re.compile(r" {4}| {0,3}\t")
_DEFINITION = re.compile(r" {0,3}\[[^\]]{0,1000}\]:")
_MAIL_WROTE = re.compile(r"(On|Am|Le|El|Il|Op|Em|Den|W dniu) .{3,300}[:]\s*$")
_MAIL_WROTE_BEGINS = re.compile(r"On .{3,200}\d.{0,100}$")
_MAIL_RULE = re.compile(r"(-{2,}\s?(Original Message|Forwarded message|Reply to this email)\b.*|_{20,}\s*$)", re.I)
_MAIL_HEAD = re.compile(r"(From|Von|De|Da): .{1,300}@.{1,300}$")
_REPLY_HINT = re.compile(r".{0,40}(Reply to this email directly|You are receiving this because)\b", re.I)
_HIDING = ("pre", "code", "blockquote", "script", "style", "template", "textarea", "title")
_TAG = re.compile(rf"<(/?)({'|'.join(_HIDING)})\b[^>]{{0,1000}}>", re.IGNORECASE | re.ASCII)
_TICKS = re.compile(r"`+")
_GAP = re.compile(r"\n[ \t]*\n")


_COVER: Final = "\N{OBJECT REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class Visible:
    """`shown` is what the page shows; `own` is as much of it, place by place, with quotes and code covered."""

    shown: str
    own: str


def visible(text: str) -> Visible:
    shown = _without_comments(text.replace("\r\n", "\n").replace("\r", "\n"))
    lines = _own_lines(_elements_covered(shown).split("\n"))
    own = _spans_covered("\n".join(lines))
    return Visible(shown[: len(own)], own)


def _cover(text: str) -> str:
    return "\n".join(_COVER * len(line) for line in text.split("\n"))


def _without_comments(text: str) -> str:
    """An HTML comment that isn't closed hides the rest, as it does on the page."""
    kept, place = [], 0
    while (start := text.find("<!--", place)) >= 0:
        kept.append(text[place:start])
        end = text.find("-->", start + 2)  # <!--> is a whole one
        if end < 0:
            return "".join(kept)
        place = end + 3
    kept.append(text[place:])
    return "".join(kept)


def _elements_covered(text: str) -> str:
    """Covers HTML elements that show something as code or a quote, unclosed ones with all that follows."""
    kept, place, depth = [], 0, 0
    for tag in _TAG.finditer(text):
        if not tag[1]:
            if depth == 0:
                kept.append(text[place : tag.start()])
                place = tag.start()
            depth += 1
        elif depth:
            depth -= 1
            if depth == 0:
                kept.append(_cover(text[place : tag.end()]))
                place = tag.end()
    kept.append(_cover(text[place:]) if depth else text[place:])
    return "".join(kept)


def _own_lines(lines: list[str]) -> Iterator[str]:
    fence = ""
    quoted = False  # the paragraph began as a quote, which goes on without its mark
    blank = True
    for place, line in enumerate(lines):
        if fence:
            if re.fullmatch(rf" {{0,3}}{fence[0]}{{{len(fence)},}}\s*", line):
                fence = ""
            yield _cover(line)
            continue
        if _mail_begins(lines, place):
            return
        if not line.strip():
            quoted, blank = False, True
            yield line
            continue
        opening = _FENCE.match(line)
        if opening and "`" not in line[opening.end() :]:
            fence, quoted, blank = opening[1], False, True
            yield _cover(line)
            continue
        quoted = quoted or _QUOTE.match(line) is not None
        code = blank and _INDENTED.match(line) is not None
        blank = code  # the next indented line is code, too
        yield _cover(line) if quoted or code or _DEFINITION.match(line) else line


def _mail_begins(lines: list[str], place: int) -> bool:
    """Whether a mail program's copy of what is answered begins here: an address line, or one before a quote."""
    line = lines[place].strip()
    following = lines[place + 1].strip() if place + 1 < len(lines) else ""
    if _MAIL_RULE.match(line) or _REPLY_HINT.match(line):
        return True
    if _MAIL_HEAD.match(line):
        return re.match(r"(Sent|Date|To|Gesendet|Envoy|Enviado|Inviato)\S*:? ", following) is not None
    if _MAIL_WROTE_BEGINS.match(line) and following.endswith("wrote:"):
        return True
    if not _MAIL_WROTE.match(line):
        return False
    return line.endswith("wrote:") or any(after.startswith(">") for after in lines[place + 1 : place + 3])


def _spans_covered(text: str) -> str:
    """Covers code between backticks: a run of them is closed by the next one of its length in its paragraph."""
    runs = [(run.start(), run.end()) for run in _TICKS.finditer(text)]
    gaps = [gap.start() for gap in _GAP.finditer(text)]
    closing: list[int | None] = [None] * len(runs)
    last: dict[tuple[int, int], int] = {}
    for index in range(len(runs) - 1, -1, -1):
        start, end = runs[index]
        key = (bisect_right(gaps, start), end - start)
        closing[index] = last.get(key)
        last[key] = index
    kept, place, index = [], 0, 0
    while index < len(runs):
        end_run = closing[index]
        if end_run is None:
            index += 1
            continue
        kept.append(text[place : runs[index][0]])
        place = runs[end_run][1]
        kept.append(_cover(text[runs[index][0] : place]))
        index = end_run + 1
    kept.append(text[place:])
    return "".join(kept)
