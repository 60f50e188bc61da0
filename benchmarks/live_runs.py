"""Runs that go on beside what is measured: the real work process on a stand-in forge, with a scripted model.

Run by itself it is the forge and the model, in a process of their own. Left out: what is measured
(`benchmarks/webhooks.py`).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also where the project isn't installed

from agent.forges.fake.server import fake_forge
from runtime.models.scripted import ScriptedServer

SLUG = "acme/busy"
_PATIENCE = 300.0  # seconds until all runs go on
_FILES = {"calc.py": "def mean(values):\n    return sum(values) / (len(values) + 1)\n"}
_WORK = "python3 -c 'print(sum(i * i for i in range(2_000_000)))'"
_TURN = {"reasoning": "Once more.", "calls": [{"name": "bash", "arguments": {"command": _WORK}}]}


@asynccontextmanager
async def live_runs(count: int, folder: Path, port: int, secret: str, database: str) -> AsyncIterator[None]:
    """So many runs are in their second turn at least when the block begins, and go on all the time.

    They are asked for at the web process on `port`, and are in its database.
    """
    home = folder / "home"
    with ExitStack() as stack:
        surroundings = _started(stack, __file__, str(folder), str(port), secret, str(count))
        assert surroundings.stdout is not None
        told = json.loads(await asyncio.to_thread(surroundings.stdout.readline))
        settings = {
            "PATCHWRIGHT_HOME": str(home), "PATCHWRIGHT_DATABASE": database, "PATCHWRIGHT_SANDBOX": "none",
            "PATCHWRIGHT_MAX_STEPS": "100000", "PATCHWRIGHT_RUNS_AT_ONCE": str(count),
            "PATCHWRIGHT_RUNS_PER_REPOSITORY": str(count), "PATCHWRIGHT_SWEEP_SECONDS": "0", **told,
        }  # fmt: skip
        _started(stack, "-m", "service.work_process", **settings)
        async with asyncio.timeout(_PATIENCE):
            while sum(_turns(log) >= 2 for log in home.rglob("events.jsonl")) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        yield


def _started(stack: ExitStack, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """A process that is killed with all that it started."""
    process = subprocess.Popen(
        [sys.executable, *arguments], env={**os.environ, **more}, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip

    def end() -> None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()

    stack.callback(end)
    return process


def _turns(log: Path) -> int:
    return log.read_bytes().count(b'"type":"turn",')


async def _surroundings(folder: Path, port: int, secret: str, count: int) -> None:
    """Forge and model until the process is killed; prints the work process's settings as JSON.

    They stand for other machines, so what they take of this one makes way. A model writes 50 tokens a second.
    """
    os.nice(10)
    script = {"turns": [_TURN], "after": "repeat_last", "token_delay": 0.02}
    async with ScriptedServer(script, record=False) as model, fake_forge(folder / "forge") as forge:
        await forge.add_repository(SLUG, _FILES)
        forge.grant(SLUG, "mia", "maintain")
        app = await forge.add_app("patchwright", hook=f"http://127.0.0.1:{port}/webhooks/github", secret=secret)
        forge.install(app.id, SLUG)
        for place in range(count):
            number = await forge.open_issue(SLUG, "uma", f"mean() is too small ({place})", "It is off.")
            await forge.label(SLUG, number, "mia", "patchwright")
        await forge.hooks.settled()
        told = {
            "PATCHWRIGHT_MODEL": model.url, "PATCHWRIGHT_GITHUB_API": forge.api,
            "PATCHWRIGHT_GITHUB_APP_ID": str(app.id), "PATCHWRIGHT_GITHUB_APP_KEY": app.key,
        }  # fmt: skip
        print(json.dumps(told), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_surroundings(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
