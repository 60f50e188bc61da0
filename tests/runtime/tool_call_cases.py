"""Tools and canonical text that the tool-call tests share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runtime.tool_calls import ParsedTurn, ProblemKind


def tool(name: str, properties: Mapping[str, Any], required: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    """An OpenAI-style function spec."""
    schema = {"type": "object", "properties": dict(properties), "required": list(required), **more}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": schema}}


TEXT = {"type": "string"}
BASH = tool("bash", {"command": TEXT, "timeout": {"type": "integer"}}, ["command"])
WRITE = tool("write", {"path": TEXT, "content": TEXT, "mode": TEXT}, ["path", "content"])
NOW = tool("now", {})
TOOLS = [BASH, WRITE, NOW]


def call(name: str, **arguments: str) -> str:
    """A call as the format documents it."""
    body = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items())
    return f"<tool_call>\n<function={name}>\n{body}</function>\n</tool_call>"


def calls_of(turn: ParsedTurn) -> list[tuple[str, dict[str, Any]]]:
    """Names and arguments."""
    return [(found.name, found.arguments) for found in turn.calls]


def kinds_of(turn: ParsedTurn) -> list[ProblemKind]:
    """The kinds of the turn's problems, in order."""
    return [problem.kind for problem in turn.problems]


def joined(turn: ParsedTurn) -> str:
    """The pieces as one text."""
    return "".join(piece.text for piece in turn.pieces)
