"""What each call changed: diffs between the work trees that a run kept, small enough to be kept beside its log.

A run's repository is large and doesn't come home; `steps.json` does. Left out: showing them (`trajectory_page`).
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any, Final

from agent.events import Event, EventLogError, EventType, read_events
from agent.git import NEUTRAL, environment
from agent.runs import RunFolder
from evals.predictions import write_whole

FORMAT: Final = 1
NAME: Final = "steps.json"
MAX_DIFF: Final = 60_000  # bytes of one step's diff that are kept
MAX_ALL: Final = 4_000_000  # bytes of all of them
_TREE: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SECONDS: Final = 120.0  # that one diff may take


async def step_diffs(run_folder: Path) -> list[dict[str, Any]]:
    """An object per call that changed the work tree: turn, call (None: after the last one), tree, diff, cut (bool).

    Needs the run's repository; empty where that is gone, or where the log can't be read. A tree that isn't in the
    repository gives an empty diff that is marked as cut.
    """
    folder = RunFolder(run_folder)
    if not folder.repository.is_dir():
        return []
    steps: list[dict[str, Any]] = []
    before, left = "", MAX_ALL
    for event in _events(folder.events):
        tree = _tree_of(event)
        if tree and before and tree != before:
            diff, cut = await _diff(folder.repository, before, tree, min(MAX_DIFF, left))
            left -= len(diff.encode("utf-8", "surrogateescape"))
            turn, call = event.data.get("turn"), event.data.get("call")
            steps.append({"turn": turn, "call": call, "tree": tree, "diff": diff, "cut": cut})
        before = tree or before
    return steps


async def keep_steps(run_folder: Path) -> Path | None:
    """Write them to `steps.json` beside the log, whole or not at all; None where there is no repository."""
    if not RunFolder(run_folder).repository.is_dir():
        return None
    path = run_folder / NAME
    write_whole(path, json.dumps({"format": FORMAT, "steps": await step_diffs(run_folder)}, ensure_ascii=True))
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
        case EventType.OBSERVATION | EventType.LOOP_ENDED:
            tree = event.data.get("tree")
        case _:
            return ""
    return tree if isinstance(tree, str) and _TREE.fullmatch(tree) else ""


async def _diff(bare: Path, before: str, after: str, limit: int) -> tuple[str, bool]:
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
