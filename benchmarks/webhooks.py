"""A storm of webhooks against the real server process: nothing is lost, nothing is taken twice, answers come quickly.

`python benchmarks/webhooks.py [--deliveries N] [--seconds S] [--kills K] [--load L] [--runs R] [--database URL]`

The server is `python -m service.server` in a process of its own, on a database on the disk. The storm: N deliveries
(2,000) spread over S seconds (10); half of them repeat another one, with its GUID as a redelivery does, or with a GUID
of its own as a second hook does; all are shuffled, so that closing comes before labelling; 5 % have a bad signature.
K times on the way the server is killed with SIGKILL and started again; by default there is a storm without and one
with three kills. What had no 2xx answer is sent again until
it has one, as GitHub's redelivery does. L busy processes of nice 10 (8) stand for live runs beside it; with --runs
there are R real ones (give --load 0). With --plain the server stores nothing: what an answer costs without the store.

The latency is that of an answered delivery from its first byte to its answer, of those that were sent while the server
was up. Counted in the end, in the database: every distinct wish exactly once, and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also where the project isn't installed

import httpx2
import sqlalchemy as sa

from service.webhooks import sign

REPOSITORY = Path(__file__).resolve().parents[1]
SECRET = b"the benchmark's own secret"
GOAL_MS = 50.0  # of the 99th percentile, kills left out
FORGED, REPEATED = 0.05, 0.5
REPOSITORIES = 50
CONNECTIONS = 64
# without those of the live runs and of their App
_STORED = "SELECT repository_id, number, kind, object_kind FROM requests WHERE slug NOT IN ('', 'acme/busy')"
_PLAIN = """
import os
from starlette.responses import JSONResponse
from service import app, server, settings
from service.webhooks.signature import verify
async def answer(request):
    body = await request.body()
    signed = verify([os.environ["PATCHWRIGHT_WEBHOOK_SECRET"].encode()], body, request.headers["x-hub-signature-256"])
    return JSONResponse({"outcome": "new"}, 202 if signed else 401)
