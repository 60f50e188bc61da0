"""`agent service start` as a user starts it: killed at the worst moment, it goes on, and there is one pull request."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from agent.forges.fake.acts import FakeForge
from agent.forges.fake.server import fake_forge
from tests.runs.harness import BUGGY, ISSUE, fixing_turns, served
from tests.service.bot.conftest import SLUG

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(280)]
SECRET = "a-webhook-secret-of-some-length"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


def children(of: int, module: str) -> list[int]:
    """Processes below one that run a module."""
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(of)], capture_output=True, text=True, check=False)
    return [int(row.split()[0]) for row in found.stdout.splitlines() if module in row]


@asynccontextmanager
async def started(folder: Path, forge: FakeForge, port: int, app: int, key: str, model: str) -> AsyncIterator[int]:
    (folder / "key.pem").write_text(key)
    environment = {
        **os.environ, "PATCHWRIGHT_HOME": str(folder / "home"), "PATCHWRIGHT_WEBHOOK_SECRET": SECRET,
        "PATCHWRIGHT_GITHUB_API": forge.api, "PATCHWRIGHT_GITHUB_APP_ID": str(app), "PATCHWRIGHT_SANDBOX": "none",
        "PATCHWRIGHT_GITHUB_APP_KEY_FILE": str(folder / "key.pem"), "PATCHWRIGHT_MAX_STEPS": "20",
    }  # fmt: skip
    command = [sys.executable, "-m", "cli.main", "service", "start", "--port", str(port), "--model", model]
    process = subprocess.Popen(command, env=environment)
    try:
        async with httpx2.AsyncClient() as client, asyncio.timeout(60):
            while True:
                assert process.poll() is None
                try:
                    if (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                        break
                except httpx2.TransportError:
                    pass
                await asyncio.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        assert process.wait(60) == 0
        assert not children(process.pid, "service.")


async def test_killed_in_mid_run_it_goes_on_to_one_pull_request(tmp_path: Path) -> None:
    slow = [{**turn, "faults": [{"kind": "slow", "seconds": 0.02, "times": 1000}]} for turn in fixing_turns()]
    port = free_port()
    with served(slow) as model:
        async with fake_forge(tmp_path / "forge") as forge:
            await forge.add_repository(SLUG, BUGGY)
            forge.grant(SLUG, "mia", "maintain")
            app = await forge.add_app("patchwright", hook=f"http://127.0.0.1:{port}/webhooks/github", secret=SECRET)
            forge.install(app.id, SLUG)
            title, _, body = ISSUE.partition("\n\n")
            number = await forge.open_issue(SLUG, "uma", title, body)
            async with started(tmp_path, forge, port, app.id, app.key, model.url) as pid:
                await forge.label(SLUG, number, "mia", "patchwright")
                log = await until_turns(tmp_path, 2)
                for module in ("service.work_process", "service.server"):
                    (found,) = children(pid, module)
                    os.kill(found, signal.SIGKILL)
                async with asyncio.timeout(120):
                    while not [one for one in forge.repo(SLUG).threads if one.pull]:
                        await asyncio.sleep(0.2)
                    while "See #" not in "".join(note.body for note in forge.repo(SLUG).notes):
                        await asyncio.sleep(0.2)
            kinds = [json.loads(line)["type"] for line in log.open()]
            assert kinds.count("run_started") == 1
            assert "run_resumed" in kinds
            assert kinds.count("turn") == 6
            assert len([one for one in forge.repo(SLUG).threads if one.pull]) == 1
            assert len(forge.repo(SLUG).notes) == 1


async def until_turns(folder: Path, count: int) -> Path:
    """The log of the one run, once it has so many turns."""
    async with asyncio.timeout(90):
        while True:
            logs = list((folder / "home").rglob("events.jsonl"))
            if logs and logs[0].read_text().count('"type":"turn",') >= count:
                return logs[0]
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("missing", "said"),
    [("PATCHWRIGHT_WEBHOOK_SECRET", "PATCHWRIGHT_WEBHOOK_SECRET is missing"), ("PATCHWRIGHT_GITHUB_TOKEN", "say who")],
)
def test_a_missing_setting_is_named_before_anything_starts(tmp_path: Path, missing: str, said: str) -> None:
    settings = {
        "PATCHWRIGHT_WEBHOOK_SECRET": SECRET,
        "PATCHWRIGHT_GITHUB_TOKEN": "x",
        "PATCHWRIGHT_HOME": str(tmp_path),
    }
    environment = {**os.environ, **{name: value for name, value in settings.items() if name != missing}}
    command = [sys.executable, "-m", "cli.main", "service", "start"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, said in done.stderr, done.stdout) == (6, True, "")
