"""GitHub's REST API over HTTP: authorization, limits, repeated tries, pages. It knows no endpoint's meaning.

A limit stops every request of that account until it ends. A request is tried again after a limit, and after a failure
of GitHub's or of the network where a second try can't do it twice; waits beyond `Pace.patience` are the caller's, in
`ForgeProblem.after`. No message holds a header or a body of ours.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2

from agent.forges.base import ForgeProblem, Secret
from agent.forges.github.auth import Auth

API_VERSION = "2022-11-28"
MAX_ANSWER = 32_000_000
_LIMITED = re.compile(r"rate limit|abuse detection", re.IGNORECASE)
_NEXT = re.compile(r'<([^<>]+)>\s*;[^,]*?\brel="([a-z]+)"')
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
_REDIRECTED = frozenset({301, 302, 307, 308})


@dataclass(frozen=True, slots=True)
class Pace:
    """How hard GitHub is asked. It wants few at once, a second between writes, a minute after an unexplained limit."""

    at_once: int = 8
    between_writes: float = 1.0
    tries: int = 6
    patience: float = 120.0  # seconds that one request waits in all
    unexplained: float = 60.0  # first wait after a limit that names no time; then twice as long each time
    failure: float = 1.0  # the same after a failure
    timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    data: Any
    links: dict[str, str]
    location: str = ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that was sent, for who counts them. `status` None: no answer came. Times in seconds."""

    method: str
    path: str  # or a link that GitHub gave
    status: int | None
    started: float  # since the epoch
    seconds: float
    remaining: int | None  # requests that the account may still make in this hour, where the answer says it


Seen = Callable[[Exchange], None]


@dataclass
class _Tries:
    made: int = 0
    waited: float = 0.0
    renewed: bool = False


