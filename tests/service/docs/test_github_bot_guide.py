"""docs/github-bot.md, followed: its own commands and tables, from nothing to a draft pull request on the fake forge."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

pytest.importorskip("starlette", reason="needs the extra `service`")
pytest.importorskip("uvicorn", reason="needs the extra `service`")
pytest.importorskip("cryptography", reason="needs the extra `service`")

from agent.forges.base import ForgeProblem, Secret
from agent.forges.fake.acts import FakeForge
from agent.forges.fake.manifests import wrong_with
from agent.forges.fake.server import fake_forge
from agent.forges.github.auth import AppAuth
from agent.forges.github.forge import open_github
from service.github_app import EVENTS, PERMISSIONS, manifest
from tests.runs.harness import BUGGY, ISSUE, fixing_turns, served
from tests.service.bot.conftest import QUICK, SLUG
from tests.service.bot.test_process import free_port
from tests.service.deploy.runner import until
from tests.service.deploy.test_register import registering, twice
from tests.service.docs.guide import ROOT, Here, commands, page, table

GUIDE = page("github-bot.md")
RUN = commands(GUIDE)
_VARIABLE = re.compile(r"PATCHWRIGHT_[A-Z0-9_]*[A-Z0-9]")
_ACCESS = {"Read-only": "read", "Read and write": "write"}


@asynccontextmanager
async def started(here: Here) -> AsyncIterator[None]:
    """The guide's way to start the service, ended as Ctrl-C does."""
    log = (here.folder / "service.log").open("w")
    process = await asyncio.create_subprocess_exec(
        *here.shell(RUN["start"].replace("agent service start", "exec agent service start")),
        env=here.environment(), cwd=here.folder, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(120):
            while (await asyncio.to_thread(here.run, RUN["ready"])).returncode:
                assert process.returncode is None, (here.folder / "service.log").read_text()
                await asyncio.sleep(0.2)
        yield
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(90):
            code = await process.wait()
        log.close()
        assert code == 0, (here.folder / "service.log").read_text()


async def labelled(forge: FakeForge, here: Here) -> None:
    """Step 7, until the bot's last word about it."""
    title, _, body = ISSUE.partition("\n\n")
    number = await forge.open_issue(SLUG, "uma", title, body)
    await forge.label(SLUG, number, "mia", "patchwright")
    await until(forge, lambda: "See #" in "".join(note.body for note in forge.repo(SLUG).notes))
    (pull,) = [one for one in forge.repo(SLUG).threads if one.pull]
    assert pull.pull is not None
    assert pull.pull.draft


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[tuple[FakeForge, Here]]:
    with served(fixing_turns()) as model:
        async with fake_forge(folder / "forge") as forge:
            await forge.add_repository(SLUG, BUGGY)
            forge.grant(SLUG, "mia", "write")
            yield forge, Here(folder, free_port(), model.url, forge.url)


@pytest.mark.heavy
@pytest.mark.timeout(600)
async def test_from_nothing_to_a_working_app(tmp_path: Path) -> None:
    async with scene(tmp_path) as (forge, here), httpx2.AsyncClient(timeout=120) as client:
        command = here.shell(RUN["register"].replace("agent service app", "exec agent service app"))
        async with registering(command, here.environment()) as running:
            back = await twice(client, running.page)
            assert (await client.get(back.headers["location"])).status_code == 200
            assert await running.ended() == 0, running.said
        (app,) = forge.world.apps
        assert app.slug == "patchwright-acme"
        done = here.run(RUN["settings"])
        assert done.returncode == 0, done.stderr
        async with started(here):
            forge.install(app.id, SLUG)
            installed = [one for one in forge.deliveries if one.event == "installation"]
            assert len(installed) == 1
            await until(forge, lambda: installed[0].status in (200, 202))
            await labelled(forge, here)
            done = here.run(RUN["token"])
            assert done.returncode == 0, done.stderr
            assert SLUG in json.dumps(json.loads(done.stdout)["runs"])
            ours = {one.login for one in forge.world.accounts if one.bot}
            assert "patchwright-acme[bot]" in ours


@pytest.mark.heavy
@pytest.mark.timeout(600)
async def test_one_repository_with_a_token(tmp_path: Path) -> None:
    async with scene(tmp_path) as (forge, here):
        forge.grant(SLUG, "acme-bot", "write")
        token = forge.user_token("acme-bot", SLUG)
        done = here.run(RUN["token-secrets"], stdin=f"{token}\n")
        assert done.returncode == 0, done.stderr
        assert {file.stat().st_mode & 0o777 for file in (tmp_path / "etc").iterdir()} == {0o600}
        done = here.run(RUN["settings"] + f"echo PATCHWRIGHT_GITHUB_API={forge.api} >>/etc/patchwright/patchwright.env")
        assert done.returncode == 0, done.stderr
        secret = (tmp_path / "etc" / "webhook-secret").read_text().strip()
        events = [name.lower().replace(" ", "_") for name in table(GUIDE, "event")]
        async with started(here):
            forge.add_hook(SLUG, here.of("https://bot.example.org/webhooks/github"), secret, events)
            await labelled(forge, here)
            (pull,) = [one for one in forge.repo(SLUG).threads if one.pull]
            assert pull.author == forge.add_person("acme-bot").id


def test_the_form_by_hand_asks_for_what_the_manifest_asks_for() -> None:
    rows = table(GUIDE, "repository permission")
    assert {name.lower().replace(" ", "_"): _ACCESS[row[0]] for name, row in rows.items()} == PERMISSIONS
    assert {name.lower().replace(" ", "_") for name in table(GUIDE, "event")} == set(EVENTS)
    by_hand = table(GUIDE, "field")
    assert by_hand["Webhook URL"] == ["`https://bot.example.org/webhooks/github`"]


@pytest.mark.heavy
@pytest.mark.parametrize("less", sorted(set(PERMISSIONS) - {"issues", "metadata"}))
async def test_no_permission_can_be_left_out(tmp_path: Path, less: str) -> None:
    """With just these all of it works; without one of them, or with less of it, the forge refuses something."""
    async with fake_forge(tmp_path / "forge") as forge:
        await forge.add_repository(SLUG, BUGGY, private=True)
        for level in ({"read": "", "write": "read"}[PERMISSIONS[less]], PERMISSIONS[less]):
            granted = {**PERMISSIONS, less: level}
            app = await forge.add_app(f"bot-{level or 'none'}", permissions={k: v for k, v in granted.items() if v})
            forge.install(app.id, SLUG)
            refused = await _refused(forge, app.id, app.key, level, tmp_path)
            assert refused == (set() if level == PERMISSIONS[less] else {less})


def test_without_issues_there_is_no_event_of_theirs() -> None:
    """Comments would be had by way of pull requests alone, and the fake forge lets metadata be read by everybody."""
    made = manifest("patchwright", "https://bot.example.org", "http://127.0.0.1:1/created")
    assert wrong_with(made) == ""
    fewer = {name: level for name, level in PERMISSIONS.items() if name != "issues"}
    assert "issues" in wrong_with({**made, "default_permissions": fewer})


async def _refused(forge: FakeForge, app: int, key: str, name: str, folder: Path) -> set[str]:
    """Which permissions the bot's doings are refused for, each tried alone."""
    from agent.forges import commits
    from agent.git import git

    bare = folder / f"bare-{name}"
    await git("init", "-q", "--bare", str(bare))
    person = f"person-{name}"
    number = await forge.open_issue(SLUG, person, "A title", "")
    base = await forge.sha(forge.repo(SLUG), "main")
    assert base is not None
    await forge.push(SLUG, person, f"work-{name}", {f"{name}.txt": "b"}, "More")
    await forge.check(SLUG, base, "tests", "failure", log="a log")
    bot = open_github(AppAuth(str(app), [Secret(key)]), forge.api, QUICK)

    async def contents() -> None:
        access = await bot.git_access(SLUG)
        commit = await commits.fetch(access, bare, "main")
        await commits.push(access, bare, commit, f"bot-{name}", None)

    async def logs() -> None:
        if not any(check.log for check in await bot.failed_checks(SLUG, base)):
            raise ForgeProblem("no log")

    async def talk() -> None:
        await bot.ticket(SLUG, number)
        await bot.say(SLUG, number, "words", "status")

    async def pulls() -> None:
        await bot.open_pull(SLUG, f"work-{name}", "main", "A title", "words")

    refused = set()
    try:
        for permission, tried in (("contents", contents), ("issues", talk), ("pull_requests", pulls)):
            try:
                await tried()
            except ForgeProblem:
                refused.add(permission)
        try:
            await bot.failed_checks(SLUG, base)
        except ForgeProblem:
            refused.add("checks")
        else:
            try:
                await logs()
            except ForgeProblem:
                refused.add("actions")
    finally:
        await bot.close()
    return refused


def test_the_extra_that_is_installed_is_one() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"patchwright\[(\w+)\]", GUIDE)) <= set(extras)


