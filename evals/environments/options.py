"""What a run says of its environments, and what one process knows of them: one object for all instances of a run.

Left out: making them (`environment`).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from evals.environments.base import InstanceEnvironment
from evals.environments.published import ImageNames
from evals.environments.pull import Limiter

CLOSED_SECONDS: Final = 600.0
"""How long a registry that couldn't be reached isn't asked again."""


class Prefer(StrEnum):
    """Which image is taken where there are two kinds."""

    AUTO = "auto"  # published ones where a registry has them, else recipes
    PUBLISHED = "published"  # nothing else
    RECIPE = "recipe"


@dataclass(slots=True)
class Options:
    """One per run and process: its limits hold for all instances together. `builds`: recipes made at once."""

    prefer: Prefer = Prefer.AUTO
    names: ImageNames = field(default_factory=ImageNames.read)
    limiter: Limiter = field(default_factory=Limiter)
    builds: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    _ready: dict[tuple[str, ...], InstanceEnvironment] = field(default_factory=dict)
    _locks: dict[tuple[str, ...], asyncio.Lock] = field(default_factory=dict)
    _closed: dict[str, tuple[float, str]] = field(default_factory=dict)

    def lock(self, key: tuple[str, ...]) -> asyncio.Lock:
        """Attempts at the same instance wait for one another."""
        return self._locks.setdefault(key, asyncio.Lock())

    def known(self, key: tuple[str, ...]) -> InstanceEnvironment | None:
        """What was made before in this process; its image may be gone since."""
        return self._ready.get(key)

    def keep(self, key: tuple[str, ...], made: InstanceEnvironment) -> None:
        self._ready[key] = made

    def close(self, registry: str, said: str) -> None:
        """Note that a registry can't be reached."""
        self._closed[registry] = (time.monotonic() + CLOSED_SECONDS, said)

    def closed(self, registry: str) -> str:
        """What it said when it couldn't be reached a short while ago; "" where it may be asked."""
        until, said = self._closed.get(registry, (0.0, ""))
        return said if time.monotonic() < until else ""
