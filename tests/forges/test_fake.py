"""The fake GitHub refuses what GitHub refuses, sends the webhooks that it sends, and shows what came, escaped."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from agent.forges.base import Secret
from agent.forges.fake.acts import FakeForge
from agent.forges.fake.pages import markdown
from agent.forges.fake.server import fake_forge, key_of
from agent.forges.github.auth import AppAuth
from tests.forges.conftest import SLUG, Scene
from tests.forges.receiver import Receiver, receiver

pytestmark = pytest.mark.heavy

SECRET = "whsec-of-the-tests"


@pytest.fixture
async def hook(scene: Scene) -> AsyncIterator[Receiver]:
    """A receiver that the scene's App sends to."""
    async with receiver() as kept:
        app = scene.forge.app(scene.app.id)
        app.hook, app.secret = kept.url, SECRET
        yield kept


async def ask(
    forge: FakeForge, method: str, path: str, token: str | None, body: Any = None, scheme: str = "Bearer"
) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        headers = {"Authorization": f"{scheme} {token}"} if token else {}
        return await client.request(method, f"{forge.api}{path}", headers=headers, json=body)


# -- refusals


@pytest.mark.parametrize("scheme", ["Bearer", "token", "Digest"])
async def test_a_bad_token_is_401(scene: Scene, scheme: str) -> None:
    answer = await ask(scene.forge, "GET", f"/repos/{SLUG}", "ghp_nonsense", scheme=scheme)
    assert answer.status_code == 401
    assert answer.json()["message"] == "Bad credentials" and answer.json()["status"] == "401"


async def test_an_expired_token_is_401(scene: Scene) -> None:
    token = scene.forge.user_token("mia", seconds=60)
    assert (await ask(scene.forge, "GET", f"/repos/{SLUG}", token)).status_code == 200
    scene.forge.later(61)
    assert (await ask(scene.forge, "GET", f"/repos/{SLUG}", token)).status_code == 401


async def test_a_jwt_is_for_the_app_alone_and_lasts_ten_minutes(scene: Scene) -> None:
    key = Secret(scene.app.key)
    good = AppAuth(str(scene.app.id), [key]).jwt(key).reveal()
    late = AppAuth(str(scene.app.id), [key], clock=lambda: time.time() + 300).jwt(key).reveal()
    old = AppAuth(str(scene.app.id), [key], clock=lambda: time.time() - 3600).jwt(key).reveal()
    other = AppAuth("424242", [key]).jwt(key).reveal()
    forged = good[:-8] + "AAAAAAAA"
    assert (await ask(scene.forge, "GET", "/app", good)).json()["slug"] == "patchwright"
    for jwt, message in ((late, "too far in the future"), (old, "'exp'"), (other, "decoded"), (forged, "decoded")):
        answer = await ask(scene.forge, "GET", "/app", jwt)
        assert (answer.status_code, message in answer.json()["message"]) == (401, True), answer.text
    for path in (f"/repos/{SLUG}", "/user", "/users/mia", f"/repos/{SLUG}/issues/1"):
        assert (await ask(scene.forge, "GET", path, good)).status_code == 401
    token = scene.forge.user_token("mia")
    assert (await ask(scene.forge, "GET", "/app", token)).status_code == 401


async def test_a_private_repository_isnt_there_for_strangers(scene: Scene) -> None:
    scene.forge.repo(SLUG).private = True
    for token in (None, scene.forge.user_token("ann")):
        assert (await ask(scene.forge, "GET", f"/repos/{SLUG}", token)).status_code == 404
    assert (await ask(scene.forge, "GET", f"/repos/{SLUG}", scene.forge.user_token("mia"))).status_code == 200


