"""What files were before each edit, so that `undo_edit` works, also after a resume.

Contents lie in the run's blob store; the tools' state holds their names. The history is short on purpose: it is
logged with every call. Left out: changes that commands made (git is there for those).
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from tools.base import ToolContext

_KEY = "edits"
_MOST = 40


@dataclass(frozen=True, slots=True)
class PastEdit:
    path: str
    before: str | None  # blob name; None: there was no file
    after: str  # digest of what the edit left

    def left(self, data: bytes) -> bool:
        """Is the file still what this edit made of it?"""
        return self.after == _digest(data)


def remember(context: ToolContext, path: str, before: bytes | None, after: bytes) -> None:
    blob = None if before is None else context.blobs.put(before)
    edits = [*_edits(context), asdict(PastEdit(path, blob, _digest(after)))]
    context.state[_KEY] = edits[-_MOST:]


def last_edit(context: ToolContext, path: str) -> PastEdit | None:
    """The youngest edit of this file that was not undone."""
    for edit in reversed(_edits(context)):
        if edit["path"] == path:
            return PastEdit(**edit)
    return None


def forget(context: ToolContext, edit: PastEdit) -> None:
    edits = _edits(context)
    youngest = max(index for index, other in enumerate(edits) if other == asdict(edit))
    context.state[_KEY] = edits[:youngest] + edits[youngest + 1 :]


def _edits(context: ToolContext) -> list[dict[str, Any]]:
    return list(context.state.get(_KEY, []))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
