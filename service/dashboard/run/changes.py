"""Diffs of a run's steps, made when somebody looks, from the work trees that its repository keeps.

A diff between two trees never changes: it is kept in a folder beside the run's log, so that it is made once. Left out:
what the trees are (`agent.step_diffs`), reading a diff (`diff`).
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Final

from agent.runs import RunFolder
from agent.step_diffs import MAX_DIFF, tree_diff
from service.dashboard.run.diff import MOST_LINES, DiffView, coloured, read_diff
from service.dashboard.run.highlight import Budget, Highlighter

WHOLE: Final = 4 * MAX_DIFF  # bytes of all changes together
_FOLDER: Final = "diffs"
_KEPT: Final = 200  # diffs in memory
_AT_ONCE: Final = 2  # gits

Trees = tuple[str, str]  # before, after; ids that were checked to be such


class Diffs:
    """Of all runs that are looked at; one for a process."""

    def __init__(self) -> None:
        self._highlighter = Highlighter()
        self._kept: OrderedDict[tuple[Trees, int], DiffView] = OrderedDict()
        self._lock, self._gits = threading.Lock(), asyncio.Semaphore(_AT_ONCE)

    async def of(self, folder: RunFolder, trees: Trees, budget: Budget, most: int = MOST_LINES) -> DiffView | None:
        """None where the trees aren't on this machine any more."""
        with self._lock:
            if (known := self._kept.get((trees, most))) is not None:
                self._kept.move_to_end((trees, most))
                return known
        limit = MAX_DIFF if most == MOST_LINES else WHOLE
        found = await self._text(folder, trees, limit)
        if found is None:
            return None
        read = await asyncio.to_thread(read_diff, found[0], cut=found[1], most=most)
        before = budget.failures
        view = await asyncio.to_thread(coloured, read, self._highlighter, budget)
        if budget.failures == before:
            self._keep((trees, most), view)
        return view

    def _keep(self, key: tuple[Trees, int], view: DiffView) -> None:
        with self._lock:
            self._kept[key] = view
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    async def _text(self, folder: RunFolder, trees: Trees, limit: int) -> tuple[str, bool] | None:
        kept = folder.path / _FOLDER / f"{trees[0]}-{trees[1]}-{limit}.json"
        if (known := await asyncio.to_thread(_read, kept)) is not None:
            return known
        if not folder.repository.is_dir():
            return None
        async with self._gits:
            text, cut = await tree_diff(folder.repository, *trees, limit)
        if cut and not text:
            return None
        await asyncio.to_thread(_write, kept, text, cut)
        return text, cut

    def close(self) -> None:
        self._highlighter.close()


def _read(path: Path) -> tuple[str, bool] | None:
    try:
        text, cut = json.loads(path.read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return (text, bool(cut)) if isinstance(text, str) else None


def _write(path: Path, text: str, cut: bool) -> None:
    """As far as the disk allows: it only saves making the diff again."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        scratch.write_text(json.dumps([text, cut]))
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
