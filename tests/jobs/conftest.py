"""Databases and worker processes for the tests of jobs."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.jobs import Jobs, open_jobs
from tests.jobs.works import APPLICATION, Diary

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts/postgres.sh"


@dataclass
class Postgres:
    """A server of the tests' own."""

    folder: Path

    def do(self, command: str) -> str:
        done = subprocess.run(
            [SCRIPT, command],
            env={**os.environ, "PATCHWRIGHT_POSTGRES": str(self.folder / "server")},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return done.stdout.strip()

    def new_database(self) -> str:
        return self.do("address").removesuffix("/patchwright") + f"/jobs_{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    if subprocess.run([SCRIPT, "path"], capture_output=True, check=False).returncode:
        pytest.skip("Postgres isn't installed: scripts/postgres.sh start, as root")
    folder = Path(tempfile.mkdtemp(prefix="patchwright-postgres-"))
    folder.chmod(0o711)  # it runs as another user
    server = Postgres(folder)
    try:
        server.do("start")
        yield server
    finally:
        server.do("wipe")
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.sqlite"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


long = pytest.mark.parametrize(
    "database",
    [pytest.param("sqlite", marks=pytest.mark.heavy), pytest.param("postgres", marks=pytest.mark.postgres)],
    indirect=True,
)


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "diary")


class Worker:
    """A worker process."""

    def __init__(self, database: str, diary: Diary, name: str, options: dict[str, str]) -> None:
        given = [text for key, value in options.items() for text in (f"--{key}", value)]
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.jobs.works", database, str(diary.path), "--name", name, *given],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )

    async def ready(self) -> None:
        assert self.process.stdout is not None
        assert await asyncio.to_thread(self.process.stdout.readline) == b"ready\n"

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, 60)


Hire = Callable[..., Worker]


@pytest.fixture
def hire(database: str, diary: Diary) -> Iterator[Hire]:
    """Starts worker processes: `hire("one", lease="2")`. They are killed in the end."""
    hired: list[Worker] = []

    def start(name: str, **options: str) -> Worker:
        hired.append(Worker(database, diary, name, options))
        return hired[-1]

    yield start
    for worker in hired:
        worker.process.kill()
        worker.process.wait()
        if worker.process.stdout:
            worker.process.stdout.close()


@asynccontextmanager
async def desk(database: str) -> AsyncIterator[Jobs]:
    """The queue without a worker: enqueues and collects."""
    async with open_jobs(database, {}, application=APPLICATION, worker=False) as jobs:
        yield jobs


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # other processes' doing, seen in a file
            await asyncio.sleep(0.02)
