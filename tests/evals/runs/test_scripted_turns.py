"""The bundled set's scripted turns: what they need is there whenever a run is gone on with."""

from __future__ import annotations

import re

import pytest

from evals.mini.script import turns
from evals.mini.tasks import read_task, task_ids


@pytest.mark.parametrize("task_id", task_ids())
def test_no_turn_needs_what_an_earlier_one_left_outside_of_the_work_tree(task_id: str) -> None:
    """A run that is gone on with has its work tree again, and nothing else."""
    commands = [call["arguments"].get("command", "") for turn in turns(read_task(task_id)) for call in turn["calls"]]
    for command in commands:
        for path in set(re.findall(r"/tmp/[\w./-]+", command)):
            assert f"> {path}" in command.partition(path)[0] + path, f"{path} isn't made by the command that reads it"
