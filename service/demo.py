"""The bot without GitHub: a stand-in forge, the service's two processes, a scripted model, and a story to watch.

A maintainer (of ours) labels an issue, looks at the draft pull request, and comments on a line of it; the bot answers
with a further commit. Everything else is as in earnest: real HTTP, webhooks, git, a sandbox. Left out: other issues,
for the scripted model knows this one; `--model` takes a real one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from agent.forges.fake.acts import FakeForge
from agent.forges.fake.server import fake_forge
from agent.forges.fake.state import Repo
from service.store import Store
from service.store.sessions import make_ticket
from service.store.tokens import make_token
from service.supervise import WEB, WORK, supervise

SLUG: Final = "octo/calc"
_INTERRUPTED: Final = 130
_PATIENCE: Final = 600.0  # seconds that each part of the story may take
FILES: Final = {
    "calc/__init__.py": "",
    "calc/ops.py": 'def mean(values):\n    """The average."""\n    return sum(values) / (len(values) + 1)\n',
    "tests/__init__.py": "",
    "tests/mean_is_right.py": (
        "import unittest\n\nfrom calc.ops import mean\n\n\nclass MeanTest(unittest.TestCase):\n"
        "    def test_mean(self):\n        self.assertEqual(mean([2, 4]), 3)\n"
    ),
    ".gitignore": "__pycache__/\n",
}
TITLE, BODY = "mean() is too small", "`mean([2, 4])` gives 2, and I expect 3."
REMARK = "What of an empty list? Please say it in the docstring."
_TEST = "python3 -m unittest -q tests/mean_is_right.py"


def _turn(thinking: str, name: str, **arguments: Any) -> dict[str, Any]:
    return {"reasoning": thinking, "content": "", "calls": [{"name": name, "arguments": arguments}]}


def _edit(thinking: str, old: str, new: str) -> dict[str, Any]:
    return _turn(thinking, "str_replace_editor", command="str_replace", path="calc/ops.py", old_str=old, new_str=new)


_SUMMARY = "mean() divided by one more than the number of values. It divides by their number now."
_DOCUMENTED = "The docstring says that mean() raises ZeroDivisionError without values."
TURNS: Final = [
    _turn("I look at the code first.", "bash", command="git log --oneline; cat calc/ops.py"),
    _turn("There is a test that shows it. Does it fail?", "bash", command=_TEST),
    _edit("It does. The divisor is off by one.", "(len(values) + 1)", "len(values)"),
    _turn("The test again, on the changed code.", "bash", command=_TEST),
    _turn("It passes. I hand it over.", "submit", summary=_SUMMARY),
    _turn("The diff is what I meant.", "submit", summary=_SUMMARY),
    _edit(
        "The reviewer is right: nothing says what an empty list gives.",
        '"""The average."""',
        '"""The average. Raises ZeroDivisionError without values."""',
    ),
    _turn("Nothing else may have changed.", "bash", command=_TEST),
    _turn("That is all.", "submit", summary=_DOCUMENTED),
    _turn("The diff is right.", "submit", summary=_DOCUMENTED),
]


async def demo(
    folder: Path,
    port: int,
    model: str | None,
    sandbox: str,
    *,
    once: bool,
    say: Callable[[str], None],
    show: Callable[[str], None] = lambda address: None,
) -> int:
    """Tell the story, then stay until SIGINT or SIGTERM, or with `once` end. The exit code.

    `show` is given an address that logs a browser in once, as soon as there is something to see.
    """
    secret = secrets.token_hex(20)
    async with _model(model) as target, fake_forge(folder / "forge") as forge:
        repo = await forge.add_repository(SLUG, FILES) if not _known(forge) else forge.repo(SLUG)
        forge.grant(SLUG, "mia", "maintain")
        app = await forge.add_app("patchwright", hook=f"http://127.0.0.1:{port}/webhooks/github", secret=secret)
        forge.install(app.id, SLUG)
        key = folder / "app.pem"
        key.touch(0o600)
        key.write_text(app.key)
        told = {
            "PATCHWRIGHT_HOME": str(folder / "home"), "PATCHWRIGHT_PORT": str(port), "PATCHWRIGHT_MODEL": target,
            "PATCHWRIGHT_WEBHOOK_SECRET": secret, "PATCHWRIGHT_GITHUB_API": forge.api, "PATCHWRIGHT_SANDBOX": sandbox,
            "PATCHWRIGHT_GITHUB_APP_ID": str(app.id), "PATCHWRIGHT_GITHUB_APP_KEY_FILE": str(key),
            "PATCHWRIGHT_LOG_LEVEL": "warning",
            "PATCHWRIGHT_URL": f"http://127.0.0.1:{port}", "PATCHWRIGHT_DATABASE": f"sqlite:///{folder}/home/service.sqlite",
        }  # fmt: skip
        service = asyncio.create_task(supervise([("web", WEB), ("work", WORK)], told, say))
        opening = asyncio.create_task(_open(told, say, show))
        story = asyncio.create_task(_story(forge, repo, port, say))
        try:
            await asyncio.wait([service, story], return_when=asyncio.FIRST_COMPLETED)
            if story.done():
                story.result()
                if not once:
                    say("The story is told. Look around; Ctrl-C ends it.")
                    await service
                return 0
            return _INTERRUPTED if service.result() == 0 else 1
        finally:
            for task in (service, story, opening):
                task.cancel()
            await asyncio.gather(service, story, opening, return_exceptions=True)


def _known(forge: FakeForge) -> bool:
    return any(repo.slug == SLUG for repo in forge.world.repos)


@asynccontextmanager
async def _model(named: str | None) -> AsyncIterator[str]:
    if named is not None:
        yield named
        return
    from runtime.models.scripted import ScriptedServer

    async with ScriptedServer({"turns": TURNS, "token_delay": 0.01}) as server:
        yield server.url


async def _open(told: Mapping[str, str], say: Callable[[str], None], show: Callable[[str], None]) -> None:
    """Says where the dashboard is, with a ticket that logs one browser in."""
    await _ready(int(told["PATCHWRIGHT_PORT"]))
    ticket = await asyncio.to_thread(_ticket, told["PATCHWRIGHT_DATABASE"])
    address = f"{told['PATCHWRIGHT_URL']}/login?ticket={ticket}"
    say(f"the dashboard, logged in once:   {address}")
    show(address)


def _ticket(database: str) -> str:
    """For a token that may look and stop runs, for a day."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    store = Store.open(database)
    try:
        token = make_token(store, "demo", ["runs:read", "runs:write"], tomorrow)
        return make_ticket(store, token.reveal().split("_")[1]).reveal()
    finally:
        store.close()


