"""Backup and restore: nothing lost and nothing twice, while the service works; archives that aren't backups refused."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from agent.jobs import JobContext, open_jobs
from service.dispatch import KIND, Dispatcher
from service.retention.backup import MANIFEST, BackupProblem, backup
from service.retention.restore import restore
from service.store import Request, State, Store, StoreUnavailable
from service.store.tokens import check_token, make_token
from service.webhooks import Delivery, WishKind
from service.worker import APPLICATION
from tests.service.deliveries import again, asked
from tests.service.retention.test_prune import REPOSITORY, keep_thread, run

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]


def command(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PATCHWRIGHT_")}
    environment["PATCHWRIGHT_HOME"] = str(home)
    line = [sys.executable, "-m", "cli.main", "service", *words]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300, check=False)


def opened(home: Path) -> Store:
    return Store.open(f"sqlite:///{home}/service.sqlite")


def wish(number: int) -> Delivery:
    return asked(WishKind.FIX, 1, number=number, repository=REPOSITORY + number)


async def refused(ended: Request, by: Request) -> None:
    raise AssertionError(f"{ended.id} was stopped by {by.id}")


@asynccontextmanager
async def dispatching(home: Path) -> AsyncIterator[None]:
    """What comes in becomes jobs meanwhile, and nobody works on them."""
    store, url = opened(home), f"sqlite:///{home}/service-jobs.sqlite"
    async with open_jobs(url, {}, application=APPLICATION, worker=False) as jobs:
        going = asyncio.create_task(Dispatcher(store, jobs, refused, pause=0.0).run())
        try:
            yield
        finally:
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)
    store.close()


async def work_off(home: Path, done: Counter[str], until: Callable[[Store], bool], at_once: int = 4) -> None:
    """Dispatch and work until then; `done` counts how often each job was worked on."""

    async def work(job: JobContext) -> None:
        done[job.job.id] += 1

    store = opened(home)
    url = f"sqlite:///{home}/service-jobs.sqlite"
    async with open_jobs(
        url, {KIND: work}, application=APPLICATION, worker=at_once > 0, concurrency={KIND: at_once}, poll=0.05
    ) as jobs:
        dispatcher = Dispatcher(store, jobs, refused)
        async with asyncio.timeout(300):
            while True:
                await dispatcher.once()
                if until(store):
                    break
    store.close()


def all_ended(store: Store) -> bool:
    return not store.in_state({State.WAITING, State.QUEUED, State.RUNNING})


@contextmanager
def delivering(home: Path, first: int) -> Iterator[list[Delivery]]:
    """Deliveries that come in all the time, until the block ends; those that were stored."""
    sent: list[Delivery] = []
    stop = threading.Event()

    def deliver() -> None:
        store, number = opened(home), first
        while not stop.is_set() and number < first + 60:
            one = wish(number)
            with suppress(StoreUnavailable):  # busy for long: it is delivered again
                store.receive([one])
                sent.append(one)
                number += 1
        store.close()

    thread = threading.Thread(target=deliver)
    thread.start()
    try:
        yield sent
    finally:
        stop.set()
        thread.join(60)


async def test_what_was_queued_is_done_once_where_it_is_restored(tmp_path: Path) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "backup.tar.gz"
    here.mkdir()
    store, early, queued = opened(here), [wish(number) for number in (1, 2, 3)], [wish(number) for number in (4, 5, 6)]
    token = make_token(store, "a program", ["runs:read"]).reveal()
    store.receive(early)
    first: Counter[str] = Counter()
    await work_off(here, first, all_ended)
    store.receive(queued)
    await work_off(here, first, lambda found: len(found.in_state({State.QUEUED})) == 3, at_once=0)
    async with dispatching(here):
        with delivering(here, 100) as late:
            while len(late) < 10:
                await asyncio.sleep(0.01)

            def moved(name: str) -> None:
                """Between the copies of the two databases something comes in and becomes a job."""
                one = wish(1000 + len(name))
                (received,) = store.receive([one])
                late.append(one)
                deadline = time.monotonic() + 240
                while (found := store.request(str(received.request))) and found.state is not State.QUEUED:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)

            await asyncio.to_thread(lambda: backup(store, *into(here), file, moved))
    store.close()
    assert file.stat().st_mode & 0o777 == 0o600
    await asyncio.to_thread(lambda: restore(file, *into(there)))
    second: Counter[str] = Counter()
    await work_off(there, second, all_ended)
    store = opened(there)
    known = len(store.in_state(set(State)))
    assert 16 <= known <= 6 + len(late)
    assert check_token(store, token) is not None
    store.receive([again(one) for one in (*early, *queued, *late)])  # what a forge delivers once more
    await work_off(there, second, all_ended)
    store.close()
    assert sum((first + second).values()) == len(first + second) == 6 + len(late)
    assert len(first) == 3


def test_runs_come_along_and_what_isnt_whole_begins_anew(tmp_path: Path) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "backup.tar.gz"
    store = opened(here)
    for number, attempt in ((1, 1), (1, 2), (2, 1)):
        made = run(here / "service", number, attempt, days=50.0 - attempt) / f"run-{number}-{attempt}"
        (made / "blobs").mkdir()
        (made / "blobs" / "aa").write_text("bytes")
        (made / "work").mkdir()
        (made / "work" / "left.py").write_text("a sandbox's")
        (made / "link").symlink_to("/etc/passwd")
    bare = here / "service" / "runs" / f"{REPOSITORY}-1-2" / "run-1-2" / "repository.git"
    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
    keep_thread(store, 1, 2)
    keep_thread(store, 2)
    store.close()
    assert command(here, "backup", str(file)).returncode == 0
    done = command(there, "restore", str(file))
    assert (done.returncode, "1 conversations begin anew" in done.stdout) == (0, True), done
    runs = there / "service" / "runs"
    found = {
        str(path.relative_to(runs)) for path in runs.rglob("*") if path.is_file() and "repository.git" not in str(path)
    }
    assert found == {
        f"{REPOSITORY}-1-1/run-1-1/events.jsonl", f"{REPOSITORY}-1-1/run-1-1/patch.diff",
        f"{REPOSITORY}-1-2/run-1-2/events.jsonl", f"{REPOSITORY}-1-2/run-1-2/patch.diff",
        f"{REPOSITORY}-1-2/run-1-2/blobs/aa",
        f"{REPOSITORY}-2-1/run-2-1/events.jsonl", f"{REPOSITORY}-2-1/run-2-1/patch.diff",
        f"{REPOSITORY}-2-1/run-2-1/blobs/aa",
    }  # fmt: skip
    git = [
        "git",
        "-C",
        str(runs / f"{REPOSITORY}-1-2" / "run-1-2" / "repository.git"),
        "rev-parse",
        "--is-bare-repository",
    ]
    assert subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip() == "true"
    log = runs / f"{REPOSITORY}-1-1" / "run-1-1" / "events.jsonl"
    assert abs(log.stat().st_mtime - (here / "service" / log.relative_to(there / "service")).stat().st_mtime) < 2
    store = opened(there)
    kept = [store.thread(REPOSITORY, number) for number in (1, 2)]
    store.close()
    assert [one.run if one else "" for one in kept] == ["run-1-2", None]


def test_what_is_there_stays(tmp_path: Path) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "backup.tar.gz"
    opened(here).close()
    assert command(here, "backup", str(file)).returncode == 0
    before = file.read_bytes()
    twice = command(here, "backup", str(file))
    assert (twice.returncode, "is there already" in twice.stderr, file.read_bytes() == before) == (6, True, True)
    for taken in (there / "service.sqlite", there / "service-jobs.sqlite", there / "service" / "runs" / "1-1-1" / "x"):
        taken.parent.mkdir(parents=True, exist_ok=True)
        taken.write_text("somebody's")
        refused = command(there, "restore", str(file))
        assert (refused.returncode, "is there already" in refused.stderr) == (6, True), refused
        assert taken.read_text() == "somebody's"
        taken.unlink()
        for folder in taken.parents:
            if folder == there or any(folder.iterdir()):
                break
            folder.rmdir()
    assert command(there, "restore", str(file)).returncode == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def archive(file: Path, members: list[tuple[tarfile.TarInfo, bytes]], manifest: object | None = None) -> Path:
    with tarfile.open(file, "w:gz") as out:
        for member, data in members:
            member.size = len(data) if member.isreg() else 0
            out.addfile(member, io.BytesIO(data))
        if manifest is not None:
            told = tarfile.TarInfo(MANIFEST)
            text = json.dumps(manifest).encode()
            told.size = len(text)
            out.addfile(told, io.BytesIO(text))
    return file


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, target
    return found


def into(home: Path) -> tuple[str, str, Path]:
    return f"sqlite:///{home}/service.sqlite", f"sqlite:///{home}/service-jobs.sqlite", home / "service" / "runs"


HOSTILE = [
    member("../outside"),
    member("runs/../../outside"),
    member("/etc/outside"),
    member("runs/1-1-1/../../../outside"),
    member("runs"),
    member("other.sqlite"),
    member("runs//x"),
    member("./service.sqlite"),
    member("runs/a\0b"),
    member("runs/link", tarfile.SYMTYPE, "/etc"),
    member("runs/hard", tarfile.LNKTYPE, "service.sqlite"),
    member("runs/pipe", tarfile.FIFOTYPE),
    member("runs/device", tarfile.CHRTYPE),
    member("runs/folder", tarfile.DIRTYPE),
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda one: f"{one.name!r}-{one.type.decode()}")
def test_an_archive_that_reaches_elsewhere_is_refused(hostile: tarfile.TarInfo, tmp_path: Path) -> None:
    file = archive(tmp_path / "hostile.tar.gz", [(hostile, b"x")], {"format": 1, "files": {}})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BackupProblem):
        restore(file, *into(tmp_path / "deep" / "home"))
    left = [path for path in tmp_path.rglob("*") if path not in before and path.is_file()]
    assert left == []


def test_an_archive_that_was_changed_or_cut_off_is_refused(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "backup.tar.gz"
    opened(home).close()
    run(home / "service", 1, days=1.0)
    assert command(home, "backup", str(file)).returncode == 0
    whole = gzip.decompress(file.read_bytes())
    with tarfile.open(file) as good:
        members = [(one, good.extractfile(one).read()) for one in good if one.name != MANIFEST]  # type: ignore[union-attr]
        manifest = json.loads(good.extractfile(MANIFEST).read())  # type: ignore[union-attr]
    other = [(one, data if one.name != members[-1][0].name else data + b"x") for one, data in members]
    cases = {
        "damaged": archive(tmp_path / "1.tar.gz", other, manifest),
        "is damaged": archive(tmp_path / "2.tar.gz", members[1:], manifest),
        "no manifest": archive(tmp_path / "3.tar.gz", members),
        "has format 99": archive(tmp_path / "4.tar.gz", members, {**manifest, "format": 99}),
        "twice": archive(tmp_path / "5.tar.gz", [*members, members[0]], manifest),
        "can't be read": tmp_path / "6.tar.gz",
        "isn't a backup|no manifest|can't be read": tmp_path / "7.tar.gz",
    }
    (tmp_path / "6.tar.gz").write_bytes(b"no archive at all")
    (tmp_path / "7.tar.gz").write_bytes(gzip.compress(whole[: len(whole) // 2 // 512 * 512]))
    for said, case in cases.items():
        with pytest.raises(BackupProblem, match=said):
            restore(case, *into(tmp_path / "elsewhere"))
        assert not [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()]
    assert restore(archive(tmp_path / "8.tar.gz", members, manifest), *into(tmp_path / "elsewhere")).files == len(
        members
    )


def test_prune_as_a_command_says_what_it_does(tmp_path: Path) -> None:
    home = tmp_path / "home"
    opened(home).close()
    run(home / "service", 1, days=100.0)
    would = command(home, "prune", "--dry-run")
    assert (would.returncode, f"{REPOSITORY}-1-1" in would.stdout, "would go" in would.stdout) == (0, True, True), would
    gone = command(home, "prune", "--older-than", "90d", "--json")
    found = json.loads(gone.stdout)
    assert [one["name"] for one in found["folders"]] == [f"{REPOSITORY}-1-1"]
    assert found["bytes"] == found["folders"][0]["bytes"] > 0
    assert not (home / "service" / "runs" / f"{REPOSITORY}-1-1").exists()
    wrong = command(home, "prune", "--older-than", "soon")
    assert (wrong.returncode, "'soon' is no age" in wrong.stderr) == (6, True)