app._github = answer
server.main()
"""
_BUSY = "import os\nos.nice(10)\nwhile True: pass"


@dataclass(frozen=True, slots=True)
class Sent:
    """A delivery as bytes. `wish`: repository, issue, kind; None for a forged one."""

    guid: str
    event: str
    body: bytes
    signature: str
    wish: tuple[int, int, str] | None


@dataclass
class Told:
    """What came of a storm."""

    latencies: list[float] = field(default_factory=list)  # seconds
    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0  # connections that ended without an answer
    kills: int = 0
    seconds: float = 0.0

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else 0.0


# -- what is sent


def _person(number: int) -> dict[str, Any]:
    return {"login": f"person-{number}", "id": 4000 + number, "type": "User"}


def _payload(repository: int, number: int, kind: str) -> tuple[str, dict[str, Any]]:
    """A wish about an issue: labelled, closed an hour later, or a comment. Filled up to a usual size."""
    slug = f"acme/project-{repository}"
    minute = f"2026-11-21T10:{number % 60:02}"
    issue: dict[str, Any] = {"id": repository * 100_000 + number, "number": number, "state": "open"}
    issue |= {"title": "Totals are off", "body": "text " * 200, "updated_at": f"{minute}:00Z", "closed_at": None}
    payload: dict[str, Any] = {"action": "labeled", "issue": issue, "sender": _person(repository)}
    payload |= {"repository": {"id": repository, "full_name": slug, "description": "about " * 300}}
    payload |= {"installation": {"id": 1}}
    if kind == "comment":
        comment = {"id": issue["id"], "body": "@patchwright fix\n" + "word " * 50, "user": _person(repository)}
        comment |= {"created_at": f"{minute}:30Z", "updated_at": f"{minute}:30Z"}
        return "issue_comment", {**payload, "action": "created", "comment": comment}
    if kind == "closed":
        issue |= {"state": "closed", "closed_at": f"2026-11-21T11:{number % 60:02}:00Z"}
        return "issues", {**payload, "action": "closed"}
    return "issues", {**payload, "label": {"id": 1, "name": "patchwright"}}


def storm(count: int, seed: int = 1) -> list[Sent]:
    """So many deliveries in a shuffled order."""
    chance = random.Random(seed)
    forged = int(count * FORGED)
    distinct = count - forged - int(count * REPEATED)
    made = []
    for place in range(distinct):
        issue, kind = divmod(place, 3)
        wish = (1 + issue % REPOSITORIES, 1 + issue // REPOSITORIES, ("labeled", "comment", "closed")[kind])
        event, payload = _payload(*wish)
        made.append(_sent(f"delivery-{place}", event, payload, wish))
    repeats = []
    for place in range(count - forged - distinct):
        one = chance.choice(made)
        guid = one.guid if place % 2 else f"another-{place}"
        repeats.append(Sent(guid, one.event, one.body, one.signature, one.wish))
    bad = []
    for place in range(forged):
        event, payload = _payload(1 + place % REPOSITORIES, 10_000 + place, "labeled")
        body = json.dumps(payload).encode()
        bad.append(Sent(f"forged-{place}", event, body, sign(b"a guess", body), None))
    everything = made + repeats + bad
    chance.shuffle(everything)
    return everything


def _sent(guid: str, event: str, payload: dict[str, Any], wish: tuple[int, int, str]) -> Sent:
    body = json.dumps(payload).encode()
    return Sent(guid, event, body, sign(SECRET, body), wish)


# -- the server


class Server:
    """The real one, as a process. `kill` and `start` may be called by turns."""

    def __init__(self, database: str, plain: bool = False) -> None:
        self.plain = plain
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.environment = {
            **os.environ,
            "PATCHWRIGHT_DATABASE": database,
            "PATCHWRIGHT_WEBHOOK_SECRET": SECRET.decode(),
            "PATCHWRIGHT_PORT": str(self.port),
            "PATCHWRIGHT_RATE_REPOSITORY": "100000",
            "PATCHWRIGHT_RATE_SENDER": "100000",
            "PYTHONPATH": str(REPOSITORY),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.up = asyncio.Event()
        self.cpu = 0.0  # seconds of those that were killed

    async def start(self) -> None:
        process = self._spawn()
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self.port}") as client:
            while True:
                try:
                    if (await client.get("/readyz")).status_code == 200:
                        break
                except httpx2.TransportError:
                    if process.poll() is not None:
                        raise RuntimeError("the server ended before it answered; its last lines say why") from None
                await asyncio.sleep(0.05)
        self.up.set()

    def _spawn(self) -> subprocess.Popen[bytes]:
        what = ["-c", _PLAIN] if self.plain else ["-m", "service.server"]
        self.process = subprocess.Popen([sys.executable, *what], env=self.environment)
        return self.process

    def kill(self) -> None:
        self.up.clear()
        if self.process is not None:
            self.cpu += _cpu(self.process.pid)
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def _cpu(pid: int) -> float:
    """Seconds of user and system time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes of nice 10 that do nothing but work."""
    processes = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def disk(folder: Path, rounds: int = 50) -> tuple[float, float]:
    """Milliseconds of a small write that reaches the disk: median, longest. No answer can be quicker."""
    times = []
    with (folder / "probe").open("wb") as file:
        for _ in range(rounds):
            began = time.monotonic()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            times.append((time.monotonic() - began) * 1000)
    return sorted(times)[rounds // 2], max(times)


# -- the storm


class Connection:
    """The least of an HTTP client that keeps its connection: what sends shares the machine with what is measured."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, one: Sent) -> int:
        """The status of the answer. Raises OSError, EOFError."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(self._request(one))
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            await reader.readexactly(int(fields.get(b"content-length", b"0")))
            if fields.get(b"connection") == b"close":
                self.close()
            return int(head.split(b" ", 2)[1])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    @staticmethod
    def _request(one: Sent) -> bytes:
        lines = (
            "POST /webhooks/github HTTP/1.1",
            "Host: bot",
            "Content-Type: application/json",
            f"Content-Length: {len(one.body)}",
            f"X-GitHub-Event: {one.event}",
            f"X-GitHub-Delivery: {one.guid}",
            f"X-Hub-Signature-256: {one.signature}",
        )
        return "\r\n".join((*lines, "", "")).encode() + one.body


class Killable(Protocol):
    """A server on the loopback that answers while `up` is set."""

    port: int
    up: asyncio.Event

    def kill(self) -> None: ...

    async def start(self) -> None: ...


def evenly(kills: int) -> list[float]:
    """Moments for so many kills, as shares of a storm's duration."""
    return [number / (kills + 1) for number in range(1, kills + 1)]


async def blow(server: Killable, deliveries: Sequence[Sent], seconds: float, kills: Sequence[float]) -> Told:
    """Sends them at their times, kills the server at some moments, and sends again until all have their answer."""
    told = Told()
    free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    connections = [Connection(server.port) for _ in range(CONNECTIONS)]
    for connection in connections:
        free.put_nowait(connection)
    began = time.monotonic()

    async def deliver(place: int, one: Sent) -> None:
        await asyncio.sleep(began + place * seconds / len(deliveries) - time.monotonic())
        while not await _try(free, server, one, told):
            await server.up.wait()
            await asyncio.sleep(0.1)

    async def killer() -> None:
        for share in kills:
            await asyncio.sleep(began + seconds * share - time.monotonic())
            server.kill()
            told.kills += 1
            await server.start()

    await asyncio.gather(killer(), *(deliver(place, one) for place, one in enumerate(deliveries)))
    for connection in connections:
        connection.close()
    told.seconds = time.monotonic() - began
    return told


