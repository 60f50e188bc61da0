"""A run's events as a plain chat conversation, for people and programs that know nothing of ours.

Left out: token ids; the event log has them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.events import EventType, read_events


def messages_of(log: Path) -> list[dict[str, Any]]:
    """OpenAI-style messages: system, user, then assistant turns and tool answers."""
    messages: list[dict[str, Any]] = []
    for event in read_events(log):
        data = event.data
        match event.type:
            case EventType.PROMPT:
                messages += data["messages"]
            case EventType.TURN:
                messages.append(_assistant(data))
            case EventType.OBSERVATION:
                messages.append(
                    {"role": "tool", "tool_call_id": _id(data["turn"], data["call"]), "content": data["text"]}
                )
            case EventType.OBSERVED if data["nudge"]:
                messages.append({"role": "tool", "tool_call_id": _id(data["turn"], 0), "content": data["nudge"]})
            case EventType.FOLLOWED:
                messages.append({"role": "user", "content": data["text"]})
            case _:
                pass
    return messages


def _assistant(data: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": data["content"]}
    if data["reasoning"]:
        message["reasoning_content"] = data["reasoning"]
    if data["calls"]:
        message["tool_calls"] = [
            {"id": _id(data["turn"], index), "type": "function", "function": call}
            for index, call in enumerate(data["calls"])
        ]
    return message


def _id(turn: int, call: int) -> str:
    return f"call_{turn}_{call}"