async def test_a_token_of_one_repository_doesnt_write_to_another(scene: Scene) -> None:
    await scene.forge.add_repository("octo/other", {"a": "b\n"})
    await scene.forge.open_issue("octo/other", "ann", "Bug")
    token = scene.forge.user_token("octo", SLUG)
    answer = await ask(scene.forge, "POST", "/repos/octo/other/issues/1/comments", token, {"body": "hi"})
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "issues/1/comments", {"body": "hi"}),
        ("POST", "issues/1/reactions", {"content": "eyes"}),
        ("POST", "pulls", {"title": "x", "head": "a", "base": "main"}),
    ],
)
async def test_nobody_writes_without_a_token(scene: Scene, method: str, path: str, body: Any) -> None:
    await scene.forge.open_issue(SLUG, "ann", "Bug")
    assert (await ask(scene.forge, method, f"/repos/{SLUG}/{path}", None, body)).status_code == 401


async def test_a_missing_permission_is_403(scene: Scene) -> None:
    await scene.forge.open_issue(SLUG, "ann", "Bug")
    token = scene.forge.workflow_token(SLUG, {"issues": "read"})
    path = f"/repos/{SLUG}/issues/1/comments"
    assert (await ask(scene.forge, "GET", path, token)).status_code == 200
    answer = await ask(scene.forge, "POST", path, token, {"body": "hi"})
    assert (answer.status_code, answer.json()["message"]) == (403, "Resource not accessible by integration")
    assert (await ask(scene.forge, "GET", f"/repos/{SLUG}/pulls", token)).status_code == 403


async def test_a_second_pull_request_of_one_branch_is_422(scene: Scene) -> None:
    await scene.forge.push(SLUG, "mia", "fix/1", {"a": "b\n"}, "Fix")
    body = {"title": "Fix", "head": "fix/1", "base": "main"}
    token = scene.forge.user_token("mia")
    assert (await ask(scene.forge, "POST", f"/repos/{SLUG}/pulls", token, body)).status_code == 201
    answer = await ask(scene.forge, "POST", f"/repos/{SLUG}/pulls", token, body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["message"] == "A pull request already exists for octo:fix/1."


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"title": "x", "head": "missing", "base": "main"}, "Validation Failed"),
        ({"title": "x", "head": "main", "base": "main"}, "Validation Failed"),
        ({"title": "x", "head": "main"}, '"base"'),
    ],
)
async def test_a_pull_request_of_nothing_is_422(scene: Scene, body: Any, message: str) -> None:
    answer = await ask(scene.forge, "POST", f"/repos/{SLUG}/pulls", scene.forge.user_token("mia"), body)
    assert answer.status_code == 422 and message in answer.json()["message"]


async def test_bodies_beyond_the_limit_are_422(scene: Scene) -> None:
    await scene.forge.open_issue(SLUG, "ann", "Bug")
    path, token = f"/repos/{SLUG}/issues/1/comments", scene.forge.user_token("mia")
    assert (await ask(scene.forge, "POST", path, token, {"body": "x" * 65_536})).status_code == 201
    answer = await ask(scene.forge, "POST", path, token, {"body": "x" * 65_537})
    assert answer.status_code == 422 and "65536" in answer.json()["errors"][0]["message"]


async def test_nobody_edits_what_somebody_else_said(scene: Scene) -> None:
    number = await scene.forge.open_issue(SLUG, "ann", "Bug")
    note = await scene.forge.comment(SLUG, number, "ann", "mine")
    path = f"/repos/{SLUG}/issues/comments/{note.id}"
    eve = scene.forge.user_token("eve")
    assert (await ask(scene.forge, "PATCH", path, eve, {"body": "changed"})).status_code == 403
    assert note.body == "mine"


async def test_lists_come_in_pages_with_links(scene: Scene) -> None:
    number = await scene.forge.open_issue(SLUG, "ann", "Bug")
    for index in range(5):
        await scene.forge.comment(SLUG, number, "ann", str(index))
    path = f"/repos/{SLUG}/issues/{number}/comments"
    middle = await ask(scene.forge, "GET", f"{path}?per_page=2&page=2", None)
    assert [one["body"] for one in middle.json()] == ["2", "3"]
    links = middle.links
    assert set(links) == {"prev", "next", "last", "first"}
    assert links["last"]["url"] == f"{scene.forge.api}{path}?per_page=2&page=3"
    assert "link" not in (await ask(scene.forge, "GET", path, None)).headers


