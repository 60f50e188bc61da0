"""The web process's telemetry: each delivery counted, told and traced as it is answered.

On the way of every delivery, so it costs microseconds where nobody asked for traces. Left out: the answer itself
(`service.webhooks.intake`).
"""

from __future__ import annotations

import logging
import time
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service.settings import ServiceSettings, jobs_database
from service.store import Store
from service.telemetry import serving
from service.telemetry.logs import LOG, about, tell
from service.telemetry.metrics import WebMetrics
from service.telemetry.redaction import Redactor
from service.telemetry.stored import StoredMetrics
from service.telemetry.traces import Traces
from service.webhooks.intake import Intake

_SLOW: Final = 0.5  # seconds
_UNSIGNED: Final = "unsigned"


class WebTelemetry:
    """Made with the app; `opened` when the database is, `closed` with it."""

    def __init__(self, settings: ServiceSettings, traces: Traces | None = None) -> None:
        self._settings = settings
        self.metrics = WebMetrics()
        self.traces = traces or Traces(None, Redactor())
        self._stored: StoredMetrics | None = None

    def opened(self, store: Store) -> None:
        jobs = jobs_database(self._settings.database).reveal()
        named = self._settings.metrics.repositories
        self._stored = StoredMetrics(self.metrics.registry, store, jobs, repositories=named)

    def closed(self) -> None:
        if self._stored is not None:
            self._stored.close()
        self.traces.close()

    async def scraped(self, request: Request) -> Response:
        return await serving.answer(request, self.metrics, self._settings.metrics)

    async def github(self, intake: Intake, request: Request) -> Response:
        started, clock = time.time(), time.perf_counter()
        answered = await intake.github(request)
        seconds = time.perf_counter() - clock
        # before its signature is checked, a header is anybody's word
        event = request.headers.get("x-github-event", "") if answered.outcome != _UNSIGNED else ""
        self.metrics.delivery(event, answered.outcome, seconds)
        if LOG.isEnabledFor(logging.DEBUG) or seconds > _SLOW:
            self._tell(answered.outcome, answered.request or "", event, request, answered.response, seconds)
        if answered.request and self.traces.on:
            guid = request.headers.get("x-github-delivery", "")
            self.traces.delivery(answered.request, guid, event, answered.outcome, started, started + seconds)
        return answered.response

    def _tell(self, outcome: str, known: str, event: str, request: Request, response: Response, seconds: float) -> None:
        guid = request.headers.get("x-github-delivery", "")[:100] if outcome != _UNSIGNED else None
        level = logging.WARNING if seconds > _SLOW else logging.DEBUG
        with about(request=known):
            tell(
                level, "delivery slow" if seconds > _SLOW else "delivery", f"delivery answered: {outcome}",
                delivery=guid, kind=event[:60], outcome=outcome, status=response.status_code, seconds=round(seconds, 4),
            )  # fmt: skip
