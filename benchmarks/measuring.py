"""What the benchmarks share: measured processes, the scripted server, small repositories, tables.

`python benchmarks/measuring.py REPORT COMMAND...` runs a command and writes what it and everything that it started
cost to the file REPORT. Left out: what is measured and what the goals are.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # also where the project isn't installed
AGENT = (sys.executable, "-m", "cli.main")
ISSUE = "Nothing is wrong\n\nRun a command that does nothing, again and again."
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


class BenchmarkError(Exception):
    """A run that didn't do what it was to do; its numbers would mean nothing."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process and all that it started took. Seconds; `peak` is that of the largest process, in MiB."""

    cpu: float
    wall: float
    peak: float
    code: int
    out: str


def measured(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, expect: Sequence[int] = (0,)) -> Cost:
    """Run a command to its end. Raises BenchmarkError for an exit status that isn't expected.

    A process of its own waits for it: one that is small, so that the peak is not this one's, and that orphans are
    handed to, so that nothing is left out. Containers of an engine run elsewhere and are not counted.
    """
    report = Path(env["BENCHMARK_FOLDER"]) / "cost.json"
    runner = [sys.executable, "-I", "-S", __file__, str(report), *command]
    done = subprocess.run(runner, env=dict(env), cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command[:4])} could not be measured: {done.stderr[-2000:]}")
    found = json.loads(report.read_text())
    if found["code"] not in expect:
        said = (done.stderr or done.stdout)[-2000:]
        raise BenchmarkError(f"{' '.join(command[:4])} ended with status {found['code']}: {said}")
    return Cost(found["cpu"], found["wall"], found["peak"], found["code"], done.stdout)


def _run_and_report(report: Path, command: list[str]) -> None:
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    started = time.monotonic()
    main = os.posix_spawnp(command[0], command, os.environ)
    cpu, found = 0.0, {}
    while True:
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            break
        cpu += usage.ru_utime + usage.ru_stime
        if pid == main:
            found = {"wall": time.monotonic() - started, "peak": usage.ru_maxrss / 1024}
            found["code"] = os.waitstatus_to_exitcode(status)
    report.write_text(json.dumps({**found, "cpu": cpu}))


# -- what is run


@dataclass(frozen=True, slots=True)
class Place:
    """A folder for one benchmark: repository, home for runs, reports."""

    folder: Path

    @property
    def repo(self) -> Path:
        return self.folder / "repo"

    def environment(self, **more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PATCHWRIGHT_", "GITHUB_"))}
        if cache := os.environ.get("PATCHWRIGHT_CACHE"):
            kept["PATCHWRIGHT_CACHE"] = cache
        home = {"PATCHWRIGHT_HOME": str(self.folder / "home"), "BENCHMARK_FOLDER": str(self.folder)}
        return {**kept, **home, "PYTHONPATH": str(REPOSITORY), **more}

    def make_repo(self, files: int = 20) -> None:
        """A repository of one commit with so many small files, a hundred to a folder."""
        shutil.rmtree(self.repo, ignore_errors=True)
        for number in range(files):
            path = self.repo / f"part{number // 100}" / f"module{number}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'"""Module {number}."""\n\nVALUE = {number}\n')
        author = ("-c", "user.name=Benchmark", "-c", "user.email=benchmark@example.invalid")
        for arguments in (("init", "-q", "-b", "main"), ("add", "-A"), (*author, "commit", "-q", "-m", "Start")):
            subprocess.run(["git", "-C", str(self.repo), *arguments], check=True)

    def agent(self, *arguments: str, expect: Sequence[int] = (0,)) -> Cost:
        return measured([*AGENT, *arguments], env=self.environment(), cwd=self.folder, expect=expect)

    def fix(self, url: str, sandbox: str, steps: int) -> Cost:
        """`agent fix` for so many steps, which a limit then ends (exit status 5); its events are in `out`."""
        options = ("--model", url, "--sandbox", sandbox, "--max-steps", str(steps), "--json")
        cost = self.agent("fix", str(self.repo), ISSUE, *options, expect=(5,))
        turns = sum('"type":"observed"' in line for line in cost.out.splitlines())
        if turns != steps:
            raise BenchmarkError(f"{turns} steps were made instead of {steps}")
        shutil.rmtree(self.folder / "home", ignore_errors=True)
        return cost


@contextmanager
def scripted_server(place: Place, command: str = "true") -> Iterator[str]:
    """`agent model script` in a process of its own, where every turn is one call of `bash`; gives its URL."""
    calls = [{"name": "bash", "arguments": {"command": command}}]
    turn = {"reasoning": "Next step.", "content": "", "calls": calls, "repeat": 100_000}
    script = place.folder / "script.json"
    script.write_text(json.dumps({"turns": [turn], "name": "scripted", "context_length": 10_000_000}))
    server = subprocess.Popen(
        [*AGENT, "model", "script", str(script), "--quiet"],
        env=place.environment(),
        cwd=place.folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        if "http://" not in line:
            raise BenchmarkError(f"the scripted server did not start: {line!r}")
        yield line[line.index("http://") :].strip()
    finally:
        server.terminate()
        server.wait(10)


# -- numbers


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, with the smallest and the largest value behind it."""
    if len(values) < 2:
        return f"{median(values):.{digits}f}"
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    lines.insert(1, "|---|" + "---:|" * (len(head) - 1))
    return "\n".join(lines)


def machine() -> str:
    """The machine in one line: processors, Python, load now."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    return f"{os.cpu_count()} cores, Python {version}, load {os.getloadavg()[0]:.1f}"


def as_json(values: Any) -> str:
    return json.dumps(values, separators=(",", ":"))


if __name__ == "__main__":
    _run_and_report(Path(sys.argv[1]), sys.argv[2:])
