"""The fake forge on the loopback: in the caller's event loop (`fake_forge`), and for other processes (`_act`)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hmac
import json
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.forges.fake import git_http, manifests, pages
from agent.forges.fake.access import Refusal
from agent.forges.fake.acts import FakeForge
from agent.forges.fake.web import ENDPOINTS, Endpoint, answer

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

# What another process may have the forge do, with its key; by name, with the arguments as JSON.
ACTS = frozenset({
    "add_person", "add_repository", "fork", "rename_repository", "transfer_repository", "grant", "user_token",
    "workflow_token", "add_app", "add_hook", "add_key", "drop_key", "install", "uninstall", "ping", "later", "limit",
    "exhaust", "breakdown",
    "open_issue", "edit_issue", "label", "unlabel", "assign", "close_thread", "reopen", "comment", "edit_comment",
    "delete_comment", "react", "open_pull", "review", "reply", "push", "check", "redeliver_failed",
})  # fmt: skip


@contextlib.asynccontextmanager
async def fake_forge(folder: Path, port: int = 0) -> AsyncIterator[FakeForge]:
    """A fake forge that serves on 127.0.0.1 until the block ends. Its state is kept in `folder`."""
    import uvicorn

    class Quiet(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Any:  # signals are the caller's
            yield

    forge = FakeForge(folder)
    listening = loopback_socket(port)
    forge.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    config = uvicorn.Config(application(forge), log_level="error", access_log=False, lifespan="off",
                            timeout_graceful_shutdown=2)  # fmt: skip
    server = Quiet(config)
    serving = asyncio.get_running_loop().create_task(server.serve(sockets=[listening]))
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.01)
        yield forge
    finally:
        server.should_exit = True
        await serving
        listening.close()
        await forge.close()


def loopback_socket(port: int) -> socket.socket:
    """A socket on the loopback. TCP by name: asyncio turns Nagle's delays off only where it reads that."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening


def application(forge: FakeForge) -> Starlette:
    """The forge as an ASGI application."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    from agent.forges.fake import api

    if not ENDPOINTS:
        raise AssertionError(f"{api.__name__} registers endpoints when it is imported")
    key = secrets.token_hex(16)
    file = forge.folder / "key"
    file.touch(0o600)
    file.write_text(key)
    routes = [Route(f"/api/v3{one.path}", _handler(forge, one), methods=[one.method]) for one in ENDPOINTS]
    routes += [
        Route("/api/v3/{rest:path}", _nothing(forge), methods=["GET", "POST", "PATCH", "PUT", "DELETE"]),
        Route("/_act", _bound(_act, forge, key), methods=["POST"]),
        Route("/_logs/{owner}/{name}/{run:int}", _bound(_log, forge), methods=["GET"]),
        Route("/settings/apps/new", _bound(manifests.offered, forge), methods=["POST"]),
        Route("/organizations/{owner}/settings/apps/new", _bound(manifests.offered, forge), methods=["POST"]),
        Route("/settings/apps", _bound(manifests.created, forge), methods=["POST"]),
        Route("/_style.css", _bound(pages.style, forge)),
        Route("/{owner}/{name}.git/{rest:path}", _bound(git_http.serve, forge), methods=["GET", "POST"]),
        Route("/", _bound(pages.index, forge)),
        Route("/{owner}/{name}", _bound(pages.repository, forge)),
        Route("/{owner}/{name}/issues/{number}", _bound(pages.thread, forge)),
        Route("/{owner}/{name}/pull/{number}", _bound(pages.thread, forge)),
    ]
    return Starlette(routes=routes)


def _bound(
    function: Callable[..., Coroutine[Any, Any, Response]], forge: FakeForge, *more: Any
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def handle(request: Request) -> Response:
        return await function(forge, request, *more)

    return handle


def _handler(forge: FakeForge, one: Endpoint) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def handle(request: Request) -> Response:
        return await answer(forge, request, one)

    return handle


def _nothing(forge: FakeForge) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def missing(call: Any) -> Any:
        raise Refusal(404, "Not Found")

    return _handler(forge, Endpoint("GET", "", missing, None, "read", "read"))


async def _act(forge: FakeForge, request: Request, key: str) -> Response:
    """`{"do": NAME, "with": {ARGUMENTS}}` with the key of the folder's file `key` in the header `X-Fake-Key`."""
    from starlette.responses import JSONResponse

    if not hmac.compare_digest(request.headers.get("x-fake-key", "").encode(), key.encode()):
        return JSONResponse({"message": "the header X-Fake-Key doesn't hold the key of this forge's folder"}, 401)
    asked = json.loads(await request.body())
    if asked.get("do") not in ACTS:
        return JSONResponse({"message": f"no such act: one of {', '.join(sorted(ACTS))}"}, 404)
    try:
        result = getattr(forge, asked["do"])(**asked.get("with", {}))
        result = await result if asyncio.iscoroutine(result) else result
    except Refusal as refusal:
        return JSONResponse({"message": refusal.message}, refusal.status)
    return JSONResponse({"result": _plain(result)})


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


async def _log(forge: FakeForge, request: Request) -> Response:
    """A job's log, as on the store that GitHub keeps them in: a request that brings a token is refused."""
    from starlette.responses import PlainTextResponse

    if "authorization" in request.headers:
        return PlainTextResponse("InvalidAuthenticationInfo", 401)
    try:
        repo = forge.repo(f"{request.path_params['owner']}/{request.path_params['name']}")
    except Refusal:
        return PlainTextResponse("BlobNotFound", 404)
    found = next((one for one in repo.checks if one.id == request.path_params["run"]), None)
    return (
        PlainTextResponse(found.log, 200) if found and found.log is not None else PlainTextResponse("BlobNotFound", 404)
    )


def key_of(folder: Path) -> str:
    """The key that lets another process act through a forge whose state is in `folder`."""
    return (folder / "key").read_text()
