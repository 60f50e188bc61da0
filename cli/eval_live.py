"""What a person sees of an evaluation run: a live table in a terminal, plain lines elsewhere, or JSON for programs.

All of them are told the same things: what happens to attempts (`evals.runs.pipeline.Watch`) and records as they end.
Left out: the report at the end (`evals.report`).
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cli.eval_options import printable, table

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console, RenderableType
    from rich.live import Live

    from evals.runs.record import AttemptKey, AttemptRecord

_MOST_ROWS: Final = 24  # attempts that the table names
_TELL_SECONDS: Final = 30.0  # between two lines on how far it is


@dataclass(slots=True)
class Going:
    """An attempt that this process works on."""

    doing: str = "starting"
    step: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    since: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Tally:
    """How far a run is: records that are there, and attempts that are going on here."""

    run: str
    total: int
    going: dict[str, Going] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    instances: dict[str, tuple[int, int]] = field(default_factory=dict)  # resolved, ended
    ended: int = 0
    before: int = 0  # of those, before this process
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    cost: float | None = None
    began: float = field(default_factory=time.monotonic)

    def take(self, record: AttemptRecord) -> None:
        from evals.runs.record import AttemptKey

        self.going.pop(AttemptKey(record.run, record.instance_id, record.attempt).job, None)
        self.ended += 1
        self.counts[record.status] = self.counts.get(record.status, 0) + 1
        resolved, ended = self.instances.get(record.instance_id, (0, 0))
        self.instances[record.instance_id] = (resolved + (record.status == "resolved"), ended + 1)
        if record.predicted is not None:
            usage = record.predicted.usage
            self.prompt += usage.prompt_tokens
            self.cached += usage.cached_tokens
            self.completion += usage.completion_tokens
            if usage.cost is not None:
                self.cost = (self.cost or 0.0) + usage.cost

    def hear(self, key: AttemptKey, what: str, details: Mapping[str, Any]) -> None:
        going = self.going.setdefault(key.job, Going())
        match what:
            case "agent" | "progress":
                going.doing = str(details.get("doing", going.doing))
                if "turn" in details:
                    going.step = details["turn"]
                    going.prompt += details["prompt"] or 0
                    going.cached += details["cached"] or 0
                    going.completion += details["completion"] or 0
            case "retry":
                going.doing = f"again in {details['wait']:.0f} s: {details['why']}"
            case "judge":
                going.doing = "running the tests"
            case _:
                going.doing = what

    @property
    def resolved(self) -> int:
        return self.counts.get("resolved", 0)

    def left(self) -> float | None:
        """Seconds until the end, at the pace of this process so far; None before anything has ended in it."""
        done = self.ended - self.before
        return None if done <= 0 else (time.monotonic() - self.began) / done * (self.total - self.ended)

    def line(self) -> str:
        """All of it in one line."""
        parts = [f"{self.ended} of {self.total}", self.resolved_line()]
        for status, name in (("no_patch", "without a patch"), ("infrastructure", "without a verdict")):
            if count := self.counts.get(status, 0):
                parts.append(f"{count} {name}")
        return " | ".join([*parts, *self.used()])

    def resolved_line(self) -> str:
        from evals.statistics import wilson_clustered

        if not self.ended:
            return "nothing resolved yet"
        interval = wilson_clustered(list(self.instances.values()))
        share = f"{self.resolved / self.ended:.0%}, {interval.low:.0%} to {interval.high:.0%}"
        return f"resolved {self.resolved} of {self.ended} ({share})"

    def used(self) -> list[str]:
        going = list(self.going.values())
        prompt = self.prompt + sum(one.prompt for one in going)
        cached = self.cached + sum(one.cached for one in going)
        written = self.completion + sum(one.completion for one in going)
        parts = []
        if prompt:
            parts.append(f"{_short(prompt)} tokens in, {_short(written)} out, {cached / prompt:.0%} cached")
        if self.cost is not None:
            parts.append(f"${self.cost:.2f}")
        if (left := self.left()) is not None and self.ended < self.total:
            parts.append(f"{_clock(left)} left")
        return parts


def view_of(as_json: bool, run: str, total: int) -> PlainView:
    """The view that fits: JSON if asked for, a table in a terminal, lines elsewhere."""
    if as_json:
        return JsonView(Tally(run, total))
    return TableView(Tally(run, total)) if sys.stdout.isatty() else PlainView(Tally(run, total))


class PlainView:
    """A line for each attempt that ends, and one now and then on how far it is."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self._told = time.monotonic()
        self._lock = threading.Lock()  # environments tell of their progress from other threads

    def watch(self, key: AttemptKey, what: str, details: Mapping[str, Any]) -> None:
        with self._lock:
            self.tally.hear(key, what, details)
            self.happened(key, what, details)

    def ended(self, record: AttemptRecord, before: bool = False) -> None:
        with self._lock:
            self.tally.take(record)
            self.tally.before += before
            self.finished(record, before)

    def happened(self, key: AttemptKey, what: str, details: Mapping[str, Any]) -> None:
        if what == "retry":
            self.say(f"{_name(key)}: {details['why']}; again in {details['wait']:.0f} s")
        elif time.monotonic() - self._told > _TELL_SECONDS:
            self._told = time.monotonic()
            self.say(self.tally.line())

    def finished(self, record: AttemptRecord, before: bool) -> None:
        if not before:
            self.say(ended_line(record))
            self.say(f"  {self.tally.line()}")

    def say(self, text: str) -> None:
        print("\n".join(map(printable, text.split("\n"))), flush=True)

    def report(self, report: Mapping[str, Any], lines: list[tuple[str, str]], folder: Path) -> None:
        """The last words: the report in short, and where all of it lies."""
        self.say("")
        for line in table([(name, printable(value)) for name, value in lines]):
            self.say(line)
        self.say(f"\n{folder / 'report.html'}")

    def close(self) -> None:
        """The table, if there is one, goes."""


