"""Pulling images: with progress, and past rate limits, which are waited for and are nobody's failure.

An engine says in words only what went wrong, so the words are sorted here. Left out: which image (`published`).
"""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evals.environments.base import Tell
from evals.environments.published import registry_of

if TYPE_CHECKING:
    from docker import DockerClient

MIN_FREE: Final = 6 << 30
"""Bytes that have to be free for a pull: an instance's image is 2 to 4 GB unpacked, and is packed beside it."""
FIRST_WAIT, LONGEST_WAIT = 60.0, 1800.0
_TELL_EVERY: Final = 5.0
_RETRY_AFTER = re.compile(r"retry[-_ ]after:?\s*\"?(\d+(?:\.\d+)?)\s*(ns|us|µs|μs|ms|s|m|h)?", re.IGNORECASE)
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Trouble(StrEnum):
    """Why a pull failed."""

    RATE = "rate limit"
    MISSING = "not there"
    FOREIGN = "not for this processor"
    UNREACHABLE = "registry not reachable"
    DISK = "no room"
    OTHER = "other"


# The first that is found counts: a limit may be worded as a refused access, and a refusal often names a 404 too.
_SIGNS: Final = (
    (Trouble.RATE, ("toomanyrequests", "too many requests", "rate.?limit", "rate exceeded", r"\b429\b")),
    (Trouble.DISK, ("no space left", "disk quota exceeded", "not enough space")),
    (Trouble.FOREIGN, ("no matching manifest", "does not match the .{0,20}platform", "no image found in .{0,20}list",
                       "no image found in .{0,20}index")),
    (Trouble.MISSING, ("manifest unknown", "not found", "does not exist", "access denied", "unauthorized", "denied:",
                       "name unknown", "name not known", "invalid reference")),
    (Trouble.UNREACHABLE, ("no such host", "connection re(fused|set)", "network is unreachable", "no route to host",
                           "time(d )?-?out", "name resolution", "server misbehaving", r"\beof\b", "x509", "certificate",
                           "tls:", r"\b50[0234]\b", "deadline exceeded", "proxyconnect")),
)  # fmt: skip


class PullFailed(Exception):
    """A pull that came to nothing. `wait`: seconds that the registry asked for, None where it didn't say."""

    def __init__(self, name: str, said: str) -> None:
        super().__init__(f"{name}: {said}")
        self.name = name
        self.said = said
        self.trouble = trouble_in(said)
        self.wait = asked_wait(said)


def trouble_in(said: str) -> Trouble:
    """What an engine's message is about."""
    for trouble, signs in _SIGNS:
        if any(re.search(sign, said, re.IGNORECASE) for sign in signs):
            return trouble
    return Trouble.OTHER


def asked_wait(said: str) -> float | None:
    """The seconds of a `retry-after` in a message, as some registries word it (`retry-after: 880.092µs`)."""
    found = _RETRY_AFTER.search(said)
    return None if found is None else float(found[1]) * _UNITS[(found[2] or "s").lower()]


@dataclass(slots=True)
class Limiter:
    """One for all pulls of a process: a registry that limits us is left alone by all of them until then."""

    patience: float = 7 * 3600.0
    """Seconds of waiting for one image, in all; Docker Hub counts by six hours."""
    _until: dict[str, float] = field(default_factory=dict)
    _times: dict[str, int] = field(default_factory=dict)

    def hold(self, registry: str, wait: float | None, *, now: float) -> float:
        """Note a limit at `now` (seconds of a clock); returns until when the registry is left alone.

        What the registry asks for, at least a second; else longer each time. A limit that is noted while one holds
        (of pulls that were under way) isn't another one.
        """
        until = self._until.get(registry, 0.0)
        if now < until:
            return until
        if wait is None:
            times = self._times.get(registry, 0)
            self._times[registry] = times + 1
            wait = min(FIRST_WAIT * 2.0**times, LONGEST_WAIT)
        self._until[registry] = now + max(wait, 1.0)
        return self._until[registry]

    def passed(self, registry: str) -> None:
        """Note that a pull went through."""
        self._times.pop(registry, None)

    def left(self, registry: str, *, now: float) -> float:
        """Seconds until the registry may be asked again; 0.0: now."""
        return max(0.0, self._until.get(registry, 0.0) - now)


