"""The addresses of a run's page: the page, its stream, and what it asks for when something is opened.

Each is found by the id of a request or of a run. Left out: stopping a run (`service.dashboard.runs`).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Query
from fastapi import Request as Http
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from markupsafe import Markup

from service.dashboard.access import Visitor, guest_of
from service.dashboard.frame import HEADERS, page
from service.dashboard.run.changes import Diffs
from service.dashboard.run.diff import MOST_LINES
from service.dashboard.run.finding import Found, find
from service.dashboard.run.highlight import Budget
from service.dashboard.run.live import Watch
from service.dashboard.run.page import LISTED, WHOLE_LINES, bars, entries, entry, macros, series, turns
from service.dashboard.run.reading import Reader, Readers
from service.dashboard.run.views import RunView

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Shared:
    """What all visitors of a process share."""

    readers: Readers
    diffs: Diffs


def _shared(http: Http) -> Shared:
    state = http.app.state
    if not hasattr(state, "run_pages"):
        state.run_pages = Shared(Readers(), Diffs())
    found: Shared = state.run_pages
    return found


@dataclass(frozen=True, slots=True)
class Looked:
    """A run as it was when somebody looked."""

    found: Found
    reader: Reader | None
    view: RunView


async def _look(http: Http, key: str) -> Looked:
    """Raises HTTPException for no run."""
    found = await asyncio.to_thread(find, http.app.state.runs, http.app.state.store, key)
    if found is None:
        raise HTTPException(404, "there is no such run")
    reader = _shared(http).readers.of(found.folder) if found.folder else None
    view = await asyncio.to_thread(reader.view) if reader else RunView()
    return Looked(found, reader, view)


@router.get("/runs/{key}")
async def show(http: Http, _: Visitor, key: str) -> Response:
    looked = await _look(http, key)
    found, view, forge = looked.found, looked.view, http.app.state.settings.dashboard
    request = found.active or found.request
    thread = await asyncio.to_thread(http.app.state.store.thread, request.repository_id, request.wish.number)
    number = thread.number if thread else request.wish.number
    pull = request.pull or (thread.pull if thread else None)
    context: dict[str, Any] = {
        "key": key,
        "request": request,
        "active": found.active,
        "view": view,
        "title": view.facts.title or f"{request.slug} #{number}",
        "number": number,
        "issue": forge.issue(request.slug, number),
        "pull": pull,
        "pull_address": forge.pull(request.slug, pull) if pull else "",
        "has_patch": found.folder is not None and found.folder.patch.is_file(),
        "has_changes": view.tree[0] != view.tree[1],
        "entries": await entries(_shared(http).diffs, found.folder, view.parts[-LISTED:]),
        "lazy": max(0, len(view.parts) - LISTED),
        "bars": bars(view),
        "at": time.time(),
        "nothing": _nothing(found),
    }
    return await page(http, "run.html", **context)


def _nothing(found: Found) -> str:
    if found.folder is None and found.request.run:
        return "The run's files aren't on this machine, or were cleared away."
    return "There was no run."


@router.get("/runs/{key}/live")
async def live(
    http: Http,
    _: Visitor,
    key: str,
    after: Annotated[int, Query(ge=-1, le=2**53)] = -1,
    last_event_id: Annotated[str, Header(max_length=20)] = "",
) -> Response:
    """What is new behind `after`, or behind `Last-Event-ID`, as it comes."""
    if last_event_id.isascii() and last_event_id.isdigit():
        after = int(last_event_id)
    await _look(http, key)
    shared = _shared(http)

    async def now() -> Found | None:
        if await http.is_disconnected() or await guest_of(http) is None:
            return None
        return await asyncio.to_thread(find, http.app.state.runs, http.app.state.store, key)

    watch = Watch(key, shared.readers, shared.diffs, now, after)
    return StreamingResponse(
        watch.events(), media_type="text/event-stream", headers={**HEADERS, "X-Accel-Buffering": "no"}
    )


@router.get("/runs/{key}/patch")
async def patch(http: Http, _: Visitor, key: str) -> Response:
    folder = (await _look(http, key)).found.folder
    if folder is None or not folder.patch.is_file():
        raise HTTPException(404, "this run has no patch, or its files are on another machine")
    named = {"Content-Disposition": f'attachment; filename="{folder.id}.diff"'}
    return Response(
        await asyncio.to_thread(folder.patch.read_bytes), media_type="text/x-diff", headers={**HEADERS, **named}
    )


@router.get("/runs/{key}/series.json")
async def numbers(http: Http, _: Visitor, key: str) -> Response:
    return JSONResponse(series((await _look(http, key)).view.points), headers=HEADERS)


@router.get("/runs/{key}/turns")
async def table(http: Http, _: Visitor, key: str) -> Response:
    looked = await _look(http, key)
    return await _piece(http, key, "Turns", await asyncio.to_thread(turns, key, looked.view.points))


@router.get("/runs/{key}/steps/{number}")
async def step(http: Http, _: Visitor, key: str, number: int) -> Response:
    """A step: as it stands on the page for htmx, else by itself and as a whole."""
    looked = await _look(http, key)
    part = _is_part(http)
    if part or looked.reader is None:
        found = next((one for one in looked.view.steps if one.number == number), None)
    else:
        found = await asyncio.to_thread(looked.reader.step, number)
    if found is None:
        raise HTTPException(404, "this run has no such step")
    lines = MOST_LINES if part else WHOLE_LINES
    shown = await entry(_shared(http).diffs, looked.found.folder, found, Budget(), most=lines)
    text = await asyncio.to_thread(macros().step_body, key, found, shown.diffs, not part)
    return await _piece(http, key, f"Step {number}", text)


@router.get("/runs/{key}/earlier")
async def earlier(http: Http, _: Visitor, key: str, before: Annotated[int, Query(ge=0, le=2**31)]) -> Response:
    """The parts before a place, by a line each."""
    looked = await _look(http, key)
    first = max(0, min(before, len(looked.view.parts)) - LISTED)
    shown = await entries(_shared(http).diffs, looked.found.folder, looked.view.parts[first:before])

    def text() -> Markup:
        made = macros()
        rest = [made.earlier(key, first, first)] if first else []
        return Markup().join([*rest, *(made.part(key, one) for one in shown)])

    return await _piece(http, key, "Earlier", await asyncio.to_thread(text))


@router.get("/runs/{key}/changes")
async def changes(http: Http, _: Visitor, key: str) -> Response:
    """All that the run changed so far."""
    looked = await _look(http, key)
    before, after = looked.view.tree
    if looked.found.folder is None or before == after:
        raise HTTPException(404, "this run has changed nothing so far")
    found = await _shared(http).diffs.of(looked.found.folder, (before, after), Budget(), WHOLE_LINES)
    return await _piece(http, key, "All changes", await asyncio.to_thread(macros().diff, found))


def _is_part(http: Http) -> bool:
    return http.headers.get("hx-request") == "true"


async def _piece(http: Http, key: str, title: str, content: Markup) -> Response:
    """By itself for htmx, else as a page."""
    if _is_part(http):
        return HTMLResponse(content, headers=HEADERS)
    return await page(http, "run_piece.html", key=key, title=title, content=content)
