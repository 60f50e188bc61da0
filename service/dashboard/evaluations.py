"""The evaluation runs of this machine: a list, a summary of each, and the pages that they wrote themselves.

Those pages are HTML that this service didn't make: they are served into a sandbox, with an origin of their own that has
no session, may ask for nothing and is framed nowhere. Left out: reading the folders (`reports`).
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, HTTPException
from fastapi import Path as InPath
from fastapi import Request as Http
from fastapi.responses import FileResponse, Response

from service.dashboard import reports
from service.dashboard.access import Visitor
from service.dashboard.frame import page

router = APIRouter()
_SANDBOX: Final = "; ".join(
    (
        "sandbox allow-scripts",
        "default-src 'none'",
        "script-src 'unsafe-inline'",  # the page's own policy, in its head, allows its own script alone
        "style-src 'unsafe-inline'",
        "img-src data:",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
# No Cross-Origin-Opener-Policy: browsers refuse a sandboxed page that has one.
_HEADERS: Final = {
    "Content-Security-Policy": _SANDBOX,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_MISSING: Final = "there is no such evaluation"


def _folder(http: Http) -> Path:
    folder: Path = http.app.state.settings.dashboard.evaluations
    return folder


@router.get("/evaluations")
async def listed(http: Http, _: Visitor) -> Response:
    found = await asyncio.to_thread(reports.evaluations, _folder(http))
    return await page(http, "evaluations.html", evaluations=found)


@router.get("/evaluations/{name}")
async def shown(http: Http, _: Visitor, name: str) -> Response:
    found = await asyncio.to_thread(reports.evaluation, _folder(http), name)
    if found is None:
        raise HTTPException(404, _MISSING)
    pages = await asyncio.to_thread(reports.trajectories, _folder(http), name)
    return await page(http, "evaluation.html", evaluation=found, pages=pages)


@router.get("/evaluations/{name}/report.html")
async def report(http: Http, _: Visitor, name: str) -> Response:
    return _file(await asyncio.to_thread(reports.report_page, _folder(http), name))


@router.get("/evaluations/{name}/trajectories/{instance}/{attempt}/index.html")
async def trajectory(
    http: Http, _: Visitor, name: str, instance: str, attempt: Annotated[int, InPath(ge=0, le=10**6)]
) -> Response:
    return _file(await asyncio.to_thread(reports.trajectory_page, _folder(http), name, instance, attempt))


def _file(found: Path | None) -> Response:
    if found is None:
        raise HTTPException(404, _MISSING)
    return FileResponse(found, headers=_HEADERS, media_type="text/html; charset=utf-8")
