"""The one run that the demo model knows: what it says and calls in each turn, and the prompt that it starts from.

Prompt, tool specs and chat format are the product's own (`agent`, `tools`, `runtime`), so that a change of theirs
is a change of what the model has to be trained on. Left out: what the tools answer (`record`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.prompts import system_prompt, task_prompt
from runtime.chat import canonical_turn
from tools import standard_tools

HERE = Path(__file__).parent
ISSUE = (HERE / "issue.md").read_text(encoding="utf-8")

_MODULE = "paging/pages.py"
_TESTS = "python3 -m unittest"
_SUMMARY = (
    "page_count() dropped the remainder of the division, so a last page that isn't full was not counted "
    "and could not be reached. It now rounds up."
)


@dataclass(frozen=True, slots=True)
class ScriptedTurn:
    """One turn of the model: its thinking, and the one call that it makes."""

    thinking: str
    tool: str
    arguments: dict[str, Any]

    @property
    def text(self) -> str:
        """What the model writes after the generation prompt, without the end of the turn."""
        return canonical_turn(self.thinking, "", [{"name": self.tool, "arguments": self.arguments}])


# Every turn begins with another word: by it the model settles which turn it is in.
TURNS: tuple[ScriptedTurn, ...] = (
    ScriptedTurn(
        "First I look at what is in the repository.",
        "bash",
        {"command": "git log --oneline -n 3; ls . paging tests"},
    ),
    ScriptedTurn(
        f"A small package. The issue is about counting pages, so {_MODULE} is the file to read.",
        "str_replace_editor",
        {"command": "view", "path": _MODULE},
    ),
    ScriptedTurn(
        "Line 8 drops the remainder of the division, so a page that isn't full is not counted. "
        "Before I change it I run the tests to see the failure.",
        "bash",
        {"command": _TESTS},
    ),
    ScriptedTurn(
        "Two tests fail, both because the last page is missing from the count. "
        "The division has to round up, and only page_count() needs it.",
        "str_replace_editor",
        {
            "command": "str_replace",
            "path": _MODULE,
            "old_str": "    return total // size",
            "new_str": "    return -(-total // size)",
        },
    ),
    ScriptedTurn("Now I run the tests again.", "bash", {"command": _TESTS}),
    ScriptedTurn("All six tests pass, so I can submit.", "submit", {"summary": _SUMMARY, "reproduction": _TESTS}),
    ScriptedTurn(
        "Only the one line has changed, and nothing else is in the way. I submit it.",
        "submit",
        {"summary": _SUMMARY, "reproduction": _TESTS},
    ),
)


def prompt(workdir: str, notes: Sequence[str] = ()) -> list[dict[str, Any]]:
    """System and task message as the agent sends them for a checkout at `workdir`."""
    return [
        {"role": "system", "content": system_prompt()},
        {"role": "user", "content": task_prompt(ISSUE, workdir=workdir, notes=tuple(notes))},
    ]


def specs() -> list[dict[str, Any]]:
    return [tool.spec for tool in standard_tools()]
