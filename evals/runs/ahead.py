"""Published images are pulled ahead of the attempts that need them, while others are being worked on.

An attempt waits for its instance's image, so that no image is asked for twice and a registry that limits how often
is waited for in one place. What can't be pulled ahead is nobody's failure: the attempt looks itself, and may have a
recipe.
Left out: pulling (`evals.environments.prepull`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from evals.environments import Options, prepull
from evals.instance import Instance

_TELL_EVERY: Final = 30.0  # seconds between two lines on how much of an image has come


@dataclass(slots=True)
class Ahead:
    """Instances whose images are on their way."""

    _coming: dict[str, asyncio.Event] = field(default_factory=dict)

    def expect(self, ids: Iterable[str]) -> None:
        self._coming |= {name: asyncio.Event() for name in ids}

    def seen_to(self, instance_id: str) -> None:
        if (coming := self._coming.pop(instance_id, None)) is not None:
            coming.set()

    def expect_nothing(self) -> None:
        for instance_id in [*self._coming]:
            self.seen_to(instance_id)

    async def wait_for(self, instance_id: str) -> None:
        """Until the instance has been seen to; at once where nobody pulls for it."""
        if (coming := self._coming.get(instance_id)) is not None:
            await coming.wait()


@asynccontextmanager
async def pulling_ahead(
    ahead: Ahead, instances: Sequence[Instance], kind: str, options: Options, tell: Callable[[str], None]
) -> AsyncIterator[None]:
    """Pull the instances' images, in this order, until the block ends. Begin it before the attempts."""
    wanted = [one for one in instances if not one.rest.get("bundled") and options.names.of(one, "x86_64")]
    ahead.expect(one.instance_id for one in wanted)
    task = asyncio.create_task(_pull(ahead, wanted, kind, options, _Sparing(tell)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _pull(
    ahead: Ahead, instances: Sequence[Instance], kind: str, options: Options, tell: Callable[[str], None]
) -> None:
    try:
        await prepull(instances, kind=kind, options=options, progress=tell, seen_to=ahead.seen_to)
    except Exception as problem:  # noqa: BLE001  # whatever it is: each attempt looks itself, and has its own tries
        tell(f"images are no longer pulled ahead: {problem}")
    finally:
        ahead.expect_nothing()


class _Sparing:
    """Passes lines on; those that say how much has come, now and then."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._told = tell, time.monotonic()

    def __call__(self, line: str) -> None:
        if line.startswith("pulling "):
            if time.monotonic() - self._told < _TELL_EVERY:
                return
            self._told = time.monotonic()
        self._tell(line)
