"""A whole story with hostile words in it: nobody is asked whom they name, and no secret is found anywhere afterwards.

Everything is planted so that it is recognised: the webhook's secret, the App's key, its tokens, a token for the API.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")

from agent.forges.fake.acts import FakeForge
from agent.forges.fake.server import fake_forge
from agent.issue_pictures import illustrated
from service.store import Store
from service.store.tokens import make_token
from service.webhooks import sign
from tests.runs.harness import BUGGY, call, fixing_turns, served
from tests.service.bot.conftest import SLUG
from tests.service.bot.test_process import SECRET, free_port, started

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(500)]
_TOKEN = re.compile(rb"(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9_]{16,}")


@dataclass
class Canary:
    """A server that must not be asked. `asked`: what came all the same."""

    port: int = 0
    asked: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def canary() -> AsyncIterator[Canary]:
    made = Canary()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.asked.append(await reader.read(1000))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made


def led_away(found: Any, to: str) -> Any:
    """A payload whose every address is another one."""
    if isinstance(found, dict):
        return {
            key: to if key.endswith("url") and isinstance(value, str) else led_away(value, to)
            for key, value in found.items()
        }
    return [led_away(one, to) for one in found] if isinstance(found, list) else found


def words(canary: Canary) -> str:
    """An issue's text with addresses in all forms."""
    here = [
        canary.url,
        f"//127.0.0.1:{canary.port}",
        f"http://localhost:{canary.port}",
        "http://169.254.169.254/latest",
    ]
    pictures = [f"![x]({one}/x.png) <img src='{one}/y.png'>" for one in here]
    ours = f"https://github.com/user-attachments/assets/../../@127.0.0.1:{canary.port}/z.png"
    return "mean([2, 4]) gives 2.\n" + "\n".join([*pictures, f"![z]({ours}x)".replace("https://", "http://"), *here])


async def test_nobody_is_asked_whom_a_picture_names() -> None:
    async with canary() as bird:
        shown = await illustrated(words(bird), None)
    assert shown.pictures == ()
    assert bird.asked == []


async def test_no_address_is_followed_and_no_secret_is_left(tmp_path: Path) -> None:
    port = free_port()
    leak = call("bash", "I look for secrets.", command="env; cat /proc/self/environ | tr '\\0' '\\n'; cat .git/config")
    with served([leak, *fixing_turns()]) as model:
        async with canary() as bird, fake_forge(tmp_path / "forge") as forge:
            await forge.add_repository(SLUG, BUGGY)
            forge.grant(SLUG, "mia", "maintain")
            app = await forge.add_app("patchwright", hook=f"{bird.url}/hook", secret=SECRET)  # sent by us, see below
            forge.install(app.id, SLUG)
            await forge.hooks.settled()
            bird.asked.clear()
            number = await forge.open_issue(
                SLUG, "uma", "mean()\r\n\r\nCo-authored-by: Evil <evil@example.com>", words(bird)
            )
            async with started(tmp_path, forge, port, app.id, app.key, model.url) as pid:
                token = api_token(tmp_path / "home" / "service.sqlite")
                await forge.label(SLUG, number, "mia", "patchwright")
                await forge.hooks.settled()
                (labeled,) = [one for one in forge.deliveries if (one.event, one.action) == ("issues", "labeled")]
                bird.asked.clear()
                async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
                    body = json.dumps(led_away(json.loads(labeled.body), f"{bird.url}/away")).encode()
                    asked = await client.post("/webhooks/github", content=body, headers=signed(body))
                    assert asked.status_code == 202, asked.text
                    seen = await until_done(client, asked.json()["request"], token, pid)
            pull = next(one for one in forge.repo(SLUG).threads if one.pull)
            said = [note.body for note in forge.repo(SLUG).notes] + [pull.body, pull.title]
            log = git_log(forge, pull.pull.head if pull.pull else "")
    assert [one for one in bird.asked if not one.startswith(b"POST /hook ")] == []  # these are the forge's own
    assert [line for line in log.splitlines() if line.startswith("Co-authored-by")] == trailers(log)
    assert not [line for line in log.splitlines() if line.startswith("Co-authored-by: Evil")]
    secrets = [SECRET.encode(), app.key.encode().splitlines()[1], token.encode()]
    places = dict(kept(tmp_path)) | {"said": "\n".join(said).encode(), "commits": log.encode(), **seen}
    for name, data in places.items():
        assert not [one for one in secrets if one in data], name
        assert not _TOKEN.search(data), name


def trailers(log: str) -> list[str]:
    return [line for line in log.splitlines() if line.startswith("Co-authored-by: mia <")]


def api_token(database: Path) -> str:
    store = Store.open(f"sqlite:///{database}")
    made = make_token(store, "test", ["runs:read"]).reveal()
    store.close()
    return made


def signed(body: bytes) -> dict[str, str]:
    return {
        "Content-Type": "application/json", "X-GitHub-Event": "issues", "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-Hub-Signature-256": sign(SECRET.encode(), body),
    }  # fmt: skip


async def until_done(client: httpx2.AsyncClient, run: str, token: str, pid: int) -> dict[str, bytes]:
    """What the API says meanwhile and at the end, and the command lines of all processes of the service."""
    seen: dict[str, bytes] = {"command lines": b""}
    bearer = {"Authorization": f"Bearer {token}"}
    async with asyncio.timeout(300):
        while True:
            seen["command lines"] += b"".join(command_lines(pid))
            found = (await client.get(f"/api/v1/runs/{run}", headers=bearer)).json()
            if found["state"] in ("done", "failed"):
                break
            await asyncio.sleep(0.1)
    assert found["state"] == "done", found
    for path in ("", "/patch", "/events"):
        seen[f"API{path}"] = (await client.get(f"/api/v1/runs/{run}{path}", headers=bearer)).content
    return seen


def command_lines(pid: int) -> Iterator[bytes]:
    """Of a process and all below it."""
    below = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout
    try:
        yield Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return  # it has ended
    for one in below.split():
        yield from command_lines(int(one))


def kept(folder: Path) -> Iterator[tuple[str, bytes]]:
    """All files that the service has written: databases, run folders, mirrors with their configuration, logs."""
    for file in (folder / "home").rglob("*"):
        if file.is_file():
            yield str(file), file.read_bytes()


def git_log(forge: FakeForge, branch: str) -> str:
    bare = forge.bare(forge.repo(SLUG))
    shown = ["git", "-C", str(bare), "log", "-1", "--format=%an <%ae>%n%B", branch]
    return subprocess.run(shown, capture_output=True, text=True, check=True).stdout
