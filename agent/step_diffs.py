"""What each call changed: diffs between the work trees that a run kept, small enough to be kept beside its log.

A run's repository is large and doesn't come home; `steps.json` does. Left out: showing them (`evals.report`,
`service.dashboard.run`).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.events import Event, EventLogError, EventType, read_events
from agent.git import NEUTRAL, environment
from agent.runs import RunFolder

FORMAT: Final = 1
NAME: Final = "steps.json"
MAX_DIFF: Final = 60_000  # bytes of one step's diff that are kept
MAX_ALL: Final = 4_000_000  # bytes of all of them
_TREE: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SECONDS: Final = 120.0  # that one diff may take


@dataclass(frozen=True, slots=True)
class Change:
    """From one work tree to the next. `turn` and `call` made it; both None: after the last answer."""

    turn: int | None
    call: int | None
    before: str
    after: str


class Trees:
    """Follows the work tree through a run's events."""

    def __init__(self) -> None:
        self.base = self.now = ""  # ids of tree objects

    def take(self, event: Event) -> Change | None:
        """What this event says was changed. A follow-up may begin on a tree that others made: that is no step."""
        tree = _tree_of(event)
        if not tree:
            return None
        before, self.now, self.base = self.now, tree, self.base or tree
        if not before or tree == before or event.type is EventType.FOLLOW_UP:
            return None
        return Change(event.data.get("turn"), event.data.get("call"), before, tree)


async def step_diffs(run_folder: Path) -> list[dict[str, Any]]:
    """An object per call that changed the work tree: turn, call (None: after the last one), tree, diff, cut (bool).

    Needs the run's repository; empty where that is gone, or where the log can't be read. A tree that isn't in the
    repository gives an empty diff that is marked as cut.
    """
    folder = RunFolder(run_folder)
    if not folder.repository.is_dir():
        return []
    steps: list[dict[str, Any]] = []
    trees, left = Trees(), MAX_ALL
    for event in _events(folder.events):
        if change := trees.take(event):
            diff, cut = await tree_diff(folder.repository, change.before, change.after, min(MAX_DIFF, left))
            left -= len(diff.encode("utf-8", "surrogateescape"))
            steps.append({"turn": change.turn, "call": change.call, "tree": change.after, "diff": diff, "cut": cut})
    return steps


async def keep_steps(run_folder: Path) -> Path | None:
    """Write them to `steps.json` beside the log, whole or not at all; None where there is no repository."""
    if not RunFolder(run_folder).repository.is_dir():
        return None
    path = run_folder / NAME
    text = json.dumps({"format": FORMAT, "steps": await step_diffs(run_folder)}, ensure_ascii=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def kept_steps(run_folder: Path) -> list[dict[str, Any]] | None:
    """What `keep_steps` wrote; None where there is nothing that could be read."""
    try:
        if (run_folder / NAME).stat().st_size > 4 * MAX_ALL:
            return None
        kept = json.loads((run_folder / NAME).read_bytes())
        return list(kept["steps"]) if kept["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _events(log: Path) -> list[Event]:
    """The events up to where the log is damaged: what stands before still counts."""
    events: list[Event] = []
    try:
        for event in read_events(log):
            events.append(event)  # noqa: PERF402 - those before the damage count
    except (EventLogError, OSError):
        pass
    return events


def _tree_of(event: Event) -> str:
    match event.type:
        case EventType.RUN_STARTED:
            base = event.data.get("base")
            tree = base.get("tree") if isinstance(base, dict) else None
        case EventType.OBSERVATION | EventType.LOOP_ENDED | EventType.FOLLOW_UP:
            tree = event.data.get("tree")
        case _:
            return ""
    return tree if isinstance(tree, str) and _TREE.fullmatch(tree) else ""


async def tree_diff(bare: Path, before: str, after: str, limit: int = MAX_DIFF) -> tuple[str, bool]:
    """(the diff's first `limit` bytes in whole lines, whether something is missing). Binary files are only named."""
    process = await asyncio.create_subprocess_exec(
        "git", *NEUTRAL, "-C", str(bare), "diff", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames",
        "--src-prefix=a/", "--dst-prefix=b/", "--unified=3", before, after,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env=environment(protocols="none"), limit=1 << 20,
    )  # fmt: skip
    assert process.stdout is not None
    text, done = b"", False
    try:
        async with asyncio.timeout(_SECONDS):
            text = await _at_most(process.stdout, limit + 1)
            done = len(text) <= limit and await process.wait() == 0
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if len(text) > limit:
        text = text[: text.rfind(b"\n", 0, limit) + 1]
    return text.decode("utf-8", "replace"), not done


async def _at_most(stream: asyncio.StreamReader, count: int) -> bytes:
    parts, size = [], 0
    while size < count and (part := await stream.read(count - size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)
