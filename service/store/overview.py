"""What lists and filters ask of the store: which repositories there are, how many requests are in which state.

Left out: requests themselves (`service.store.store`).
"""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from service.store.engine import reading
from service.store.model import State
from service.store.store import Store
from service.store.tables import REQUESTS
from service.webhooks.model import WishKind

_R = REQUESTS.c


def repositories(store: Store, kinds: Collection[WishKind], most: int = 500) -> list[str]:
    """Those that such requests are for, by name."""
    wanted = sa.select(_R.slug).distinct().where(_kinds(kinds), _R.slug != "").order_by(_R.slug).limit(most)
    with reading(store.engine) as connection:
        return [str(row.slug) for row in connection.execute(wanted)]


def counts(store: Store, kinds: Collection[WishKind], since: str = "") -> dict[State, int]:
    """How many there are in each state, of those changed at or after a time in the store's form."""
    wanted = sa.select(_R.state, sa.func.count()).where(_kinds(kinds), _R.changed >= since).group_by(_R.state)
    with reading(store.engine) as connection:
        found = {State(row[0]): int(row[1]) for row in connection.execute(wanted)}
    return {state: found.get(state, 0) for state in State}


def stopping(store: Store) -> set[tuple[int, int]]:
    """(repository's id, number) of what somebody asked to stop, as long as nobody has seen to it."""
    asked = _R.kind.in_([WishKind.STOP.value, WishKind.CLOSED.value])
    wanted = sa.select(_R.repository_id, _R.number).where(_R.state == State.WAITING.value, asked)
    with reading(store.engine) as connection:
        return {(int(row[0]), int(row[1])) for row in connection.execute(wanted)}


def _kinds(kinds: Collection[WishKind]) -> sa.ColumnElement[bool]:
    return _R.kind.in_([kind.value for kind in kinds])