async def _try(free: asyncio.LifoQueue[Connection], server: Killable, one: Sent, told: Told) -> bool:
    """Whether it needs no further try."""
    was_up, began = server.up.is_set(), time.monotonic()
    connection = await free.get()
    try:
        status = await connection.post(one)
    except (OSError, EOFError):
        told.broken += 1
        return False
    finally:
        free.put_nowait(connection)
    told.statuses[status] += 1
    if was_up:
        told.latencies.append(time.monotonic() - began)
    return status < 300 or one.wish is None


def stored(database: str) -> Counter[tuple[int, int, str]]:
    """How often each wish is in the database."""
    named = {("fix", "issue"): "labeled", ("fix", "comment"): "comment", ("closed", "issue"): "closed"}
    engine = sa.create_engine(database.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        rows = connection.execute(sa.text(_STORED)).all()
    engine.dispose()
    return Counter((row[0], row[1], named[row[2], row[3]]) for row in rows)


def judged(database: str, deliveries: Sequence[Sent]) -> list[str]:
    """What is wrong in the database; nothing when each distinct wish is there once."""
    wanted = {one.wish for one in deliveries if one.wish is not None}
    found = stored(database)
    problems = []
    if lost := wanted - found.keys():
        problems.append(f"{len(lost)} wishes were lost, such as {min(lost)}")
    if strange := found.keys() - wanted:
        problems.append(f"{len(strange)} wishes are there that nobody had, such as {min(strange)}")
    if twice := [wish for wish, count in found.items() if count > 1]:
        problems.append(f"{len(twice)} wishes are there more than once, such as {min(twice)}")
    return problems


async def run(options: argparse.Namespace, database: str, kills: int) -> bool:
    """Whether it held what it promises."""
    deliveries = storm(options.deliveries)
    server = Server(database, options.plain)
    try:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="webhooks-", dir="/dev/shm")))
            stack.enter_context(busy(options.load))
            await server.start()
            if options.runs:
                from benchmarks.live_runs import live_runs

                runs = live_runs(options.runs, folder, server.port, SECRET.decode(), database)
                await stack.enter_async_context(runs)
            server.cpu -= _cpu(server.process.pid) if server.process else 0.0  # what it took until now
            told = await blow(server, deliveries, options.seconds, evenly(kills))
    finally:
        server.kill()
    problems = [] if options.plain else judged(database, deliveries)
    distinct = len({one.wish for one in deliveries if one.wish})
    p50, p99, worst = told.percentile(0.5), told.percentile(0.99), told.percentile(1.0)
    print(f"{len(deliveries)} deliveries of {distinct} wishes in {told.seconds:.1f} s, {told.kills} kills,")
    print(f"{options.load} busy processes and {options.runs} live runs beside it;")
    print(f"answers {dict(sorted(told.statuses.items()))}, {told.broken} broken")
    print(f"{server.cpu / len(deliveries) * 1000:.1f} ms of the server's CPU per delivery, starts after kills included")
    print(f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {worst:.0f} ms")
    print(f"goal: each distinct wish is stored once: {'; '.join(problems) or 'met'}")
    late = kills == 0 and p99 > GOAL_MS
    if kills == 0:
        print(f"goal: p99 under {GOAL_MS:.0f} ms: {'missed' if late else 'met'}")
    print(flush=True)
    return not problems and not late


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--kills", type=int, action="append", help="may be given several times; default: 0 and 3")
    parser.add_argument("--load", type=int, default=8)
    parser.add_argument("--runs", type=int, default=0, help="real runs beside it, of a scripted model")
    parser.add_argument("--folder", help="where the database is made, such as /dev/shm; default: the temporary one")
    parser.add_argument("--plain", action="store_true", help="a server that checks signatures and stores nothing")
    parser.add_argument("--database", help="an empty one, for one storm; default: SQLite in a temporary folder")
    parser.add_argument("--check", action="store_true", help="for run.py: everything here has a goal")
    parser.add_argument("--no-peer", action="store_true", help="for run.py: there is none")
    options = parser.parse_args()
    held = []
    for kills in options.kills or [0, 3]:
        with tempfile.TemporaryDirectory(prefix="webhooks-", dir=options.folder) as folder:
            if not options.database:
                print("a write to the disk takes {:.1f} ms, at most {:.1f} ms".format(*disk(Path(folder))))
            database = options.database or f"sqlite:///{folder}/service.sqlite"
            held.append(asyncio.run(run(options, database, kills)))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