async def _story(forge: FakeForge, repo: Repo, port: int, say: Callable[[str], None]) -> None:
    """Raises TimeoutError with what did not happen."""
    await _ready(port)
    number = await forge.open_issue(SLUG, "uma", TITLE, BODY)
    say(f"uma has opened an issue:         {forge.url}/{SLUG}/issues/{number}")
    await forge.label(SLUG, number, "mia", "patchwright")
    say("mia, a maintainer, has labelled it `patchwright`; the bot goes to work")

    def pull() -> int | None:
        return next((one.number for one in repo.threads if one.pull and f"#{number}." in one.body), None)

    opened = await _until(pull, "the pull request")
    say(f"the bot has opened a draft:      {forge.url}/{SLUG}/pull/{opened}")
    await _until(lambda: any(f"See #{opened}" in note.body for note in repo.notes), "the bot's last word on the issue")
    part = forge.thread(repo, opened).pull
    assert part is not None
    before = part.head_sha
    await forge.review(SLUG, opened, "mia", "", [("calc/ops.py", 2, REMARK)])
    say(f"mia comments on a line of it:    {REMARK}")
    await _until(lambda: part.head_sha != before, "a further commit")
    answer = await _until(lambda: next((one.body for one in repo.remarks if one.in_reply_to), None), "an answer")
    first = str(answer).split("-->")[-1].strip().splitlines()[0]
    say(f"the bot answers in her thread:   {first}")


async def _ready(port: int) -> None:
    import httpx2

    async with httpx2.AsyncClient() as client, asyncio.timeout(120):
        while True:
            try:
                if (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.2)


async def _until(seen: Callable[[], Any], what: str) -> Any:
    try:
        async with asyncio.timeout(_PATIENCE):
            while not (found := seen()):  # noqa: ASYNC110  what is waited for is seen, not told
                await asyncio.sleep(0.2)
            return found
    except TimeoutError:
        raise TimeoutError(f"{what} did not come within {_PATIENCE:.0f} s") from None
