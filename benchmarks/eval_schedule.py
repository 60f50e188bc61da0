"""What running 500 instances four times costs besides the work: the queue's overhead, and waiting for stragglers.

`python benchmarks/eval_schedule.py [--check] [--jobs N] [--database URL]`. Two parts.

The engine: the real queue (`agent.jobs`) runs N jobs whose work is empty; what it costs is the time for which a job
holds its slot, from the first call to the last result that came home: slots times wall time by jobs, in per cent of
the mean time of a real one. All else that a job waits for is left out.

The schedule: a simulation in virtual time of the same jobs on W workers that let trajectories in by the tokens that
they need. Their sizes are recorded (`eval_records.json`): each instance is drawn from the 25 trajectories, its tests
from the 85 logs, and each of its attempts takes more or less than that. The speeds are assumed, and are those of
`admission.py`; a server that slows down under load is left out, so are environments that have to be built.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also where the project isn't installed

from agent.jobs import Job, JobContext, open_jobs

INSTANCES, ATTEMPTS = 500, 4
PREFILL, DECODE, TOOLS = 8000.0, 60.0, 4.0  # tokens a second; seconds of a turn's tools, as in admission.py
NEED = 65_536  # tokens that a trajectory asks for when it comes, as `agent fix` does
POOL = 400_000  # tokens of a server, as in admission.py
SPREAD = 0.4  # of the logarithm of an attempt's size beside its instance's
SLOTS = 16
GOAL = 1.0  # per cent
RECORDS = Path(__file__).with_name("eval_records.json")


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt at an instance. Seconds; `expected` is what one knows before, its instance's size."""

    seconds: float
    expected: float
    tokens: int


