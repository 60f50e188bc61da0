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

SHORT, LONG = 25, 250  # what starting costs is in both, and drops out of their difference
WINDOW = 10  # steps that are compared at the beginning and at the end
MOST_CPU, MOST_GROWTH, MOST_SHARE, MOST_MEMORY, MOST_HELP = 5.0, 1.3, 0.2, 100.0, 0.15
KEPT, DROPPED = "mini-swe-agent", "mini-swe-agent, nothing kept"


@dataclass(slots=True)
class Side:
    """The runs of one agent in one setting."""

    name: str
    short: list[Cost] = field(default_factory=list)
    long: list[Cost] = field(default_factory=list)
    growth: list[float] = field(default_factory=list)  # the last steps over the first, each of which a warm one
    growth_cold: list[float] = field(default_factory=list)  # the same with the very first step
    split: list[tuple[float, float]] = field(default_factory=list)  # CPU ms per step: our process, the guest

    def per_step(self, what: str) -> list[float]:
        """Milliseconds of `cpu` or `wall` per step, without what a run costs once; one per repetition."""
        pairs = zip(self.short, self.long, strict=True)
        return [(getattr(b, what) - getattr(a, what)) / (LONG - SHORT) * 1e3 for a, b in pairs]

    def least(self) -> float:
        """The CPU of the best repetition: whatever else runs on a machine only ever adds to it."""
        return min(self.per_step("cpu"))

    def start(self) -> list[float]:
        """Milliseconds of CPU that a run costs besides its steps."""
        return [a.cpu * 1e3 - SHORT * step for a, step in zip(self.short, self.per_step("cpu"), strict=True)]

    def peak(self) -> float:
        return max(cost.peak for cost in self.long)


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
    side.short.append(place.fix(url, side.name, SHORT))
    side.long.append(place.fix(url, side.name, LONG))
    probe = [sys.executable, str(Path(__file__).with_name("probe.py"))]
    command = [*probe, str(place.repo), url, side.name, str(LONG)]
    found = json.loads(measured(command, env=place.environment(), cwd=place.folder).out)
    own, guest = ([row[column] for row in found["rows"]] for column in (0, 1))
    note_growth(side, [a + b for a, b in zip(own, guest, strict=True)])
    steps = (len(own) - 1 - WINDOW) * 1e6
    side.split.append(((own[-1] - own[WINDOW]) / steps, (guest[-1] - guest[WINDOW]) / steps))


def run_theirs(place: Place, url: str, side: Side, python: Path | None) -> None:
    loop = [str(python), str(Path(__file__).with_name("peer_loop.py")), url]
    for steps, costs in ((SHORT, side.short), (LONG, side.long)):
        command = [*loop, str(steps), str(place.folder), "keep" if side.name == KEPT else "drop"]
        costs.append(measured(command, env=place.environment(PYTHONPATH=""), cwd=place.folder))
    note_growth(side, json.loads(side.long[-1].out.splitlines()[-1]))


def note_growth(side: Side, starts: Sequence[int]) -> None:
    last = starts[-1] - starts[-1 - WINDOW]
    side.growth.append(last / (starts[1 + WINDOW] - starts[1]))
    side.growth_cold.append(last / (starts[WINDOW] - starts[0]))


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
    rows = []
    for side in (*ours, *theirs):
        name = side.name if side in theirs else f"ours, {side.name}"
        cpu, wall = side.per_step("cpu"), side.per_step("wall")
        shares = [f"{share:.2f}" for peer in theirs for share in (median(ratios(side, peer)),)]
        growth = f"{median(side.growth):.2f} ({median(side.growth_cold):.2f})"
        start = f"{median(side.start()):.0f}"
        rows.append([name, spread(cpu), f"{median(wall):.1f}", f"{side.peak():.0f}", start, growth, *shares])
    head = ["", "CPU ms per step", "wall ms per step", "peak MiB", "start, CPU ms", "last 10 / first 10"]
    print(table([*head, *(f"CPU / {peer.name}" for peer in theirs)], rows))
    if theirs:
        print(f"\nmini-swe-agent is version {peer_version()}.")
    parts = []
    for side in ours:
        own, guest = (median([pair[column] for pair in side.split]) for column in (0, 1))
        rest = "elsewhere" if side.name == "docker" else f"{median(side.per_step('cpu')) - own - guest:.2f}"
        parts.append([side.name, f"{own:.2f}", "elsewhere" if side.name == "docker" else f"{guest:.2f}", rest])
    print("\n" + table(["CPU ms per step", "our process", "guest", "the commands' processes"], parts))
    print(f"\n`agent --help`: {min(helped) * 1e3:.0f} ms of CPU at least, {median(helped) * 1e3:.0f} in the median.")


def ratios(side: Side, peer: Side) -> list[float]:
    return [a / b for a, b in zip(side.per_step("cpu"), peer.per_step("cpu"), strict=True)]


def goals(ours: Sequence[Side], theirs: Sequence[Side], helped: Sequence[float]) -> Iterator[tuple[bool, str]]:
    """(met, what was wanted and what came) for each goal. Growth counts without the first step, which imports."""
    for side in ours:
        cpu = side.least()
        yield cpu <= MOST_CPU, f"{side.name}: {cpu:.2f} ms of CPU per step in the best round, at most {MOST_CPU}"
        growth = median(side.growth)
        yield (
            growth <= MOST_GROWTH,
            f"{side.name}: last {WINDOW} steps {growth:.2f} of the first, at most {MOST_GROWTH}",
        )
        peak = side.peak()
        yield peak < MOST_MEMORY, f"{side.name}: {peak:.0f} MiB at the peak, less than {MOST_MEMORY:.0f}"
        for peer in theirs[:1]:
            share = median(ratios(side, peer))
            yield share <= MOST_SHARE, f"{side.name}: {share:.3f} of {peer.name}'s CPU per step, at most {MOST_SHARE}"
    least = median(helped)
    yield least < MOST_HELP, f"`agent --help`: {least:.3f} s of CPU, less than {MOST_HELP}"


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}")
