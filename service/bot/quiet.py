"""Words of issues, repositories and models, made harmless for a comment that is written in our name.

On a forge text does things: `@name` wakes people, `#12` links two conversations, "fixes #12" closes one, a picture
tells its server who reads it, HTML hides. None of that is for what others wrote. Left out: lengths (the forge's
client cuts bodies), and our own Markdown around such words (`service.bot.texts`).
"""

from __future__ import annotations

import re

_JOINER = "\N{WORD JOINER}"  # nothing to see, and no part of a name
# `&#64;` is an `@`, `[a][b]` and `[b]: address` are a link, and so is `www.` with a name behind it
_CALLS = re.compile(r"@(?=\w)|#(?=\d)|\bGH-(?=\d)|&(?=[#\w])|\](?=[:\[])|\bwww(?=\.)", re.IGNORECASE)
_CLOSES = re.compile(
    r"\b((?:close|fix|resolve)(?:[sd]|es|ed)?)(:?\s+)(?=\S*(?:#|\bGH-|/issues/|/pull/)\d)", re.IGNORECASE
)
_SKIPS = re.compile(r"\[(skip ci|ci skip|no ci|skip actions|actions skip)\]|^(?=skip-checks:)", re.IGNORECASE | re.M)
_TRAILER = re.compile(r"^(?=[A-Za-z-]+-by:)", re.IGNORECASE | re.MULTILINE)
_URL = re.compile(r"\bhttps?://(?=\S)", re.IGNORECASE)
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\u00ad]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_BACKTICKS = re.compile(r"`+")


def clean(text: str) -> str:
    """Without control characters and such that change how text reads without being seen."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", _INVISIBLE.sub("", text.replace("\r\n", "\n")))


def quiet(text: str) -> str:
    """As prose: it calls nobody, links nothing by number or address, shows no picture and hides nothing.

    What stands in code spans and blocks is put like the rest; a word joiner in it does no harm to a reader.
    """
    text = clean(text).replace("\\", "\\\\").replace("<", "\\<").replace("![", "!\\[").replace("](", "]\\(")
    text = _CALLS.sub(lambda found: found[0] + _JOINER, text)
    return _URL.sub(lambda found: found[0][:-2] + _JOINER + "//", text)


def recorded(text: str) -> str:
    """As a commit's message: it closes nothing, keeps no checks from running, and names nobody as its author."""
    text = _CLOSES.sub(r"\1\2the text of ", clean(text))
    text = _SKIPS.sub(lambda found: f"({found[1]})" if found[1] else "> ", text)
    return _TRAILER.sub("> ", text)


def line(text: str, most: int = 200) -> str:
    """One line of at most `most` characters, for titles and list items; as `quiet`."""
    words = " ".join(clean(text).split())
    return quiet(words if len(words) <= most else words[: most - 1].rstrip() + "…")


def fenced(text: str, language: str = "") -> str:
    """As a block of code that nothing in it can end."""
    text = clean(text).rstrip("\n")
    fence = "`" * max(3, 1 + max((len(run[0]) for run in _BACKTICKS.finditer(text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def code(text: str, most: int = 300) -> str:
    """As a code span of one line."""
    text = " ".join(clean(text).split())
    text = text if len(text) <= most else text[: most - 1] + "…"
    if not text:
        return ""
    ticks = "`" * (1 + max((len(run[0]) for run in _BACKTICKS.finditer(text)), default=0))
    room = " " if text[0] == "`" or text[-1] == "`" else ""
    return f"{ticks}{room}{text}{room}{ticks}"


def quoted(text: str, most: int = 6000) -> str:
    """As a quote, cut to `most` characters."""
    text = clean(text).strip()
    text = text if len(text) <= most else text[:most].rstrip() + " …"
    return "\n".join(f"> {row}".rstrip() for row in quiet(text).splitlines())