async def test_a_reply_to_a_reply_is_422(scene: Scene) -> None:
    await scene.forge.push(SLUG, "mia", "fix/1", {"a": "b\n"}, "Fix")
    number = await scene.forge.open_pull(SLUG, "mia", "fix/1", "main", "Fix")
    _, (top,) = await scene.forge.review(SLUG, number, "mia", "", [("a", 1, "why?")])
    token = scene.forge.user_token("mia")
    path = f"/repos/{SLUG}/pulls/{number}/comments/{{}}/replies"
    first = await ask(scene.forge, "POST", path.format(top.id), token, {"body": "so"})
    assert first.status_code == 201 and first.json()["in_reply_to_id"] == top.id
    assert (await ask(scene.forge, "POST", path.format(first.json()["id"]), token, {"body": "x"})).status_code == 422


@pytest.mark.parametrize(
    ("service", "token", "status"),
    [
        ("git-upload-pack", None, 200),
        ("git-receive-pack", None, 401),
        ("git-upload-pack", "bad", 401),
        ("git-receive-pack", "reader", 403),
        ("git-receive-pack", "writer", 200),
    ],
)
async def test_git_is_let_in_as_by_github(scene: Scene, service: str, token: str | None, status: int) -> None:
    tokens = {"reader": scene.forge.user_token("ann"), "writer": scene.forge.user_token("mia"), "bad": "ghp_x"}
    basic = base64.b64encode(f"x-access-token:{tokens[token]}".encode()).decode() if token else ""
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        answer = await client.get(
            f"{scene.forge.url}/{SLUG}.git/info/refs?service={service}",
            headers={"Authorization": f"Basic {basic}"} if basic else {},
        )
    assert answer.status_code == status
    assert ("www-authenticate" in answer.headers) == (status == 401)


# -- webhooks


async def test_deliveries_are_signed_and_say_what_they_are(scene: Scene, hook: Receiver) -> None:
    number = await scene.forge.open_issue(SLUG, "ann", "Bug")
    await scene.forge.label(SLUG, number, "mia", "patchwright")
    await scene.forge.hooks.settled()
    assert sorted(hook.events()) == [("issues", "labeled"), ("issues", "opened")]
    for headers, body in hook.got:
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert headers["x-hub-signature-256"] == f"sha256={signature}"
        assert headers["user-agent"].startswith("GitHub-Hookshot/")
        assert len(headers["x-github-delivery"]) == 36
        payload = json.loads(body)
        assert payload["repository"]["full_name"] == SLUG and payload["installation"]["id"]
    labeled = hook.payload("issues", "labeled")
    assert labeled["label"]["name"] == "patchwright" and labeled["sender"]["login"] == "mia"
    assert labeled["issue"]["number"] == number and labeled["issue"]["user"]["login"] == "ann"


async def test_a_pull_requests_life_is_told(scene: Scene, hook: Receiver) -> None:
    await scene.forge.push(SLUG, "mia", "fix/1", {"a": "b\n"}, "Fix")
    number = await scene.forge.open_pull(SLUG, "mia", "fix/1", "main", "Fix", draft=True)
    _, (remark,) = await scene.forge.review(SLUG, number, "ann", "hm", [("a", 1, "why?")], "CHANGES_REQUESTED")
    await scene.forge.reply(SLUG, remark.id, "mia", "so")
    sha = await scene.forge.push(SLUG, "mia", "fix/1", {"a": "c\n"}, "More")
    await scene.forge.check(SLUG, sha, "tests", "failure", log="E")
    await scene.forge.close_thread(SLUG, number, "mia")
    await scene.forge.hooks.settled()
    assert sorted(hook.events()) == sorted([
        ("push", ""), ("pull_request", "opened"), ("pull_request_review", "submitted"),
        ("pull_request_review_comment", "created"), ("pull_request_review", "submitted"),
        ("pull_request_review_comment", "created"), ("push", ""), ("pull_request", "synchronize"),
        ("check_run", "completed"), ("pull_request", "closed"),
    ])  # fmt: skip
    check = hook.payload("check_run", "completed")["check_run"]
    assert check["head_sha"] == sha and check["pull_requests"][0]["number"] == number
    assert hook.payload("pull_request", "synchronize")["pull_request"]["head"]["sha"] == sha
    answered = [json.loads(body) for headers, body in hook.got if headers["x-github-event"].endswith("review_comment")]
    assert {one["comment"].get("in_reply_to_id") for one in answered} == {None, remark.id}
    states = {json.loads(b)["review"]["state"] for h, b in hook.got if h["x-github-event"] == "pull_request_review"}
    assert states == {"changes_requested", "commented"}  # small letters here, capitals in the API


