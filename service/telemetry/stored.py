"""What the database says, as metrics: requests, their age, runs that ended, workers. Read when somebody asks.

One reading serves all that ask within a second. What ended runs came to is added up once, and then only what is new;
a web process that starts anew begins with all that is still kept. Left out: what processes count by themselves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from service.store import State, Store, StoreUnavailable
from service.store.engine import reading
from service.store.tables import REQUESTS
from service.telemetry import ended
from service.telemetry.ended import Ended
from service.webhooks.model import WishKind

RUNS: Final = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0)
_FRESH: Final = 1.0  # seconds
_MOST_REPOSITORIES: Final = 1000
_MOST_MODELS: Final = 20
_FOLLOW_UPS: Final = [kind.value for kind in (WishKind.CONTINUE, WishKind.REVIEWED, WishKind.CHECKS_FAILED)]
_R: Final = REQUESTS.c


class StoredMetrics(Collector):
    """Registers itself. `jobs`: the URL of the queue's database; `repositories`: whether their names may be labels."""

    def __init__(self, registry: CollectorRegistry, store: Store, jobs: str, *, repositories: bool = False) -> None:
        self._store, self._repositories = store, repositories
        self._jobs = sa.create_engine(_readable(jobs), pool_size=1, max_overflow=0)
        self._lock = threading.Lock()
        self._found: list[Metric] = []
        self._until = 0.0
        registry.register(self)  # before those that it adds to: they are shown in this order
        self._runs = _Runs(registry, store)

    def close(self) -> None:
        self._jobs.dispose()

    def describe(self) -> Iterable[Metric]:
        return []  # or registering would ask the database

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._found = list(self._read())
                self._until = time.monotonic() + _FRESH
            yield from self._found

    def _read(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("patchwright_database_up", "Whether the service's database answered.")
        try:
            yield from self._requests()
            self._runs.read()
            up.add_metric([], 1)
        except StoreUnavailable:
            up.add_metric([], 0)
        yield up
        try:
            yield from self._workers()
        except SQLAlchemyError:  # no worker has been here yet, or the queue's database is away
            return

    def _requests(self) -> Iterator[Metric]:
        by = (_R.kind, _R.state, *((_R.slug,) if self._repositories else ()))
        names = ["kind", "state", *(["repository"] if self._repositories else [])]
        counted = sa.select(*by, sa.func.count()).group_by(*by).order_by(sa.func.count().desc())
        delivered = sa.select(_R.repository_id, _R.pull, sa.func.count()).where(_R.pull.is_not(None))
        with reading(self._store.engine) as connection:
            rows = connection.execute(counted.limit(_MOST_REPOSITORIES * 10)).all()
            oldest = connection.execute(
                sa.select(sa.func.min(_R.created)).where(_R.state == State.WAITING.value)
            ).scalar()
            pulls = sa.select(
                sa.func.count(), sa.func.sum(delivered.group_by(_R.repository_id, _R.pull).subquery().c[2])
            )
            opened, all_of_them = connection.execute(pulls).one()
            followed = connection.execute(
                sa.select(sa.func.count()).where(_R.kind.in_(_FOLLOW_UPS), _R.state == State.DONE.value)
            ).scalar()
        requests = GaugeMetricFamily("patchwright_requests", "Requests that are kept, by kind and state.", labels=names)
        for row in rows:
            requests.add_metric([str(value) for value in row[:-1]], row[-1])
        yield requests
        age = (datetime.now(UTC) - datetime.fromisoformat(oldest)).total_seconds() if oldest else 0.0
        words = "How long the oldest request has waited to become a job."
        yield GaugeMetricFamily("patchwright_oldest_waiting_seconds", words, value=max(0.0, age))
        changes = CounterMetricFamily(
            "patchwright_pull_requests", "Pull requests that were opened or updated.", labels=["change"]
        )
        changes.add_metric(["opened"], opened or 0)
        changes.add_metric(["updated"], (all_of_them or 0) - (opened or 0))
        yield changes
        yield CounterMetricFamily("patchwright_follow_ups", "Requests that went on with a run.", value=followed or 0)

    def _workers(self) -> Iterator[Metric]:
        now = (
            "extract(epoch from clock_timestamp())"
            if self._jobs.dialect.name == "postgresql"
            else "((julianday('now') - 2440587.5) * 86400.0)"
        )
        query = sa.text(
            f"SELECT machine, count(*), sum(running), max({now} - last_seen) FROM patchwright_workers "  # noqa: S608
            "GROUP BY machine ORDER BY machine LIMIT 200"
        )
        with self._jobs.connect() as connection:
            rows: list[Any] = list(connection.execute(query))
        there = GaugeMetricFamily(
            "patchwright_workers", "Workers that haven't closed or been found lost.", labels=["machine"]
        )
        jobs = GaugeMetricFamily("patchwright_jobs_at_work", "Jobs that workers said they work on.", labels=["machine"])
        age = GaugeMetricFamily(
            "patchwright_worker_heartbeat_age_seconds", "Since the stalest worker's last heartbeat.", labels=["machine"]
        )
        for machine, count, running, stalest in rows:
            there.add_metric([machine], count)
            jobs.add_metric([machine], running or 0)
            age.add_metric([machine], max(0.0, float(stalest)))
        yield from (there, jobs, age)


class _Runs:
    """What ended runs came to, added up. Names are those of docs/metrics.md."""

    def __init__(self, registry: CollectorRegistry, store: Store) -> None:
        self._store, self._last = store, 0
        self._models: set[str] = set()
        self._registry = registry
        self._runs = self._counter("runs", "Runs, or parts of them, that have ended.", "outcome")
        self._seconds = Histogram(
            "patchwright_run_seconds", "Time that was worked on a request.", buckets=RUNS, registry=registry
        )
        self._turns = self._counter("turns", "Turns that the model has finished, of runs that have ended.")
        self._prompt = self._counter("prompt_tokens", "Tokens of all prompts.")
        self._cached = self._counter("prompt_tokens_cached", "Of these, those that the server said it had cached.")
        self._written = self._counter("completion_tokens", "Tokens that the model has written.")
        self._cost = self._counter("cost_dollars", "What the host has charged, as far as prices are known.")
        self._ratio = Gauge(
            "patchwright_prompt_cached_ratio",
            "Cached share of the prompts of which the server says it.",
            ("model",),
            registry=registry,
        )
        self._opened = Counter("patchwright_sandboxes_opened", "Sandboxes that runs were given.", registry=registry)
        self._died = Counter("patchwright_sandboxes_died", "Sandboxes that died in mid-run.", registry=registry)
        self._told: dict[str, tuple[int, int]] = {}  # model -> prompt and cached tokens, where the host says both

    def _counter(self, name: str, words: str, *more: str) -> Counter:
        return Counter(f"patchwright_{name}", words, ("model", *more), registry=self._registry)

    def read(self) -> None:
        """Adds what has ended since."""
        while True:
            last, new = ended.kept(self._store, self._last)
            for one in new:
                self._add(one)
            if last == self._last:
                return
            self._last = last

    def _add(self, one: Ended) -> None:
        if len(self._models) < _MOST_MODELS:
            self._models.add(one.model)
        model = one.model if one.model in self._models else "other"
        self._runs.labels(model, one.outcome).inc()
        self._seconds.observe(one.seconds)
        self._turns.labels(model).inc(one.turns)
        self._prompt.labels(model).inc(one.prompt)
        self._written.labels(model).inc(one.written)
        self._opened.inc(one.sandboxes)
        self._died.inc(one.sandboxes_died)
        if one.cost is not None:
            self._cost.labels(model).inc(one.cost)
        if one.cached is not None:
            self._cached.labels(model).inc(one.cached)
            prompt, cached = self._told.get(model, (0, 0))
            self._told[model] = (prompt + one.prompt, cached + one.cached)
            if self._told[model][0]:
                self._ratio.labels(model).set(self._told[model][1] / self._told[model][0])


def _readable(url: str) -> sa.URL:
    """As it is opened for reading: a file of SQLite's isn't made when it isn't there."""
    found = sa.make_url(url)
    if found.get_backend_name() == "sqlite":
        return sa.make_url(f"sqlite:///file:{found.database}?mode=ro&uri=true")
    return found.set(drivername="postgresql+psycopg")
