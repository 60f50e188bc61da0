"""Logging in with an API token or a one-time ticket, and out again.

A token is typed into a form and exchanged for a session; it is in no address and in no cookie. A ticket may be in an
address: it is used up by the button of a page, never by opening one. Left out: who made the token.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final
from urllib.parse import quote

from fastapi import APIRouter, HTTPException
from fastapi import Request as Http
from fastapi.responses import RedirectResponse, Response

from service.api.access import ApiScope
from service.dashboard.access import Fields, Visitor, guest_of, local_path, read_form
from service.dashboard.frame import HEADERS, page
from service.dashboard.tokens import drop_session, session_of, set_session
from service.store import Store
from service.store.sessions import begin_session, end_session, use_ticket
from service.store.tokens import ApiToken, check_token
from service.webhooks.rates import Rate, RateLimit

router = APIRouter()
FAILURES: Final = Rate(6, 10)
_LONGEST: Final = 200  # characters of what is typed


def address(then: str) -> str:
    """Of the login page that leads to `then`."""
    return "/login" if then == "/" else f"/login?next={quote(then, safe='/')}"


@router.get("/login")
async def ask(http: Http, next: str = "/", ticket: str = "") -> Response:  # noqa: A002  the query's name
    then = local_path(next)
    if await guest_of(http) and not ticket:
        return RedirectResponse(then, 303, HEADERS)
    return await page(http, "login.html", then=then, ticket=ticket[:_LONGEST], wrong="")


@router.post("/login")
async def log_in(http: Http) -> Response:
    fields = await read_form(http)
    then = local_path(fields.get("next", "/"))
    if ticket := fields.get("ticket", ""):
        found, wrong = await _by_ticket(http, ticket), "This link was used already, or is older than ten minutes."
    else:
        given = fields.get("token", "").strip()
        found, wrong = await _by_token(http, given), "There is no such token, or it was revoked."
    if found is None:
        return await page(http, "login.html", status=401, then=then, ticket="", wrong=wrong)
    if ApiScope.READ not in found.scopes:
        wrong = f"This token may not read runs: it lacks the scope {ApiScope.READ}."
        return await page(http, "login.html", status=403, then=then, ticket="", wrong=wrong)
    return await _begin(http, found, then)


async def _by_ticket(http: Http, ticket: str) -> ApiToken | None:
    return await asyncio.to_thread(use_ticket, http.app.state.store, ticket[:_LONGEST])


async def _by_token(http: Http, given: str) -> ApiToken | None:
    """Raises HTTPException when one token's secret is guessed at.

    Counted for the token and not for the address, which may be a proxy's: so nobody can lock others out. A guess at
    the token itself has no chance, being as unlikely as a guess at the secret.
    """
    failures: RateLimit = http.app.state.failed_logins
    who = (http.client.host if http.client else "", given[:15])
    if wait := failures.wait(who):
        raise HTTPException(429, f"try again in {math.ceil(wait)} s", {"Retry-After": str(math.ceil(wait))})
    store: Store = http.app.state.store
    found = await asyncio.to_thread(check_token, store, given[:_LONGEST])
    if found is None:
        failures.take(who)
    return found


async def _begin(http: Http, token: ApiToken, then: str) -> Response:
    """Always a new session: what the browser brought along is ended, whoever planted it."""
    store: Store = http.app.state.store
    if old := session_of(http):
        await asyncio.to_thread(end_session, store, old)
    secret = await asyncio.to_thread(begin_session, store, token.id)
    answer = RedirectResponse(then, 303, HEADERS)
    set_session(http, answer, secret.reveal())
    return answer


@router.post("/logout")
async def log_out(http: Http, _: Visitor, __: Fields) -> Response:
    if secret := session_of(http):
        await asyncio.to_thread(end_session, http.app.state.store, secret)
    answer = RedirectResponse("/login", 303, HEADERS)
    drop_session(http, answer)
    return answer
