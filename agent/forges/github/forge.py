"""GitHub as a `Forge`: which endpoint does what.

Whatever is made is looked for first, so that a step that runs twice makes one comment, one answer, one pull request.
Left out: GraphQL (reactions on reviews and turning a pull request into a draft exist only there).
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from agent.forges.base import (
    FAILED,
    Check,
    Comment,
    Forge,
    ForgeProblem,
    GitAccess,
    Permission,
    Person,
    Place,
    Pull,
    Repository,
    ReviewComment,
    Secret,
    Ticket,
    checked_slug,
    cut,
    has_marker,
    marked,
)
from agent.forges.github import read
from agent.forges.github.auth import Auth
from agent.forges.github.client import Client, Pace, Seen
from agent.forges.github.read import read as read_one
from agent.forges.github.read import read_all

API = "https://api.github.com"
MAX_BODY = 65_536  # characters of a comment's or a pull request's body
MAX_TITLE = 256
MAX_FILE = 1_000_000
MAX_LOG = 20_000
MAX_PAGES = 50
PER_PAGE = "per_page=100"
_TRIES = 3  # of making something, each after looking for it
_REACTIONS = {Place.ISSUE: "issues/{}", Place.COMMENT: "issues/comments/{}", Place.REVIEW_COMMENT: "pulls/comments/{}"}

Made = TypeVar("Made")


def open_github(auth: Auth, base: str = API, pace: Pace | None = None, seen: Seen | None = None) -> Forge:
    """GitHub, or an Enterprise server, whose `base` is `https://HOST/api/v3`. `seen` is told of each HTTP request.

    Raises ForgeProblem for no address.
    """
    return GitHub(Client(base, auth, pace, seen))


class GitHub:
    """See `agent.forges.base.Forge`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._me: Person | None = None
        self._making: dict[str, asyncio.Lock] = {}

    async def close(self) -> None:
        await self._client.close()

    async def me(self, slug: str | None = None) -> Person:
        if self._me is None:
            self._me = await self._who(slug)
        return self._me

    async def _who(self, slug: str | None) -> Person:
        if login := await self._client.app_login():
            return await self._account(login, slug)  # without a slug it is asked as anybody: an App has no token then
        try:
            return read_one(read.person, (await self._client.get("/user", slug=None)).data)
        except ForgeProblem as problem:
            if problem.status != 403:
                raise
        return await self._account("github-actions[bot]", slug)  # a workflow's token may not ask who it is

    async def _account(self, login: str, slug: str | None) -> Person:
        return read_one(read.person, (await self._client.get(f"/users/{quote(login, safe='')}", slug=slug)).data)

    def address(self, person: Person) -> str:
        host = urlsplit(self._client.base).hostname or ""
        domain = "users.noreply.github.com" if host == "api.github.com" else f"users.noreply.{host}"
        return f"{person.id}+{person.login}@{domain}"

    async def repository(self, slug: str) -> Repository:
        return read_one(read.repository, await self._get(slug, ""))

    async def name_of(self, repository: int, slug: str) -> str:
        found = await self.repository(slug)  # a name that was given up leads on to the new one
        if found.id == repository:
            return found.slug
        answer = await self._client.get(f"/repositories/{int(repository)}", slug=slug)
        return read_one(read.repository, answer.data).slug

    async def permission(self, slug: str, person: Person) -> Permission:
        for login in (person.login, None):
            if login is None:  # the login may have changed since
                login = await self._login_of(slug, person.id)
                if login is None or login == person.login:
                    return Permission.NONE
            record = await self._found(slug, f"/collaborators/{quote(login, safe='')}/permission")
            if record is not None and read_one(read.author_of_permission, record) == person.id:
                return read_one(read.permission, record)
        return Permission.NONE

    async def _login_of(self, slug: str, number: int) -> str | None:
        try:
            answer = await self._client.get(f"/user/{int(number)}", slug=checked_slug(slug))
        except ForgeProblem as problem:
            if problem.status == 404:
                return None
            raise
        return read_one(read.person, answer.data).login

    async def ticket(self, slug: str, number: int) -> Ticket:
        return read_one(read.ticket, await self._get(slug, f"/issues/{int(number)}"))

    async def comments(self, slug: str, number: int) -> list[Comment]:
        path = f"{_repo(slug)}/issues/{int(number)}/comments?{PER_PAGE}"
        answer = await self._client.get(path, slug=slug)
        found = read_one(read.items, answer.data)
        if last := answer.links.get("last"):  # oldest come first: the newest are on the last page and the one before
            answer = await self._client.get(last, slug=slug)
            before = answer.links.get("prev")
            earlier = (await self._client.get(before, slug=slug)).data if before else []
            found = [*read_one(read.items, earlier), *read_one(read.items, answer.data)]
        return read_all(read.comment, found[-100:])

    async def react(self, slug: str, place: Place, id: int, content: str = "eyes") -> bool:  # noqa: A002
        if (where := _REACTIONS.get(place)) is None:
            return False
        path = f"/{where.format(int(id))}/reactions"
        await self._send("POST", slug, path, {"content": content}, repeatable=True)  # a second one changes nothing
        return True

    async def say(self, slug: str, number: int, body: str, marker: str, known: int | None = None) -> Comment:
        text = marked(body, marker, MAX_BODY)
        async with self._one_at_a_time(f"{slug}#{number}"):
            if known is not None and (kept := await self._edited(slug, "issues", known, text)) is not None:
                return read_one(read.comment, kept)
            path = f"/issues/{int(number)}/comments"

            async def look() -> Any:
                found = await self._ours(slug, path, marker)
                return await self._edited(slug, "issues", read_one(read.identifier, found), text) if found else None

            made = await _once(look, lambda: self._send("POST", slug, path, {"body": text}))
            return read_one(read.comment, made)

    async def reply(self, slug: str, pull: int, to: int, body: str, marker: str) -> None:
        text = marked(body, marker, MAX_BODY)
        async with self._one_at_a_time(f"{slug}#{pull}"):
            asked = await self._get(slug, f"/pulls/comments/{int(to)}")
            top = read_one(read.first_of_thread, asked)  # there are no replies to replies

            async def look() -> Any:
                found = await self._ours(slug, f"/pulls/{int(pull)}/comments", marker, top)
                return await self._edited(slug, "pulls", read_one(read.identifier, found), text) if found else None

            path = f"/pulls/{int(pull)}/comments/{top}/replies"
            await _once(look, lambda: self._send("POST", slug, path, {"body": text}))

    async def review_comments(self, slug: str, pull: int, review: int | None = None) -> list[ReviewComment]:
        if review is not None:
            path = f"/pulls/{int(pull)}/reviews/{int(review)}/comments"
            return read_all(read.review_comment, await self._listed(slug, path, MAX_PAGES))
        path = f"/pulls/{int(pull)}/comments"
        newest = await self._listed(slug, path, 10, "&sort=created&direction=desc")
        return read_all(read.review_comment, newest)[::-1]

    async def pull(self, slug: str, number: int) -> Pull:
        return read_one(read.pull, await self._get(slug, f"/pulls/{int(number)}"))

    async def pull_of(self, slug: str, branch: str) -> Pull | None:
        owner = checked_slug(slug).split("/")[0]
        query = urlencode({"state": "open", "head": f"{owner}:{branch}", "per_page": 100})
        answer = await self._client.get(f"{_repo(slug)}/pulls?{query}", slug=slug)
        found = read_all(read.pull, answer.data)
        ours = [one for one in found if one.head == branch and (one.head_repository or "").lower() == slug.lower()]
        return ours[0] if ours else None

    async def open_pull(self, slug: str, branch: str, base: str, title: str, body: str, draft: bool = True) -> Pull:
        fields = {"title": title[:MAX_TITLE], "body": cut(body, MAX_BODY)}

        async def look() -> Pull | None:
            if (found := await self.pull_of(slug, branch)) is None:
                return None
            changed = await self._send("PATCH", slug, f"/pulls/{found.number}", {**fields, "base": base})
            return read_one(read.pull, changed)

        async def make() -> Pull:
            asked = {**fields, "head": branch, "base": base, "draft": draft}
            try:
                return read_one(read.pull, await self._send("POST", slug, "/pulls", asked))
            except ForgeProblem as problem:
                if problem.status == 422 and "already exists" in str(problem) and (found := await look()):
                    return found
                if draft and problem.status == 422 and "draft" in str(problem).lower():
                    return read_one(read.pull, await self._send("POST", slug, "/pulls", {**asked, "draft": False}))
                raise

        async with self._one_at_a_time(f"{slug}:{branch}"):
            return await _once(look, make)

    async def edit_pull(self, slug: str, number: int, title: str | None = None, body: str | None = None) -> None:
        fields = {
            **({"title": title[:MAX_TITLE]} if title is not None else {}),
            **({"body": cut(body, MAX_BODY)} if body is not None else {}),
        }
        if fields:
            await self._send("PATCH", slug, f"/pulls/{int(number)}", fields)

    async def failed_checks(self, slug: str, sha: str) -> list[Check]:
        path = f"{_repo(slug)}/commits/{quote(sha, safe='')}/check-runs?filter=latest&{PER_PAGE}"
        found = []
        async for page in self._client.pages(path, slug=slug, most=10, key="check_runs"):
            found += [run for run in page if isinstance(run, dict) and run.get("conclusion") in FAILED]
        return [await self._read_check(slug, run) for run in found]

    async def _read_check(self, slug: str, run: dict[str, Any]) -> Check:
        check = read_one(read.check, run)
        if (run.get("output") or {}).get("annotations_count"):
            notes = await self._get(slug, f"/check-runs/{check.id}/annotations?{PER_PAGE}")
            lines = read_all(read.annotation, notes)
            check = replace(check, text="\n".join([check.text, *lines] if check.text else lines))
        if (run.get("app") or {}).get("slug") == "github-actions":  # these report nothing but their log
            check = replace(check, log=await self._log(slug, check.id))
        return check

    async def _log(self, slug: str, job: int) -> str:
        """The end of a job's log; empty where it is gone, or we may not read it: the check failed all the same."""
        try:
            answer = await self._client.get(f"{_repo(slug)}/actions/jobs/{job}/logs", slug=slug)
            data = await self._client.download(answer.location, MAX_LOG) if answer.location else b""
        except ForgeProblem:
            return ""
        return data.decode("utf-8", "replace")

    async def file(self, slug: str, path: str, ref: str) -> bytes | None:
        if any(part in ("", ".", "..") for part in path.split("/")):
            raise ForgeProblem(f"{path[:200]!r} is no path of a file in a repository")
        record = await self._found(slug, f"/contents/{quote(path)}?{urlencode({'ref': ref})}")
        if not isinstance(record, dict) or record.get("type") != "file":
            return None
        if (size := int(record.get("size") or 0)) > MAX_FILE:
            raise ForgeProblem(f"{path} in {slug} has {size} bytes: at most {MAX_FILE} are read")
        return read_one(read.content, record)

    async def git_access(self, slug: str) -> GitAccess:
        token = await self._client.token(checked_slug(slug))
        parts = urlsplit(self._client.base)
        root = "https://github.com" if parts.hostname == "api.github.com" else f"{parts.scheme}://{parts.netloc}"
        return GitAccess(f"{root}/{slug}.git", _git_variables(root, token))

    # -- what the above is made of

    def _one_at_a_time(self, what: str) -> asyncio.Lock:
        if len(self._making) > 1000:
            self._making = {key: lock for key, lock in self._making.items() if lock.locked()}
        return self._making.setdefault(what, asyncio.Lock())

    async def _get(self, slug: str, path: str) -> Any:
        return (await self._client.get(_repo(slug) + path, slug=slug)).data

    async def _found(self, slug: str, path: str) -> Any:
        try:
            return await self._get(slug, path)
        except ForgeProblem as problem:
            if problem.status == 404:
                return None
            raise

    async def _send(self, method: str, slug: str, path: str, body: Any, repeatable: bool | None = None) -> Any:
        answer = await self._client.request(method, _repo(slug) + path, slug=slug, body=body, repeatable=repeatable)
        return answer.data

    async def _listed(self, slug: str, path: str, most: int, query: str = "") -> list[Any]:
        found: list[Any] = []
        async for page in self._client.pages(f"{_repo(slug)}{path}?{PER_PAGE}{query}", slug=slug, most=most):
            found += page
        return found

    async def _ours(self, slug: str, path: str, marker: str, top: int | None = None) -> Any:
        """The comment of this marker that we wrote ourselves. Anybody can write a marker."""
        me = await self.me(slug)
        async for page in self._client.pages(f"{_repo(slug)}{path}?{PER_PAGE}", slug=slug, most=MAX_PAGES):
            for record in page:
                said: Comment | ReviewComment = (
                    read_one(read.comment, record) if top is None else read_one(read.review_comment, record)
                )
                in_thread = top is None or record.get("in_reply_to_id") == top
                if said.author.id == me.id and in_thread and has_marker(said.body, marker):
                    return record
        return None

    async def _edited(self, slug: str, kind: str, comment: int, text: str) -> Any:
        """The comment with its new text; None if it was deleted."""
        try:
            return await self._send("PATCH", slug, f"/{kind}/comments/{int(comment)}", {"body": text})
        except ForgeProblem as problem:
            if problem.status in (404, 410):
                return None
            raise


