"""A patch turned round from its text alone: for SWE-smith, whose rows hold the bug.

Left out: binary changes that hold one side only.
"""

from __future__ import annotations

import re
from typing import Final

_DIFF: Final = re.compile(r"^diff --git a/(?P<old>.+) b/(?P<new>.+)$")
_HUNK_SIDES: Final = re.compile(
    r"^@@ -(?P<old>\d+(?:,(?P<old_lines>\d+))?) \+(?P<new>\d+(?:,(?P<new_lines>\d+))?) @@(?P<rest>.*)$"
)
_ALONE: Final = (("new file mode ", "deleted file mode "), ("deleted file mode ", "new file mode "))
_PAIRS: Final = (("old mode ", "new mode "), ("rename from ", "rename to "), ("copy from ", "copy to "))


def reversed_patch(patch: str) -> str:
    """The patch that undoes this one. ValueError for binary changes that hold one side only.

    Additions and removals change places line by line, which `git apply` takes in any order.
    """
    lines: list[str] = []
    left = [0, 0]
    for line in patch.split("\n"):
        if left[0] > 0 or left[1] > 0:
            left = [left[0] - (line[:1] not in "+\\"), left[1] - (line[:1] not in "-\\")]
            lines.append({"+": "-", "-": "+"}.get(line[:1], line[:1]) + line[1:])
        elif hunk := _HUNK_SIDES.match(line):
            left = [int(hunk["old_lines"] or 1), int(hunk["new_lines"] or 1)]
            lines.append(f"@@ -{hunk['new']} +{hunk['old']} @@{hunk['rest']}")
        elif line.startswith(("GIT binary patch", "Binary files ")):
            raise ValueError("a binary change can't be reversed from its text")
        else:
            _header_reversed(line, lines)
    return "\n".join(lines)


def _header_reversed(line: str, lines: list[str]) -> None:
    """Append a header line with its sides exchanged; of a pair of lines, the second one mends the first, too."""
    if found := _DIFF.match(line):
        line = f"diff --git a/{found['new']} b/{found['old']}"
    elif line.startswith("index ") and ".." in line:
        hashes, _, mode = line[6:].partition(" ")
        old, _, new = hashes.partition("..")
        line = f"index {new}..{old}" + (f" {mode}" if mode else "")
    elif line.startswith("+++ ") and lines and lines[-1].startswith("--- "):
        lines[-1], line = "--- " + _side(line, "b/", "a/"), "+++ " + _side(lines[-1], "a/", "b/")
    else:
        line = _word_reversed(line, lines)
    lines.append(line)


def _side(line: str, old: str, new: str) -> str:
    path = line[4:]
    return new + path.removeprefix(old) if path.startswith(old) else path


def _word_reversed(line: str, lines: list[str]) -> str:
    for first, second in _ALONE:
        if line.startswith(first):
            return second + line.removeprefix(first)
    for first, second in _PAIRS:
        if line.startswith(second) and lines and lines[-1].startswith(first):
            before = lines[-1].removeprefix(first)
            lines[-1] = first + line.removeprefix(second)
            return second + before
    return line
