"""What the cost of a step grows with: files of the repository, tokens of the transcript, runs at once.

Run `python benchmarks/growth.py`; it prints Markdown tables. Ours only, without a sandbox, so that every process is
counted. Left out: the model; its server is the scripted one.
"""

from __future__ import annotations

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

from measuring import Cost, Place, machine, median, scripted_server, table

ROUNDS = 3
FEW, MANY = 5, 45  # steps; their difference is without what a run costs once
READ = "cat part0/*.py part1/*.py | head -c 12000"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="patchwright-bench-") as folder:
        place = Place(Path(folder))
        place.make_repo(20)
        with scripted_server(place) as url:
            place.fix(url, "none", 2)
            print(files(place, url), "\n")
            place.make_repo(200)
            print(at_once(place, url), "\n")
        with scripted_server(place, READ) as url:
            print(tokens(place, url), "\n")
    print(f"Machine: {machine()}; medians of {ROUNDS} rounds.")


def files(place: Place, url: str) -> str:
    """The work tree is looked at after each call: one stat per file."""
    rows = []
    for count in (20, 500, 5000):
        place.make_repo(count)
        pairs = [(place.fix(url, "none", FEW), place.fix(url, "none", MANY)) for _ in range(ROUNDS)]
        rows.append([f"{count:,}", f"{median([_step(a, b) for a, b in pairs]):.1f}"])
    return table(["files in the repository", "CPU ms per step"], rows)


def tokens(place: Place, url: str) -> str:
    """Each step reads 12,000 characters; every turn sends all ids again, and only the new ones are encoded."""
    rows = []
    bounds = (FEW, MANY, 2 * MANY, 4 * MANY)
    costs = [[place.fix(url, "none", steps) for steps in bounds] for _ in range(ROUNDS)]
    prompts = _prompts(costs[0][-1])
    for index, (few, many) in enumerate(pairwise(bounds)):
        cpu = median([(run[index + 1].cpu - run[index].cpu) / (many - few) * 1e3 for run in costs])
        new = (prompts[many - 1] - prompts[few]) / (many - 1 - few)
        peak = max(run[index + 1].peak for run in costs)
        between = f"{prompts[few]:,} to {prompts[many - 1]:,}"
        rows.append([between, f"{new:,.0f}", f"{cpu:.1f}", f"{peak:.0f}"])
    return table(["tokens in the transcript", "new tokens per step", "CPU ms per step", "peak MiB"], rows)


def at_once(place: Place, url: str) -> str:
    """Runs in processes of their own, all with one server."""
    rows = []
    for runs in (1, 4):
        cpu, wall, peak = [], [], 0.0
        for _ in range(ROUNDS):
            few, many = (_together(place, url, runs, steps) for steps in (FEW, MANY))
            cpu.append(sum(_step(a, b) for a, b in zip(few, many, strict=True)) / runs)
            wall.append((max(b.wall for b in many) - max(a.wall for a in few)) / (MANY - FEW) * 1e3)
            peak = max(peak, *(cost.peak for cost in many))
        rows.append([str(runs), f"{median(cpu):.1f}", f"{median(wall):.1f}", f"{peak:.0f}"])
    return table(["runs at once", "CPU ms per step", "wall ms per step", "peak MiB of each"], rows)


def _together(place: Place, url: str, runs: int, steps: int) -> list[Cost]:
    def one(number: int) -> Cost:
        own = Place(place.folder / f"run{number}")
        own.folder.mkdir(exist_ok=True)
        if not own.repo.exists():
            own.repo.symlink_to(place.repo)
        return own.fix(url, "none", steps)

    with ThreadPoolExecutor(runs) as pool:
        return list(pool.map(one, range(runs)))


def _step(few: Cost, many: Cost) -> float:
    return (many.cpu - few.cpu) / (MANY - FEW) * 1e3


def _prompts(cost: Cost) -> list[int]:
    """The length of the transcript at the start of each step."""
    events = (json.loads(line) for line in cost.out.splitlines() if '"type":"turn_started"' in line)
    return [event["data"]["prompt"] for event in events]


if __name__ == "__main__":
    main()
