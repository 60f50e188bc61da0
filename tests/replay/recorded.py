"""From a real model's recorded trajectory to a script for the scripted model: the same thoughts, the same calls.

Tool names differ between agents (`execute_bash`, `finish`) and are translated; paths go through `prepare.rewrite`.
Left out: what the recorded tools answered, which our own tools answer anew.
"""

from __future__ import annotations

import json
import lzma
import re
from typing import Any

from tests.replay.prepare import Replay, rewrite
from tests.shared_data import SHARED

_BLOCK = re.compile(r"```bash\n(.*?)\n```", re.DOTALL)
_SUBMITTING = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"


def row(file: str, instance_id: str) -> dict[str, Any]:
    """The line of a compressed JSON-lines file in the shared data that is about an instance."""
    with lzma.open(SHARED / "data" / file, "rt") as lines:
        rows = (json.loads(line) for line in lines)
        return next(found for found in rows if found.get("instance_id") == instance_id)


def _submit(summary: str) -> list[dict[str, Any]]:
    call = {"name": "submit", "arguments": {"summary": summary}}
    return [{"reasoning": "It is done.", "content": "", "calls": [call]}] * 2


def bash_turns(replay: Replay, trajectory: dict[str, Any]) -> list[dict[str, Any]]:
    """Turns of an agent that writes one bash block per message."""
    turns = []
    for message in trajectory["messages"]:
        if message["role"] != "assistant":
            continue
        thought, block = _BLOCK.split(message["content"])[0], _BLOCK.search(message["content"])
        assert block, message["content"]
        if _SUBMITTING in block[1]:
            break
        call = {"name": "bash", "arguments": {"command": rewrite(replay, block[1])}}
        turns.append({"reasoning": thought.strip(), "content": "", "calls": [call]})
    return turns + _submit("See the diff.")


def recorded_exit_codes(trajectory: dict[str, Any]) -> list[int]:
    """What the commands of `bash_turns` returned in the recording."""
    found = (re.search(r"<returncode>(-?\d+)</returncode>", str(m["content"])) for m in trajectory["messages"])
    return [int(match[1]) for match in found if match]


def editor_turns(replay: Replay, trajectory: dict[str, Any]) -> list[dict[str, Any]]:
    """Turns of an agent with `execute_bash`, `str_replace_editor` and `finish`."""
    turns = []
    for message in trajectory["messages"]:
        calls = [_translated(replay, call["function"]) for call in message.get("tool_calls") or ()]
        if calls := [call for call in calls if call]:
            turns.append({"reasoning": message["content"] or "", "content": "", "calls": calls})
    return turns + _submit("See the diff.")


def _translated(replay: Replay, call: dict[str, Any]) -> dict[str, Any] | None:
    arguments = {
        name: rewrite(replay, value) if isinstance(value, str) else value
        for name, value in json.loads(call["arguments"]).items()
    }
    match call["name"]:
        case "execute_bash":
            return {"name": "bash", "arguments": {"command": arguments["command"]}}
        case "str_replace_editor":
            return {"name": "str_replace_editor", "arguments": arguments}
        case _:
            return None