def _repo(slug: str) -> str:
    return f"/repos/{checked_slug(slug)}"


async def _once(look: Callable[[], Awaitable[Made | None]], make: Callable[[], Awaitable[Made]]) -> Made:
    """What `look` finds, else what `make` makes; where that may have taken effect unseen, look again."""
    for last in (*[False] * (_TRIES - 1), True):
        if (found := await look()) is not None:
            return found
        try:
            return await make()
        except ForgeProblem as problem:
            if last or not problem.unclear:
                raise
            await asyncio.sleep(min(problem.after or 0.0, 10.0))
    raise AssertionError("the last try returns or raises")


def _git_variables(root: str, token: Secret) -> dict[str, str]:
    """Settings as variables: nothing of them is in a file, an argument or an address."""
    basic = base64.b64encode(f"x-access-token:{token.reveal()}".encode()).decode()
    settings = {
        f"http.{root}/.extraheader": f"Authorization: Basic {basic}",
        "http.followRedirects": "false",  # the header would go along
        "credential.helper": "",
        "http.lowSpeedLimit": "1000",
        "http.lowSpeedTime": "60",
    }
    env = {"GIT_CONFIG_COUNT": str(len(settings))}
    for index, (name, value) in enumerate(settings.items()):
        env |= {f"GIT_CONFIG_KEY_{index}": name, f"GIT_CONFIG_VALUE_{index}": value}
    return env
