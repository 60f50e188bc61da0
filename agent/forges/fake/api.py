"""The endpoints of GitHub's REST API that the fake forge has: what the client uses, and little more."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

from agent.forges.fake import access
from agent.forges.fake.access import INSTALLATION_SECONDS, Refusal, invalid, not_found
from agent.forges.fake.hook_api import app_of
from agent.forges.fake.state import CheckRun, Repo, Thread
from agent.forges.fake.web import Call, Result, endpoint, paged
from agent.git import GitError, git, git_line

REPO = "/repos/{owner}/{repo}"
TALK = "issues|pull_requests"
MAX_INLINE = 1_000_000
_LEGACY = {"triage": "read", "maintain": "write"}


# -- Apps and accounts


@endpoint("GET", "/app")
async def app(call: Call) -> Any:
    return call.forge.records.app(app_of(call))


@endpoint("GET", f"{REPO}/installation")
async def installation(call: Call) -> Any:
    mine = app_of(call)
    for one in mine.installations:
        if call.repo.id in one.repositories:
            return call.forge.records.installation(mine, one)
    raise not_found()


@endpoint("POST", "/app/installations/{installation}/access_tokens")
async def access_token(call: Call) -> Any:
    mine = app_of(call)
    one = next((one for one in mine.installations if one.id == call.number("installation")), None)
    if one is None:
        raise not_found()
    granted = call.body.get("permissions") or mine.permissions
    if any(mine.permissions.get(name) not in ("write", level) for name, level in granted.items()):
        raise Refusal(422, "The permissions requested are not granted to this installation.")
    named, numbered = call.body.get("repositories"), call.body.get("repository_ids")
    token, repos = call.forge.installation_token(mine, one, named, numbered, granted)
    until = access.stamp(access.now(call.forge.world) + INSTALLATION_SECONDS)
    records = [call.forge.records.repository(repo) for repo in repos]
    return Result({"token": token, "expires_at": until, "permissions": granted,
                   "repository_selection": "selected", "repositories": records}, 201)  # fmt: skip


@endpoint("GET", "/user")
async def user(call: Call) -> Any:
    if call.who.token is not None and call.who.token.kind != "user":
        raise Refusal(403, "Resource not accessible by integration")
    return call.forge.records.user(_anyone(call).account)


@endpoint("GET", "/user/{id}")
async def user_by_id(call: Call) -> Any:
    _no_jwt(call)
    return call.forge.records.user(access.account_by_id(call.forge.world, call.number("id")))


@endpoint("GET", "/users/{login}")
async def user_by_login(call: Call) -> Any:
    _no_jwt(call)
    return call.forge.records.user(access.account(call.forge.world, call.path["login"]))


def _no_jwt(call: Call) -> None:
    if call.who.app is not None:
        raise Refusal(401, "A JSON web token could not be decoded")


def _anyone(call: Call) -> Call:
    _no_jwt(call)
    _ = call.account
    return call


# -- repositories


@endpoint("GET", REPO, "metadata")
async def repository(call: Call) -> Any:
    return call.forge.records.repository(call.repo)


@endpoint("GET", "/repositories/{id}")
async def repository_by_id(call: Call) -> Any:
    """What addresses of renamed repositories lead to; not in the reference."""
    repo = next((one for one in call.forge.world.repos if one.id == call.number("id")), None)
    if repo is None:
        raise not_found()
    access.require(call.forge.world, repo, call.who, "metadata", "read")
    return call.forge.records.repository(repo)


@endpoint("GET", f"{REPO}/collaborators/{{login}}/permission", "metadata", "read", "write")
async def permission(call: Call) -> Any:
    try:
        who = access.account(call.forge.world, call.path["login"])
    except Refusal:
        raise Refusal(404, f"{call.path['login']} is not a user") from None
    role = access.role(call.forge.world, call.repo, who)
    user = {**call.forge.records.user(who), "role_name": role}
    return {"permission": _LEGACY.get(role, role), "role_name": role, "user": user}


@endpoint("GET", f"{REPO}/contents/{{path:path}}", "contents")
async def contents(call: Call) -> Any:
    repo, path = call.repo, call.path["path"].strip("/")
    ref = call.request.query_params.get("ref") or repo.default_branch
    sha = await call.forge.sha(repo, ref)
    if sha is None:
        raise Refusal(404, f"No commit found for the ref {ref}")
    listed = await git_line("ls-tree", "-l", "-z", sha, "--", path, at=call.forge.bare(repo))
    entry = listed.split("\0")[0]
    if not entry:
        raise not_found()
    mode, kind, blob, size = entry.split("\t")[0].split()
    if kind != "blob":
        return [{"type": "dir", "path": path, "sha": blob}]
    return await _file(call, repo, path, mode, blob, int(size))


async def _file(call: Call, repo: Repo, path: str, mode: str, blob: str, size: int) -> dict[str, Any]:
    data = await git("cat-file", "blob", blob, at=call.forge.bare(repo))
    url = f"{call.forge.api}/repos/{repo.slug}/contents/{quote(path)}"
    inline = size <= MAX_INLINE
    kind = {"type": "symlink", "target": data.decode("utf-8", "replace")} if mode == "120000" else {
        "type": "file",
        "encoding": "base64" if inline else "none",
        "content": base64.encodebytes(data).decode() if inline else "",
    }  # fmt: skip
    return {**kind, "size": size, "name": path.split("/")[-1], "path": path, "sha": blob, "url": url,
            "git_url": None, "html_url": None, "download_url": None, "_links": {"self": url}}  # fmt: skip


# -- issues and comments


@endpoint("GET", f"{REPO}/issues/{{number}}", TALK)
async def issue(call: Call) -> Any:
    return call.forge.records.issue(call.repo, _thread(call))


@endpoint("POST", f"{REPO}/issues", "issues", "write")
async def open_issue(call: Call) -> Any:
    number = await call.forge.open_issue(call.slug, call.login, call.text("title"), str(call.body.get("body") or ""))
    return Result(call.forge.records.issue(call.repo, call.forge.thread(call.repo, number)), 201)


@endpoint("GET", f"{REPO}/issues/{{number}}/comments", TALK)
async def comments(call: Call) -> Any:
    thread, repo = _thread(call), call.repo
    return paged(call, [call.forge.records.note(repo, one) for one in repo.notes if one.number == thread.number])


@endpoint("POST", f"{REPO}/issues/{{number}}/comments", TALK, "write")
async def comment(call: Call) -> Any:
    note = await call.forge.comment(call.slug, _thread(call).number, call.login, call.text("body"))
    return Result(call.forge.records.note(call.repo, note), 201)


@endpoint("GET", f"{REPO}/issues/comments/{{comment}}", TALK)
async def one_comment(call: Call) -> Any:
    return call.forge.records.note(call.repo, call.forge.note(call.repo, call.number("comment")))


@endpoint("PATCH", f"{REPO}/issues/comments/{{comment}}", TALK, "write")
async def edit_comment(call: Call) -> Any:
    old = call.forge.note(call.repo, call.number("comment"))
    _may_edit(call, old.author)
    return call.forge.records.note(
        call.repo, await call.forge.edit_comment(call.slug, old.id, call.login, call.text("body"))
    )


@endpoint("DELETE", f"{REPO}/issues/comments/{{comment}}", TALK, "write")
async def delete_comment(call: Call) -> Any:
    old = call.forge.note(call.repo, call.number("comment"))
    _may_edit(call, old.author)
    await call.forge.delete_comment(call.slug, old.id, call.login)
    return Result(None, 204)


def _may_edit(call: Call, author: int) -> None:
    role = access.role(call.forge.world, call.repo, call.account)
    by_app = call.who.token is not None and call.who.token.permissions is not None
    if author != call.account.id and not by_app and access.ROLES.index(role) < access.ROLES.index("write"):
        raise Refusal(403, "Must have admin rights to Repository.")


def _thread(call: Call) -> Thread:
    return call.forge.thread(call.repo, call.number("number"))


@endpoint("POST", f"{REPO}/issues/{{number}}/reactions", TALK, "write")
async def react_to_issue(call: Call) -> Any:
    return await _react(call, "issue", _thread(call).number)


@endpoint("POST", f"{REPO}/issues/comments/{{comment}}/reactions", TALK, "write")
async def react_to_comment(call: Call) -> Any:
    return await _react(call, "comment", call.forge.note(call.repo, call.number("comment")).id)


@endpoint("POST", f"{REPO}/pulls/comments/{{comment}}/reactions", "pull_requests", "write")
async def react_to_remark(call: Call) -> Any:
    return await _react(call, "review_comment", call.forge.remark(call.repo, call.number("comment")).id)


async def _react(call: Call, kind: str, target: int) -> Result:
    reaction, new = await call.forge.react(call.slug, kind, target, call.login, call.text("content"))
    return Result(call.forge.records.reaction(reaction), 201 if new else 200)


# -- pull requests


async def _pull(call: Call, thread: Thread, *, whole: bool = True) -> Any:
    record = await call.forge.pull_record(call.repo, thread)
    part = thread.pull
    return call.forge.records.whole_pull(record, call.repo, thread, part) if whole and part else record


@endpoint("GET", f"{REPO}/pulls", "pull_requests")
async def pulls(call: Call) -> Any:
    query = call.request.query_params
    state, head, base = query.get("state", "open"), query.get("head"), query.get("base")
    found = []
    for thread in reversed(call.repo.threads):
        part = thread.pull
        if part is None or (state != "all" and (state == "open") == bool(thread.closed_at)):
            continue
        if head and head.lower() != f"{part.head_repository.split('/')[0]}:{part.head}".lower():
            continue
        if not base or base == part.base:
            found.append(await _pull(call, thread, whole=False))
    return paged(call, found)


@endpoint("POST", f"{REPO}/pulls", "pull_requests", "write")
async def open_pull(call: Call) -> Any:
    number = await call.forge.open_pull(
        call.slug, call.login, call.text("head"), call.text("base"), call.text("title"),
        str(call.body.get("body") or ""), draft=bool(call.body.get("draft")),
    )  # fmt: skip
    return Result(await _pull(call, call.forge.thread(call.repo, number)), 201)


@endpoint("GET", f"{REPO}/pulls/{{number}}", "pull_requests")
async def one_pull(call: Call) -> Any:
    return await _pull(call, _thread(call))


@endpoint("PATCH", f"{REPO}/pulls/{{number}}", "pull_requests", "write")
async def edit_pull(call: Call) -> Any:
    await call.forge.edit_pull(call.slug, _thread(call).number, call.login, call.body)
    return await _pull(call, _thread(call))


@endpoint("GET", f"{REPO}/pulls/{{number}}/comments", "pull_requests")
async def remarks(call: Call) -> Any:
    thread, repo = _thread(call), call.repo
    found = [call.forge.records.remark(repo, one) for one in repo.remarks if one.number == thread.number]
    query = call.request.query_params
    newest = query.get("sort") is not None and query.get("direction", "desc") == "desc"
    return paged(call, found[::-1] if newest else found)


@endpoint("GET", f"{REPO}/pulls/{{number}}/reviews/{{review}}/comments", "pull_requests")
async def remarks_of_review(call: Call) -> Any:
    repo, review = call.repo, call.number("review")
    if not any(one.id == review and one.number == _thread(call).number for one in repo.reviews):
        raise not_found()
    return paged(call, [call.forge.records.remark(repo, one) for one in repo.remarks if one.review == review])


@endpoint("GET", f"{REPO}/pulls/comments/{{comment}}", "pull_requests")
async def one_remark(call: Call) -> Any:
    return call.forge.records.remark(call.repo, call.forge.remark(call.repo, call.number("comment")))


@endpoint("PATCH", f"{REPO}/pulls/comments/{{comment}}", "pull_requests", "write")
async def edit_remark(call: Call) -> Any:
    old = call.forge.remark(call.repo, call.number("comment"))
    _may_edit(call, old.author)
    return call.forge.records.remark(
        call.repo, await call.forge.edit_remark(call.slug, old.id, call.login, call.text("body"))
    )


@endpoint("POST", f"{REPO}/pulls/{{number}}/comments/{{comment}}/replies", "pull_requests", "write")
async def reply(call: Call) -> Any:
    top = call.forge.remark(call.repo, call.number("comment"))
    if top.number != _thread(call).number:
        raise invalid("PullRequestReviewComment", "in_reply_to", "invalid")
    new = await call.forge.reply(call.slug, top.id, call.login, call.text("body"))
    return Result(call.forge.records.remark(call.repo, new), 201)


# -- checks


@endpoint("GET", f"{REPO}/commits/{{ref}}/check-runs", "checks")
async def check_runs(call: Call) -> Any:
    sha = await call.forge.sha(call.repo, call.path["ref"])
    if sha is None:
        raise Refusal(422, f"No commit found for SHA: {call.path['ref']}")
    latest = {(one.app, one.name): one for one in call.repo.checks if one.sha == sha}
    return paged(call, [call.forge.records.check(call.repo, one) for one in latest.values()], "check_runs")


@endpoint("GET", f"{REPO}/check-runs/{{run}}/annotations", "checks")
async def check_annotations(call: Call) -> Any:
    return paged(call, _run(call, "run").annotations)


@endpoint("GET", f"{REPO}/actions/jobs/{{job}}/logs", "actions")
async def job_log(call: Call) -> Any:
    run = _run(call, "job")
    if run.log is None:
        raise Refusal(410, "Gone")
    return Result(None, 302, {"location": f"{call.forge.url}/_logs/{call.slug}/{run.id}"})


def _run(call: Call, name: str) -> CheckRun:
    found = next((one for one in call.repo.checks if one.id == call.number(name)), None)
    if found is None:
        raise not_found()
    return found


async def branch_diff(call_forge: Any, repo: Repo, base: str, head: str) -> str:
    """What a pull request changes, for its page."""
    try:
        found = await git("diff", "--no-color", "--no-ext-diff", f"{base}...{head}", at=call_forge.bare(repo))
    except GitError:
        return ""
    return found.decode("utf-8", "replace")
