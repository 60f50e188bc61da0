"""The service's database: deliveries, requests, threads, audit. Synchronous; callers go through threads.

Every method is one transaction and is durable when it returns. All raise StoreUnavailable when the database doesn't
answer. Left out: the jobs (`agent.jobs` has tables of its own), and runs, whose logs are files.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from agent.forges.base import Person
from service.store.engine import open_engine, reading, writing
from service.store.migrations import migrate, version_of
from service.store.model import ACTIVE, Received, Request, State, Thread, wish_from_json
from service.store.receiving import ended_by, now, receive
from service.store.tables import AUDIT, DELIVERIES, REQUESTS, THREADS
from service.webhooks.model import ASKS_FOR_WORK, ENDS_WORK, Delivery, ObjectKey, ObjectKind, WishKind
from service.webhooks.values import as_text

_R = REQUESTS.c
_CHUNK: Final = 500  # values in one statement
_THREAD_FIELDS: Final = frozenset(
    {"run", "branch", "pull", "status_comment", "attempt", "head", "asked_by", "checks_followed"}
)


class Store:
    """An open database; `Store.open(url)` makes or upgrades its tables."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    @classmethod
    def open(cls, url: str) -> Store:
        """Opens `sqlite:///PATH` or `postgresql://...`. Raises StoreError, SchemaTooNew."""
        engine = open_engine(url)
        try:
            migrate(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    def close(self) -> None:
        self.engine.dispose()

    @property
    def many_machines(self) -> bool:
        """Whether workers on other machines can have this database open, too."""
        return self.engine.dialect.name != "sqlite"

    def schema(self) -> int:
        """The schema's version: also the shortest way to see that the database answers."""
        with reading(self.engine) as connection:
            return version_of(connection)

    # Deliveries

    def receive(self, deliveries: Sequence[Delivery]) -> list[Received]:
        """What came of each, in their order; all or none are stored."""
        with writing(self.engine) as connection:
            return receive(connection, deliveries)

    def known_deliveries(self, guids: Sequence[str]) -> set[str]:
        """Those of them that came and were worth remembering."""
        found: set[str] = set()
        with reading(self.engine) as connection:
            for start in range(0, len(guids), _CHUNK):
                chunk = list(guids[start : start + _CHUNK])
                found.update(connection.scalars(sa.select(DELIVERIES.c.guid).where(DELIVERIES.c.guid.in_(chunk))))
        return found

    def prune(self, before: str) -> int:
        """Forgets deliveries received before a time, in the form of `received`, and how many.

        Redeliveries of those are then known by their request alone, which stays.
        """
        with writing(self.engine) as connection:
            old = sa.delete(DELIVERIES).where(DELIVERIES.c.received < before, ~DELIVERIES.c.takes_back)
            return int(connection.execute(old).rowcount)

    # Requests

    def waiting(self, most: int = 100) -> list[Request]:
        """Those that nobody has yet, oldest first."""
        return self._requests(_R.state == State.WAITING, most=most)

    def waiting_for(
        self, kinds: Collection[WishKind], most: int = 500, each: int = 20, each_number: int = 20
    ) -> list[Request]:
        """What waits and asks for one of these, oldest first: so many of each repository, and of each issue or pull
        request in it, for all get their turn."""
        wanted = sa.and_(_R.state == State.WAITING.value, _R.kind.in_([kind.value for kind in kinds]))
        place = sa.func.row_number().over(partition_by=(_R.repository_id, _R.number), order_by=_R.seq)
        of_number = sa.select(_R.seq, _R.repository_id, place.label("place")).where(wanted).subquery()
        place = sa.func.row_number().over(partition_by=of_number.c.repository_id, order_by=of_number.c.seq)
        first = of_number.c.place <= each_number
        of_repository = sa.select(of_number.c.seq, place.label("place")).where(first).subquery()
        turn = sa.select(of_repository.c.seq).where(of_repository.c.place <= each)
        return self._requests(_R.seq.in_(turn), most=most)

    def issues_of(self, requests: Sequence[Request]) -> dict[str, tuple[int, int]]:
        """By each request's id, its repository and the issue that it is about: our pull request's is the issue's."""
        numbers, known = sorted({one.wish.number for one in requests}), {}
        with reading(self.engine) as connection:
            for start in range(0, len(numbers), _CHUNK):
                pulls = THREADS.c.pull.in_(numbers[start : start + _CHUNK])
                for row in connection.execute(
                    sa.select(THREADS.c.repository_id, THREADS.c.pull, THREADS.c.number).where(pulls)
                ):
                    known[row.repository_id, row.pull] = row.number
        return {
            one.id: (one.repository_id, known.get((one.repository_id, one.wish.number), one.wish.number))
            for one in requests
        }

    def page(
        self,
        slug: str | None,
        state: State | None,
        most: int,
        before: int | None = None,
        kinds: Collection[WishKind] = (),
    ) -> list[tuple[int, Request]]:
        """The newest first, each with the number that `before` takes: those that were asked for before it.

        `kinds`: what they ask for; none: anything.
        """
        where = [_R.slug == slug] if slug else []
        where += [_R.state == state.value] if state else []
        where += [_R.seq < before] if before else []
        where += [_R.kind.in_([kind.value for kind in kinds])] if kinds else []
        with reading(self.engine) as connection:
            rows = connection.execute(sa.select(REQUESTS).where(*where).order_by(_R.seq.desc()).limit(most))
            return [(row.seq, _request(row._mapping)) for row in rows]

    def repository_id(self, slug: str) -> int | None:
        """The id of a repository that was heard of by this name."""
        with reading(self.engine) as connection:
            known = sa.select(_R.repository_id).where(_R.slug == slug, _R.repository_id > 0)
            row = connection.execute(known.order_by(_R.seq.desc()).limit(1)).first()
        if row is not None:
            return int(row[0])
        installed = self._requests(_R.kind == WishKind.INSTALLED.value, most=10_000)
        return next(
            (number for one in reversed(installed) for number, name in one.wish.repositories if name == slug), None
        )

    def in_state(self, states: Collection[State], most: int = 10_000) -> list[Request]:
        """All that are in one of these states, oldest first."""
        return self._requests(_R.state.in_([state.value for state in states]), most=most)

    def request(self, key: str) -> Request | None:
        found = self._requests(_R.id == key, most=1)
        return found[0] if found else None

    def of_thread(self, repository_id: int, number: int, most: int = 100) -> list[Request]:
        """All that was asked about an issue or pull request, oldest first."""
        return self._requests(_R.repository_id == repository_id, _R.number == number, most=most)

    def to_end(self, ending: Request) -> list[Request]:
        """What a closing or stopping request ends and what goes on still; an App that was taken away ends all there.

        An issue and our pull request for it are one conversation: only a closed pull request ends just its own.
        """
        active = _R.state.in_([state.value for state in ACTIVE])
        if ending.wish.kind is WishKind.REMOVED:
            gone = [number for number, _ in ending.wish.repositories]
            ours = sa.and_(_R.repository_id.in_(gone[:_CHUNK]), _R.kind.in_([kind.value for kind in ASKS_FOR_WORK]))
            return self._requests(ours, active, _R.at <= ending.at, most=1000)
        if ending.wish.kind not in ENDS_WORK:
            return []
        numbers = {ending.wish.number}
        thread = self.thread(ending.repository_id, ending.wish.number)
        if thread is not None and (ending.wish.kind is WishKind.STOP or thread.number == ending.wish.number):
            numbers |= {thread.number, thread.pull or thread.number}
        which = ended_by(ending.repository_id, numbers, ending.at)
        return self._requests(which, active, most=1000)

    def change(
        self,
        key: str,
        state: State,
        *,
        since: Collection[State] = ACTIVE,
        why: str = "",
        run: str | None = None,
        pull: int | None = None,
    ) -> bool:
        """Moves a request on, unless its state isn't one of `since` any more. What has ended stays so."""
        moment = now()
        values: dict[str, Any] = {"state": state.value, "why": as_text(why), "changed": moment}
        values |= {name: value for name, value in (("run", run), ("pull", pull)) if value is not None}
        if state not in ACTIVE:
            values["ended"] = moment
        allowed = [one.value for one in ACTIVE.intersection(since)]
        with writing(self.engine) as connection:
            changed = sa.update(REQUESTS).where(_R.id == key, _R.state.in_(allowed)).values(values)
            return bool(connection.execute(changed).rowcount)

    def _requests(self, *where: sa.ColumnElement[bool], most: int) -> list[Request]:
        with reading(self.engine) as connection:
            rows = connection.execute(sa.select(REQUESTS).where(*where).order_by(_R.seq).limit(most))
            return [_request(row._mapping) for row in rows]

    # Threads

    def thread(self, repository_id: int, number: int) -> Thread | None:
        """By the issue's number, or by that of our pull request for it."""
        columns = THREADS.c
        either = sa.or_(columns.number == number, columns.pull == number)
        wanted = sa.select(THREADS).where(columns.repository_id == repository_id, either)
        with reading(self.engine) as connection:
            row = connection.execute(wanted.order_by(columns.number == number)).first()
        if row is None:
            return None
        found = dict(row._mapping)
        del found["changed"]
        return Thread(**found)

    def keep_thread(self, repository_id: int, number: int, slug: str, **fields: str | int | None) -> None:
        """Notes what there is now, by the names of `Thread`'s fields; what isn't named stays."""
        if not _THREAD_FIELDS.issuperset(fields):
            raise ValueError(f"threads have no {', '.join(sorted(fields.keys() - _THREAD_FIELDS))}")
        with writing(self.engine) as connection:
            self._make_thread(connection, repository_id, number, slug)
            values = {**fields, "slug": slug, "changed": now()}
            connection.execute(sa.update(THREADS).where(_thread(repository_id, number)).values(values))

    def first_help(self, repository_id: int, number: int, slug: str) -> bool:
        """Whether nobody was helped in this thread before; from now on somebody was."""
        with writing(self.engine) as connection:
            self._make_thread(connection, repository_id, number, slug)
            which = sa.and_(_thread(repository_id, number), ~THREADS.c.helped)
            helped = sa.update(THREADS).where(which).values(helped=True, changed=now())
            return bool(connection.execute(helped).rowcount)

    def _make_thread(self, connection: sa.Connection, repository_id: int, number: int, slug: str) -> None:
        if connection.execute(sa.select(THREADS.c.number).where(_thread(repository_id, number))).first() is None:
            row = {"repository_id": repository_id, "number": number, "slug": slug, "helped": False, "changed": now()}
            connection.execute(sa.insert(THREADS), {**row, "attempt": 0, "checks_followed": 0})

    # Audit

    def note(self, who: str, what: str, about: str, data: Mapping[str, Any] | None = None) -> None:
        """Who did what to what. Never secrets: this is shown."""
        row = {"at": now(), "who": who, "what": what, "about": about, "data": json.dumps(data or {})}
        with writing(self.engine) as connection:
            connection.execute(sa.insert(AUDIT), row)

    def notes(self, most: int = 100) -> list[dict[str, Any]]:
        """The newest first."""
        with reading(self.engine) as connection:
            rows = connection.execute(sa.select(AUDIT).order_by(AUDIT.c.seq.desc()).limit(most))
            return [{**row._mapping, "data": json.loads(row.data)} for row in rows]


def _thread(repository_id: int, number: int) -> sa.ColumnElement[bool]:
    return sa.and_(THREADS.c.repository_id == repository_id, THREADS.c.number == number)


def _request(row: Mapping[Any, Any]) -> Request:
    asked_by = None
    if row["asked_by"] is not None:
        asked_by = Person(row["asked_by"], row["asked_by_login"], row["asked_by_bot"])
    return Request(
        id=row["id"],
        repository_id=row["repository_id"],
        slug=row["slug"],
        installation=row["installation"],
        wish=wish_from_json(row["wish"]),
        object=ObjectKey(ObjectKind(row["object_kind"]), row["object_id"], row["object_version"]),
        at=row["at"],
        asked_by=asked_by,
        state=State(row["state"]),
        why=row["why"],
        run=row["run"],
        pull=row["pull"],
        created=row["created"],
        changed=row["changed"],
        ended=row["ended"],
    )
