"""How GitHub is asked: limits, failures, expired tokens, rotated keys, and that a second try makes nothing twice."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from pathlib import Path

import pytest

from agent.forges.base import ForgeProblem, Person, Secret
from agent.forges.github.auth import AppAuth, TokenAuth
from agent.forges.github.client import Client, Pace
from agent.forges.github.forge import open_github
from tests.forges.conftest import QUICK, SLUG, Scene
from tests.forges.receiver import receiver

pytestmark = pytest.mark.heavy


async def test_a_secondary_limit_is_waited_out_for_as_long_as_github_says(scene: Scene) -> None:
    number = await scene.forge.open_issue(SLUG, "ann", "Bug")
    scene.forge.limit("/comments", method="POST", retry_after=1)
    began = time.monotonic()
    await scene.bot.say(SLUG, number, "Looking", "status")
    assert 1.0 <= time.monotonic() - began < 20
    assert len(scene.forge.repo(SLUG).notes) == 1


async def test_the_hourly_limit_is_the_callers_to_wait_for(scene: Scene) -> None:
    scene.forge.exhaust(1800, f"/repos/{SLUG}$")
    with pytest.raises(ForgeProblem, match="limits our requests") as raised:
        await scene.bot.repository(SLUG)
    assert raised.value.again and raised.value.after is not None
    assert 1700 < raised.value.after < 1810
    asked = len(scene.forge.asked)
    with pytest.raises(ForgeProblem, match="limits our requests"):  # whatever is asked: it holds for the account
        await scene.bot.file(SLUG, "calc.py", "main")
    assert len(scene.forge.asked) == asked


async def test_a_limit_that_names_no_time_is_waited_for_longer_and_longer_then_given_up(scene: Scene) -> None:
    bot = scene.as_app(pace=Pace(between_writes=0, unexplained=0.05, tries=3, patience=60))
    scene.forge.limit(f"/repos/{SLUG}$", times=9, retry_after=None)
    with pytest.raises(ForgeProblem, match="limits our requests") as raised:
        await bot.repository(SLUG)
    await bot.close()
    assert raised.value.again
    assert sum(one.status == 403 for one in scene.forge.asked) == 3


async def test_a_failure_of_githubs_is_tried_again(scene: Scene) -> None:
    scene.forge.breakdown(f"/repos/{SLUG}$", times=2)
    assert (await scene.bot.repository(SLUG)).slug == SLUG


async def test_a_failure_that_lasts_is_a_problem_that_may_be_tried_later(scene: Scene) -> None:
    bot = scene.as_app(pace=Pace(between_writes=0, failure=0.01, tries=3))
    scene.forge.breakdown(f"/repos/{SLUG}$", times=99)
    with pytest.raises(ForgeProblem, match="502") as raised:
        await bot.repository(SLUG)
    await bot.close()
    assert raised.value.again and raised.value.status == 502 and not raised.value.unclear


@pytest.mark.parametrize("done", [True, False])
async def test_a_comment_whose_answer_is_lost_is_made_once(scene: Scene, done: bool) -> None:
    number = await scene.forge.open_issue(SLUG, "ann", "Bug")
    scene.forge.breakdown("/comments", method="POST", done=done)
    said = await scene.bot.say(SLUG, number, "Looking", "status")
    assert [note.id for note in scene.forge.repo(SLUG).notes] == [said.id]


async def test_a_pull_request_whose_answer_is_lost_is_opened_once(scene: Scene) -> None:
    await scene.forge.push(SLUG, "mia", "fix/1", {"calc.py": "fixed\n"}, "Fix")
    scene.forge.breakdown("/pulls", method="POST", done=True)
    made = await scene.bot.open_pull(SLUG, "fix/1", "main", "Fix", "why")
    assert [one.number for one in scene.forge.repo(SLUG).threads] == [made.number]


async def test_two_that_say_the_same_at_once_make_one_comment(scene: Scene) -> None:
    number = await scene.forge.open_issue(SLUG, "ann", "Bug")
    await asyncio.gather(*(scene.bot.say(SLUG, number, f"{index}", "status") for index in range(5)))
    assert len(scene.forge.repo(SLUG).notes) == 1


async def test_writes_keep_their_distance(scene: Scene) -> None:
    bot = scene.as_app(pace=Pace(between_writes=0.3))
    number = await scene.forge.open_issue(SLUG, "ann", "Bug")
    await bot.say(SLUG, number, "one", "one")
    began = time.monotonic()
    await asyncio.gather(*(bot.say(SLUG, number, marker, marker) for marker in ("two", "three", "four")))
    await bot.close()
    assert time.monotonic() - began >= 0.6


async def test_a_dead_server_is_a_problem_that_may_be_tried_later(scene: Scene) -> None:
    bot = open_github(TokenAuth(Secret("ghp_x")), "http://127.0.0.1:1/api/v3", Pace(failure=0.01, tries=2))
    with pytest.raises(ForgeProblem, match="can't be reached") as raised:
        await bot.repository(SLUG)
    await bot.close()
    assert raised.value.again


async def test_an_installations_token_is_kept_until_shortly_before_it_expires(scene: Scene) -> None:
    def tokens() -> int:
        return sum(one.path.endswith("/access_tokens") for one in scene.forge.asked)

    shift = 0.0
    auth = AppAuth(str(scene.app.id), [Secret(scene.app.key)], clock=lambda: time.time() + shift)
    bot = open_github(auth, scene.forge.api, QUICK)
    for _ in range(3):
        await bot.repository(SLUG)
    assert tokens() == 1
    shift += 2900
    scene.forge.later(2900)
    await bot.repository(SLUG)
    assert tokens() == 1
    shift += 200  # less than ten minutes are left
    scene.forge.later(200)
    await bot.repository(SLUG)
    await bot.close()
    assert tokens() == 2


async def test_an_expired_or_revoked_token_is_replaced_once(scene: Scene) -> None:
    await scene.bot.repository(SLUG)
    scene.forge.later(4000)  # ours thinks that it is still good
    scene.forge.world.offset = 0
    for token in scene.forge.world.tokens.values():
        token.expires_at = 0
    assert (await scene.bot.repository(SLUG)).slug == SLUG
    assert [one.status for one in scene.forge.asked if one.path == f"/repos/{SLUG}"] == [200, 401, 200]


async def test_a_persons_bad_token_is_a_problem_and_not_tried_again(scene: Scene) -> None:
    bot = open_github(TokenAuth(Secret("ghp_wrong")), scene.forge.api, QUICK)
    with pytest.raises(ForgeProblem, match="Bad credentials") as raised:
        await bot.repository(SLUG)
    await bot.close()
    assert raised.value.status == 401 and not raised.value.again
    assert len(scene.forge.asked) == 1


async def test_keys_are_rotated_without_a_gap(scene: Scene) -> None:
    new = await scene.forge.add_key(scene.app.id)
    auth = AppAuth(str(scene.app.id), [Secret(new), Secret(scene.app.key)])
    bot = open_github(auth, scene.forge.api, QUICK)
    scene.forge.drop_key(scene.app.id, 1)  # the new one isn't known yet
    assert (await bot.repository(SLUG)).slug == SLUG
    await scene.forge.add_key(scene.app.id, new)
    scene.forge.drop_key(scene.app.id, 0)  # the old one is gone
    for token in scene.forge.world.tokens.values():
        token.expires_at = 0
    assert (await bot.repository(SLUG)).slug == SLUG
    scene.forge.drop_key(scene.app.id, 0)
    for token in scene.forge.world.tokens.values():
        token.expires_at = 0
    with pytest.raises(ForgeProblem, match="take any key") as raised:
        await bot.repository(SLUG)
    await bot.close()
    assert raised.value.status == 401


async def test_who_we_are_is_asked_with_the_key_that_works(scene: Scene) -> None:
    new = await scene.forge.add_key(scene.app.id)
    scene.forge.drop_key(scene.app.id, 1)
    auth = AppAuth(scene.app.client_id, [Secret(new), Secret(scene.app.key)])  # the client id does as well
    bot = open_github(auth, scene.forge.api, QUICK)
    assert (await bot.me()).login == "patchwright[bot]"
    await bot.close()


async def test_an_app_that_isnt_installed_says_so(scene: Scene) -> None:
    await scene.forge.add_repository("ann/alone", {"a": "b\n"})
    with pytest.raises(ForgeProblem, match="isn't installed on ann/alone"):
        await scene.bot.repository("ann/alone")


async def test_an_app_that_is_installed_anew_is_found_again(scene: Scene) -> None:
    await scene.bot.repository(SLUG)
    scene.forge.uninstall(scene.app.id, "octo")
    for token in scene.forge.world.tokens.values():
        token.expires_at = 0
    with pytest.raises(ForgeProblem, match="isn't installed"):
        await scene.bot.repository(SLUG)
    scene.forge.install(scene.app.id, SLUG)
    assert (await scene.bot.repository(SLUG)).slug == SLUG


async def test_a_missing_permission_says_what_to_check(scene: Scene, app_key: str) -> None:
    weak = await scene.forge.add_app("weak", permissions={"metadata": "read", "contents": "read"}, key=app_key)
    scene.forge.install(weak.id, SLUG)
    bot = open_github(AppAuth(str(weak.id), [Secret(app_key)]), scene.forge.api, QUICK)
    number = await scene.forge.open_issue(SLUG, "ann", "Bug")
    with pytest.raises(ForgeProblem, match=r"not accessible by integration.*what the App or token may do") as raised:
        await bot.say(SLUG, number, "Looking", "status")
    await bot.close()
    assert raised.value.status == 403 and not raised.value.again


async def test_a_workflows_token_is_enough_for_its_repository(scene: Scene) -> None:
    token = scene.forge.workflow_token(SLUG, {"contents": "write", "issues": "write", "pull_requests": "write"})
    bot = open_github(TokenAuth(Secret(token), only=SLUG), scene.forge.api, QUICK)
    number = await scene.forge.open_issue(SLUG, "ann", "Bug")
    assert (await bot.me()).login == "github-actions[bot]"
    assert (await bot.say(SLUG, number, "one", "status")).id == (await bot.say(SLUG, number, "two", "status")).id
    await bot.close()


def test_the_jwt_is_what_github_documents(app_key: str, tmp_path: Path) -> None:
    """Checked by openssl, which shares no code with ours or the fake's."""
    import base64

    jwt = AppAuth("123", [Secret(app_key)], clock=lambda: 1_800_000_000.0).jwt(Secret(app_key)).reveal()
    head, body, signature = jwt.split(".")

    def decoded(text: str) -> bytes:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    assert json.loads(decoded(head)) == {"alg": "RS256", "typ": "JWT"}
    assert json.loads(decoded(body)) == {"iat": 1_799_999_940, "exp": 1_800_000_540, "iss": "123"}
    (tmp_path / "key").write_text(app_key)
    (tmp_path / "signature").write_bytes(decoded(signature))
    (tmp_path / "message").write_text(f"{head}.{body}")
    said = subprocess.run(
        ["openssl", "dgst", "-sha256", "-prverify", "key", "-signature", "signature", "message"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.stdout.strip() == "Verified OK", said.stderr


async def test_a_key_that_is_none_is_a_problem(scene: Scene) -> None:
    bot = scene.as_app(key="-----BEGIN NOTHING-----")
    with pytest.raises(ForgeProblem, match="no RSA key"):
        await bot.repository(SLUG)
    await bot.close()


@pytest.mark.parametrize(
    "base",
    ["http://git.example.com/api/v3", "ftp://x", "api.github.com", "https://user:pw@host/", "https://h/?token=x"],
)
def test_an_address_that_would_leak_or_is_none_is_refused(base: str) -> None:
    with pytest.raises(ForgeProblem, match=r"would carry tokens|is no address"):
        Client(base, TokenAuth(Secret("x")))


@pytest.mark.parametrize(
    ("base", "address", "url"),
    [
        ("https://api.github.com", "7+ann@users.noreply.github.com", "https://github.com/octo/demo.git"),
        (
            "https://git.example.com/api/v3",
            "7+ann@users.noreply.git.example.com",
            "https://git.example.com/octo/demo.git",
        ),
    ],
)
async def test_addresses_of_github_and_of_an_enterprise_server(base: str, address: str, url: str) -> None:
    bot = open_github(TokenAuth(Secret("ghp_x")), base)
    assert bot.address(Person(7, "ann")) == address
    assert (await bot.git_access(SLUG)).url == url
    await bot.close()


async def test_a_repository_that_was_renamed_is_followed_with_its_token(scene: Scene) -> None:
    """GitHub answers 301 with an address below its own API."""
    await scene.bot.repository(SLUG)
    scene.forge.rename_repository(SLUG, "new-name").private = True
    assert (await scene.bot.repository(SLUG)).slug == "octo/new-name"
    number = await scene.forge.open_issue("octo/new-name", "mia", "Bug")
    said = await scene.bot.say(SLUG, number, "Looking", "status")  # a POST is sent on as one
    assert [note.id for note in scene.forge.repo("octo/new-name").notes] == [said.id]


async def test_no_token_goes_to_where_a_redirect_leads(scene: Scene) -> None:
    await scene.bot.repository(SLUG)
    async with receiver() as elsewhere:
        scene.forge.moved["octo/demo"] = elsewhere.url
        with pytest.raises(ForgeProblem):
            await scene.bot.repository(SLUG)
        assert not elsewhere.got
