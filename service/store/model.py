"""What the store holds, as values: requests and their states, threads. No database here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final

from agent.forges.base import Person, Place
from service.webhooks.model import Delivery, ObjectKey, Wish, WishKind


class State(StrEnum):
    """Where a request is."""

    WAITING = "waiting"  # stored, and nobody has it yet
    QUEUED = "queued"  # a job
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"  # stopped, or its issue or pull request was closed
    STALE = "stale"  # something newer had come before it


_WISH: Final = tuple(field.name for field in fields(Wish))
ACTIVE: Final = frozenset({State.WAITING, State.QUEUED, State.RUNNING})


class Outcome(StrEnum):
    """What came of a delivery."""

    NEW = "new"  # a request
    DUPLICATE = "duplicate"  # of a delivery or of a request
    STALE = "stale"  # a request that something newer made void
    NOTHING = "nothing"  # it asks for nothing


@dataclass(frozen=True, slots=True)
class Received:
    """`request` is the id of what the delivery asks for, new or known."""

    outcome: Outcome
    request: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A distinct wish. `id` is made of what is asked, so the same wish has the same id for ever."""

    id: str
    repository_id: int
    slug: str
    installation: int | None
    wish: Wish
    object: ObjectKey
    at: str
    asked_by: Person | None
    state: State
    why: str
    run: str | None
    pull: int | None  # the pull request that came of it
    created: str
    changed: str
    ended: str | None


@dataclass(frozen=True, slots=True)
class Thread:
    """What there is of ours about an issue. `number` is the issue's, `pull` that of our pull request for it."""

    repository_id: int
    number: int
    slug: str
    run: str | None = None
    branch: str | None = None
    pull: int | None = None
    status_comment: int | None = None
    helped: bool = False
    attempt: int = 0  # runs that began anew
    head: str | None = None  # the commit that we last pushed to the branch
    asked_by: str | None = None  # login
    checks_followed: int = 0  # times that failing checks were followed up


def request_id(delivery: Delivery) -> str:
    """The id of what a delivery with a wish asks for: equal for all deliveries that ask for the same."""
    key = delivery.object
    wish = delivery.wish.kind if delivery.wish else ""
    parts = [delivery.repository_id, key.kind, key.id, key.version, wish]
    return "r" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def wish_to_json(wish: Wish) -> str:
    return json.dumps({name: getattr(wish, name) for name in _WISH})


def wish_from_json(text: str) -> Wish:
    found = json.loads(text)
    found["kind"], found["place"] = WishKind(found["kind"]), Place(found["place"])
    found["repositories"] = tuple((number, slug) for number, slug in found["repositories"])
    return Wish(**found)
