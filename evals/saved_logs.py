"""Test logs saved in the official layout, `.../<model>/<instance_id>/test_output.txt`, found below any folder.

Left out: grading them (`regrade`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evals.instance import RowBroken, check_id

LOG_NAME: Final = "test_output.txt"
MAX_DEPTH: Final = 32


@dataclass(frozen=True)
class SavedLog:
    """A log by whose folders it lies in; `broken` says why it isn't graded."""

    instance_id: str
    model: str
    path: Path
    broken: str = ""


def find_logs(folder: Path) -> Iterator[SavedLog]:
    """Every log below `folder`, in the order of their paths. Folders behind links aren't entered."""
    root = folder.resolve()
    for place, folders, files in os.walk(root):
        folders.sort()
        here = Path(place)
        if len(here.parts) - len(root.parts) >= MAX_DEPTH:
            folders.clear()
        if LOG_NAME in files:
            yield _saved(here, root)


def _saved(here: Path, root: Path) -> SavedLog:
    path = here / LOG_NAME
    found = SavedLog(here.name, here.parent.name, path)
    try:
        check_id(here.name)
        target = path.resolve()
        if not target.is_relative_to(root):
            raise RowBroken("its log is a link out of the folder that is graded")
        if not stat.S_ISREG(target.stat().st_mode):
            raise RowBroken("its log is no plain file")
    except RowBroken as error:
        return SavedLog(found.instance_id, found.model, path, str(error))
    except (OSError, RuntimeError) as error:
        return SavedLog(found.instance_id, found.model, path, f"its log can't be read: {error}")
    return found
