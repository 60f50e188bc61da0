"""Runs on their way from one machine to another: their files in parts, appended by whoever owns the run now.

A part is written once and never changed. Whoever takes a run over says so first; what the owner before it still sends
is refused from then on. Left out: what the parts are (`service.bot.carrying`), and when they
are forgotten (`service.retention`).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from service.store.engine import reading, writing
from service.store.receiving import now
from service.store.store import Store
from service.store.tables import CARRIED, RUN_PARTS

_C, _P = CARRIED.c, RUN_PARTS.c


@dataclass(frozen=True, slots=True)
class Part:
    """`name`: of a file; `number`: its place among that file's parts, from 0."""

    name: str
    number: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Carried:
    """What the database has of a run: file name -> its parts, in their order."""

    run: str
    parts: dict[str, list[bytes]] = field(default_factory=dict, repr=False)


def own(store: Store, folder: str, owner: str) -> Carried:
    """From now on nobody else sends parts of the run in that folder. What is there already."""
    with writing(store.engine) as connection:
        values = {"owner": owner, "changed": now()}
        if not connection.execute(sa.update(CARRIED).where(_C.folder == folder).values(values)).rowcount:
            connection.execute(sa.insert(CARRIED), {"folder": folder, "run": "", **values})
    return carried(store, folder) or Carried("")


def send(store: Store, folder: str, owner: str, run: str, parts: Sequence[Part]) -> bool:
    """All of them or none; False when somebody else owns the run by now."""
    packed = [{"folder": folder, "name": p.name, "part": p.number, "data": zlib.compress(p.data)} for p in parts]
    with writing(store.engine) as connection:
        mine = sa.and_(_C.folder == folder, _C.owner == owner)
        if not connection.execute(sa.update(CARRIED).where(mine).values(run=run, changed=now())).rowcount:
            return False
        if packed:
            connection.execute(sa.insert(RUN_PARTS), packed)
        return True


def carried(store: Store, folder: str) -> Carried | None:
    """None for a run that nothing is known of here."""
    with reading(store.engine) as connection:
        row = connection.execute(sa.select(_C.run).where(_C.folder == folder)).first()
        if row is None:
            return None
        found = Carried(str(row.run))
        query = sa.select(_P.name, _P.data).where(_P.folder == folder).order_by(_P.name, _P.part)
        for name, data in connection.execute(query):
            found.parts.setdefault(str(name), []).append(zlib.decompress(data))
    return found
