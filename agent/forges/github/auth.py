"""Who we are to GitHub: an App with its private keys, or one token.

An App signs a JWT for each few minutes, finds the installation of a repository, and takes a token for that one
repository, which lasts an hour. Keys are tried newest first, so that one can be added before the old one is taken
away. Tokens are in memory only. Left out: OAuth for people.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from agent.forges.base import ForgeProblem, Secret, checked_slug

JWT_SECONDS = 540  # GitHub allows 600, by its own clock
JWT_SKEW = 60
LEAST_SECONDS = 600  # what is left of a token that is handed out: enough for a push of a large repository

# method, path, headers, body -> JSON. What `auth` needs of the client.
Ask = Callable[[str, str, str, Any], Awaitable[Any]]


class Auth(Protocol):
    """Where a request's `Authorization` comes from."""

    async def token(self, slug: str | None, ask: Ask) -> Secret:
        """The token for a repository, or (slug None) for what belongs to none: empty if we have none for that.

        Raises ForgeProblem.
        """
        ...

    def refused(self, slug: str | None, token: Secret) -> bool:
        """GitHub doesn't know this token. True: it is forgotten, and another one can be had."""
        ...

    async def app_login(self, ask: Ask) -> str | None:
        """The account that an App writes as; None if we aren't an App. Raises ForgeProblem."""
        ...

    def account(self, slug: str | None) -> str:
        """Whose rate limit a request counts against."""
        ...


@dataclass(frozen=True, slots=True)
class TokenAuth:
    """A personal token, or the token of a workflow: for `only`, if given, and for no other repository."""

    value: Secret
    only: str | None = None

    async def token(self, slug: str | None, ask: Ask) -> Secret:
        if self.only and slug and slug.lower() != self.only.lower():
            raise ForgeProblem(f"the token is for {self.only}, not for {slug}: nothing was asked")
        return self.value

    def refused(self, slug: str | None, token: Secret) -> bool:
        return False

    async def app_login(self, ask: Ask) -> str | None:
        return None

    def account(self, slug: str | None) -> str:
        return ""


@dataclass
class _Installed:
    id: int
    token: Secret = field(default_factory=lambda: Secret(""))
    until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass
class AppAuth:
    """A GitHub App. `app`: its id or client id. `keys`: its private keys as PEM text, the newest first."""

    app: str
    keys: Sequence[Secret] = field(repr=False)
    clock: Callable[[], float] = time.time
    _installed: dict[str, _Installed] = field(default_factory=dict, repr=False)
    _working: int = 0

    async def token(self, slug: str | None, ask: Ask) -> Secret:
        if slug is None:
            return Secret("")
        entry = self._installed.get(slug) or await self._find(slug, ask)
        async with entry.lock:
            if entry.until - self.clock() < LEAST_SECONDS:
                entry.token, entry.until = await self._new_token(slug, entry, ask)
            return entry.token

    async def _new_token(self, slug: str, entry: _Installed, ask: Ask) -> tuple[Secret, float]:
        """For that one repository, also by a name that it had once."""
        path = f"/app/installations/{entry.id}/access_tokens"
        try:
            return _read_token(await self._as_app("POST", path, ask, {"repositories": [slug.split("/")[1]]}))
        except ForgeProblem as problem:
            if problem.status != 422:
                raise
        looks, _ = _read_token(await self._as_app("POST", path, ask, {"permissions": {"metadata": "read"}}))
        found = await ask("GET", f"/repos/{checked_slug(slug)}", looks.reveal(), None)
        if not isinstance(found, dict) or not isinstance(found.get("id"), int):
            raise ForgeProblem("GitHub's answer holds no repository: check the address of the API")
        return _read_token(await self._as_app("POST", path, ask, {"repository_ids": [found["id"]]}))

    def refused(self, slug: str | None, token: Secret) -> bool:
        if slug is None or (entry := self._installed.get(slug)) is None:
            return False
        if entry.token.reveal() == token.reveal():
            del self._installed[slug]  # also where it was installed: an App that was installed anew has a new id there
        return True

    async def app_login(self, ask: Ask) -> str | None:
        answer = await self._as_app("GET", "/app", ask, None)
        return f"{answer.get('slug')}[bot]" if isinstance(answer, dict) else None

    def account(self, slug: str | None) -> str:
        return slug.split("/")[0].lower() if slug else ""

    def jwt(self, key: Secret) -> Secret:
        """What proves for some minutes that we are the App. Raises ForgeProblem for a key that is none."""
        now = int(self.clock())
        claims = {"iat": now - JWT_SKEW, "exp": now + JWT_SECONDS, "iss": self.app}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
        return Secret(f"{signed}.{_base64(_sign(key, signed.encode()))}")

    async def _find(self, slug: str, ask: Ask) -> _Installed:
        try:
            answer = await self._as_app("GET", f"/repos/{checked_slug(slug)}/installation", ask, None)
        except ForgeProblem as problem:
            if problem.status != 404:
                raise
            raise ForgeProblem(
                f"the App {self.app} isn't installed on {slug}: install it there, or take the repository off the list",
                status=404,
            ) from None
        if not isinstance(answer, dict) or not isinstance(answer.get("id"), int):
            raise ForgeProblem("GitHub's answer holds no installation: check the address of the API")
        return self._installed.setdefault(slug, _Installed(answer["id"]))

    async def _as_app(self, method: str, path: str, ask: Ask, body: Any) -> Any:
        """Ask with the key that worked last, else with each of the others."""
        order = sorted(range(len(self.keys)), key=lambda index: index != self._working)
        refusal: ForgeProblem | None = None
        for index in order:
            try:
                answer = await ask(method, path, self.jwt(self.keys[index]).reveal(), body)
            except ForgeProblem as problem:
                if problem.status != 401:
                    raise
                refusal = problem
                continue
            self._working = index
            return answer
        reason = str(refusal) if refusal else "it has no key"
        raise ForgeProblem(
            f"GitHub doesn't take any key of the App {self.app}: {reason}. Check the App's id, its private keys and "
            "this machine's clock",
            status=401,
        )


def _read_token(answer: Any) -> tuple[Secret, float]:
    try:
        until = datetime.fromisoformat(answer["expires_at"].replace("Z", "+00:00")).timestamp()
        return Secret(str(answer["token"])), until
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ForgeProblem("GitHub's answer holds no installation token: check the address of the API") from None


def _sign(key: Secret, message: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    signature: bytes = _loaded(key.reveal()).sign(message, PKCS1v15(), SHA256())
    return signature


@functools.lru_cache(maxsize=8)  # a key is checked when it is loaded, which takes a tenth of a second
def _loaded(pem: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        loaded = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        loaded = None
    if not isinstance(loaded, RSAPrivateKey):
        raise ForgeProblem("a private key of the App is no RSA key in PEM without a password: download it again")
    return loaded


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
