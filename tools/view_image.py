"""The `view_image` tool: a picture from the sandbox becomes a part of the observation that the model sees.

Offered only to models that see (`agent.images`). The bytes go into the run's blobs as they are and from there into
each request; the observation's facts name them, so that a resumed run shows the same pictures. Left out: changing
pictures; the model has a shell for that.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any, Final

from sandbox.base import FileProblem
from tools.arguments import BadArgument, failure, text
from tools.base import Observation, ToolContext
from tools.pictures import MOST_BYTES, NotAPicture, no_room, picture_of

NAME: Final = "view_image"
SPEC: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": (
            "Look at a picture: a screenshot, a diagram, or what a program has drawn. Takes PNG, JPEG, GIF (the first "
            "frame) and WebP files."
        ),
        "parameters": {
            "type": "object",
            "properties": {"path": {"type": "string", "description": "The picture's file."}},
            "required": ["path"],
        },
    },
}


class ViewImage:
    @property
    def spec(self) -> dict[str, Any]:
        return SPEC

    async def __call__(self, context: ToolContext, arguments: Mapping[str, Any]) -> Observation:
        try:
            given = text(arguments, "path")
            if not given.strip():
                raise BadArgument("the argument `path` is empty.")
            path = posixpath.normpath(posixpath.join(context.sandbox.workdir, given))
            return _shown(context, path, await context.sandbox.read(path, limit=MOST_BYTES + 1))
        except (BadArgument, FileProblem) as error:
            return failure(str(error))
        except NotAPicture as error:
            return failure(f"{path} {error}.", path=path)


def _shown(context: ToolContext, path: str, data: bytes) -> Observation:
    picture = picture_of(data)
    before = context.state.get(NAME) or {"pictures": 0, "bytes": 0}
    if why := no_room(before["pictures"], before["bytes"], len(data)):
        return failure(f"{path} can't be shown: {why}.", path=path)
    context.state[NAME] = {"pictures": before["pictures"] + 1, "bytes": before["bytes"] + len(data)}
    shown = {"blob": context.blobs.put(data), "media_type": picture.image.media_type}
    return Observation(f"The picture {path} ({picture}).", data={"path": path, "images": [shown]})
