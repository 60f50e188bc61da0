"""A worker's telemetry: a request's life in its log, what its run came to in the database, and its spans.

Left out: the work (`service.worker`), and what the forge's client counts by itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from service.bot.asking import OURS
from service.store import Request, Store, StoreUnavailable
from service.telemetry import ended
from service.telemetry.logs import tell
from service.telemetry.redaction import Redactor
from service.telemetry.routes import route
from service.telemetry.run_spans import run_spans
from service.telemetry.traces import CONSUMER, PRODUCER, Span, Traces

if TYPE_CHECKING:
    from agent.forges.github.client import Exchange
    from service.telemetry.metrics import WorkMetrics

_TROUBLE: Final = frozenset({401, 403, 429})


class WorkTelemetry:
    """`metrics` only where a worker serves them."""

    def __init__(self, traces: Traces | None = None, metrics: WorkMetrics | None = None) -> None:
        self.traces = traces or Traces(None, Redactor())
        self.metrics = metrics

    def exchange(self, one: Exchange) -> None:
        """Told of each request to the forge."""
        if self.metrics is not None:
            self.metrics.exchange(one)
        if one.status is None or one.status >= 500 or one.status in _TROUBLE:
            words = f"the forge answered {one.status or 'nothing'}; it is asked again where that does no harm"
            tell(
                logging.WARNING, "forge trouble", words, method=one.method, route=route(one.path), status=one.status,
                seconds=round(one.seconds, 3), remaining=one.remaining,
            )  # fmt: skip
        self.traces.exchange(one)

    def queued(self, request: Request, created: float) -> None:
        tell(logging.INFO, "request queued", kind=request.wish.kind, number=request.wish.number)
        above = None if request.asked_by and request.asked_by.id == OURS else ("webhook", request.id)
        span = Span(("dispatch", request.id), above, "dispatch", created, time.time(), PRODUCER)
        self.traces.tell(request.id, span)

    def began(self) -> float:
        """When the work began, for `ended`."""
        tell(logging.INFO, "request started")
        if self.metrics is not None:
            self.metrics.at_work.inc()
        return time.time()

    def left(self) -> None:
        if self.metrics is not None:
            self.metrics.at_work.dec()

    async def ended(self, store: Store, runs: Path, key: str, result: Mapping[str, Any], began: float) -> None:
        """What a request's work came to. Telemetry that can't be kept holds no work up: it is told, and forgotten."""
        try:
            await asyncio.to_thread(self._ended, store, runs, key, result, began)
        except (StoreUnavailable, OSError, KeyError, ValueError, TypeError) as problem:  # also a log of an odd form
            tell(logging.WARNING, "telemetry lost", f"what the run came to isn't counted: {problem!r}")

    def _ended(self, store: Store, runs: Path, key: str, result: Mapping[str, Any], began: float) -> None:
        request = store.request(key)
        if request is None:
            return
        run, events = ended.log_of(runs, store, request, result.get("run"))
        facts = ended.ended_of(run, events)
        if facts is not None:
            ended.keep(store, key, facts)
        end = str(result.get("end", "failed"))
        if self.metrics is not None:
            self.metrics.worked(end)
        tell(
            logging.INFO if end not in ("failed", "error") else logging.WARNING, "request ended",
            f"request ended: {end}", run=run or None, end=end, why=result.get("why"), pull=result.get("pull"),
            outcome=facts.outcome if facts else None, seconds=round(time.time() - began, 1),
            turns=facts.turns if facts else None,
        )  # fmt: skip
        if not self.traces.on:
            return
        failed = end if end in ("failed", "error") else ""
        attributes = {"patchwright.request": key, "patchwright.kind": str(request.wish.kind), "patchwright.end": end}
        above = ("dispatch", key)
        first = min([began, *(event.time for event in events[:1])])
        work = Span(("work", key), above, f"work {request.wish.kind}", first, time.time(), CONSUMER, attributes, failed)
        self.traces.tell(key, work)
        content = self.traces.redact if self.traces.content else None
        for span in run_spans(key, run, events, content):
            self.traces.tell(key, span)