class Client:
    """Speaks to one API address, such as `https://api.github.com` or `https://git.example.com/api/v3`."""

    def __init__(self, base: str, auth: Auth, pace: Pace | None = None, seen: Seen | None = None) -> None:
        """`seen` is told of each request, also of those that are tried again."""
        parts = urlsplit(base)
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.query:
            raise ForgeProblem(f"{base!r} is no address of an API: expected https://HOST or https://HOST/api/v3")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise ForgeProblem(f"{base!r} would carry tokens unencrypted: use https")
        self.base = base.rstrip("/")
        self.pace = pace or Pace()
        self._auth, self._seen = auth, seen
        self._http = httpx2.AsyncClient(
            timeout=self.pace.timeout, follow_redirects=False, trust_env=parts.hostname not in _LOOPBACK
        )
        self._places = asyncio.Semaphore(self.pace.at_once)
        self._writing = asyncio.Lock()
        self._last_write = 0.0
        self._limited: dict[str, float] = {}  # account -> when it may be asked again (monotonic)

    async def close(self) -> None:
        await self._http.aclose()

    async def token(self, slug: str) -> Secret:
        return await self._auth.token(slug, self._ask_as)

    async def app_login(self) -> str | None:
        """The account that an App writes as; None if we aren't an App."""
        return await self._auth.app_login(self._ask_as)

    async def get(self, path: str, *, slug: str | None, accept: str = "application/vnd.github+json") -> Answer:
        return await self.request("GET", path, slug=slug, accept=accept)

    async def pages(self, path: str, *, slug: str, most: int, key: str | None = None) -> AsyncIterator[list[Any]]:
        """Page after page, as the `Link` headers say, at most `most`. `key`: where an object holds the items."""
        following: str | None = path
        for _ in range(most):
            if following is None:
                return
            answer = await self.get(following, slug=slug)
            items = answer.data.get(key) if key and isinstance(answer.data, dict) else answer.data
            if not isinstance(items, list):
                raise ForgeProblem(f"GitHub's answer to GET {path} is no list: check the address of the API")
            yield items
            following = answer.links.get("next")

    async def request(
        self,
        method: str,
        path: str,
        *,
        slug: str | None,
        body: Any = None,
        accept: str = "application/vnd.github+json",
        repeatable: bool | None = None,
    ) -> Answer:
        """One request, with as many tries as it takes. `slug`: whose token it goes with; None: the App's or user's own.

        `repeatable`: whether it does no harm twice; by default everything but POST. Raises ForgeProblem.
        """
        again = method != "POST" if repeatable is None else repeatable
        tries = _Tries()
        while True:
            token = await self._auth.token(slug, self._ask_as)
            answer = await self._tried(method, path, token, slug, body, accept, again, tries)
            if answer is None:
                continue
            if answer.status == 401 and not tries.renewed and self._auth.refused(slug, token):
                tries.renewed = True
                continue
            if answer.status >= 400:
                raise _refusal(method, path, answer)
            return answer

    async def _ask_as(self, method: str, path: str, token: str, body: Any) -> Any:
        """For `auth`: a request with a token of its choice."""
        tries = _Tries()
        while True:
            accept = "application/vnd.github+json"
            answer = await self._tried(method, path, Secret(token), None, body, accept, True, tries)
            if answer is not None:
                if answer.status >= 400:
                    raise _refusal(method, path, answer)
                return answer.data

    async def _tried(
        self, method: str, path: str, token: Secret, slug: str | None, body: Any, accept: str, again: bool,
        tries: _Tries,
    ) -> Answer | None:  # fmt: skip
        """One try. None: the caller tries again, after what was waited here."""
        account = self._auth.account(slug)
        await self._wait_out(account, tries, method, path)
        try:
            response = await self._sent(method, path, token, body, accept)
        except httpx2.HTTPError as error:
            sent = not isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout))
            what = f"GitHub can't be reached for {method} {path}: {type(error).__name__} {error}".rstrip()
            await self._pause(
                tries, what, self.pace.failure, unclear=sent and method != "GET", allowed=again or not sent
            )
            return None
        answer = _read(method, path, response)
        if _is_limit(response, answer):
            wait = _limit_wait(response, time.time)
            tries.made += 1
            seconds = wait if wait is not None else self.pace.unexplained * 2 ** (tries.made - 1)
            self._limited[account] = max(self._limited.get(account, 0.0), time.monotonic() + seconds)
            self._check(tries, f"GitHub limits our requests ({method} {path})", seconds, answer.status)
            return None
        if response.status_code >= 500:
            what = f"GitHub failed at {method} {path} with {response.status_code}"
            wait = _seconds(response.headers.get("retry-after")) or self.pace.failure
            await self._pause(tries, what, wait, unclear=method != "GET", allowed=again, status=response.status_code)
            return None
        return answer

    async def _sent(self, method: str, path: str, token: Secret, body: Any, accept: str) -> httpx2.Response:
        url = self._url(path)
        content = None if body is None else json.dumps(body).encode()
        headers = {
            **({"Authorization": f"Bearer {token.reveal()}"} if token else {}),
            "Accept": accept,
            "X-GitHub-Api-Version": API_VERSION,
            "User-Agent": "patchwright",
            **({"Content-Type": "application/json"} if content is not None else {}),
        }
        for _ in range(4):
            if method != "GET":
                await self._turn_to_write()  # before it takes a place: reads don't wait for writes
            async with self._places:
                response = await self._request(method, url, headers, content)
            if response.status_code not in _REDIRECTED or not (target := response.headers.get("location")):
                break
            if not self._ours(target := urljoin(url, target)):
                break
            url = target
        return response

    async def _request(self, method: str, url: str, headers: dict[str, str], content: bytes | None) -> httpx2.Response:
        started, clock, response = time.time(), time.monotonic(), None
        try:
            response = await self._http.request(method, url, headers=headers, content=content)
        finally:
            if self._seen is not None:
                told = response.headers.get("x-ratelimit-remaining", "") if response is not None else ""
                self._seen(
                    Exchange(
                        method, url.removeprefix(self.base), response.status_code if response is not None else None,
                        started, time.monotonic() - clock, int(told) if told.isascii() and told.isdigit() else None,
                    )
                )  # fmt: skip
        return response

    def _url(self, path: str) -> str:
        """The address of a path, or of a link that GitHub gave; nothing else gets the token."""
        if path.startswith("/"):
            return self.base + path
        if not self._ours(path):
            raise ForgeProblem(f"GitHub's answer leads to another server ({urlsplit(path).hostname}): not followed")
        return path

    def _ours(self, url: str) -> bool:
        here, there = urlsplit(self.base), urlsplit(url)
        return (here.scheme, here.netloc) == (there.scheme, there.netloc) and there.path.startswith(here.path)

    async def _turn_to_write(self) -> None:
        async with self._writing:
            wait = self._last_write + self.pace.between_writes - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            self._last_write = time.monotonic()

    async def _wait_out(self, account: str, tries: _Tries, method: str, path: str) -> None:
        """Wait until the account's limit is over, whichever request met it."""
        while (wait := self._limited.get(account, 0.0) - time.monotonic()) > 0:
            self._check(tries, f"GitHub limits our requests ({method} {path})", wait, None)
            tries.waited += wait
            await asyncio.sleep(wait)

    def _check(self, tries: _Tries, what: str, wait: float, status: int | None) -> None:
        if tries.made >= self.pace.tries or tries.waited + wait > self.pace.patience:
            raise ForgeProblem(f"{what}: try again in {wait:.0f} s", again=True, after=wait, status=status)

    async def _pause(
        self, tries: _Tries, what: str, first: float, *, unclear: bool, allowed: bool, status: int | None = None
    ) -> None:
        tries.made += 1
        wait = first * 2 ** (tries.made - 1) * random.uniform(1.0, 1.3)  # noqa: S311  spreads tries, guards nothing
        if not allowed or tries.made >= self.pace.tries or tries.waited + wait > self.pace.patience:
            hint = ". It may have taken effect all the same: look before trying again" if unclear else ""
            raise ForgeProblem(f"{what}{hint}", again=True, after=wait, unclear=unclear, status=status)
        tries.waited += wait
        await asyncio.sleep(wait)

    async def download(self, url: str, most: int) -> bytes:
        """The last `most` bytes of a file that GitHub's answer leads to, asked for without any token."""
        parts = urlsplit(url)
        if parts.scheme != "https" and not self._same_host(url):
            raise ForgeProblem(f"GitHub's answer leads to {parts.scheme}://{parts.hostname}: not followed")
        kept = b""
        try:
            async with self._http.stream("GET", url, headers={"User-Agent": "patchwright"}) as response:
                if response.status_code != 200:
                    raise ForgeProblem(f"a file on {parts.hostname} answered {response.status_code}", again=True)
                async for part in response.aiter_bytes():
                    kept = (kept + part)[-most:]
        except httpx2.HTTPError as error:
            raise ForgeProblem(f"a file on {parts.hostname} can't be had: {type(error).__name__}", again=True) from None
        return kept

    def _same_host(self, url: str) -> bool:
        here, there = urlsplit(self.base), urlsplit(url)
        return (here.scheme, here.netloc) == (there.scheme, there.netloc)


