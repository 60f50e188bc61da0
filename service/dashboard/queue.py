"""The queue: what waits and what goes on, who works on it, and how the model's server is.

Left out: asking that server (`model_health`).
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter
from fastapi import Request as Http
from fastapi.responses import Response

from agent.jobs.model import WorkerSeen
from agent.jobs.seen import age, workers_seen
from service.dashboard.access import Visitor
from service.dashboard.frame import page
from service.dashboard.model_health import HealthWatch
from service.dashboard.rows import KINDS, rows
from service.dashboard.settings import DashboardSettings
from service.store import ACTIVE, State, Store
from service.store.overview import counts

router = APIRouter()
_APPLICATION = "patchwright-service"  # service.worker's, without loading the worker
_SILENT = 30.0  # seconds without a heartbeat after which a worker is taken for lost
_MOST = 100


@router.get("/queue")
async def queue(http: Http, _: Visitor) -> Response:
    store: Store = http.app.state.store
    settings: DashboardSettings = http.app.state.settings.dashboard
    health: HealthWatch = http.app.state.model_health
    day = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    going = [one for one in await asyncio.to_thread(store.in_state, ACTIVE) if one.wish.kind in KINDS]
    runs = http.app.state.runs
    context: dict[str, Any] = {
        "waiting": sum(one.state is not State.RUNNING for one in going),
        "running": sum(one.state is State.RUNNING for one in going),
        "oldest": next((one.created for one in going if one.state is not State.RUNNING), None),
        "rows": await asyncio.to_thread(rows, settings, runs, store, going[:_MOST]),
        "more": max(0, len(going) - _MOST),
        "day": await asyncio.to_thread(counts, store, KINDS, day),
        "workers": await asyncio.to_thread(_workers, settings),
        "model": await health.now(),
        "settings": settings,
    }
    return await page(http, "queue.html", **context)


def _workers(settings: DashboardSettings) -> list[tuple[WorkerSeen, float, bool]] | None:
    """(worker, seconds since it was seen, whether that is too long), or None where nobody can say."""
    if settings.jobs is None:
        return None
    found = workers_seen(settings.jobs.reveal(), _APPLICATION)
    return None if found is None else [(one, age(one), age(one) > _SILENT) for one in found]
