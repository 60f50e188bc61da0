"""Deliveries become requests, in whatever order they come and however often: the rules, inside one transaction.

- A delivery is known by its GUID, a request by (repository, object, version, kind of wish).
- A text that was edited or deleted takes back what its older versions asked for, also when those come later; one that
  runs already goes on, its person can say stop.
- Of several deliveries with the same wish about one issue, one that comes after a newer one is void.
- Closing ends what was asked up to then: what waits is cancelled, what comes late is void, what runs is for who
  dispatches (`Store.to_end`). Stopping does the same once it is known that its person may: whoever may write a comment
  can say it, so until then it ends nothing.

Times are the forge's, to the second; of two things in one second the ending one wins. Left out: everything after this.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from service.store.model import Outcome, Received, State, request_id, wish_to_json
from service.store.tables import DELIVERIES, REQUESTS
from service.webhooks.model import ASKS_FOR_WORK, Delivery, ObjectKind, WishKind

_D, _R = DELIVERIES.c, REQUESTS.c
_KINDS_OF_WORK = [kind.value for kind in ASKS_FOR_WORK]


def ended_by(repository_id: int, numbers: Collection[int], at: str) -> sa.ColumnElement[bool]:
    """The requests about these issues and pull requests that a closing or stopping at that time ends."""
    about = sa.and_(_R.repository_id == repository_id, _R.number.in_(list(numbers)))
    return sa.and_(about, _R.kind.in_(_KINDS_OF_WORK), _R.at <= at)


def _of_object(table: sa.Table) -> sa.ColumnElement[bool]:
    columns = table.c
    return sa.and_(
        columns.repository_id == sa.bindparam("in_repository"),
        columns.object_kind == sa.bindparam("of_kind"),
        columns.object_id == sa.bindparam("of_id"),
    )


def _any(*where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(sa.literal(1)).where(*where).limit(1)


def _cancelling(*where: sa.ColumnElement[bool]) -> sa.Update:
    moment: sa.BindParameter[str] = sa.bindparam("moment")
    values = {"state": State.CANCELLED.value, "why": sa.bindparam("because"), "changed": moment, "ended": moment}
    return sa.update(REQUESTS).where(*where, _R.state == State.WAITING.value).values(values)


# Made once: making a statement costs more than its execution.
_VERSION: sa.BindParameter[str] = sa.bindparam("of_version")
_KNOWN_GUIDS = sa.select(_D.guid, _D.request).where(_D.guid.in_(sa.bindparam("guids", expanding=True)))
_KNOWN_REQUESTS = sa.select(_R.id).where(_R.id.in_(sa.bindparam("ids", expanding=True)))
_CHANGED_LATER = _any(_of_object(DELIVERIES), _D.takes_back, _D.object_version > _VERSION)
_ASKED_LATER = _any(_of_object(REQUESTS), _R.kind == sa.bindparam("of_wish"), _R.object_version > _VERSION)
_ENDED_LATER = _any(
    _R.repository_id == sa.bindparam("in_repository"),
    _R.number == sa.bindparam("of_number"),
    sa.or_(
        _R.kind == WishKind.CLOSED.value,
        sa.and_(_R.kind == WishKind.STOP.value, _R.state == State.DONE.value),
    ),
    _R.at >= sa.bindparam("since"),
)
_TAKE_BACK = _cancelling(_of_object(REQUESTS), _R.object_version < _VERSION)
_END_WAITING = _cancelling(
    _R.repository_id == sa.bindparam("in_repository"),
    _R.number == sa.bindparam("of_number"),
    _R.kind.in_(_KINDS_OF_WORK),
    _R.at <= sa.bindparam("until"),
)
_KEEP, _ASK = sa.insert(DELIVERIES), sa.insert(REQUESTS)


def now() -> str:
    """This process's clock, UTC, to the millisecond."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def receive(connection: sa.Connection, deliveries: Sequence[Delivery]) -> list[Received]:
    """Stores what has to be remembered of them. The transaction is one of `service.store.engine.writing`."""
    guids = [delivery.guid for delivery in deliveries]
    known: dict[str, str | None] = {row.guid: row.request for row in connection.execute(_KNOWN_GUIDS, {"guids": guids})}
    ids = [request_id(delivery) for delivery in deliveries if delivery.wish]
    requests = set(connection.scalars(_KNOWN_REQUESTS, {"ids": ids}))
    kept: list[dict[str, Any]] = []
    results = [_receive(connection, delivery, known, requests, kept) for delivery in deliveries]
    _write(connection, kept)
    return results


def _receive(
    connection: sa.Connection,
    delivery: Delivery,
    known: dict[str, str | None],
    requests: set[str],
    kept: list[dict[str, Any]],
) -> Received:
    if delivery.guid in known:
        return Received(Outcome.DUPLICATE, known[delivery.guid])
    if not delivery.lasting:
        return Received(Outcome.NOTHING)
    request = request_id(delivery) if delivery.wish else None
    known[delivery.guid] = request
    kept.append(_row(delivery, request))
    if delivery.takes_back:
        _write(connection, kept)  # it is looked for below
        _take_back(connection, delivery)
    if request is None:
        return Received(Outcome.NOTHING)
    if request in requests:
        return Received(Outcome.DUPLICATE, request)
    requests.add(request)
    void = _void(connection, delivery)
    _ask(connection, delivery, request, void)
    if not void and delivery.wish and delivery.wish.kind is WishKind.CLOSED:
        _end_what_waits(connection, delivery)
    return Received(Outcome.STALE if void else Outcome.NEW, request)


def _row(delivery: Delivery, request: str | None) -> dict[str, Any]:
    key = delivery.object
    return {
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


def _write(connection: sa.Connection, kept: list[dict[str, Any]]) -> None:
    if kept:
        connection.execute(_KEEP, kept)
        kept.clear()


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
    connection.execute(_ASK, row)


def _key(delivery: Delivery) -> dict[str, int | str]:
    key = delivery.object
    return {
        "in_repository": delivery.repository_id,
        "of_kind": key.kind.value,
        "of_id": key.id,
        "of_version": key.version,
    }


def _void(connection: sa.Connection, delivery: Delivery) -> str:
    """Why a new wish counts no more, or an empty text."""
    wish = delivery.wish
    if wish is None or wish.kind not in ASKS_FOR_WORK | {WishKind.HELP}:
        return ""
    if delivery.takes_back and _found(connection, _CHANGED_LATER, _key(delivery)):
        return "its text was changed later"
    if delivery.object.kind is ObjectKind.ISSUE:
        asked: dict[str, int | str] = {**_key(delivery), "of_wish": wish.kind.value}
        if _found(connection, _ASKED_LATER, asked):
            return "the same was asked again later"
    thread: dict[str, int | str] = {
        "in_repository": delivery.repository_id,
        "of_number": wish.number,
        "since": delivery.at,
    }
    ended = wish.kind in ASKS_FOR_WORK and _found(connection, _ENDED_LATER, thread)
    return "it was closed or stopped later" if ended else ""


def _found(connection: sa.Connection, query: sa.Select[Any], values: dict[str, int | str]) -> bool:
    return connection.execute(query, values).first() is not None


def _take_back(connection: sa.Connection, delivery: Delivery) -> None:
    connection.execute(_TAKE_BACK, {**_key(delivery), "because": "its text was changed", "moment": now()})


def _end_what_waits(connection: sa.Connection, delivery: Delivery) -> None:
    if delivery.wish:
        thread = {"in_repository": delivery.repository_id, "of_number": delivery.wish.number, "until": delivery.at}
        connection.execute(_END_WAITING, {**thread, "because": "closed", "moment": now()})