async def pull(kind: str, name: str, limiter: Limiter, tell: Tell) -> None:
    """Have an image in the engine. Waits for rate limits up to the limiter's patience; raises PullFailed."""
    registry = registry_of(name)
    began = time.monotonic()
    while True:
        if left := limiter.left(registry, now=time.monotonic()):
            # Those that wait for the same registry don't come back in the same second.
            await asyncio.sleep(left + random.uniform(0.0, min(5.0, left / 4)))  # noqa: S311
            continue
        try:
            await asyncio.to_thread(_pull, kind, name, tell)
        except PullFailed as failed:
            if failed.trouble is not Trouble.RATE:
                raise
            until = limiter.hold(registry, failed.wait, now=time.monotonic())
            if until - began > limiter.patience:
                raise
            tell(
                f"{registry} limits how often images are pulled: waiting {_span(until - time.monotonic())}, then "
                f"{name} again. A login (`docker login`) raises the limit"
            )
        else:
            limiter.passed(registry)
            return


def _pull(kind: str, name: str, tell: Tell) -> None:
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    from sandbox.images.engine import connect

    client = connect(kind)
    try:
        check_room(client, name)
        progress = Layers(name)
        for event in client.api.pull(name, stream=True, decode=True):
            if error := event.get("error"):
                raise PullFailed(name, str(error))
            if line := progress.seen(event, time.monotonic()):
                tell(line)
    except (DockerException, RequestException) as error:
        raise PullFailed(name, str(error)) from error
    finally:
        client.close()


def check_room(client: DockerClient, name: str, least: int = MIN_FREE) -> None:
    """Whether the engine's disk has room for an image, where it can be seen from here. Raises PullFailed."""
    root = Path(str(client.info().get("DockerRootDir") or "/nonexistent"))
    free = shutil.disk_usage(root).free if root.is_dir() else least
    if free < least:
        raise PullFailed(
            name,
            f"no space left for it: {free >> 20} MB are free in {root}, and {least >> 20} MB are wanted; remove images "
            "(`docker image prune`, `agent sandbox prune --images`) or move the engine's folder",
        )


@dataclass(slots=True)
class Layers:
    """Sums up an engine's events about one pull. Sizes are of the packed layers, as far as they are known yet."""

    name: str
    _known: dict[str, tuple[int, int]] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)
    _told: float | None = None

    def seen(self, event: Mapping[str, Any], now: float) -> str:
        """Take an event in; a line to tell every five seconds, else nothing."""
        layer, status = str(event.get("id") or ""), str(event.get("status") or "")
        detail = event.get("progressDetail") or {}
        if status == "Downloading" and detail.get("total"):
            self._known[layer] = (int(detail.get("current") or 0), int(detail["total"]))
        elif status in ("Pull complete", "Already exists", "Download complete"):
            self._done.add(layer)
            if layer in self._known:
                self._known[layer] = (self._known[layer][1],) * 2
        if self._told is None:
            self._told = now
        if now - self._told < _TELL_EVERY or not self._known:
            return ""
        self._told = now
        return f"pulling {self.name}: {self.here >> 20} of {self.whole >> 20} MB, {len(self._done)} layers are here"

    @property
    def here(self) -> int:
        """Bytes that have come."""
        return sum(current for current, _ in self._known.values())

    @property
    def whole(self) -> int:
        """Bytes of the layers that are known."""
        return sum(total for _, total in self._known.values())


def worst(failures: Iterable[PullFailed]) -> PullFailed | None:
    """Of several names' failures the one that says most of why there is no image: a missing one says least."""
    order = [Trouble.RATE, Trouble.DISK, Trouble.OTHER, Trouble.UNREACHABLE, Trouble.FOREIGN, Trouble.MISSING]
    return min(failures, key=lambda failed: order.index(failed.trouble), default=None)


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
