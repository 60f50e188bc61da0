"""The endpoints of `/api/v1`. Each checks the token, asks the store or the files of a run, and answers.

Left out: what the answers look like (`service.api.shapes`).
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Response
from fastapi import Request as Http
from fastapi.responses import PlainTextResponse, StreamingResponse

from agent.forges.base import Person, Place
from service.api.access import ApiScope, Guarded, needs
from service.api.finding import folder_of, lines, story
from service.api.problems import links, other, responses
from service.api.shapes import Health, RequestId, Run, RunDetail, Runs, Slug, Submission, detail_of, run_of
from service.bot.asking import OURS
from service.stopping import stop
from service.store import ACTIVE, Request, State, Store
from service.store.model import Outcome, Received
from service.store.tokens import ApiToken
from service.webhooks.model import Delivery, ObjectKey, ObjectKind, Wish, WishKind
from service.webhooks.rates import RateLimits
from service.webhooks.values import as_text

router = APIRouter(
    prefix="/api/v1", tags=["runs"], route_class=Guarded, generate_unique_id_function=lambda one: one.name
)
Reader = Annotated[ApiToken, Depends(needs(ApiScope.READ))]
Writer = Annotated[ApiToken, Depends(needs(ApiScope.WRITE))]


class Diff(PlainTextResponse):
    media_type = "text/x-diff"


class EventStream(StreamingResponse):
    media_type = "text/event-stream"


_TEXT = {"type": "string"}
_DIFF = other(Diff.media_type, "A patch.", schema=_TEXT)
_EVENT = {"type": "object", "required": ["data"], "properties": {"id": _TEXT, "event": _TEXT, "data": _TEXT}}
_EVENTS = other(EventStream.media_type, "Events whose data is JSON; the last one is named `end`.", itemSchema=_EVENT)


def _store(http: Http) -> Store:
    store: Store = http.app.state.store
    return store


def _runs(http: Http) -> Path:
    folder: Path = http.app.state.runs
    return folder


def _rates(http: Http) -> RateLimits:
    rates: RateLimits = http.app.state.rates
    return rates


async def _found(http: Http, run_id: str) -> Request:
    found = await asyncio.to_thread(_store(http).request, run_id)
    if found is None:
        raise HTTPException(404, "there is no such run")
    return found


@router.get(
    "/runs", responses=responses() | {200: {"links": links("/runs/0/id", "get_run", "get_patch", "get_events")}}
)
async def list_runs(
    http: Http,
    _: Reader,
    repository: Annotated[Slug | None, Query()] = None,
    state: Annotated[State | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> Runs:
    """Requests and their runs, the newest first."""
    page = await asyncio.to_thread(_store(http).page, repository, state, limit + 1, before)
    more = page[limit - 1][0] if len(page) > limit else None
    return Runs(runs=[run_of(one) for _, one in page[:limit]], next=more)


@router.get("/runs/{run_id}", responses=responses(404))
async def get_run(http: Http, _: Reader, run_id: RequestId) -> RunDetail:
    """One of them, with what its run has come to."""
    found = await _found(http, run_id)
    return detail_of(found, await asyncio.to_thread(story, _runs(http), _store(http), found))


@router.get("/runs/{run_id}/patch", responses=responses(404) | _DIFF, response_class=Response)
async def get_patch(http: Http, _: Reader, run_id: RequestId) -> Diff:
    """The patch as `git apply` takes it."""
    found = await _found(http, run_id)
    folder = await asyncio.to_thread(folder_of, _runs(http), _store(http), found)
    if folder is None or not folder.patch.is_file():
        raise HTTPException(404, "this run has no patch, or its files are on another machine")
    return Diff(await asyncio.to_thread(folder.patch.read_bytes))


@router.get("/runs/{run_id}/events", responses=responses(404) | _EVENTS, response_class=Response)
async def get_events(
    http: Http,
    _: Reader,
    run_id: RequestId,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> EventStream:
    """The run's log as Server-Sent Events, from its beginning or behind `Last-Event-ID`, until the run has ended."""
    found = await _found(http, run_id)
    folder = await asyncio.to_thread(folder_of, _runs(http), _store(http), found)
    if folder is None:
        raise HTTPException(404, "this request has no run yet, or its files are on another machine")
    after = int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdigit() else -1
    return EventStream(sse(lines(folder.events, after, _going(http, run_id))), headers={"Cache-Control": "no-store"})


async def sse(found: AsyncIterator[tuple[int, str]]) -> AsyncIterator[str]:
    """A line of the log is one line of data, for JSON has no line breaks."""
    async for seq, line in found:
        yield f"id: {seq}\ndata: {line}\n\n"
    yield "event: end\ndata: {}\n\n"


async def _going(http: Http, key: str) -> AsyncIterator[bool]:
    """Whether more may come, each time that it is asked."""
    while not await http.is_disconnected():
        found = await asyncio.to_thread(_store(http).request, key)
        yield found is not None and found.state in ACTIVE


@router.post(
    "/runs", status_code=202, responses=responses(400, 404, 429) | {202: {"links": links("/id", "get_run", "cancel")}}
)
async def submit(
    http: Http, token: Writer, asked: Submission, idempotency_key: Annotated[str | None, Header(max_length=100)] = None
) -> Run:
    """Have an issue solved. The same `Idempotency-Key` asks for the same run, however often it is sent."""
    moment = datetime.now(UTC)
    name = f"{token.id}:{idempotency_key or uuid.uuid4().hex}"
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])  # an object of its own
    repository = await asyncio.to_thread(_store(http).repository_id, asked.repository)
    if repository is None:
        raise HTTPException(404, "the bot knows no such repository: install it there first")
    if wait := _rates(http).take((repository, token.id)):
        raise HTTPException(429, "this is asked too often", {"Retry-After": str(math.ceil(wait))})
    wish = Wish(WishKind.FIX, asked.number, as_text(asked.text), place=Place.ISSUE)
    delivery = Delivery(
        f"api-{name}", "api", "submit", repository, asked.repository, None, Person(OURS, f"api:{token.name}"),
        ObjectKey(ObjectKind.OTHER, number, "1"), moment.strftime("%Y-%m-%dT%H:%M:%SZ"), wish,
    )  # fmt: skip
    (received,) = await asyncio.to_thread(_store(http).receive, [delivery])
    if received.outcome is not Outcome.NEW:
        _rates(http).give_back((repository, token.id))
    return run_of(await _of(http, received))


async def _of(http: Http, received: Received) -> Request:
    assert received.request is not None
    return await _found(http, received.request)


@router.post("/runs/{run_id}/cancel", status_code=202, responses=responses(404))
async def cancel(http: Http, token: Writer, run_id: RequestId) -> Run:
    """Stop a run. What has ended stays as it is."""
    found = await _found(http, run_id)
    await asyncio.to_thread(stop, _store(http), found, f"api:{token.name}")
    return run_of(await _found(http, run_id))


@router.get("/queue", responses=responses())
async def queue(http: Http, _: Reader) -> Health:
    """What waits and what goes on."""
    going = await asyncio.to_thread(_store(http).in_state, ACTIVE)
    waiting = [one for one in going if one.state is State.WAITING]
    return Health(
        waiting=len(waiting), running=len(going) - len(waiting), oldest=waiting[0].created if waiting else None
    )
