"""Stopping a run from here, as a comment at the forge would: the API and the dashboard ask for it alike.

Left out: who may (theirs), and what stopping does (`service.dispatch`).
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from agent.forges.base import Person
from service.bot.asking import OURS
from service.store import ACTIVE, Request, Store
from service.webhooks.model import Delivery, ObjectKey, ObjectKind, Wish, WishKind


def stop(store: Store, request: Request, who: str) -> None:
    """Asks, in the name of `who`, for the end of what goes on in the request's conversation. What has ended stays."""
    if request.state not in ACTIVE:
        return
    wish = Wish(WishKind.STOP, request.wish.number)
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    number = int.from_bytes(hashlib.sha256(f"stop:{request.id}".encode()).digest()[:7])  # asked twice, it is one
    delivery = Delivery(
        f"api-stop-{request.id}", "api", "cancel", request.repository_id, request.slug, None, Person(OURS, who),
        ObjectKey(ObjectKind.OTHER, number, "1"), max(at, request.at), wish,
    )  # fmt: skip
    store.receive([delivery])
