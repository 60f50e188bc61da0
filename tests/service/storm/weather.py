"""A storm of real deliveries: people's acts on the fake forge, repeated, forged and shuffled; and the service in it."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.forges.fake.acts import FakeForge
from agent.forges.fake.hooks import Delivery
from benchmarks.webhooks import Sent
from service.webhooks import sign
from tests.runs.harness import call
from tests.service.bot.fleet import Fleet, Process

SLUG = "octo/calc"
LABELLED, ASKED, CLOSED, TALKED = 14, 8, 4, 14
"""Issues by what happens to them: labelled; asked for in a comment, half of them labelled, too; labelled and closed;
talked about. The first two make a run each."""
DELIVERIES, REPEATED, FORGED = 2000, 0.5, 0.05
_WHAT = {"path": "calc/ops.py", "old_str": "(len(values) + 1)", "new_str": "len(values)"}
TURNS = [
    call("str_replace_editor", "Off by one.", command="str_replace", **_WHAT),
    call("submit", "Done.", summary="mean() divided by one too many."),
    call("submit", "The diff is right.", summary="mean() divided by one too many."),
]
"""A run that is as short as one can be."""
_TALK = (
    "I see that, too.",
    "Which version is it?",
    "`@patchwright fix` is how it is asked.",
    "> @patchwright fix\n\nSo?",
)


@dataclass
class Wanted:
    """What has to come of it: issues by number."""

    runs: set[int] = field(default_factory=set)
    closed: set[int] = field(default_factory=set)
    explained: dict[int, int] = field(default_factory=dict)  # issues asked for twice -> the comment that asked


async def happen(forge: FakeForge, distinct: int, chance: random.Random) -> Wanted:
    """What people do, so much that the forge has so many deliveries to make. Most of it asks for nothing."""
    wanted = Wanted()
    numbers = [
        await forge.open_issue(SLUG, "uma", f"mean() is too small, case {place}", "mean([2, 4]) gives 2.")
        for place in range(LABELLED + ASKED + CLOSED + TALKED)
    ]
    labelled, asked = numbers[:LABELLED], numbers[LABELLED : LABELLED + ASKED]
    closed, talked = numbers[-CLOSED - TALKED : -TALKED], numbers[-TALKED:]
    wanted.runs, wanted.closed = {*labelled, *asked}, set(closed)
    for number in labelled:
        await forge.label(SLUG, number, "mia", "patchwright")
    for place, number in enumerate(asked):
        note = await forge.comment(SLUG, number, "mia", "@patchwright fix")
        if place % 2:
            await forge.label(SLUG, number, "mia", "patchwright")
            wanted.explained[number] = note.id
    for number in closed:
        await forge.label(SLUG, number, "mia", "patchwright")
        await forge.close_thread(SLUG, number, "mia")
    while len(forge.deliveries) < distinct:
        note = await forge.comment(SLUG, chance.choice(talked), "uma", chance.choice(_TALK))
        if len(forge.deliveries) < distinct and chance.random() < 0.3:
            await forge.edit_comment(SLUG, note.id, "uma", note.body + " And more.")
    await forge.hooks.settled()
    return wanted


def storm(made: Sequence[Delivery], secret: bytes, chance: random.Random) -> list[Sent]:
    """Each delivery once, repetitions with its GUID and with others, forged ones; shuffled."""
    once = [
        Sent(one.guid, one.event, one.body, one.headers["X-Hub-Signature-256"], (0, one.id, one.event)) for one in made
    ]
    forged = int(DELIVERIES * FORGED)
    repeats = [chance.choice(once) for _ in range(DELIVERIES - forged - len(once))]
    repeats = [one if chance.random() < 0.5 else replace(one, guid=f"other-{n}") for n, one in enumerate(repeats)]
    guessed = [chance.choice(once) for _ in range(forged)]
    bad = [
        Sent(f"forged-{n}", one.event, one.body, sign(b"a guess at the secret", one.body), None)
        for n, one in enumerate(guessed)
    ]
    everything = [*once, *repeats, *bad]
    chance.shuffle(everything)
    return everything


class Struck:
    """The whole service as what is killed in a storm: all its processes, at once, and started again."""

    def __init__(self, fleet: Fleet, runs: int) -> None:
        self.port, self.up = fleet.port, asyncio.Event()
        self._fleet, self._runs = fleet, runs
        self._process: Process | None = None
        self.kills = 0

    async def start(self) -> None:
        self._process = self._fleet.web(self._runs)
        await self._fleet.ready()
        self.up.set()

    def kill(self) -> None:
        self.up.clear()
        if self._process is not None:
            self._process.kill()
            self.kills += 1

    def stop(self) -> int:
        return self._process.stop() if self._process else 0


@dataclass(frozen=True)
class Seen:
    """What is in the two databases."""

    requests: list[tuple[str, int, str, str, str]]  # id, number, kind, state, why
    jobs: dict[str, str]  # id -> how it stands

    @classmethod
    def of(cls, home: Path) -> Seen:
        requests = _rows(home / "service.sqlite", "SELECT id, number, kind, state, why FROM requests ORDER BY seq")
        jobs = _rows(home / "service-jobs.sqlite", "SELECT workflow_uuid, status FROM workflow_status")
        return cls([(str(a), int(b), str(c), str(d), str(e)) for a, b, c, d, e in requests], dict(jobs))

    @property
    def open(self) -> Counter[str]:
        return Counter(row[3] for row in self.requests if row[3] in ("waiting", "queued", "running"))


def _rows(file: Path, query: str) -> list[tuple[str, ...]]:
    if not file.exists():
        return []
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=60)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()