class JsonView(PlainView):
    """One object per line: what happens to attempts, records as they end (without the lists of tests)."""

    def happened(self, key: AttemptKey, what: str, details: Mapping[str, Any]) -> None:
        said = {"event": what, "instance_id": key.instance_id, "attempt": key.attempt, **details}
        self._write(said)

    def finished(self, record: AttemptRecord, before: bool) -> None:
        data = record.to_json()
        if data["judged"]:
            data["judged"]["report"] = {k: v for k, v in data["judged"]["report"].items() if k != "tests_status"}
        self._write({"event": "ended", "before": before, **data})

    def say(self, text: str) -> None:
        self._write({"event": "said", "text": text})

    def report(self, report: Mapping[str, Any], lines: list[tuple[str, str]], folder: Path) -> None:
        said = {name: report[name] for name in ("counts", "resolved", "repeats")}
        self._write({"event": "report", "run": self.tally.run, "folder": str(folder), **said})

    def _write(self, said: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


class TableView(PlainView):
    """Attempts that are going on, and a line for all, drawn anew a few times a second; what ended scrolls above."""

    def __init__(self, tally: Tally, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(tally)
        self._console = console or Console(highlight=False)
        self._live: Live = Live(get_renderable=self.render, console=self._console, refresh_per_second=4, transient=True)
        self._live.start()

    def happened(self, key: AttemptKey, what: str, details: Mapping[str, Any]) -> None:
        if what == "retry":
            self.say(f"{_name(key)}: {details['why']}; again in {details['wait']:.0f} s")

    def finished(self, record: AttemptRecord, before: bool) -> None:
        if not before:
            style = {"resolved": "green", "infrastructure": "yellow"}.get(record.status, "red")
            self._console.print(printable(ended_line(record)), style=style, markup=False)

    def say(self, text: str) -> None:
        self._console.print("\n".join(map(printable, text.split("\n"))), markup=False, soft_wrap=True)

    def render(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        grid = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("instance", "step", "tokens", "time", "doing"):
            grid.add_column(name, no_wrap=True, justify="right" if name in ("step", "tokens", "time") else "left")
        shown = list(self.tally.going.items())
        for job, one in shown[:_MOST_ROWS]:
            name = job.partition("/")[2].removesuffix("/1")
            row = (name, str(one.step or ""), _short(one.completion) if one.completion else "")
            grid.add_row(*map(Text, (*row, _clock(time.monotonic() - one.since), printable(one.doing))))
        if len(shown) > _MOST_ROWS:
            grid.add_row(Text(f"{len(shown) - _MOST_ROWS} more"))
        bar = ProgressBar(total=max(self.tally.total, 1), completed=self.tally.ended, width=40)
        return Group(grid, bar, Text(self.tally.line(), style="reverse"))

    def close(self) -> None:
        self._live.stop()


def ended_line(record: AttemptRecord) -> str:
    """What came of an attempt."""
    names = {"resolved": "RESOLVED", "unresolved": "unresolved", "no_patch": "no patch", "infrastructure": "NO VERDICT"}
    again = f" (attempt {record.attempt})" if record.attempt > 1 else ""
    parts = [f"{names[record.status]}: {record.instance_id}{again}"]
    if record.predicted is not None and record.predicted.usage.steps:
        usage = record.predicted.usage
        parts.append(f"{usage.steps} steps, {_short(usage.completion_tokens)} tokens, {_clock(usage.seconds)}")
    why = record.infrastructure or (record.judged.doubt if record.judged else "")
    return " | ".join([*parts, *([why] if why else [])])


def _name(key: AttemptKey) -> str:
    return key.instance_id if key.attempt == 1 else f"{key.instance_id} (attempt {key.attempt})"


def _short(count: int) -> str:
    if count < 10_000:
        return str(count)
    return f"{count / 1000:.0f}k" if count < 1_000_000 else f"{count / 1e6:.1f}M"


def _clock(seconds: float) -> str:
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{whole // 60}:{whole % 60:02d}"
