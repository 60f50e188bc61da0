"""Who looks at a page: a session begun with an API token; and who may change something: with a form of ours.

    async def runs(http: Http, visitor: Visitor) -> HTMLResponse: ...
    async def cancel(http: Http, visitor: Changer, fields: Fields) -> Response: ...

Who isn't logged in is sent to the login page. Left out: the login page itself (`login`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, HTTPException
from fastapi import Request as Http

from service.api.access import ApiScope
from service.dashboard.tokens import form_token, session_of
from service.store import Store
from service.store.sessions import check_session
from service.store.tokens import ApiToken

_MOST_FORM: Final = 16 * 1024  # bytes
_MOST_FIELDS: Final = 50


class LoginNeeded(Exception):
    """There is no session, or it has ended."""


@dataclass(frozen=True, slots=True)
class Guest:
    """Somebody with a session. `name` is the token's; `may_change`: it has the scope for that."""

    token: ApiToken
    name: str
    may_change: bool


async def _visitor(http: Http) -> Guest:
    found = await guest_of(http)
    if found is None:
        raise LoginNeeded
    if ApiScope.READ not in found.token.scopes:
        raise HTTPException(403, "the token that you logged in with may not read runs")
    http.state.visitor = found
    return found


async def guest_of(http: Http) -> Guest | None:
    """Who looks, where somebody is logged in."""
    secret = session_of(http)
    if secret is None:
        return None
    store: Store = http.app.state.store
    token = await asyncio.to_thread(check_session, store, secret)
    return Guest(token, token.name, ApiScope.WRITE in token.scopes) if token else None


Visitor = Annotated[Guest, Depends(_visitor)]


async def read_form(http: Http) -> Mapping[str, str]:
    """The fields of a form that one of our own pages sent; the last of several of a name.

    Raises HTTPException for a form from elsewhere, and for what no form of ours sends.
    """
    check_origin(http)
    body = await http.body()
    if len(body) > _MOST_FORM:
        raise HTTPException(413, "the form is too large")
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise HTTPException(400, "this is no form") from None


async def _fields(http: Http, _: Visitor) -> Mapping[str, str]:
    found = await read_form(http)
    _check_token(http, found)
    return found


Fields = Annotated[Mapping[str, str], Depends(_fields)]


async def _changer(visitor: Visitor, _: Fields) -> Guest:
    if not visitor.may_change:
        raise HTTPException(403, "the token that you logged in with may read only")
    return visitor


Changer = Annotated[Guest, Depends(_changer)]
"""A visitor who sent one of our forms and whose token has the scope to change something."""


def check_origin(http: Http) -> None:
    """Raises HTTPException unless the browser says that the request comes from one of our pages."""
    site = http.headers.get("sec-fetch-site")
    if site is not None:
        own = site == "same-origin"
    else:  # a browser that doesn't say it, or a page without TLS
        ours = {http.headers.get("host", ""), urlsplit(http.app.state.settings.dashboard.url).netloc} - {""}
        own = urlsplit(http.headers.get("origin", "")).netloc in ours
    if not own:
        raise HTTPException(403, "this form was not sent by a page of this service; open it again and repeat that")


def _check_token(http: Http, fields: Mapping[str, str]) -> None:
    import hmac

    expected = form_token(http)
    if not expected or not hmac.compare_digest(expected.encode(), fields.get("form_token", "").encode()):
        raise HTTPException(403, "this form belongs to another session; open the page again and repeat that")


def local_path(given: str) -> str:
    """`given`, if it is a path of ours to go to; else the first page."""
    plain = given.isascii() and given.isprintable() and "\\" not in given and " " not in given
    if plain and given.startswith("/") and not given.startswith("//") and not urlsplit(given).netloc:
        return given
    return "/"
