"""How a run's conversation begins: the tools that the model gets, and the first messages.

For a model that sees no pictures both are the same, token for token, as they have always been. Left out: the texts
(`agent.prompts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import prompts
from agent.ends import Outcome, RunProblem
from agent.events import EventLog, EventType
from agent.images import part_of, sees

if TYPE_CHECKING:
    from agent.session import Session
    from runtime.models.base import Model
    from tools.base import BlobStore, Tool


def tools_for(log: EventLog, model: Model) -> dict[str, Tool]:
    """The run's tools by name: those of its prompt, once there is one. Raises RunProblem."""
    from tools import standard_tools
    from tools.base import tool_name
    from tools.view_image import NAME, ViewImage

    prompt = log.last(EventType.PROMPT)
    given = None if prompt is None else {spec["function"]["name"] for spec in prompt.data["tools"]}
    seeing = sees(model)
    if given is not None and not seeing and _pictures_in(log):
        raise RunProblem(
            Outcome.MODEL,
            f"this run has shown its model pictures, and {model.name} can't be shown any: resume it with a model "
            "that sees",
        )
    tools: list[Tool] = standard_tools()
    if NAME in given if given is not None else seeing:
        tools.insert(len(tools) - 1, ViewImage())  # submit stays the last
    return {tool_name(tool): tool for tool in tools}


def _pictures_in(log: EventLog) -> bool:
    shown = any(event.data["facts"].get("images") for event in log.of_type(EventType.OBSERVATION))
    return shown or any(
        isinstance(message["content"], list) for event in log.of_type(EventType.PROMPT)
        for message in event.data["messages"]
    )  # fmt: skip


async def first_messages(
    issue: Mapping[str, Any], *, workdir: str, notes: tuple[str, ...], blobs: BlobStore, pictures: bool
) -> list[dict[str, Any]]:
    """The system prompt and the task. `issue` has `text` and `source`; with `pictures` its pictures are shown."""
    text, parts = issue["text"], list[dict[str, Any]]()
    if pictures:
        text, parts = await _illustrated(text, issue["source"], blobs)
    task = prompts.task_prompt(text, workdir=workdir, notes=notes)
    return [
        {"role": "system", "content": prompts.system_prompt()},
        {"role": "user", "content": [{"type": "text", "text": task}, *parts] if parts else task},
    ]


async def _illustrated(text: str, source: str, blobs: BlobStore) -> tuple[str, list[dict[str, Any]]]:
    from agent.issue_pictures import illustrated

    file = Path(source).expanduser()
    found = await illustrated(text, file.parent if file.is_file() else None)
    parts: list[dict[str, Any]] = []
    for number, picture in enumerate(found.pictures, start=1):
        image = picture.image
        parts.append({"type": "text", "text": f"\n\nPicture {number} of the issue:\n"})
        parts.append(part_of({"blob": blobs.put(image.data), "media_type": image.media_type}))
    return found.text, parts


def count_shown(session: Session, blobs: BlobStore, messages: Sequence[Mapping[str, Any]]) -> None:
    """Pictures of the prompt count as shown for the tool that shows more."""
    from tools.view_image import NAME

    contents = [message["content"] for message in messages if isinstance(message["content"], list)]
    sizes = [len(blobs.get(part["blob"])) for parts in contents for part in parts if part["type"] == "image"]
    if sizes:
        session.tool_state.setdefault(NAME, {"pictures": len(sizes), "bytes": sum(sizes)})
