"""The list of runs, by repository and state, and the button that stops one.

Left out: a run's own page (`service.dashboard.run`).
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Query
from fastapi import Path as InPath
from fastapi import Request as Http
from fastapi.responses import RedirectResponse, Response

from service.dashboard.access import Changer, Fields, Visitor, local_path
from service.dashboard.frame import HEADERS, page
from service.dashboard.rows import KINDS, rows
from service.stopping import stop
from service.store import State, Store
from service.store.overview import counts, repositories

router = APIRouter()
PAGE: Final = 25
RequestId = Annotated[str, InPath(pattern=r"^r[0-9a-f]{24}$")]


@router.get("/")
async def runs(
    http: Http,
    _: Visitor,
    repository: Annotated[str, Query(max_length=201)] = "",
    state: Annotated[State | str, Query(max_length=20)] = "",
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> Response:
    if state and state not in list(State):
        raise HTTPException(422, f"there is no state {state}")
    store: Store = http.app.state.store
    wanted = State(state) if state else None
    found = await asyncio.to_thread(store.page, repository or None, wanted, PAGE + 1, before, KINDS)
    shown = [one for _, one in found[:PAGE]]
    context: dict[str, Any] = {
        "rows": await asyncio.to_thread(rows, http.app.state.settings.dashboard, http.app.state.runs, store, shown),
        "repositories": await asyncio.to_thread(repositories, store, KINDS),
        "counts": await asyncio.to_thread(counts, store, KINDS),
        "older": _address(repository, state, found[PAGE - 1][0]) if len(found) > PAGE else "",
        "newest": _address(repository, state) if before else "",
    }
    return await page(http, "runs.html", repository=repository, state=state, states=list(State), **context)


def _address(repository: str, state: str, before: int | None = None) -> str:
    asked = {"repository": repository, "state": str(state), "before": before}
    query = urlencode({name: value for name, value in asked.items() if value})
    return f"/?{query}" if query else "/"


@router.post("/runs/{key}/cancel")
async def cancel(http: Http, visitor: Changer, fields: Fields, key: RequestId) -> Response:
    store: Store = http.app.state.store
    found = await asyncio.to_thread(store.request, key)
    if found is None:
        raise HTTPException(404, "there is no such run")
    await asyncio.to_thread(stop, store, found, f"dashboard:{visitor.name}")
    return RedirectResponse(local_path(fields.get("next", "/")), 303, HEADERS)
