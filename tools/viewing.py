"""How files and folders are shown to the model: numbered, bounded, from the top, with a way to see the rest.

Left out: reading (`tools.str_replace_editor`) and cutting of command output (`tools.bounded`).
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from tools.text_edit import numbered

if TYPE_CHECKING:
    from sandbox.base import FileInfo, Sandbox

_ROOM_FOR_FRAME = 300  # characters of a view that aren't lines
_CONTEXT_LINES = 4  # around an edit
_MOST_IN_FOLDER = 80
_MOST_FOLDERS = 60


def view_of_lines(path: str, lines: list[str], first: int, last: int, limit: int) -> str:
    """Lines `first` to `last` (from 1, both in), as many from the top as `limit` characters hold."""
    if not lines:
        return f"The file {path} is empty.\n[0 lines]"
    body, shown_to = fitting(lines, first, last, limit - _ROOM_FOR_FRAME - len(path))
    frame = f"The file {path} with line numbers:\n{body}\n[lines {first}-{shown_to} of {len(lines)}"
    if shown_to < last:
        frame += f"; for more give view_range, for example [{shown_to + 1}, {min(last, shown_to + 200)}]"
    return frame + "]"


def fitting(lines: list[str], first: int, last: int, room: int) -> tuple[str, int]:
    """Numbered lines from `first` on, and the last line that found room; one line at least."""
    parts: list[str] = []
    for number in range(first, last + 1):
        part = numbered([lines[number - 1]], number, longest=max(200, min(2000, room // 2)))
        room -= len(part) + 1
        if room < 0 and parts:
            return "\n".join(parts), number - 1
        parts.append(part)
    return "\n".join(parts), last


def snippet(lines: list[str], first: int, last: int, limit: int) -> str:
    """The lines of an edit with some around them, and a line that says which these are."""
    begin = max(1, min(first, len(lines)) - _CONTEXT_LINES)
    end = min(len(lines), last + _CONTEXT_LINES)
    if not lines:
        return "[the file is now empty]"
    body, shown_to = fitting(lines, begin, end, limit - _ROOM_FOR_FRAME)
    more = "" if shown_to == end else f"; the edit goes on to line {last}"
    return f"{body}\n[lines {begin}-{shown_to} of {len(lines)}{more}]"


async def view_of_folder(sandbox: Sandbox, path: str, limit: int) -> str:
    """Two levels of a folder without hidden entries. Raises FileProblem."""
    shown, hidden = [], 0
    entries = await sandbox.list(path, depth=1)
    visible = [entry for entry in entries if not _name(entry).startswith(".")]
    hidden += len(entries) - len(visible)
    for index, entry in enumerate(visible[:_MOST_IN_FOLDER]):
        shown.append(_entry(entry, ""))
        if entry.kind == "directory" and index < _MOST_FOLDERS:
            inside = await sandbox.list(posixpath.join(path, _name(entry)), depth=1)
            named = [child for child in inside if not _name(child).startswith(".")]
            hidden += len(inside) - len(named)
            shown += [_entry(child, "  ") for child in named[:_MOST_IN_FOLDER]]
            if len(named) > _MOST_IN_FOLDER:
                shown.append(f"  [... {len(named) - _MOST_IN_FOLDER} more ...]")
    if len(visible) > _MOST_IN_FOLDER:
        shown.append(f"[... {len(visible) - _MOST_IN_FOLDER} more ...]")
    count = len(shown)
    while shown and sum(len(line) + 1 for line in shown) > limit - _ROOM_FOR_FRAME - len(path):
        shown = shown[: len(shown) * 3 // 4]
    if len(shown) < count:
        shown.append(f"[... {count - len(shown)} more lines; view a folder further down ...]")
    body = "\n".join(shown) or "(nothing to show)"
    return f"The folder {path}, two levels deep:\n{body}\n[{hidden} hidden entries left out]"


def _name(entry: FileInfo) -> str:
    return posixpath.basename(entry.path.rstrip("/"))


def _entry(entry: FileInfo, indent: str) -> str:
    mark = {"directory": "/", "symlink": "@"}.get(str(entry.kind), "")
    name = _name(entry)
    return f"{indent}{name if name.isprintable() else ascii(name)}{mark}"
