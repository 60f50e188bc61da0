"""What is counted, in a registry of its own for each process, in Prometheus' text format.

`WebMetrics` counts deliveries as they are answered, in microseconds, and reads the rest from the database when it is
asked, at most once a second (`service.telemetry.stored`). `WorkMetrics` counts what only a worker sees. Labels are few
and of our own words: no names of repositories or people. Left out: serving (`service.telemetry.serving`), and metrics
of runs without a service (`runtime.metrics`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from service.telemetry.routes import route

if TYPE_CHECKING:
    from agent.forges.github.client import Exchange

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
ANSWERS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
FORGE: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
EVENTS: Final = frozenset(
    {"check_run", "check_suite", "installation", "installation_repositories", "issue_comment", "issues", "ping"}
    | {"pull_request", "pull_request_review", "pull_request_review_comment", "push", "repository"}
)


class WebMetrics:
    """Of the web process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._deliveries = Counter(
            "patchwright_deliveries", "Deliveries, by what came of them.", ("event", "result"), registry=self.registry
        )
        self._seconds = Histogram(
            "patchwright_delivery_seconds",
            "From a delivery's headers to its answer.",
            buckets=ANSWERS,
            registry=self.registry,
        )
        self._children: dict[tuple[str, str], Counter] = {}

    def delivery(self, event: str, result: str, seconds: float) -> None:
        """`event` as the header says it: what isn't known is counted as `other`. `result` is one of our words."""
        key = (event if event in EVENTS else "other", result)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._deliveries.labels(*key)
        child.inc()
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        """All of it as a scrape gets it. Blocks for the database's answer."""
        return generate_latest(self.registry)


class WorkMetrics:
    """Of a worker's process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        asked = ("method", "route", "status")
        self._forge = Counter(
            "patchwright_forge_requests", "Requests to the forge, each try.", asked, registry=self.registry
        )
        self._forge_seconds = Histogram(
            "patchwright_forge_request_seconds", "Until its answer.", buckets=FORGE, registry=self.registry
        )
        self._remaining = Gauge(
            "patchwright_forge_rate_limit_remaining",
            "Requests that the account may still make in this hour, as the forge said last.",
            registry=self.registry,
        )
        self.at_work = Gauge(
            "patchwright_requests_at_work", "Requests that are worked on here.", registry=self.registry
        )
        self._worked = Counter(
            "patchwright_requests_worked",
            "Requests that were worked on here, by end.",
            ("end",),
            registry=self.registry,
        )

    def exchange(self, one: Exchange) -> None:
        status = "none" if one.status is None else str(one.status)
        self._forge.labels(one.method, route(one.path), status).inc()
        self._forge_seconds.observe(one.seconds)
        if one.remaining is not None:
            self._remaining.set(one.remaining)

    def worked(self, end: str) -> None:
        """`end`: one of the words that `service.bot.work` gives."""
        self._worked.labels(end).inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)
