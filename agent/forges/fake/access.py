"""Who asks the fake forge, and what they may: tokens, an App's JWT, roles, permissions; refused as GitHub does."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agent.forges.fake.state import Account, App, Repo, Token, World, digest

ROLES = ("none", "read", "triage", "write", "maintain", "admin")
INSTALLATION_SECONDS = 3600


class Refusal(Exception):
    """An answer that isn't what was asked for: its status, message, and what of GitHub's error form comes with it."""

    def __init__(
        self,
        status: int,
        message: str,
        errors: list[dict[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request is by. `account` None: nobody said; `app`: an App with its JWT."""

    account: Account | None
    token: Token | None = None
    app: App | None = None


def not_found() -> Refusal:
    return Refusal(404, "Not Found")


def invalid(resource: str, field: str, code: str, message: str | None = None) -> Refusal:
    error = {"resource": resource, "field": field, "code": code, **({"message": message} if message else {})}
    return Refusal(422, "Validation Failed", [error])


def now(world: World) -> float:
    return time.time() + world.offset


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def account(world: World, login: str) -> Account:
    for one in world.accounts:
        if one.login.lower() == login.lower():
            return one
    raise not_found()


def account_by_id(world: World, number: int) -> Account:
    for one in world.accounts:
        if one.id == number:
            return one
    raise not_found()


def new_token(
    world: World,
    who: Account,
    kind: str,
    repositories: list[int] | None,
    permissions: dict[str, str] | None,
    seconds: float | None = None,
) -> str:
    value = {"user": "ghp_", "installation": "ghs_", "workflow": "ghs_"}[kind] + secrets.token_hex(18)
    until = now(world) + seconds if seconds is not None else None
    world.tokens[digest(value)] = Token(who.id, kind, repositories, permissions, until)
    return value


def caller(world: World, authorization: str | None) -> Caller:
    """Who an `Authorization` header speaks for. Raises Refusal 401 for one that means nobody."""
    if not authorization:
        return Caller(None)
    kind, _, value = authorization.partition(" ")
    value = value.strip()
    if kind.lower() == "basic":
        value = _password(value)
    elif kind.lower() not in ("bearer", "token"):
        raise Refusal(401, "Bad credentials")
    if value.count(".") == 2 and not value.startswith("gh"):
        return Caller(None, app=_app(world, value))
    token = world.tokens.get(digest(value))
    if token is None or (token.expires_at is not None and token.expires_at <= now(world)):
        raise Refusal(401, "Bad credentials")
    return Caller(account_by_id(world, token.account), token)


def _password(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        raise Refusal(401, "Bad credentials") from None


def _app(world: World, jwt: str) -> App:
    head, body, signature = jwt.split(".")
    try:
        claims, algorithm = json.loads(_decoded(body)), json.loads(_decoded(head))["alg"]
        issued, until, issuer = float(claims["iat"]), float(claims["exp"]), str(claims["iss"])
    except (ValueError, KeyError, TypeError):
        raise Refusal(401, "A JSON web token could not be decoded") from None
    found = next((app for app in world.apps if issuer in (str(app.id), app.client_id)), None)
    if algorithm != "RS256" or found is None:
        raise Refusal(401, "A JSON web token could not be decoded" if found is None else "Bad credentials")
    if not any(_signed(key, f"{head}.{body}".encode(), _decoded(signature)) for key in found.keys):
        raise Refusal(401, "A JSON web token could not be decoded")
    at = now(world)
    if until > max(issued, at) + 600 or until > at + 600:
        raise Refusal(401, "'Expiration time' claim ('exp') is too far in the future")
    if until <= at:
        raise Refusal(401, "'Expiration time' claim ('exp') must be a numeric value representing the future time")
    if issued > at:
        raise Refusal(401, "'Issued at' claim ('iat') must be an Integer representing the time in the past")
    return found


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _signed(key: str, message: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    loaded = load_pem_public_key(key.encode())
    if not isinstance(loaded, RSAPublicKey):
        return False
    try:
        loaded.verify(signature, message, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True


def role(world: World, repo: Repo, who: Account | None) -> str:
    """The role of an account in a repository: its own, its owner's, or what everybody has."""
    everybody = "none" if repo.private else "read"
    if who is None:
        return everybody
    if who.login.lower() == repo.owner.lower():
        return "admin"
    return repo.roles.get(who.id, everybody)


def require(world: World, repo: Repo, who: Caller, permission: str, level: str, at_least: str = "read") -> None:
    """Raise the Refusal that GitHub would.

    `permission` and `level`: an App's (`issues`, `write`; with `|`, any of several); `at_least`: the role of a person.
    """
    if who.app is not None:
        raise Refusal(401, "A JSON web token could not be decoded")
    token = who.token
    elsewhere = token is not None and token.repositories is not None and repo.id not in token.repositories
    if elsewhere and (repo.private or level == "write"):
        raise not_found()
    if token is not None and token.permissions is not None:
        held = {token.permissions.get(name) for name in permission.split("|")}
        if not held & ({"write"} if level == "write" else {"read", "write"}) and permission != "metadata":
            raise Refusal(403, "Resource not accessible by integration")
        return
    has_role = role(world, repo, who.account)
    if has_role == "none":
        raise not_found()
    if who.account is None and level == "write":
        raise Refusal(401, "Requires authentication")
    if ROLES.index(has_role) < ROLES.index(at_least):
        raise Refusal(403, "Must have admin rights to Repository." if at_least == "admin" else "Forbidden")
