"""Deliveries for tests, written down in a line each."""

from __future__ import annotations

import itertools
from dataclasses import replace

from agent.forges.base import Person
from service.webhooks import Delivery, ObjectKey, ObjectKind, Wish, WishKind

ADA = Person(4101, "ada-writes")
_COUNT = itertools.count(1)


def at(minute: int) -> str:
    return f"2026-11-21T{10 + minute // 60:02}:{minute % 60:02}:00Z"


def asked(
    kind: WishKind | None,
    minute: int,
    *,
    number: int = 17,
    key: tuple[ObjectKind, int] = (ObjectKind.ISSUE, 880017),
    repository: int = 7001,
    takes_back: bool = False,
    text: str = "",
) -> Delivery:
    """A delivery with a GUID of its own about something that happened in that minute."""
    moment = at(minute)
    return Delivery(
        guid=f"guid-{next(_COUNT)}",
        event="issues",
        action="labeled",
        repository_id=repository,
        slug="lighthouse-labs/ledger",
        installation=66001,
        sender=ADA,
        object=ObjectKey(key[0], key[1], moment),
        at=moment,
        wish=Wish(kind, number, text) if kind else None,
        takes_back=takes_back,
    )


def comment(kind: WishKind | None, minute: int, number: int = 550001, *, deleted: bool = False) -> Delivery:
    """A version of a comment on issue 17."""
    found = asked(kind, minute, key=(ObjectKind.COMMENT, number), takes_back=True)
    if not deleted:
        return found
    return replace(found, object=replace(found.object, version="9999-12-31T23:59:59Z"))


def again(delivery: Delivery) -> Delivery:
    """The same of another hook: another GUID."""
    return replace(delivery, guid=f"guid-{next(_COUNT)}")
