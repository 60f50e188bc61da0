"""Grading throughput beside the official package, on the same 86 logs, in one run, by turns.

`python benchmarks/evals.py [--rounds N] [--check] [--no-peer]`. Ours is `agent eval regrade --json`. Theirs is what
`swebench report` of 5.0.2 does, less what it needs a Docker daemon for: a process that imports its `run_evaluation`,
loads the data set, makes the specifications, and calls `get_eval_report` per log. Both get the same data set, write
JSON per log and grade all logs in one process, as both commands do.

Left out: `swebench` in an environment of its own is made by scripts/swebench.sh package; that isn't measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval_logs import make
from measuring import AGENT, REPOSITORY, BenchmarkError, Place, machine, measured, median, spread, table

from evals.datasets import load_dataset
from evals.regrade import Outcome, regrade
from evals.saved_logs import find_logs

WHOLE = 5.0
"""How many times as fast the whole command has to be."""
PASSES = 5

THEIRS = """
import json, sys, time
from pathlib import Path
from swebench.harness.run_evaluation import get_eval_report, make_test_spec
from swebench.harness.utils import load_swebench_dataset
logs, dataset, passes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rows = {row["instance_id"]: row for row in load_swebench_dataset(dataset, "test")}
work = []
for log in sorted(logs.rglob("test_output.txt")):
    name = log.parent.name
    prediction = {"instance_id": name, "model_name_or_path": log.parent.parent.name, "model_patch": "x"}
    work.append((make_test_spec(rows[name]), prediction, log))
best = None
for _ in range(passes):
    started = time.process_time()
    said = [
        get_eval_report(test_spec=spec, prediction=prediction, test_log_path=log, include_tests_status=True)
        for spec, prediction, log in work
    ]
    took = time.process_time() - started
    best = took if best is None else min(best, took)
for report in said:
    print(json.dumps(report))
print(json.dumps({"seconds": best, "logs": len(work)}))
"""
OURS = """
import json, sys, time
from pathlib import Path
from evals.datasets import load_dataset
from evals.grading.semantics import Semantics
from evals.regrade import regrade
from evals.saved_logs import find_logs
logs, dataset, passes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
instances, found = load_dataset(dataset).by_id(), list(find_logs(logs))
best = None
for _ in range(passes):
    started = time.process_time()
    said = list(regrade(found, instances, Semantics.V5))
    took = time.process_time() - started
    best = took if best is None else min(best, took)
print(json.dumps({"seconds": best, "logs": len(found)}))
"""


@dataclass
class Side:
    """Measurements: CPU and wall seconds of the whole command, CPU milliseconds per log in a warm process."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    per_log: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="fewer rounds")
    parser.add_argument("--no-peer", action="store_true", help="does nothing: all that is here is a comparison")
    options = parser.parse_args()
    if options.no_peer:
        print("left out: it only compares")
        return
    rounds = min(options.rounds, 3) if options.check else options.rounds
    python = official_python()
    before = machine()
    with tempfile.TemporaryDirectory() as scratch:
        place = Place(Path(scratch))
        logs, dataset, origin = make(place.folder)
        same_verdicts(place, python, logs, dataset)  # also warms what both keep on disk
        ours, theirs = Side(), Side()
        for _ in range(rounds):
            arguments = (str(logs), str(dataset))
            run(ours, place, (*AGENT, "eval", "regrade", arguments[0], "--dataset", arguments[1], "--json"))
            run(theirs, place, (python, "-c", THEIRS, *arguments, "1"))
            warm(ours, place, (sys.executable, "-c", OURS, *arguments, str(PASSES)))
            warm(theirs, place, (python, "-c", THEIRS, *arguments, str(PASSES)))
    show(ours, theirs, f"{origin}; {before} before, {os.getloadavg()[0]:.1f} after; {rounds} rounds")


def official_python() -> str:
    script = REPOSITORY / "scripts" / "swebench.sh"
    done = subprocess.run([script, "package"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BenchmarkError("scripts/swebench.sh package failed; the lines above say why")
    return done.stdout.strip()


def same_verdicts(place: Place, python: str, logs: Path, dataset: Path) -> None:
    """BenchmarkError unless both say the same of every log."""
    theirs = measured((python, "-c", THEIRS, str(logs), str(dataset), "1"), env=place.environment(), cwd=place.folder)
    said = [next(iter(json.loads(line).values())) for line in theirs.out.splitlines()[:-1]]
    ours: list[Outcome] = list(regrade(find_logs(logs), load_dataset(str(dataset)).by_id()))
    reports: list[Any] = [one.report for one in sorted(ours, key=lambda one: one.log)]
    if reports != said:
        raise BenchmarkError("the two sides don't agree on every log; their speed means nothing")


def run(side: Side, place: Place, command: tuple[str, ...]) -> None:
    cost = measured(command, env=place.environment(), cwd=place.folder)
    side.cpu.append(cost.cpu)
    side.wall.append(cost.wall)


def warm(side: Side, place: Place, command: tuple[str, ...]) -> None:
    found = json.loads(measured(command, env=place.environment(), cwd=place.folder).out.splitlines()[-1])
    side.per_log.append(1000 * found["seconds"] / found["logs"])


def show(ours: Side, theirs: Side, remark: str) -> None:
    rows = []
    for label, name, digits in (
        ("86 logs with start-up, CPU s", "cpu", 2),
        ("86 logs with start-up, wall s", "wall", 2),
        ("a log in a warm process, CPU ms", "per_log", 3),
    ):
        one, other = getattr(ours, name), getattr(theirs, name)
        rows.append((label, spread(one, digits), spread(other, digits), f"{median(other) / median(one):.1f}"))
    print(table(("", "ours", "swebench 5.0.2", "times as fast"), rows))
    print(f"\n{remark}.\n")
    whole, single = median(theirs.cpu) / median(ours.cpu), median(theirs.per_log) / median(ours.per_log)
    checked = ((whole >= WHOLE, f"86 logs with start-up: {whole:.1f} times as fast, at least {WHOLE:g}"),)
    checked += ((single >= 1, f"a log in a warm process: {single:.2f} times as fast, at least 1"),)
    for met, line in checked:
        print(f"{'met   ' if met else 'MISSED'} {line}")
    sys.exit(0 if all(met for met, _ in checked) else 1)


if __name__ == "__main__":
    main()
