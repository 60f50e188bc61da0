"""How the fake forge's endpoints are written: one call's values, pages with `Link`, GitHub's form of errors."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.forges.fake import access
from agent.forges.fake.access import Caller, Refusal, not_found
from agent.forges.fake.acts import FakeForge
from agent.forges.fake.core import Asked
from agent.forges.fake.state import Account, Repo

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

DOCS = "https://docs.github.com/rest"


@dataclass
class Call:
    """One request to the API, as far as it is understood."""

    forge: FakeForge
    request: Request
    who: Caller
    path: dict[str, str]
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def repo(self) -> Repo:
        return self.forge.repo(f"{self.path['owner']}/{self.path['repo']}")

    @property
    def slug(self) -> str:
        return self.repo.slug

    @property
    def account(self) -> Account:
        if self.who.account is None:
            raise Refusal(401, "Requires authentication")
        return self.who.account

    @property
    def login(self) -> str:
        return self.account.login

    def number(self, name: str) -> int:
        text = self.path[name]
        if not text.isdigit():
            raise not_found()
        return int(text)

    def text(self, name: str) -> str:
        """A field of the body that has to be there. Raises Refusal 422."""
        value = self.body.get(name)
        if not isinstance(value, str):
            raise Refusal(422, f'Invalid request.\n\n"{name}" wasn\'t supplied.')
        return value


@dataclass(frozen=True)
class Result:
    """What an endpoint answers, other than 200 with JSON."""

    data: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True)
class Endpoint:
    method: str
    path: str
    handler: Handler
    permission: str | None
    level: str
    at_least: str


ENDPOINTS: list[Endpoint] = []


def endpoint(
    method: str, path: str, permission: str | None = None, level: str = "read", at_least: str = "read"
) -> Callable[[Handler], Handler]:
    """Register an endpoint below `/api/v3`. `permission` None: it checks for itself who asks."""

    def keep(handler: Handler) -> Handler:
        ENDPOINTS.append(Endpoint(method, path, handler, permission, level, at_least))
        return handler

    return keep


def paged(call: Call, items: Sequence[Any], key: str | None = None) -> Result:
    """A page of a list, with the links that lead to the others."""
    query = call.request.query_params
    size = min(max(int(query.get("per_page") or 30), 1), 100)
    page = max(int(query.get("page") or 1), 1)
    last = max(1, -(-len(items) // size))
    chosen = list(items[(page - 1) * size : page * size])
    targets = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
    wanted = {
        name: number
        for name, number in targets.items()
        if 1 <= number <= last and (page < last if name in ("next", "last") else page > 1)
    }
    address = str(call.request.url.replace(scheme="http", netloc=call.forge.url.partition("//")[2]))
    bare = call.request.url.remove_query_params(["page"])
    joint = "&" if bare.query else "?"
    base = address.partition("?")[0] + (f"?{bare.query}" if bare.query else "")
    links = ", ".join(f'<{base}{joint}page={number}>; rel="{name}"' for name, number in wanted.items())
    data: Any = {"total_count": len(items), key: chosen} if key else chosen
    return Result(data, headers={"link": links} if links else {})


async def answer(forge: FakeForge, request: Request, one: Endpoint) -> Response:
    """Run an endpoint, with the faults that the forge is told to have."""
    path = request.url.path.removeprefix("/api/v3")
    fault = forge.fault(request.method, path)
    if fault is not None and not fault.done:
        response = _error(fault.status, fault.message, None, fault.headers)
    else:
        response = await _run(forge, request, one)
        if fault is not None:
            response = _error(fault.status, fault.message, None, fault.headers)
    forge.asked.append(Asked(request.method, path, response.status_code))
    for name, value in (("x-ratelimit-limit", "5000"), ("x-ratelimit-remaining", "4999")):
        response.headers.setdefault(name, value)
    return response


async def _run(forge: FakeForge, request: Request, one: Endpoint) -> Response:
    from starlette.responses import JSONResponse, Response

    try:
        who = access.caller(forge.world, request.headers.get("authorization"))
        call = Call(forge, request, who, dict(request.path_params))
        if (onward := _moved(call)) is not None:
            return JSONResponse({"message": "Moved Permanently", "url": onward}, 301, headers={"location": onward})
        if one.permission is not None:
            access.require(forge.world, call.repo, who, one.permission, one.level, one.at_least)
        if request.method in ("POST", "PATCH", "PUT"):
            call.body = _body(await request.body())
        result = await one.handler(call)
    except Refusal as refusal:
        return _error(refusal.status, refusal.message, refusal.errors, refusal.headers)
    if not isinstance(result, Result):
        result = Result(result)
    if result.data is None:
        return Response(status_code=result.status, headers=result.headers)
    return JSONResponse(result.data, result.status, headers=result.headers)


def _moved(call: Call) -> str | None:
    """Where a request for a renamed repository is sent on to."""
    old = f"{call.path.get('owner')}/{call.path.get('repo')}"
    if (there := call.forge.moved.get(old.lower())) is None:
        return None
    rest = str(call.request.url).partition(f"/repos/{old}")[2]
    return there + rest


def _body(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data) if data else {}
    except ValueError:
        raise Refusal(400, "Problems parsing JSON") from None
    if not isinstance(body, dict):
        raise Refusal(400, "Body should be a JSON object")
    return body


def _error(status: int, message: str, errors: Any, headers: dict[str, str]) -> Response:
    from starlette.responses import JSONResponse

    record = {"message": message, "documentation_url": DOCS, "status": str(status)}
    return JSONResponse({**record, **({"errors": errors} if errors else {})}, status, headers=headers)
