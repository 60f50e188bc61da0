"""What the scripted model says on the bundled tasks: eight are solved, one is fixed wrongly, one is given up.

Each task's folder holds turns.toml; here they become one script of the scripted server (docs/scripted-model.md), which
knows the task by the issue's first line, so that any number of conversations can go on at once.

Left out: serving it (`runtime.models.scripted`).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from evals.mini.tasks import Task, TaskBroken, read_task, task_ids
from sandbox.images.cache import cache_dir

SCRIPTED_NAME = "scripted-mini"


def mini_script() -> Path:
    """A script file for all bundled tasks, in the cache; a new file where the turns are others."""
    text = json.dumps(script(), indent=1, sort_keys=True) + "\n"
    wanted = cache_dir() / "mini" / f"script-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    if not wanted.is_file():
        wanted.parent.mkdir(parents=True, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(prefix=".unfinished-", dir=wanted.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(scratch).replace(wanted)
    return wanted


def script() -> dict[str, Any]:
    """The script as a value. TaskBroken when a task has no turns."""
    tasks = [read_task(task_id) for task_id in task_ids()]
    return {
        "name": SCRIPTED_NAME,
        "lasting_cache": True,  # a run that was killed and went on reports what one that wasn't does
        "conversations": [{"match": task.title, "turns": turns(task)} for task in tasks],
    }


def turns(task: Task) -> list[dict[str, Any]]:
    """The model's turns on a task: each thinks and makes one call."""
    path = task.folder / "turns.toml"
    try:
        listed = tomllib.loads(path.read_text(encoding="utf-8"))["turn"]
        return [
            {
                "reasoning": turn["thinking"].strip(),
                "calls": [{"name": turn["tool"], "arguments": turn["arguments"]}],
            }
            for turn in listed
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TaskBroken(f"the scripted model has no turns for {task.id} ({path}: {error!r}): install again") from error
