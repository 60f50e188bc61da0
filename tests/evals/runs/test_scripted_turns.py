"""The bundled set's scripted turns: what they need is there whenever a run is gone on with, and they say the same."""

from __future__ import annotations

import re

import pytest

from evals.mini.script import turns
from evals.mini.tasks import read_task, task_ids


@pytest.mark.parametrize("task_id", task_ids())
def test_turns_keep_to_the_work_tree(task_id: str) -> None:
    """A run that is gone on with has its work tree again and nothing else, and names made up by chance would be other
    ones; without isolation, other attempts and the user have the same /tmp."""
    commands = [call["arguments"].get("command", "") for turn in turns(read_task(task_id)) for call in turn["calls"]]
    assert not [command for command in commands if re.search(r"/tmp\b|mktemp|tempfile|~/|\$HOME|ls -l", command)]
