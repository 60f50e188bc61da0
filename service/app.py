"""The web process's app: its parts put together, opened and closed with it. Nothing here works on a request for long.

`/healthz` says that the process answers, `/readyz` that its database does. Left out: the parts themselves, and the
worker, which is a process of its own (`service.bot`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from service.api import install, router
from service.dashboard.joining import join
from service.limits import BodyLimits
from service.settings import ServiceSettings
from service.store import Recorder, Store, StoreUnavailable
from service.telemetry.traces import Traces
from service.telemetry.web import WebTelemetry
from service.webhooks.intake import Intake
from service.webhooks.rates import RateLimit, RateLimits


def create_app(settings: ServiceSettings, traces: Traces | None = None) -> FastAPI:
    """`app.state` has `settings`, `runs` (a folder), and while it runs `store` (for threads), `rates` and `intake`."""

    rates = RateLimits([RateLimit(settings.per_repository), RateLimit(settings.per_sender)])

    telemetry = WebTelemetry(settings, traces)

    @asynccontextmanager
    async def opened(app: FastAPI) -> AsyncIterator[None]:
        store = await asyncio.to_thread(Store.open, settings.database.reveal())
        try:
            async with Recorder(store) as recorder:
                app.state.store, app.state.rates = store, rates
                app.state.intake = _intake(settings, recorder, rates)
                telemetry.opened(store)
                yield
        finally:
            await asyncio.to_thread(telemetry.closed)
            store.close()

    app = FastAPI(
        title="Patchwright",
        lifespan=opened,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        redirect_slashes=False,  # they would lead to whatever host the request names
    )
    app.state.settings, app.state.runs, app.state.telemetry = settings, settings.runs, telemetry
    app.include_router(router)
    install(app, router)
    app.add_middleware(BodyLimits, most=settings.max_body, at_once=settings.max_bodies, seconds=settings.body_seconds)
    app.add_route("/webhooks/github", _github, methods=["POST"])  # past FastAPI's dependencies, which take time
    app.add_route("/metrics", telemetry.scraped, methods=["GET"])
    app.add_api_route("/healthz", _healthy, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/readyz", _ready, methods=["GET", "HEAD"], include_in_schema=False)
    join(app)
    return app


def _intake(settings: ServiceSettings, recorder: Recorder, rates: RateLimits) -> Intake:
    secrets = [secret.reveal().encode() for secret in settings.webhook_secrets]
    return Intake(recorder, secrets, settings.me, rates)


async def _github(request: Request) -> Response:
    intake: Intake = request.app.state.intake
    telemetry: WebTelemetry = request.app.state.telemetry
    return await telemetry.github(intake, request)


async def _healthy() -> Response:
    return JSONResponse({"status": "ok"})


async def _ready(request: Request) -> Response:
    store: Store = request.app.state.store
    try:
        version = await asyncio.to_thread(store.schema)
    except StoreUnavailable:
        return JSONResponse({"status": "the database doesn't answer"}, 503)
    return JSONResponse({"status": "ok", "schema": version})
