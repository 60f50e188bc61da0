"""How the model's server is: asked at its address, for a few seconds at most, and not again for the next few.

Only what costs no generation is asked. Left out: what the answers mean to a run (`runtime.models`).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Final

from agent.visible import visible

_SECONDS: Final = 4.0  # for all questions together
_KEPT: Final = 5.0  # seconds that an answer holds
_LONGEST: Final = 300  # characters of what it says


@dataclass(frozen=True, slots=True)
class ModelHealth:
    """`up`: it answers; None: it has no address to ask. `requests`: being answered now, None where it doesn't say."""

    address: str
    up: bool | None
    why: str = ""
    name: str = ""
    engine: str = ""
    context: int | None = None
    requests: int | None = None
    took: float | None = None  # seconds until its first answer


@dataclass(slots=True)
class HealthWatch:
    """The health of one target, asked for by any number of visitors. `kept`: seconds that an answer holds."""

    target: str
    seconds: float = _SECONDS
    kept: float = _KEPT
    _last: ModelHealth | None = None
    _until: float = 0.0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def now(self) -> ModelHealth:
        async with self._lock:
            if self._last is None or time.monotonic() >= self._until:
                # Our client of model servers knows asyncio's own connections only; the server may run on uvloop.
                self._last = await asyncio.to_thread(lambda: asyncio.run(probe(self.target, self.seconds)))
                self._until = time.monotonic() + self.kept
            return self._last


async def probe(target: str, seconds: float = _SECONDS) -> ModelHealth:
    """Ask the server of `target`, as `agent fix --model` takes it. Raises nothing: trouble is what it tells."""
    from runtime.models.base import ModelError
    from runtime.models.detect import Server
    from runtime.models.probe_server import ServerPaths, address_of

    address = address_of(target)
    if address is None:
        return ModelHealth(_without_login(target), None, "it has no server that could be asked")
    shown = _without_login(address)
    try:
        paths = ServerPaths(address)
    except (ValueError, ModelError) as error:
        return ModelHealth(shown, False, _short(str(error)))
    try:
        async with asyncio.timeout(seconds):
            begun = time.monotonic()
            models = await Server(paths.transport, address).get("/v1/models", "/models")
            took = time.monotonic() - begun
            return _healthy(shown, models, took, await paths.running())
    except TimeoutError:
        return ModelHealth(shown, False, f"it didn't answer within {seconds:g} s")
    except ModelError as error:
        return ModelHealth(shown, False, _short(str(error)))
    finally:
        await paths.close()


def _healthy(address: str, models: dict[str, Any] | None, took: float, requests: int | None) -> ModelHealth:
    from runtime.models.checked import count
    from runtime.models.detect import card_of

    card = card_of(models)
    name, owner = str(card.get("id") or ""), str(card.get("owned_by") or "")
    context = count(card.get("max_model_len")) or None
    why = "" if name else "it lists no models"
    return ModelHealth(address, True, why, _short(name), _short(owner), context, requests, took)


def _short(text: str) -> str:
    return visible(text)[:_LONGEST]


def _without_login(address: str) -> str:
    """Addresses may hold a login; it is nobody's business here."""
    head, found, rest = address.partition("://")
    return f"{head}://{rest.rpartition('@')[2]}" if found else address
