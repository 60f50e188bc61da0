"""What a tool is: a spec that the model reads, and one async function over a sandbox.

Left out: how calls are parsed (`runtime.tool_calls`) and when tools run (`agent.loop`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sandbox.base import Sandbox

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]


class BlobStore(Protocol):
    """Content-addressed bytes that outlive the process (the run's folder)."""

    def put(self, data: bytes) -> str: ...

    def get(self, name: str) -> bytes: ...


@dataclass(slots=True)
class ToolContext:
    """What a tool may touch. `state` is plain JSON, is logged after each call and given back on resume."""

    sandbox: Sandbox
    blobs: BlobStore
    diff: Callable[[], Awaitable[str]]  # the patch as it would be extracted now
    state: dict[str, Any] = field(default_factory=dict)
    command_timeout: float = 120.0  # seconds, default for one command
    max_command_timeout: float = 900.0
    max_observation: int = 16_000  # characters of one observation that reach the model


@dataclass(frozen=True, slots=True)
class Observation:
    """What the model gets back from one call.

    `text` neither begins nor ends with white space, because the chat format trims it.
    """

    text: str
    may_have_changed: bool = False  # the work folder may differ from before the call
    ends_run: bool = False  # only `submit`
    failed: bool = False  # the call could not be done as asked
    data: Mapping[str, Any] = field(default_factory=dict)  # facts for events: exit_code, command, path ...


class Tool(Protocol):
    @property
    def spec(self) -> dict[str, Any]:
        """OpenAI-style function spec."""
        ...

    async def __call__(self, context: ToolContext, arguments: Mapping[str, Any]) -> Observation:
        """Never raises for what the model asked; raises SandboxError when the machine failed."""
        ...


def tool_name(tool: Tool) -> str:
    return str(tool.spec["function"]["name"])