def _read(method: str, path: str, response: httpx2.Response) -> Answer:
    data: Any = None
    if len(response.content) > MAX_ANSWER:
        raise ForgeProblem(f"GitHub's answer to {method} {path} has {len(response.content)} bytes: too many to read")
    if response.content:
        try:
            data = response.json()
        except ValueError:
            if response.status_code < 300:
                raise ForgeProblem(
                    f"the answer to {method} {path} is no JSON: check the address of the API", again=True
                ) from None
    links = {name: url for url, name in _NEXT.findall(response.headers.get("link", ""))}
    return Answer(response.status_code, data, links, response.headers.get("location", ""))


def _is_limit(response: httpx2.Response, answer: Answer) -> bool:
    if response.status_code == 429:
        return True
    if response.status_code != 403:
        return False
    told = response.headers
    return bool("retry-after" in told or told.get("x-ratelimit-remaining") == "0" or _LIMITED.search(_message(answer)))


def _limit_wait(response: httpx2.Response, now: Callable[[], float]) -> float | None:
    """Seconds until the limit ends; None: nobody said."""
    if (wait := _seconds(response.headers.get("retry-after"))) is not None:
        return wait
    if response.headers.get("x-ratelimit-remaining") == "0":
        reset = _seconds(response.headers.get("x-ratelimit-reset"))
        return max(1.0, reset - now() + 1.0) if reset is not None else None
    return None


def _seconds(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d{1,12}(\.\d+)?", text) else None


def _refusal(method: str, path: str, answer: Answer) -> ForgeProblem:
    hints = {
        401: "The token is unknown or has expired: check how we are authorized",
        403: "The token lacks a permission for this: check what the App or token may do",
        404: "It doesn't exist, or the token doesn't reach it: check the name, and where the App is installed",
        410: "It was deleted",
        422: "GitHub found the request itself wrong",
    }
    hint = hints.get(answer.status, "Check the address of the API")
    return ForgeProblem(
        f"GitHub refused {method} {path} with {answer.status}: {_message(answer) or 'no reason given'}. {hint}",
        status=answer.status,
    )


def _message(answer: Answer) -> str:
    """What GitHub said was wrong, on one line."""
    if not isinstance(answer.data, dict):
        return ""
    parts = [str(answer.data.get("message") or "")]
    errors = answer.data.get("errors")
    for error in errors[:5] if isinstance(errors, list) else []:
        if isinstance(error, dict):
            parts.append(str(error.get("message") or f"{error.get('field')}: {error.get('code')}"))
        else:
            parts.append(str(error))
    return " ".join("; ".join(part for part in parts if part).split())[:500]
