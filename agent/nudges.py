"""What the model is told besides what its tools answered: always inside a tool response, never as a user message.

A user message in mid-run would make the chat format drop the thinking before it. Left out: the first prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.session import TurnRecord


AFTER_SUBMIT = "Not done: nothing after a submit in the same turn is. Read what submit showed, then go on."


def no_call(problems: Sequence[tuple[int | None, str]]) -> str:
    """The answer to a turn without a call."""
    lines = ["No tool was called in this turn, so nothing was done."]
    lines += [f"Problem: {message}" for _, message in problems]
    lines.append(
        "Go on by calling a tool. If the issue is solved, or if it cannot be solved, call submit: "
        "nothing else ends the work."
    )
    return "\n".join(lines)


def sandbox_died(why: str) -> str:
    """The answer to a call during which the sandbox ended."""
    return (
        f"Error: the machine that the commands run on ended during this call ({why.rstrip('.')}). A new one was "
        "started. The files of the working directory are as they were before this call, but files that git ignores, "
        "files elsewhere, background processes and exported variables are gone. What this call was to do is not done. "
        "If the call itself ended the machine (by too much memory or by killing every process), do it in another way."
    )


def unknown_tool(name: str, known: Sequence[str]) -> str:
    return f"Error: there is no tool called {name!r}. The tools are: {', '.join(known)}."


def with_notes(text: str, turn: TurnRecord, index: int, notes: Sequence[str | None]) -> str:
    """An observation with notes of ours and the problems of its call; the last call gets the turn's problems too."""
    last = index == len(turn.calls) - 1
    format_notes = [
        f"[note on the call's format: {message}]"
        for call, message in turn.problems
        if call == index or (last and call is None)
    ]
    return "\n".join([text, *format_notes, *filter(None, notes)])