def test_every_variable_is_on_a_page_and_every_one_there_is_read() -> None:
    pages = GUIDE + "".join(page(name) for name in ("configuration.md", "deploy.md", "action.md"))
    service = [*(ROOT / "service").rglob("*.py"), *(ROOT / "cli").glob("service*.py")]
    code = [*service, *(file for part in ("agent", "cli", "runtime", "sandbox", "evals", "tools")
                        for file in (ROOT / part).rglob("*.py"))]  # fmt: skip
    read = {name.removesuffix("_FILE") for file in service for name in _VARIABLE.findall(file.read_text())}
    known = {name.removesuffix("_FILE") for file in code for name in _VARIABLE.findall(file.read_text())}
    told = {name.removesuffix("_FILE") for name in _VARIABLE.findall(pages)}
    anywhere = "".join(file.read_text() for file in (ROOT / "docs").glob("*.md"))
    assert read - {name.removesuffix("_FILE") for name in _VARIABLE.findall(anywhere)} == set()
    made = {name for name in told - known if not re.search(rf'"{name.removeprefix("PATCHWRIGHT_").lower()}"', _OPTIONS)}
    assert made == set()


_OPTIONS = (ROOT / "cli" / "run_options.py").read_text()  # these become variables by their names


def test_files_and_pages_that_it_links_are_there() -> None:
    for name in ("github-bot.md", "action.md", "deploy.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page(name)):
            assert (ROOT / "docs" / target).exists(), f"{name}: {target}"
    for target in re.findall(r"\]\(#([\w-]+)\)", GUIDE):
        heads = [
            re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in re.findall(r"^#+ (.*)$", GUIDE, re.M)
        ]
        assert target in heads
    assert os.access(ROOT / "scripts" / "service-demo.sh", os.X_OK)
