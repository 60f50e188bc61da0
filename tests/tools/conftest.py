"""A sandbox without isolation and a tool context over it, for tests that need no border."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sandbox.base import Sandbox
from sandbox.local import open_local
from sandbox.policy import SandboxSpec
from tools.base import Observation, Tool, ToolContext


@dataclass
class Blobs:
    """Blobs in memory."""

    contents: dict[str, bytes] = field(default_factory=dict)

    def put(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        self.contents[name] = data
        return name

    def get(self, name: str) -> bytes:
        return self.contents[name]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    opened = await open_local(SandboxSpec())
    yield opened
    await opened.close()


@pytest.fixture
def workdir(sandbox: Sandbox) -> Path:
    return Path(sandbox.workdir)


@pytest.fixture
def context(sandbox: Sandbox) -> ToolContext:
    async def no_diff() -> str:
        return ""

    return ToolContext(sandbox, Blobs(), no_diff)


Call = Callable[..., Awaitable[Observation]]


def caller(tool: Tool, context: ToolContext) -> Call:
    """Calls the tool as the loop would, and checks what holds for every observation."""

    async def call(**arguments: Any) -> Observation:
        observation = await tool(context, arguments)
        assert observation.text == observation.text.strip() != ""
        assert len(observation.text) <= context.max_observation
        observation.text.encode()
        return observation

    return call
