"""Why a text that should be in a file was not found there, and where something like it stands.

Each cause is tried in turn, the surest first. Left out: replacing what is merely alike, which would be guessing.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tools.text_edit import find_all, line_at, lines_of, numbered, unix

_LINE_NUMBERS = re.compile(r"^ *\d+\t", re.MULTILINE)
_LEAST_ALIKE = 50.0  # per cent; below it a candidate only distracts
_SPREAD = 20.0  # per cent; so far below the best one a candidate only distracts, too
_MOST_CANDIDATES = 3
_MOST_LINES = 20  # of one candidate
_LONGEST = 300  # characters of one line


@dataclass(frozen=True, slots=True)
class _Candidate:
    score: float
    first: int  # line number
    lines: list[str]


def explain(text: str, old: str, new: str) -> str:
    """Sentences for the model on why `old` isn't in `text`, with the lines that come nearest."""
    if not old.strip():
        return "`old_str` is nothing but white space; give a line with text, too."
    for explanation in (_decorated(text, old), _white_space(text, old)):
        if explanation:
            return explanation
    done = find_all(text, new, most=1) if len(new.strip()) >= 10 else []
    parts = []
    if done:
        parts.append(f"`new_str` is in the file already, at line {line_at(text, done[0][0])}: is the edit done?")
    parts.append(_alike(lines_of(text), lines_of(unix(old))))
    return "\n".join(parts)


def _decorated(text: str, old: str) -> str:
    """`old` with something around its characters that the file doesn't have."""
    forms = {
        "it has the line numbers of `view` in it. Leave them out": _LINE_NUMBERS.sub("", old),
        "it has `\\n` written out where the file has line breaks": old.replace("\\n", "\n").replace("\\t", "\t"),
        "it has XML escapes where the file has the characters themselves": html.unescape(old),
        "it has a backslash before quotation marks that the file doesn't have": old.replace('\\"', '"'),
        "it has empty lines at an end that the file doesn't have there": old.strip("\r\n"),
    }
    for reason, form in forms.items():
        if form not in ("", old) and (places := find_all(text, form, most=2)):
            return f"Without this it would be found, at line {line_at(text, places[0][0])}: {reason}."
    return ""


def _white_space(text: str, old: str) -> str:
    """The places that are the same but for white space, and in what they differ."""
    wanted = "".join(old.split())
    squeezed = "".join(text.split())
    at = squeezed.find(wanted)
    if at < 0:
        return ""
    offsets = [index for index, character in enumerate(text) if not character.isspace()]
    first, last = line_at(text, offsets[at]), line_at(text, offsets[at + len(wanted) - 1])
    standing = lines_of(text)[first - 1 : last]
    more = "" if squeezed.find(wanted, at + 1) < 0 else " (and again further down)"
    shown = numbered(standing[:_MOST_LINES], first, longest=_LONGEST)
    return f"Lines {first}-{last}{more} differ from it only in {_difference(standing, lines_of(unix(old)))}:\n{shown}"


def _difference(standing: list[str], given: list[str]) -> str:
    given = _without_blank_ends(given)
    if len(standing) != len(given):
        return "line breaks"
    pairs = list(zip(standing, given, strict=True))
    if all(theirs.rstrip() == ours.rstrip() for theirs, ours in pairs):
        return "white space at the end of lines"
    if all(theirs.strip() == ours.strip() for theirs, ours in pairs):
        has_tabs = any(_indentation(line).count("\t") for line in standing)
        gives_tabs = any(_indentation(line).count("\t") for line in given)
        if has_tabs != gives_tabs:
            return f"indentation (the file has {'tabs' if has_tabs else 'spaces'} there)"
        theirs, ours = next((theirs, ours) for theirs, ours in pairs if _indentation(theirs) != _indentation(ours))
        return (
            f"indentation (the file has {len(_indentation(theirs))} columns where `old_str` has "
            f"{len(_indentation(ours))})"
        )
    return "white space inside lines"


def _without_blank_ends(lines: list[str]) -> list[str]:
    filled = [index for index, line in enumerate(lines) if line.strip()]
    return lines[filled[0] : filled[-1] + 1]


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _alike(lines: list[str], wanted: list[str]) -> str:
    best: list[_Candidate] = []
    for candidate in sorted(_candidates(lines, wanted), key=lambda found: (-found.score, found.first)):
        if len(best) == _MOST_CANDIDATES or (best and candidate.score < best[0].score - _SPREAD):
            break
        if all(abs(candidate.first - other.first) >= len(wanted) for other in best):
            best.append(candidate)
    if not best:
        return "Nothing in the file is like it. View the file, and take the text from there."
    parts = ["Nearest in the file:"]
    for candidate in best:
        last = candidate.first + len(candidate.lines) - 1
        shown = numbered(candidate.lines[:_MOST_LINES], candidate.first, longest=_LONGEST)
        parts.append(f"Lines {candidate.first}-{last}, {candidate.score:.0f} % alike:\n{shown}")
    parts.append(_first_difference(best[0], wanted))
    return "\n".join(parts)


def _candidates(lines: list[str], wanted: list[str]) -> Iterator[_Candidate]:
    """Windows as long as `wanted` around lines that are like one of its longest lines.

    Only such windows are compared in full, so a file of a hundred thousand lines takes no longer than is bearable.
    """
    from rapidfuzz import fuzz, process  # heavy, and needed only when an edit has failed

    anchors = sorted(range(len(wanted)), key=lambda index: -len(wanted[index].strip()))[:3]
    stripped = [line.strip()[:_LONGEST] for line in lines]
    starts: set[int] = set()
    for anchor in anchors:
        query = wanted[anchor].strip()[:_LONGEST]
        hits = process.extract(query, stripped, scorer=fuzz.ratio, limit=20, score_cutoff=_LEAST_ALIKE)
        starts.update(max(0, min(index - anchor, len(lines) - 1)) for _, _, index in hits)
    whole = "\n".join(wanted)[:20_000]
    for start in starts:
        window = lines[start : start + len(wanted)]
        score = fuzz.ratio(whole, "\n".join(window)[:20_000], score_cutoff=_LEAST_ALIKE)
        if score:
            yield _Candidate(score, start + 1, window)


def _first_difference(candidate: _Candidate, wanted: list[str]) -> str:
    for index, ours in enumerate(wanted):
        theirs = candidate.lines[index] if index < len(candidate.lines) else None
        if theirs is None:
            return f"The file ends before line {index + 1} of `old_str`."
        if theirs != ours:
            return (
                f"The first difference is in line {candidate.first + index}:\n"
                f"  file:    {theirs[:_LONGEST]!r}\n  old_str: {ours[:_LONGEST]!r}"
            )
    return "They differ in the line break at the end."
