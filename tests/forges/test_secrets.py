"""No token is ever in an address, a configuration, a log, an exception or an argument: a whole story, then a search."""

from __future__ import annotations

import asyncio
import base64
import logging
import pickle
import traceback
from pathlib import Path

import pytest

from agent.forges.base import ForgeProblem, GitAccess, Secret
from agent.forges.commits import Identity, commit, fetch, push, tip
from agent.forges.fake.state import digest
from agent.forges.github.auth import AppAuth, TokenAuth
from agent.forges.github.forge import open_github
from agent.git import environment, git
from tests.forges.conftest import QUICK, SLUG, Scene

pytestmark = pytest.mark.heavy


async def test_a_whole_story_leaves_no_token_anywhere(
    scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    bare = tmp_path / "bare.git"
    await git("init", "-q", "--bare", str(bare))
    number = await scene.forge.open_issue(SLUG, "mia", "Bug")
    access = await scene.bot.git_access(SLUG)
    base = await fetch(access, bare, "main")
    me = await scene.bot.me()
    us = Identity(me.login, scene.bot.address(me))
    blob = (await git("hash-object", "-w", "--stdin", at=bare, stdin=b"x\n")).decode().strip()
    tree = (await git("mktree", at=bare, stdin=f"100644 blob {blob}\tcalc.py\n".encode())).decode().strip()
    made = await commit(bare, tree, [base], "Fix", us)
    await push(access, bare, made, "fix/1", None)
    await scene.bot.say(SLUG, number, "Done", "status")
    await scene.bot.open_pull(SLUG, "fix/1", "main", "Fix", "why")
    await scene.forge.push(SLUG, "mia", "fix/1", {"calc.py": "y\n"}, "Mine")
    scene.forge.breakdown(times=99)
    bot = scene.as_app()
    for failing in (
        push(access, bare, made, "fix/1", None),
        fetch(access, bare, "nowhere"),
        tip(GitAccess(f"{scene.forge.url}/octo/none.git", access.env), "main"),
        scene.bot.ticket(SLUG, number),
        bot.repository(SLUG),
    ):
        with pytest.raises(ForgeProblem) as raised:
            await failing
        said += traceback.format_exception(raised.value)
    await bot.close()
    said += [repr(access), str(access), repr(scene.bot), repr(scene.app), repr(vars(scene.bot))]
    token = _token(access)
    secrets = {"installation token": token, "its basic form": _basic(access), "key": scene.app.key.split("\n")[5]}
    assert digest(token) in scene.forge.world.tokens, "this isn't the token"
    captured = capfd.readouterr()
    files = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    for name, secret in secrets.items():
        assert not any(secret in text for text in said), f"{name} in an exception or a repr"
        assert secret not in caplog.text, f"{name} in a log"
        assert secret not in captured.out + captured.err, f"{name} in output"
        assert not any(secret.encode() in data for data in files), f"{name} in a file"
        assert secret not in access.url


async def test_no_process_has_the_token_among_its_arguments(scene: Scene, tmp_path: Path) -> None:
    """Every process that git starts is looked at while a push is held up."""
    bare = tmp_path / "bare.git"
    await git("init", "-q", "--bare", str(bare))
    access = await scene.bot.git_access(SLUG)
    base = await fetch(access, bare, "main")
    async with scene.forge.git_lock:  # the server waits, so the push does
        pushing = asyncio.get_running_loop().create_task(push(access, bare, base, "held", None))
        found: list[bytes] = []
        while not any(b"remote-http" in line for line in found):
            found = [line for line in _command_lines() if b"git" in line and str(scene.forge.url).encode() in line]
            await asyncio.sleep(0.02)
    await pushing
    assert not any(_basic(access).encode() in line or _token(access).encode() in line for line in found)


def _command_lines() -> list[bytes]:
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(process.read_bytes())
        except OSError:  # it has ended since
            continue
    return lines


async def test_git_gets_the_token_for_this_server_only(scene: Scene) -> None:
    access = await scene.bot.git_access(SLUG)
    here = await git("config", "--get-urlmatch", "http.extraheader", scene.forge.url, env=access.env)
    assert _basic(access).encode() in here
    for other in ("http://127.0.0.1:1/", "https://example.com/", "http://localhost/"):
        out = await git("config", "--get-urlmatch", "http", other, env=access.env)
        assert _basic(access).encode() not in out


async def test_a_job_log_is_fetched_without_the_token(scene: Scene) -> None:
    """The fake's store of logs refuses who brings one."""
    sha = await scene.forge.push(SLUG, "mia", "fix/1", {"calc.py": "x\n"}, "Fix")
    await scene.forge.check(SLUG, sha, "tests", "failure", log="E assert\n")
    assert [one.log for one in await scene.bot.failed_checks(SLUG, sha)] == ["E assert\n"]


def test_secrets_hide_themselves() -> None:
    secret = Secret("ghs_hidden")
    auth = TokenAuth(secret)
    app = AppAuth("1", [secret])
    assert not any("hidden" in text for text in (repr(secret), f"{secret}", f"{secret!s:>30}", repr(auth), repr(app)))
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_gits_environment_brings_no_other_settings() -> None:
    env = environment({"GIT_CONFIG_COUNT": "0"})
    assert not {name for name in env if name.startswith("GIT_TRACE")}


async def test_a_person_s_token_is_kept_from_other_repositories(scene: Scene) -> None:
    bot = open_github(TokenAuth(Secret("ghp_x"), only=SLUG), scene.forge.api, QUICK)
    with pytest.raises(ForgeProblem, match="nothing was asked"):
        await bot.git_access("octo/other")
    await bot.close()


def _basic(access: GitAccess) -> str:
    return next(value for value in access.env.values() if value.startswith("Authorization")).rpartition(" ")[2]


def _token(access: GitAccess) -> str:
    return base64.b64decode(_basic(access)).decode().partition(":")[2]
