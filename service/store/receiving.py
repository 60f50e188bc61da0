"""Deliveries become requests, in whatever order they come and however often: the rules, inside one transaction.

- A delivery is known by its GUID, a request by (repository, object, version, kind of wish).
- A text that was edited or deleted takes back what its older versions asked for, also when those come later; one that
  runs already goes on, its person can say stop.
- Of several deliveries with the same wish about one issue, one that comes after a newer one is void.
- Closing and stopping end what was asked up to then: what waits is cancelled, what comes late is void, what runs is
  for the job of the closing request (`Store.to_end`).

Times are the forge's, to the second; of two things in one second the ending one wins. Left out: everything after this.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from service.store.model import Outcome, Received, State, request_id, wish_to_json
from service.store.tables import DELIVERIES, REQUESTS
from service.webhooks.model import ASKS_FOR_WORK, ENDS_WORK, Delivery, ObjectKind, WishKind

_D, _R = DELIVERIES.c, REQUESTS.c
_KINDS_OF_WORK = [kind.value for kind in ASKS_FOR_WORK]
_KINDS_OF_ENDS = [kind.value for kind in ENDS_WORK]


def now() -> str:
    """This process's clock, UTC, to the millisecond."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def receive(connection: sa.Connection, deliveries: Sequence[Delivery]) -> list[Received]:
    """Stores what has to be remembered of them. The transaction is one of `service.store.engine.writing`."""
    guids = [delivery.guid for delivery in deliveries]
    known: dict[str, str | None] = {
        row.guid: row.request for row in connection.execute(sa.select(_D.guid, _D.request).where(_D.guid.in_(guids)))
    }
    ids = [request_id(delivery) for delivery in deliveries if delivery.wish]
    requests = set(connection.scalars(sa.select(_R.id).where(_R.id.in_(ids))))
    return [_receive(connection, delivery, known, requests) for delivery in deliveries]


def _receive(
    connection: sa.Connection, delivery: Delivery, known: dict[str, str | None], requests: set[str]
) -> Received:
    if delivery.guid in known:
        return Received(Outcome.DUPLICATE, known[delivery.guid])
    if not delivery.lasting:
        return Received(Outcome.NOTHING)
    request = request_id(delivery) if delivery.wish else None
    known[delivery.guid] = request
    _keep(connection, delivery, request)
    if delivery.takes_back:
        _take_back(connection, delivery)
    if request is None:
        return Received(Outcome.NOTHING)
    if request in requests:
        return Received(Outcome.DUPLICATE, request)
    requests.add(request)
    void = _void(connection, delivery)
    _ask(connection, delivery, request, void)
    if not void and delivery.wish and delivery.wish.kind in ENDS_WORK:
        _end_what_waits(connection, delivery)
    return Received(Outcome.STALE if void else Outcome.NEW, request)


def _keep(connection: sa.Connection, delivery: Delivery, request: str | None) -> None:
    key = delivery.object
    row = {
        "guid": delivery.guid,
        "event": delivery.event,
        "action": delivery.action,
        "repository_id": delivery.repository_id,
        "object_kind": key.kind,
        "object_id": key.id,
        "object_version": key.version,
        "takes_back": delivery.takes_back,
        "request": request,
        "received": now(),
    }
    connection.execute(sa.insert(DELIVERIES), row)


def _ask(connection: sa.Connection, delivery: Delivery, request: str, void: str) -> None:
    key, wish, sender, moment = delivery.object, delivery.wish, delivery.sender, now()
    if wish is None:
        raise ValueError(f"delivery {delivery.guid} asks for nothing")
    row = {
        "id": request,
        "repository_id": delivery.repository_id,
        "slug": delivery.slug,
        "installation": delivery.installation,
        "number": wish.number,
        "kind": wish.kind,
        "wish": wish_to_json(wish),
        "object_kind": key.kind,
        "object_id": key.id,
        "object_version": key.version,
        "at": delivery.at,
        "asked_by": sender.id if sender else None,
        "asked_by_login": sender.login if sender else "",
        "asked_by_bot": sender.bot if sender else False,
        "state": State.STALE if void else State.WAITING,
        "why": void,
        "created": moment,
        "changed": moment,
        "ended": moment if void else None,
    }
    connection.execute(sa.insert(REQUESTS), row)


def _of_object(table: sa.Table, delivery: Delivery) -> sa.ColumnElement[bool]:
    key, columns = delivery.object, table.c
    return sa.and_(
        columns.repository_id == delivery.repository_id,
        columns.object_kind == key.kind,
        columns.object_id == key.id,
    )


def _void(connection: sa.Connection, delivery: Delivery) -> str:
    """Why a new wish counts no more, or an empty text."""
    wish, key = delivery.wish, delivery.object
    if wish is None or wish.kind not in ASKS_FOR_WORK | {WishKind.HELP}:
        return ""
    if delivery.takes_back:
        newer = sa.and_(_of_object(DELIVERIES, delivery), _D.takes_back, _D.object_version > key.version)
        if _any(connection, newer):
            return "its text was changed later"
    if key.kind is ObjectKind.ISSUE:
        newer = sa.and_(_of_object(REQUESTS, delivery), _R.kind == wish.kind, _R.object_version > key.version)
        if _any(connection, newer):
            return "the same was asked again later"
    ended = sa.and_(
        _R.repository_id == delivery.repository_id,
        _R.number == wish.number,
        _R.kind.in_(_KINDS_OF_ENDS),
        _R.at >= delivery.at,
    )
    return "it was closed or stopped later" if wish.kind in ASKS_FOR_WORK and _any(connection, ended) else ""


def _any(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> bool:
    return connection.execute(sa.select(sa.literal(1)).where(condition).limit(1)).first() is not None


def _take_back(connection: sa.Connection, delivery: Delivery) -> None:
    older = sa.and_(_of_object(REQUESTS, delivery), _R.object_version < delivery.object.version)
    _cancel(connection, older, "its text was changed")


def _end_what_waits(connection: sa.Connection, delivery: Delivery) -> None:
    if delivery.wish:
        what = "closed" if delivery.wish.kind is WishKind.CLOSED else "stopped"
        _cancel(connection, ended_by(delivery.repository_id, delivery.wish.number, delivery.at), what)


def ended_by(repository_id: int, number: int, at: str) -> sa.ColumnElement[bool]:
    """The requests that a closing or stopping at that time ends."""
    return sa.and_(_R.repository_id == repository_id, _R.number == number, _R.kind.in_(_KINDS_OF_WORK), _R.at <= at)


def _cancel(connection: sa.Connection, which: sa.ColumnElement[bool], why: str) -> None:
    moment = now()
    changed = {"state": State.CANCELLED, "why": why, "changed": moment, "ended": moment}
    connection.execute(sa.update(REQUESTS).where(which, _R.state == State.WAITING).values(changed))
