"""A walk over folders whose depth somebody else chose: `os.walk` calls itself once per level, and Python allows few.

Left out: paths that are longer than the system takes; what lies behind one isn't seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def walk(top: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk` from the top down: a folder, its folders (links to some too, never followed), its other entries.

    Folders that the caller takes out of the list aren't gone into. What can't be read is passed over.
    """
    pending = [str(top)]
    while pending:
        where = pending.pop()
        folders, others, links = list[str](), list[str](), set[str]()
        try:
            with os.scandir(where) as entries:
                for entry in entries:
                    (folders if entry.is_dir() else others).append(entry.name)
                    if entry.is_symlink():
                        links.add(entry.name)
        except OSError:
            continue
        yield where, folders, others
        pending += [f"{where}/{name}" for name in reversed(folders) if name not in links]
