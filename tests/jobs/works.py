"""Kinds of work for tests, and the process that does them: `python -m tests.jobs.works DATABASE DIARY ...`.

Each part of a work that really runs writes a line into the diary first, so that a test counts what ran where.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from agent.jobs import JobContext, Work, open_jobs

APPLICATION = "tests"


class Diary:
    """Lines `word job worker`, appended by many processes at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, word: str, context: JobContext) -> None:
        line = f"{word} {context.job.id} {context.worker}\n".encode()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, line)
        os.close(descriptor)

    def lines(self) -> list[tuple[str, str, str]]:
        text = self.path.read_text() if self.path.exists() else ""
        return [(word, job, worker) for word, job, worker in map(str.split, text.splitlines())]

    def count(self, word: str) -> Counter[str]:
        return Counter(job for said, job, _ in self.lines() if said == word)

    def by(self, word: str, worker: str) -> set[str]:
        return {job for said, job, who in self.lines() if (said, who) == (word, worker)}


def works(diary: Diary) -> dict[str, Work]:
    """`three`: steps a, b (payload: seconds), c, and a file. `nap`, `crowd`: a sleep without steps."""

    async def part(context: JobContext, word: str, seconds: float = 0) -> str:
        diary.write(word, context)
        await asyncio.sleep(seconds)
        return f"{word} by {context.worker}"

    async def three(context: JobContext) -> dict[str, Any]:
        diary.write("began", context)
        done = [await context.step("a", lambda: part(context, "a"))]
        done.append(await context.step("b", lambda: part(context, "b", context.job.payload["seconds"])))
        await context.send("log.txt", f"{context.job.id}: {done}".encode())
        done.append(await context.step("c", lambda: part(context, "c")))
        return {"done": done}

    async def nap(context: JobContext) -> str:
        diary.write("began", context)
        try:
            await asyncio.sleep(context.job.payload["seconds"])
        except asyncio.CancelledError:
            diary.write("stopped", context)
            raise
        diary.write("slept", context)
        return "rested"

    async def crowd(context: JobContext) -> None:
        diary.write("in", context)
        await asyncio.sleep(context.job.payload["seconds"])
        diary.write("out", context)

    return {"three": three, "nap": nap, "crowd": crowd}


async def work(options: argparse.Namespace) -> None:
    kinds = works(Diary(Path(options.diary)))
    limits = dict.fromkeys(kinds, options.concurrency)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with open_jobs(
        options.database,
        kinds,
        application=APPLICATION,
        concurrency=limits,
        name=options.name,
        lease=options.lease,
        poll=0.1,
    ):
        print("ready", flush=True)
        await over.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("diary")
    parser.add_argument("--name", default="worker")
    parser.add_argument("--concurrency", type=int, default=3)
    parser.add_argument("--lease", type=float, default=5.0)
    asyncio.run(work(parser.parse_args()))