async def test_a_push_over_git_and_the_bots_own_words_are_told_too(scene: Scene, hook: Receiver) -> None:
    number = await scene.forge.open_issue(SLUG, "ann", "Bug")
    await scene.bot.say(SLUG, number, "Looking", "status")
    await scene.bot.say(SLUG, number, "Done", "status")
    await scene.forge.hooks.settled()
    assert ("issue_comment", "created") in hook.events() and ("issue_comment", "edited") in hook.events()
    assert hook.payload("issue_comment", "edited")["sender"]["type"] == "Bot"


async def test_installations_and_pings_are_told(scene: Scene, hook: Receiver) -> None:
    await scene.forge.add_repository("octo/second", {"a": "b\n"})
    await scene.forge.add_repository("ann/third", {"a": "b\n"})
    scene.forge.install(scene.app.id, "octo/second")
    scene.forge.install(scene.app.id, "ann/third")
    scene.forge.uninstall(scene.app.id, "ann")
    scene.forge.ping(scene.app.id)
    await scene.forge.hooks.settled()
    assert sorted(hook.events()) == [
        ("installation", "created"), ("installation", "deleted"), ("installation_repositories", "added"), ("ping", ""),
    ]  # fmt: skip
    assert hook.payload("installation_repositories", "added")["repositories_added"][0]["full_name"] == "octo/second"


async def test_nothing_is_sent_again_by_itself_and_by_hand_it_is_the_same(scene: Scene, hook: Receiver) -> None:
    hook.answers = [500]
    await scene.forge.open_issue(SLUG, "ann", "Bug")
    await scene.forge.hooks.settled()
    assert len(hook.got) == 1
    assert scene.forge.redeliver_failed() == 1
    await scene.forge.hooks.settled()
    assert hook.got[0][1] == hook.got[1][1]
    assert hook.got[0][0]["x-github-delivery"] == hook.got[1][0]["x-github-delivery"]
    assert scene.forge.redeliver_failed() == 0


# -- what it keeps and shows


async def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    async with fake_forge(tmp_path) as forge:
        await forge.add_repository(SLUG, {"a": "b\n"})
        token = forge.user_token("octo")
        number = await forge.open_issue(SLUG, "ann", "Bug", "text")
    async with fake_forge(tmp_path) as forge:
        answer = await ask(forge, "GET", f"/repos/{SLUG}/issues/{number}", token)
        assert answer.json()["body"] == "text"
        assert (await ask(forge, "GET", f"/repos/{SLUG}/contents/a", token)).status_code == 200
    assert token not in (tmp_path / "state.json").read_text()


