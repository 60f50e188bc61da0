"""The cookie that carries a session, and the token that the session's forms carry.

The form's token is made of the cookie's secret, one way: it needs no place to be kept, and who reads a page's source
doesn't have the session. Left out: checking either (`access`, `forms`).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from fastapi import Request as Http
from fastapi import Response

from service.store.sessions import LONGEST

_NAME: Final = "patchwright"
_MOST: Final = 100  # characters of a cookie of ours


def is_secure(http: Http) -> bool:
    """Whether the visitor came by https. A proxy in front says so; who lies about it changes their own cookie only."""
    said = http.headers.get("x-forwarded-proto", http.url.scheme)
    return said.split(",")[0].strip().lower() == "https" or http.app.state.settings.dashboard.url.startswith("https:")


def _name(http: Http) -> str:
    return f"__Host-{_NAME}" if is_secure(http) else _NAME


def session_of(http: Http) -> str | None:
    """The secret in the visitor's cookie, which may be anything."""
    found = http.cookies.get(_name(http))
    return found if found and len(found) <= _MOST else None


def set_session(http: Http, answer: Response, secret: str) -> None:
    """Hands the cookie over: not for scripts, and not for requests that other sites cause."""
    age = int(LONGEST.total_seconds())
    answer.set_cookie(_name(http), secret, max_age=age, httponly=True, samesite="strict", secure=is_secure(http))


def drop_session(http: Http, answer: Response) -> None:
    answer.delete_cookie(_name(http), httponly=True, samesite="strict", secure=is_secure(http))


def form_token(http: Http) -> str:
    """What a form of this visitor has to carry; empty without a session."""
    secret = session_of(http)
    return hmac.new(secret.encode("utf-8", "replace"), b"form", hashlib.sha256).hexdigest() if secret else ""
