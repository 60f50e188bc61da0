"""A request as its job carries it, and what is remembered of a conversation between two requests.

Left out: the database (`service.store`).
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from agent.forges.base import Person, Place
from service.store import Store, Thread
from service.webhooks.model import WishKind


class Threads(Protocol):
    """Where threads are kept. Each call is one transaction."""

    async def get(self, repository_id: int, number: int) -> Thread | None:
        """By the issue's number or by the pull request's."""
        ...

    async def put(self, thread: Thread) -> None: ...


@dataclass(frozen=True, slots=True)
class StoredThreads:
    """Threads in the service's database."""

    store: Store

    async def get(self, repository_id: int, number: int) -> Thread | None:
        return await asyncio.to_thread(self.store.thread, repository_id, number)

    async def put(self, thread: Thread) -> None:
        fields = asdict(thread)
        del fields["helped"]
        await asyncio.to_thread(lambda: self.store.keep_thread(**fields))


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it travels with its job: who asked for what, where."""

    slug: str
    repository_id: int
    kind: WishKind
    number: int
    text: str = ""
    comment: int | None = None
    place: Place = Place.ISSUE
    review: int | None = None
    sha: str | None = None
    pull: bool = False
    person: Person | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Asked:
        person = Person(**data["person"]) if data.get("person") else None
        return cls(**{**data, "kind": WishKind(data["kind"]), "place": Place(data["place"]), "person": person})