async def test_pages_show_what_came_and_nothing_of_it_is_run(scene: Scene) -> None:
    evil = '<script>alert(1)</script><img src=x onerror="x">'
    number = await scene.forge.open_issue(SLUG, "ann", f"Bug {evil}", f"**bold** {evil}", [evil])
    await scene.forge.comment(SLUG, number, "mia", f"```\n{evil}\n```\n`{evil}`\n<!-- hidden -->\n# Head {evil}")
    await scene.bot.say(SLUG, number, "<details><summary>More</summary>\n\nfolded\n\n</details>", "status")
    await scene.forge.push(SLUG, "mia", "fix/1", {"a.html": evil + "\n"}, "Fix")
    pull = await scene.forge.open_pull(SLUG, "mia", "fix/1", "main", f"Fix {evil}")
    _, (top,) = await scene.forge.review(SLUG, pull, "ann", f"review {evil}", [("a.html", 1, f"remark {evil}")])
    await scene.forge.reply(SLUG, top.id, "mia", "answered")
    await scene.forge.check(SLUG, scene.forge.thread(scene.forge.repo(SLUG), pull).pull.head_sha, evil, "failure")  # type: ignore[union-attr]
    texts = {}
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        for path in ("/", f"/{SLUG}", f"/{SLUG}/issues/{number}", f"/{SLUG}/pull/{pull}", "/_style.css"):
            answer = await client.get(scene.forge.url + path)
            assert answer.status_code == 200
            texts[path] = answer.text
            if path != "/_style.css":
                assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert (await client.get(f"{scene.forge.url}/{SLUG}/issues/99")).status_code == 404
        assert (await client.get(f"{scene.forge.url}/no/where")).status_code == 404
    for text in texts.values():
        assert "<script" not in text and "<img" not in text
    issue, changes = texts[f"/{SLUG}/issues/{number}"], texts[f"/{SLUG}/pull/{pull}"]
    assert "<strong>bold</strong>" in issue and "hidden" not in issue and "patchwright:status" not in issue
    assert "<details><summary>More</summary>" in issue
    assert changes.index("remark") < changes.index("answered") and 'class="add">+&lt;script' in changes
    assert "failure" in changes


def test_tables_are_tables() -> None:
    text = markdown("| step | state |\n|---|:-:|\n| fix <b> | `done` |")
    assert text == (
        "<table><tr><td>step</td><td>state</td></tr><tr><td>fix &lt;b&gt;</td><td><code>done</code></td></tr></table>"
    )


@pytest.mark.parametrize("text", ["```\nunclosed", "<!-- unclosed", "|a|b|\n|-|-|", "", "`", "<details><b>x</b>"])
def test_any_text_becomes_a_page(text: str) -> None:
    assert "<b>" not in markdown(text)


# -- as a program


@contextlib.contextmanager
def program(folder: Path) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "agent.forges.fake", str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[0]
    finally:
        process.terminate()
        assert process.wait(30) == 0
        assert process.stdout is not None
        process.stdout.close()


async def test_another_process_can_have_it_act(tmp_path: Path) -> None:
    def act(client: httpx2.Client, key: str, name: str, **arguments: Any) -> httpx2.Response:
        return client.post("/_act", json={"do": name, "with": arguments}, headers={"X-Fake-Key": key})

    def story() -> None:
        with program(tmp_path) as url, httpx2.Client(base_url=url, trust_env=False, timeout=60) as client:
            key = key_of(tmp_path)
            assert act(client, "", "open_issue").status_code == 401
            assert act(client, key, "close").status_code == 404
            made = act(client, key, "add_repository", slug=SLUG, files={"a": "b\n"}).json()["result"]
            assert made["name"] == "demo"
            number = act(client, key, "open_issue", slug=SLUG, login="ann", title="Bug").json()["result"]
            assert client.get(f"/api/v3/repos/{SLUG}/issues/{number}").json()["title"] == "Bug"
            missing = act(client, key, "comment", slug=SLUG, number=9, login="ann", body="x")
            assert missing.status_code == 404
            assert (tmp_path / "key").stat().st_mode & 0o077 == 0

    await asyncio.to_thread(story)


def test_without_its_extra_or_its_port_it_says_what_to_do(tmp_path: Path) -> None:
    code = "import sys; sys.modules['uvicorn'] = None; from agent.forges.fake.__main__ import main; sys.exit(main())"
    said = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert said.returncode == 2 and "patchwright[service]" in said.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "agent.forges.fake", str(tmp_path), "--port", port]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 2 and f"port {port}" in said.stderr and "Traceback" not in said.stderr


def test_the_seam_and_the_client_cost_little() -> None:
    """What a CLI start may import doesn't bring the server or cryptography along."""
    code = (
        "import sys, agent.forges.base, agent.forges.commits\n"
        "assert not {'httpx2', 'starlette', 'uvicorn', 'cryptography', 'pydantic'} & set(sys.modules)\n"
        "import agent.forges.github.forge\n"
        "assert not {'starlette', 'uvicorn', 'cryptography', 'pydantic'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