def attempts(seed: int) -> list[Attempt]:
    """All of them in the order of a run: the first attempt at each instance, then the second."""
    records, chance = json.loads(RECORDS.read_text()), random.Random(seed)
    instances = []
    for _ in range(INSTANCES):
        drawn, tests = chance.choice(records["trajectories"]), chance.choice(records["test_seconds"])
        tokens = drawn["written"] + drawn["given"]
        seconds = drawn["written"] / DECODE + tokens / PREFILL + TOOLS * drawn["turns"] + tests
        instances.append((seconds, tokens))
    found = []
    for _ in range(ATTEMPTS):
        for seconds, tokens in instances:
            factor = chance.lognormvariate(0, SPREAD)
            found.append(Attempt(seconds * factor, seconds, max(NEED, int(tokens * factor))))
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds of virtual time."""

    makespan: float
    tail: float  # from the last start to the end
    busy: float  # of all slots together
    idle: float  # of those that were in use at the last start, while the others ended
    slots: int  # that were ever in use at once

    @property
    def lost(self) -> float:
        """What stragglers kept from being used, as a share of it and of what was."""
        return self.idle / (self.busy + self.idle)


def scheduled(wanted: Sequence[Attempt], workers: int, pool: int) -> Outcome:
    """First in line, first in: the next starts when a worker is free and its tokens fit beside those that run."""
    running: list[tuple[float, int]] = []  # end, tokens
    now = held = busy = 0.0
    slots = 0
    for one in wanted:
        while len(running) == workers or (running and held + one.tokens > pool):
            now, tokens = heapq.heappop(running)
            held -= tokens
        heapq.heappush(running, (now + one.seconds, one.tokens))
        held += one.tokens
        busy += one.seconds
        slots = max(slots, len(running))
    makespan = max(end for end, _ in running)
    idle = sum(makespan - end for end, _ in running)
    return Outcome(makespan, makespan - now, busy, idle, slots)


ORDERS: dict[str, Callable[[Attempt], float]] = {
    "first come": lambda one: 0.0,
    "longest expected first": lambda one: -one.expected,
    "longest first, if one knew": lambda one: -one.seconds,
}


def show_schedules() -> float:
    """Prints the tables and gives the mean seconds of an attempt."""
    runs = [attempts(seed) for seed in range(10)]
    everything = [one for run in runs for one in run]
    mean = statistics.mean(one.seconds for one in everything)
    longest = statistics.mean(max(one.seconds for one in run) for run in runs)
    hours = sum(one.seconds for one in everything) / 3600 / len(runs)
    median = statistics.median(one.seconds for one in everything)
    print(
        f"{len(runs[0])} attempts: mean {mean:.0f} s, median {median:.0f} s, longest {longest:.0f} s; {hours:.0f} hours"
    )
    print("in all; means of 10 draws\n")
    head = ("servers", "workers", "at once", "order", "makespan, h", "behind the last start, min", "lost", "ratio")
    print(f"| {' | '.join(head)} |")
    print("|---:|---:|---:|---|---:|---:|---:|---:|")
    for servers, workers in ((4, 16), (4, 32), (16, 64), (32, 128)):
        first = None
        for name, key in ORDERS.items():
            outcomes = [scheduled(sorted(run, key=key), workers, servers * POOL) for run in runs]
            makespan = statistics.mean(one.makespan for one in outcomes)
            tail = statistics.mean(one.tail for one in outcomes)
            lost = statistics.mean(one.lost for one in outcomes)
            first = first or makespan
            at_once = max(one.slots for one in outcomes)
            row = (f"{makespan / 3600:.2f}", f"{tail / 60:.1f}", f"{lost:.2%}", f"{makespan / first:.3f}")
            print(f"| {servers} | {workers} | {at_once} | {name} | {' | '.join(row)} |")
    print()
    return mean


@dataclass(frozen=True, slots=True)
class Overhead:
    """What the engine took for its jobs. Seconds."""

    jobs: int
    enqueue: float
    wall: float
    cpu: float

    @property
    def each(self) -> float:
        """For which a job holds its slot."""
        return SLOTS * self.wall / self.jobs


async def empty(context: JobContext) -> None:
    return None


async def engine(database: str, count: int) -> Overhead:
    name = f"benchmark-{int(time.time())}"
    wanted = [Job(f"{name}/instance-{n % INSTANCES}/{n // INSTANCES + 1}", "attempt", {"n": n}) for n in range(count)]
    async with open_jobs(database, {"attempt": empty}, application=name, concurrency={"attempt": SLOTS}) as jobs:
        started, cpu = time.monotonic(), time.process_time()
        assert await jobs.enqueue(wanted) == count
        enqueued = time.monotonic()
        ended = [end async for end in jobs.ended(job.id for job in wanted)]
        wall = time.monotonic() - started
        assert len(ended) == count and not any(end.error for end in ended)
        return Overhead(count, enqueued - started, wall, time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=INSTANCES * ATTEMPTS)
    parser.add_argument("--database", help="a Postgres to measure on (default: SQLite in a temporary folder)")
    parser.add_argument("--check", action="store_true", help="a quarter of the jobs")
    parser.add_argument("--no-peer", action="store_true", help="does nothing: there is none")
    options = parser.parse_args()
    mean = show_schedules()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        count = min(options.jobs, 500) if options.check else options.jobs
        done = asyncio.run(engine(options.database or f"sqlite:///{scratch}/jobs.sqlite", count))
    share = 100 * done.each / mean
    kind = "Postgres" if options.database else "SQLite"
    print(f"| {done.jobs} empty jobs on {kind}, {SLOTS} at once | |\n|---|---:|")
    print(f"| enqueued, all of them, s | {done.enqueue:.1f} |")
    print(f"| jobs a second, end to end | {done.jobs / done.wall:.1f} |")
    print(f"| CPU of the process for each, ms | {1000 * done.cpu / done.jobs:.1f} |")
    print(f"| slot held by each, s | {done.each:.2f} |")
    print(f"| of a mean attempt of {mean:.0f} s | {share:.2f}% |\n")
    print(f"load {before:.1f} before, {os.getloadavg()[0]:.1f} after, {os.cpu_count()} cores\n")
    print(f"{'met' if share < GOAL else 'MISSED'}: overhead under {GOAL:.0f}% of the mean attempt")
    if share >= GOAL:
        sys.exit(1)


if __name__ == "__main__":
    main()
