"""`agent service app`: two clicks register an App with just what the bot needs, and its files are the owner's alone."""

from __future__ import annotations

import asyncio
import html
import os
import re
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

pytest.importorskip("starlette", reason="needs the extra `service`")
pytest.importorskip("uvicorn", reason="needs the extra `service`")
pytest.importorskip("cryptography", reason="needs the extra `service`")

from agent.forges.base import Secret
from agent.forges.fake.server import fake_forge
from agent.forges.github.auth import AppAuth
from agent.forges.github.forge import open_github
from service.github_app import EVENTS, PERMISSIONS, is_address
from service.webhooks.reading import _READERS

ADDRESS = "https://bot.example.org"


@dataclass
class Command:
    """A running `agent service app`."""

    process: asyncio.subprocess.Process
    page: str = ""
    said: str = ""

    async def ended(self) -> int:
        assert self.process.stdout is not None
        async with asyncio.timeout(120):
            self.said += (await self.process.stdout.read()).decode()
            return await self.process.wait()


@asynccontextmanager
async def registering(command: list[str], environment: dict[str, str]) -> AsyncIterator[Command]:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    found = Command(process)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(120):
            found.said = (await process.stdout.readline()).decode()
        page = re.search(r"http://127\.0\.0\.1:\d+/", found.said)
        found.page = page[0] if page else ""
        yield found
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def agent(folder: Path, forge: str, *more: str) -> tuple[list[str], dict[str, str]]:
    command = [sys.executable, "-m", "cli.main", "service", "app", "--url", ADDRESS, "--name", "Patchwright Octo",
               "--folder", str(folder), "--port", "0", "--github", forge, *more]  # fmt: skip
    return command, dict(os.environ)


async def click(client: httpx2.AsyncClient, page: str, at: str) -> httpx2.Response:
    """Send the one form of a page, as a browser does; the answer to where that leads."""
    form = re.search(r"<form method=post action='([^']*)'>(.*?)</form>", page, re.DOTALL)
    assert form, page
    fields = dict(re.findall(r"name=(\w+) value='([^']*)'", form[2]))
    target = str(httpx2.URL(at).join(html.unescape(form[1])))
    return await client.post(target, data={name: html.unescape(value) for name, value in fields.items()})


async def twice(client: httpx2.AsyncClient, page: str) -> httpx2.Response:
    """The two clicks: on our page and on GitHub's. The redirect that comes of it isn't followed."""
    first = await client.get(page)
    second = await click(client, first.text, page)
    assert second.status_code == 200, second.text
    return await click(client, second.text, str(second.url))


@pytest.mark.heavy
async def test_two_clicks_make_an_app_whose_key_works_and_whose_files_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    async with fake_forge(tmp_path / "forge") as forge, httpx2.AsyncClient(timeout=120) as client:
        await forge.add_repository("octo/calc", {"a.txt": "a"})
        async with registering(*agent(folder, forge.url)) as command:
            back = await twice(client, command.page)
            assert (await client.get(back.headers["location"])).status_code == 200
            assert await command.ended() == 0
        (app,) = forge.world.apps
        assert (app.slug, app.permissions, app.events) == ("patchwright-octo", PERMISSIONS, list(EVENTS))
        assert app.hook == f"{ADDRESS}/webhooks/github"
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
        told = dict(line.split("=", 1) for line in (folder / "patchwright.env").read_text().splitlines())
        assert told["PATCHWRIGHT_BOT_NAME"] == app.slug
        assert told["PATCHWRIGHT_GITHUB_API"] == forge.api
        assert (folder / "webhook-secret").read_text() == app.secret
        key = Path(told["PATCHWRIGHT_GITHUB_APP_KEY_FILE"]).read_text()
        assert key not in command.said
        assert app.secret not in command.said
        forge.install(app.id, "octo/calc")
        bot = open_github(AppAuth(told["PATCHWRIGHT_GITHUB_APP_ID"], [Secret(key)]), forge.api)
        try:
            assert (await bot.me("octo/calc")).login == "patchwright-octo[bot]"
        finally:
            await bot.close()


@pytest.mark.heavy
async def test_an_answer_to_another_question_is_no_app_and_a_code_holds_once(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    async with fake_forge(tmp_path / "forge") as forge, httpx2.AsyncClient(timeout=120) as client:
        async with registering(*agent(folder, forge.url)) as command:
            here = command.page.rstrip("/")
            assert (await client.get(command.page, headers={"Host": "evil.example"})).status_code == 400
            back = (await twice(client, command.page)).headers["location"]
            code = parse_qs(urlsplit(back).query)["code"][0]
            for query in (f"code={code}&state=guessed", f"code={code}", "state=", ""):
                assert (await client.get(f"{here}/created?{query}")).status_code == 400
            wrong = await client.get(back.replace(code, "0" * 40))
            assert (wrong.status_code, "once and for an hour" in wrong.text) == (502, True)
            assert not list(folder.iterdir())
            assert (await client.get(back)).status_code == 200
            assert await command.ended() == 0
        used = await client.post(f"{forge.api}/app-manifests/{code}/conversions")
        assert used.status_code == 404
        async with registering(*agent(folder, forge.url)) as again:
            assert await again.ended() == 6
            assert "is there already" in again.said


@pytest.mark.heavy
async def test_an_organizations_app_is_asked_for_at_its_own_page(tmp_path: Path) -> None:
    command = agent(tmp_path / "etc", "https://github.example.org", "--organization", "octo")
    async with httpx2.AsyncClient(timeout=120) as client, registering(*command) as running:
        page = await client.get(running.page)
        assert "action='https://github.example.org/organizations/octo/settings/apps/new?state=" in page.text
        assert "form-action https://github.example.org;" in page.headers["content-security-policy"]


def test_events_are_those_that_are_read() -> None:
    to_every_app = {"installation", "installation_repositories"}
    assert set(EVENTS) == set(_READERS) - to_every_app - {"check_suite"}  # runs say what suites say, and more


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("https://bot.example.org", True),
        ("https://bot.example.org:8443", True),
        ("http://127.0.0.1:80", True),
        ("http://bot.example.org", False),
        ("https://bot.example.org/path", False),
        ("https://a@bot.example.org", False),
        ("https://", False),
        ("https://bot:port", False),
        ("javascript:alert(1)", False),
    ],
)
def test_addresses_are_whole(text: str, right: bool) -> None:
    assert is_address(text) == right
