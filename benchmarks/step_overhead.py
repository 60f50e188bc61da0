"""What one step of the agent costs: 250 times the command `true` against the scripted server, ours and a peer's.

Run `python benchmarks/step_overhead.py [--check]`; it prints Markdown tables and, for each goal, whether it is met.
The exit status is 1 when one is missed. What is measured, and how, is in `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from measuring import AGENT, Cost, Place, machine, measured, median, scripted_server, spread, table
from peer import peer_python, peer_version

STEPS = 250
WINDOW = 10  # steps that are compared at the beginning and at the end; what is counted begins behind the first
LAST = STEPS - 1
LOOKED_AT = (0, 1, WINDOW, WINDOW + 1, LAST - WINDOW, LAST)  # turns at whose start the clocks are read
MOST_CPU, MOST_GROWTH, MOST_SHARE, MOST_MEMORY, MOST_HELP = 5.0, 1.3, 0.2, 100.0, 0.15
KEPT, DROPPED = "mini-swe-agent", "mini-swe-agent, nothing kept"


Clocks = dict[int, list[int]]  # turn -> nanoseconds of CPU of the agent, its guest, its commands, and of wall time


@dataclass(slots=True)
class Side:
    """The runs of one agent in one setting; one item per round."""

    name: str
    runs: list[Cost] = field(default_factory=list)  # whole processes
    clocks: list[Clocks] = field(default_factory=list)

    def parts(self) -> list[list[float]]:
        """Milliseconds per step: the agent's CPU, the guest's, the commands', and wall time."""
        steps = (LAST - WINDOW) * 1e6
        return [[(b - a) / steps for a, b in zip(c[WINDOW], c[LAST], strict=True)] for c in self.clocks]

    def cpu(self) -> list[float]:
        return [own + guest + commands for own, guest, commands, _ in self.parts()]

    def wall(self) -> list[float]:
        return [wall for *_, wall in self.parts()]

    def growth(self, first: int = 1) -> list[float]:
        """CPU of the last steps over that of as many from `first` on; without the commands, which are too short."""
        return [
            (sum(c[LAST][:2]) - sum(c[LAST - WINDOW][:2])) / (sum(c[first + WINDOW][:2]) - sum(c[first][:2]))
            for c in self.clocks
        ]

    def start(self) -> list[float]:
        """Milliseconds of CPU that a run costs besides its steps. A sandbox's own processes are not in it."""
        outside = [1, 0, 0, 0] if self.name in ("bubblewrap", "docker") else [1, 1, 1, 0]
        steps = [sum(a * b for a, b in zip(outside, parts, strict=True)) for parts in self.parts()]
        return [run.cpu * 1e3 - STEPS * step for run, step in zip(self.runs, steps, strict=True)]

    def peak(self) -> float:
        return max(cost.peak for cost in self.runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="repetitions; medians are shown")
    parser.add_argument("--check", action="store_true", help="only what the goals need: fewer rounds, fewer settings")
    parser.add_argument("--no-peer", action="store_true", help="measure only ours")
    options = parser.parse_args()
    rounds = min(options.rounds, 3) if options.check else options.rounds
    python = None if options.no_peer else peer_python()
    with tempfile.TemporaryDirectory(prefix="patchwright-bench-") as folder:
        place = Place(Path(folder))
        place.make_repo()
        with scripted_server(place) as url:
            ours = [Side(kind) for kind in (["none"] if options.check else sandboxes())]
            theirs = [Side(name) for name in ((KEPT,) if options.check else (KEPT, DROPPED))] if python else []
            place.fix(url, "none", 2)  # compiles what this machine hasn't compiled yet
            before = machine()
            floor: dict[str, list[float]] = {"bash": [], "sh": []}
            for number in range(rounds):
                print(f"round {number + 1} of {rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
                for side in ours:
                    run_ours(place, url, side)
                for side in theirs:
                    run_theirs(place, url, side, python)
                for shell, costs in floor.items():
                    costs.append(shell_cost(shell))
        helped = help_costs(place)
    show(ours, theirs, helped)
    print("\n" + "; ".join(f"`{shell} -c true` alone: {spread(costs)} ms" for shell, costs in floor.items()) + ".")
    print(f"\nMachine: {before} before and {os.getloadavg()[0]:.1f} after; {rounds} rounds.\n")
    missed = [line for met, line in goals(ours, theirs, helped) if not met]
    for met, line in goals(ours, theirs, helped):
        print(f"{'met   ' if met else 'MISSED'} {line}")
    sys.exit(1 if missed else 0)


def sandboxes() -> list[str]:
    """The kinds that work here; `none` first."""
    from sandbox.choose import available

    usable = [fact.kind for fact in available() if fact.usable]
    return ["none", *(kind for kind in ("bubblewrap", "docker") if kind in usable)]


# -- running


def run_ours(place: Place, url: str, side: Side) -> None:
    side.runs.append(place.fix(url, side.name, STEPS))
    probe = [sys.executable, "-P", str(Path(__file__).with_name("probe.py"))]  # `sandbox` is not sandbox.py here
    command = [*probe, str(place.repo), url, side.name, str(STEPS), ",".join(map(str, LOOKED_AT))]
    side.clocks.append(_clocks(measured(command, env=place.environment(), cwd=place.folder)))


def run_theirs(place: Place, url: str, side: Side, python: Path | None) -> None:
    loop = [str(python), str(Path(__file__).with_name("peer_loop.py")), url, str(STEPS), str(place.folder)]
    command = [*loop, "keep" if side.name == KEPT else "drop", ",".join(map(str, LOOKED_AT))]
    side.runs.append(measured(command, env=place.environment(PYTHONPATH=""), cwd=place.folder))
    side.clocks.append(_clocks(side.runs[-1]))


def _clocks(cost: Cost) -> Clocks:
    return {int(turn): clocks for turn, clocks in json.loads(cost.out.splitlines()[-1])["seen"].items()}


def shell_cost(shell: str, times: int = 100) -> float:
    """CPU milliseconds of the shell that a step starts, by itself: ours is bash, the peer's sh."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(times):
        subprocess.run([shell, "-c", "true"], stdin=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / times * 1e3


def help_costs(place: Place) -> list[float]:
    """CPU seconds of `agent --help`, ten times."""
    return [measured([*AGENT, "--help"], env=place.environment(), cwd=place.folder).cpu for _ in range(10)]


# -- showing


def show(ours: Sequence[Side], theirs: Sequence[Side], helped: Sequence[float]) -> None:
    rows, parts = [], []
    for side in (*ours, *theirs):
        name = side.name if side in theirs else f"ours, {side.name}"
        shares = [f"{median(ratios(side, peer)):.2f}" for peer in theirs]
        growth = f"{median(side.growth()):.2f} ({median(side.growth(0)):.2f})"
        start = f"{median(side.start()):.0f}"
        rows.append(
            [name, spread(side.cpu()), f"{median(side.wall()):.1f}", f"{side.peak():.0f}", start, growth, *shares]
        )
        own, guest, commands, _ = (f"{median(column):.2f}" for column in zip(*side.parts(), strict=True))
        parts.append([name, own, *((guest, commands) if side.name != "docker" else ("not counted",) * 2)])
    head = ["", "CPU ms per step", "wall ms per step", "peak MiB", "start, CPU ms", "last 10 / first 10"]
    print(table([*head, *(f"CPU / {peer.name}" for peer in theirs)], rows))
    print("\n" + table(["CPU ms per step", "agent", "guest", "the commands' processes"], parts))
    if theirs:
        print(f"\nmini-swe-agent is version {peer_version()}.", end="")
    print(f"\n`agent --help`: {min(helped) * 1e3:.0f} ms of CPU at least, {median(helped) * 1e3:.0f} in the median.")


def ratios(side: Side, peer: Side) -> list[float]:
    return [a / b for a, b in zip(side.cpu(), peer.cpu(), strict=True)]


def goals(ours: Sequence[Side], theirs: Sequence[Side], helped: Sequence[float]) -> Iterator[tuple[bool, str]]:
    """(met, what was wanted and what came) for each goal.

    For what must not cost more than so much, the best round counts, because whatever else runs on a machine only
    ever adds to it. Growth counts without the very first step, which imports what the others have.
    """
    for side in ours:
        cpu, growth, peak = min(side.cpu()), median(side.growth()), side.peak()
        yield cpu <= MOST_CPU, f"{side.name}: {cpu:.2f} ms of CPU per step in the best round, at most {MOST_CPU}"
        yield (
            growth <= MOST_GROWTH,
            f"{side.name}: last {WINDOW} steps {growth:.2f} of the first, at most {MOST_GROWTH}",
        )
        yield peak < MOST_MEMORY, f"{side.name}: {peak:.0f} MiB at the peak, less than {MOST_MEMORY:.0f}"
        for peer in theirs[:1]:
            share = median(ratios(side, peer))
            yield share <= MOST_SHARE, f"{side.name}: {share:.3f} of {peer.name}'s CPU per step, at most {MOST_SHARE}"
    seconds = median(helped)
    yield seconds < MOST_HELP, f"`agent --help`: {seconds:.3f} s of CPU, less than {MOST_HELP}"


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}")
