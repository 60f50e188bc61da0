"""Runs go on on any machine, also one that shares no disk with the machine they were begun on: through the database.

Carried are the log, the objects of the run's trees, blobs and the patch, as they come about; a machine that has less of
a run than the database makes it anew from them. The base commit isn't carried: the forge has it. What was written in
the last seconds before a machine was lost is lost with it, and the run goes on from before. Left out: machines that do
share a disk, and SQLite, which means that there is one machine.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent import checkout
from agent.forges.base import ForgeProblem
from agent.git import GitError
from agent.runs import RunFolder
from service.bot.mirrors import Mirrors
from service.bot.running import run_in
from service.store import Store, StoreUnavailable
from service.store.parts import Carried, Part, carried, own, send

EVERY: Final = 5.0  # seconds between two looks at what a run has written
_LOG: Final = "events.jsonl"
_LOGGER = logging.getLogger("patchwright.service")


@dataclass(frozen=True, slots=True)
class Carrier:
    """For all runs of a machine. `every` in seconds."""

    store: Store
    mirrors: Mirrors
    every: float = EVERY

    async def fetch(self, folder: Path, slug: str, repository_id: int) -> None:
        """Makes the run of a request's folder as the database has it, unless this machine has as much of it.

        Raises ForgeProblem, GitError.
        """
        try:
            known = await asyncio.to_thread(carried, self.store, folder.name)
        except StoreUnavailable as problem:
            raise ForgeProblem(str(problem), again=True) from None
        if known is None or not known.run:
            return
        log, place = b"".join(known.parts.get(_LOG, ())), RunFolder(folder / known.run)
        if not log or (place.events.is_file() and place.events.read_bytes().startswith(log)):
            return
        base = json.loads(log[: log.index(b"\n")])["data"]["base"]["commit"]
        await self.mirrors.ensure(slug, repository_id, base)
        await _made(place, known, self.mirrors.path(repository_id), base, log)

    @asynccontextmanager
    async def kept(self, folder: Path) -> AsyncIterator[None]:
        """Within it, what the run of that folder writes is carried; all of it is when it is left."""
        owner = uuid.uuid4().hex
        sending = _Sending(self.store, folder, owner, await asyncio.to_thread(own, self.store, folder.name, owner))
        going = asyncio.create_task(sending.go_on(self.every))
        try:
            yield
        finally:
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)
            await sending.once()


@dataclass(slots=True)
class _Sending:
    """What of one run is in the database by now."""

    store: Store
    folder: Path
    owner: str
    known: Carried
    counts: dict[str, int] = field(default_factory=dict, init=False)
    offset: int = field(default=0, init=False)  # bytes of the log
    tree: str = field(default="", init=False)  # the last one whose objects are there
    patch: bytes = field(default=b"", init=False)
    lost: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.counts = {name: len(parts) for name, parts in self.known.parts.items()}
        log = b"".join(self.known.parts.get(_LOG, ()))
        self.offset, self.tree = len(log), ["", *_trees(log)][-1]
        self.patch = (self.known.parts.get("patch") or [b""])[-1]

    async def go_on(self, every: float) -> None:
        while not self.lost:
            await asyncio.sleep(every)
            await self.once()

    async def once(self) -> None:
        """Sends what is new. What fails is sent with the next."""
        run = run_in(self.folder)
        if run is None or self.lost:
            return
        try:
            parts, tree = await self._new(run)
            if not parts:
                return
            self.lost = not await asyncio.to_thread(send, self.store, self.folder.name, self.owner, run.id, parts)
        except (StoreUnavailable, GitError, OSError) as problem:
            _LOGGER.warning("the run %s isn't carried on now: %s", run.id, problem)
            return
        for part in parts:
            self.counts[part.name] = part.number + 1
            self.offset += len(part.data) if part.name == _LOG else 0
            self.patch = part.data if part.name == "patch" else self.patch
        self.tree = tree

    async def _new(self, run: RunFolder) -> tuple[list[Part], str]:
        with run.events.open("rb") as file:
            file.seek(self.offset)
            more = file.read()
        more = more[: more.rfind(b"\n") + 1]
        parts: list[Part] = []
        tree = self.tree
        for after in _trees(more):
            if tree and after != tree:  # the first one is the base's
                pack = await checkout.export_pack(run.repository, after, tree)
                parts.append(self._part("pack", pack, len(parts)))
            tree = after
        if more:
            parts.append(self._part(_LOG, more))
        blobs = run.path / "blobs"
        new = [one for one in (sorted(blobs.iterdir()) if blobs.is_dir() else []) if one.name.isalnum()]
        parts += [self._part(f"blobs/{n.name}", n.read_bytes()) for n in new if f"blobs/{n.name}" not in self.counts]
        patch = run.patch.read_bytes() if run.patch.is_file() else b""
        if patch != self.patch:
            parts.append(self._part("patch", patch))
        return parts, tree

    def _part(self, name: str, data: bytes, more: int = 0) -> Part:
        return Part(name, self.counts.get(name, 0) + more, data)


async def _made(place: RunFolder, known: Carried, mirror: Path, base: str, log: bytes) -> None:
    """The log comes last: by it a run is known to be there."""
    place.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if place.events.exists():  # of an earlier time on this machine: others have been further since
        place.events.replace(place.events.with_name(f"{_LOG}.lost-{time.time_ns()}"))
    if not (place.repository / "HEAD").exists():
        await checkout.take_base(place.repository, str(mirror), base)
    for pack in known.parts.get("pack", ()):
        await checkout.import_pack(place.repository, pack)
    for name, parts in known.parts.items():
        if name.startswith("blobs/"):
            place.blobs.put(b"".join(parts))
    if patch := (known.parts.get("patch") or [b""])[-1]:
        place.patch.write_bytes(patch)
    new = place.events.with_name(f"{_LOG}.new")
    new.write_bytes(log)
    new.chmod(0o600)
    new.replace(place.events)


def _trees(log: bytes) -> Iterator[str]:
    """The work trees that events name, in their order; the base's comes first."""
    for line in log.split(b"\n"):
        if b'"tree":"' in line:
            data: dict[str, Any] = json.loads(line)["data"]
            tree = data.get("tree") or data.get("base", {}).get("tree")
            if isinstance(tree, str) and tree:
                yield tree
