"""Git over HTTP for the fake forge: `git http-backend` behind GitHub's rules of who may fetch and push.

Left out: streaming. A pack is held in memory on its way, which is enough for the repositories of tests and demos.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.forges.fake import access
from agent.forges.fake.access import Caller, Refusal
from agent.forges.fake.acts import FakeForge
from agent.forges.fake.state import Repo
from agent.git import NEUTRAL, environment, git_line

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_LOGIN = {"WWW-Authenticate": 'Basic realm="GitHub"'}


async def serve(forge: FakeForge, request: Request) -> Response:
    """Answer one request of git's. Path parameters: owner, name, rest."""
    from starlette.responses import PlainTextResponse

    rest = request.path_params["rest"]
    pushes = "git-receive-pack" in (rest, request.query_params.get("service"))
    try:
        repo, who = _allowed(forge, request, pushes)
    except Refusal as refusal:
        return PlainTextResponse(refusal.message, refusal.status, headers=refusal.headers)
    login = who.account.login if who.account else ""
    if rest != "git-receive-pack":
        return await _backend(forge, request, repo, login)
    async with forge.git_lock:
        before = await _branches(forge, repo)
        answer = await _backend(forge, request, repo, login)
        after = await _branches(forge, repo)
    moved = {name: (before.get(name), after.get(name)) for name in before.keys() | after.keys()}
    await forge.pushed(repo.slug, login, {name: pair for name, pair in moved.items() if pair[0] != pair[1]})
    return answer


def _allowed(forge: FakeForge, request: Request, pushes: bool) -> tuple[Repo, Caller]:
    try:
        who = access.caller(forge.world, request.headers.get("authorization"))
    except Refusal as refusal:
        raise Refusal(401, "Invalid username or token.", headers=_LOGIN) from refusal
    if who.app is not None or (who.account is None and pushes):
        raise Refusal(401, "Authentication is required.", headers=_LOGIN)
    try:
        repo = forge.repo(f"{request.path_params['owner']}/{request.path_params['name']}")
        access.require(forge.world, repo, who, "contents", "read")
    except Refusal as refusal:
        if who.account is None:
            raise Refusal(401, "Authentication is required.", headers=_LOGIN) from None
        raise Refusal(404 if refusal.status == 404 else 403, "Repository not found.") from None
    if pushes:
        try:
            access.require(forge.world, repo, who, "contents", "write", "write")
        except Refusal:
            login = who.account.login if who.account else ""
            raise Refusal(403, f"Permission to {repo.slug}.git denied to {login}.") from None
    return repo, who


async def _branches(forge: FakeForge, repo: Repo) -> dict[str, str]:
    listed = await git_line(
        "for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads", at=forge.bare(repo)
    )
    return dict(line.split(" ") for line in listed.splitlines())


async def _backend(forge: FakeForge, request: Request, repo: Repo, login: str) -> Response:
    """Run the CGI program, with the variables that its manual names."""
    from starlette.responses import Response

    body = await request.body()
    env = environment(
        {
            "GIT_PROJECT_ROOT": str(forge.folder / "git"),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{repo.slug}.git/{request.path_params['rest']}",
            "REQUEST_METHOD": request.method,
            "QUERY_STRING": request.url.query,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
            "REMOTE_ADDR": "127.0.0.1",
            **({"REMOTE_USER": login} if login else {}),
            **({"GIT_PROTOCOL": version} if (version := request.headers.get("git-protocol")) else {}),
        },
        protocols="none",
    )
    process = await asyncio.create_subprocess_exec(
        "git", *NEUTRAL, "http-backend",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=env,
    )  # fmt: skip
    out, _ = await process.communicate(body)
    head, _, content = out.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line)
    status = int(headers.pop("Status", "200").split()[0])
    return Response(content, status if out else 500, headers)
