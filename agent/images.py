"""Pictures of a run: whether its model sees, where they stand in the transcript, and which go with a request.

A picture is one `<|image_pad|>` in the ids and a blob in the run's folder. The log's events name the blobs in the
order of their pads (in the prompt's messages, then in the facts of observations), so what goes with a request is
rebuilt on resume as everything else is. Left out: what may be shown (`tools.pictures`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.events import EventLog, EventType
from runtime.models.base import Feature, Image

if TYPE_CHECKING:
    from runtime.chat import Body
    from runtime.models.base import Model
    from tools.base import BlobStore

Reference = Mapping[str, Any]
"""A picture as events have it: `blob` (a name in the run's blobs) and `media_type`."""


def sees(model: Model) -> bool:
    """Whether the model can be shown pictures: its host takes them, and its card, if there is one, agrees."""
    from runtime.catalog import find

    if Feature.IMAGES not in model.facts.features:
        return False
    card = find(model.name)
    return card is None or card.images


def part_of(picture: Reference) -> dict[str, Any]:
    """A picture as a part of a message."""
    return {"type": "image", "blob": picture["blob"], "media_type": picture["media_type"]}


def body_of(text: str, facts: Mapping[str, Any]) -> Body:
    """What joins the transcript for an observation: its text, behind the pictures that its facts name."""
    pictures: Sequence[Reference] = facts.get("images", ())
    return [*map(part_of, pictures), {"type": "text", "text": text}] if pictures else text


class Shelf:
    """The pictures of one run in the order of their pads. Follows the log; each picture is read once."""

    def __init__(self, log: EventLog, blobs: BlobStore) -> None:
        self._log = log
        self._blobs = blobs
        self._read = 0  # events
        self._open: list[Reference] = []  # of observations that haven't joined the transcript yet
        self._images: tuple[Image, ...] = ()

    def images(self) -> tuple[Image, ...]:
        """Those of the transcript as it is now. Raises KeyError for a blob that is gone."""
        new: list[Reference] = []
        for event in self._log.events[self._read :]:
            match event.type:
                case EventType.PROMPT:
                    new += _in_messages(event.data["messages"])
                case EventType.OBSERVATION:
                    self._open += event.data["facts"].get("images", ())
                case EventType.OBSERVED:
                    new += self._open
                    self._open = []
                case _:
                    pass
        self._read = len(self._log.events)
        if new:
            self._images += tuple(Image(self._blobs.get(found["blob"]), found["media_type"]) for found in new)
        return self._images


def _in_messages(messages: Sequence[Mapping[str, Any]]) -> list[Reference]:
    contents = [message["content"] for message in messages if not isinstance(message.get("content"), str)]
    return [part for content in contents for part in content or () if part.get("type") == "image"]
