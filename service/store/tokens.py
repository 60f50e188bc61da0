"""Tokens for the API: made here, shown once, and kept as hashes with their scopes.

A token is `pw_ID_SECRET`: the id finds the row, the secret is compared in constant time. A hash without salt is enough
for 256 random bits. Left out: what a scope allows (`service.api`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from agent.forges.base import Secret
from service.store.engine import reading, writing
from service.store.receiving import now
from service.store.store import Store
from service.store.tables import API_TOKENS

_FORM = re.compile(r"pw_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
_T = API_TOKENS.c


@dataclass(frozen=True, slots=True)
class ApiToken:
    id: str
    name: str
    scopes: frozenset[str]
    created: str
    expires: str | None
    revoked: str | None


def make_token(store: Store, name: str, scopes: Collection[str], expires: str | None = None) -> Secret:
    """A new token, valid until `expires` (2026-01-31T23:59:59.000Z). This is the only time that it is seen."""
    key, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    row = {"id": key, "name": name, "hash": _hash(secret), "scopes": json.dumps(sorted(scopes)), "created": now()}
    with writing(store.engine) as connection:
        connection.execute(sa.insert(API_TOKENS), {**row, "expires": expires})
    return Secret(f"pw_{key}_{secret}")


def check_token(store: Store, given: str) -> ApiToken | None:
    """The token, if it is one and still valid."""
    form = _FORM.fullmatch(given)
    if form is None:
        return None
    with reading(store.engine) as connection:
        row = connection.execute(sa.select(API_TOKENS).where(_T.id == form[1])).first()
    stored = row.hash if row else _hash("")
    if not hmac.compare_digest(_hash(form[2]), stored) or row is None:
        return None
    return valid(row._mapping)


def valid(row: Mapping[Any, Any]) -> ApiToken | None:
    """The token of a row, unless it was revoked or has expired."""
    found = _token(row)
    return None if found.revoked or (found.expires is not None and found.expires <= now()) else found


def revoke_token(store: Store, key: str) -> bool:
    """Whether it was valid until now."""
    with writing(store.engine) as connection:
        revoked = sa.update(API_TOKENS).where(_T.id == key, _T.revoked.is_(None)).values(revoked=now())
        return bool(connection.execute(revoked).rowcount)


def tokens(store: Store) -> list[ApiToken]:
    with reading(store.engine) as connection:
        return [_token(row._mapping) for row in connection.execute(sa.select(API_TOKENS).order_by(_T.created))]


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _token(row: Mapping[Any, Any]) -> ApiToken:
    scopes = frozenset(json.loads(row["scopes"]))
    return ApiToken(row["id"], row["name"], scopes, row["created"], row["expires"], row["revoked"])
