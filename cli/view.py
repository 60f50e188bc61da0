"""What a person sees of a run: a reader of its events, live in a terminal or as plain lines elsewhere.

`--json` prints each event as it is written, and progress; pieces of a turn as it comes are only for eyes.
Left out: anything that isn't in an event.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent.ends import EXPLANATIONS, Outcome
from agent.events import Event, EventType, Listener
from agent.usage import turn_usage

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from agent.fix import FixResult

_MOST_LINES = 12  # of one observation or one argument that are shown


def listeners(as_json: bool) -> tuple[Listener, ...]:
    if as_json:
        return (print_json,)
    return (TerminalView() if sys.stdout.isatty() else PlainView(),)


def print_json(event: Event) -> None:
    if event.type is not EventType.DELTA:
        sys.stdout.write(event.to_json().encode("utf-8", "backslashreplace").decode() + "\n")
        sys.stdout.flush()


class Totals:
    """What the status line shows, kept from events."""

    def __init__(self, *, live: bool = False) -> None:
        self.step = self.written = self.prompt = self.prompts = self.cached = 0
        self.first = self.last = 0.0  # times of events
        self.live = live  # the clock goes on between events
        self.doing = "starting"

    def take(self, event: Event) -> None:
        self.first, self.last = self.first or event.time, event.time
        match event.type:
            case EventType.TURN_STARTED:
                self.step, self.prompt, self.doing = event.data["turn"] + 1, event.data["prompt"], "thinking"
            case EventType.TURN:
                usage = event.data["usage"]
                self.written += usage["completion"]
                self.prompts += usage["prompt"]
                self.cached += usage["cached"]
            case EventType.CALL_STARTED:
                self.doing = f"running {event.data['name']}"
            case EventType.CHECK_STARTED:
                self.doing = "verifying"
            case EventType.PROGRESS:
                self.doing = event.data["text"]
            case _:
                pass

    def line(self) -> str:
        share = f"{self.cached / self.prompts:.0%} cached" if self.prompts else "nothing cached yet"
        spent = int((time.time() if self.live else self.last) - self.first)
        return (
            f"step {self.step} | {self.prompt} tokens in, {self.written} out, {share} | "
            f"{spent // 60}:{spent % 60:02d}" + (f" | {self.doing}" if self.doing else "")
        )


Line = tuple[str, str]  # (name in `STYLES`, text)


def describe(event: Event, totals: Totals) -> list[Line]:
    """The lines of an event that is worth showing."""
    if event.type is EventType.LOOP_ENDED:
        totals.doing = ""
        return [("head", f"{event.data['end']}: {event.data['message']}"), ("note", totals.line())]
    shown = _SHOWN.get(event.type)
    return shown(event.data) if shown else []


def _started(data: dict[str, Any]) -> list[Line]:
    return [
        ("head", f"run {data['run']}"),
        ("note", f"base {data['base']['commit'][:12]}, issue from {data['issue']['source']}"),
        *(("failed", note) for note in data["base"]["notes"]),
    ]


def _died(data: dict[str, Any]) -> list[Line]:
    then = "a new one goes on from the last step" if data["replaced"] else "given up"
    return [("failed", f"in {data['call']}: {data['why']} {then}")]


def _connected(data: dict[str, Any]) -> list[Line]:
    served = " ".join(filter(None, (data["engine"], data["version"])))
    lines = [("note", f"model {data['name']} ({served}), {data['context']} tokens of context")]
    return lines + [("failed", note) for note in data["notes"]]


def _opened(data: dict[str, Any]) -> list[Line]:
    network = data.get("network", "none")
    text = f"sandbox {data['kind']} {_image(data['image'])}".rstrip()
    return [("note", text if network == "none" else f"{text}, network {network}")]


def _network(data: dict[str, Any]) -> list[Line]:
    return [] if data["allowed"] else [("failed", f"network: {data['target'] or 'a request'} refused: {data['why']}")]


def _image(name: str) -> str:
    """A tag as it is; of a folder with a root file system its name."""
    return f"({name.rsplit('/', 1)[-1] if name.startswith('/') else name})" if name else ""


def _observation(data: dict[str, Any]) -> list[Line]:
    return [("failed" if data["failed"] else "observation", line) for line in _short(data["text"])]


def _observed(data: dict[str, Any]) -> list[Line]:
    return [("failed", line) for line in _short(data["nudge"])] if data["nudge"] else []


def _patch(data: dict[str, Any]) -> list[Line]:
    return [("head", "patch: " + ", ".join(f"{status} {path}" for status, path in data["files"]))]


def _turn(data: dict[str, Any]) -> list[Line]:
    usage = data["usage"]
    share = f", {usage['cached'] / usage['prompt']:.0%} of {usage['prompt']} cached" if usage["prompt"] else ""
    lines = [("step", f"-- step {data['turn'] + 1}: {usage['completion']} tokens in {data['seconds']:.1f} s{share}")]
    if lost := turn_usage(data).lost:
        lines.append(("note", f"not cached: {lost}"))
    lines += [("thinking", line) for line in (data["reasoning"] or "").strip().splitlines()]
    lines += [("content", line) for line in data["content"].strip().splitlines()]
    for call in data["calls"]:
        lines.append(("call", f"> {call['name']}"))
        for name, value in call["arguments"].items():
            lines += [("argument", f"  {name}: {line}") for line in _short(str(value))]
    return lines


def _check(data: dict[str, Any]) -> list[Line]:
    if data["kind"] == "apply":
        passed = data["passed"]
        text = "the patch applies to a clean checkout" if passed else "the patch does NOT apply to a clean checkout"
        return [("good" if passed else "failed", text)]
    style = "good" if data["verdict"] in ("fixed", "kept") else "failed"
    before, after = data["before"]["exit_code"], data["after"]["exit_code"]
    return [
        (style, f"{data['verdict']}: {_short(data['command'])[0]} (exit {before} without the patch, {after} with it)")
    ]


_SHOWN: dict[EventType, Callable[[dict[str, Any]], list[Line]]] = {
    EventType.RUN_STARTED: _started,
    EventType.RUN_RESUMED: lambda data: [("head", "resumed")],
    EventType.FOLLOW_UP: lambda data: [("head", f"said to the run: {line}") for line in _short(data["text"])],
    EventType.SANDBOX_OPENED: _opened,
    EventType.SANDBOX_DIED: _died,
    EventType.MODEL_CONNECTED: _connected,
    EventType.NETWORK: _network,
    EventType.PROGRESS: lambda data: [("note", data["text"])],
    EventType.TURN: _turn,
    EventType.OBSERVATION: _observation,
    EventType.OBSERVED: _observed,
    EventType.MODEL_RETRY: lambda data: [("failed", f"model: {data['why']}; again in {data['wait']} s")],
    EventType.TURN_DROPPED: lambda data: [("failed", f"turn dropped: {data['why']}")],
    EventType.PATCH: _patch,
    EventType.CHECK: _check,
    EventType.DELIVERED: lambda data: [("note", "delivered: " + ", ".join(f"{k} {v}" for k, v in data.items()))],
}


def _short(text: str) -> list[str]:
    lines = text.strip().splitlines() or [""]
    if len(lines) <= _MOST_LINES:
        return lines
    half = _MOST_LINES // 2
    return [*lines[:half], f"... {len(lines) - 2 * half} lines ...", *lines[-half:]]


def _clean(line: str) -> str:
    """Without control characters: what a repository prints must not drive the user's terminal."""
    return "".join(char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in line)


class PlainView:
    """One line after another, for files and pipes."""

    def __init__(self) -> None:
        self._totals = Totals()

    def __call__(self, event: Event) -> None:
        self._totals.take(event)
        for _, line in describe(event, self._totals):
            print(_clean(line))
        sys.stdout.flush()


STYLES = {
    "head": "bold",
    "note": "cyan",
    "step": "cyan dim",
    "thinking": "dim italic",
    "content": "",
    "call": "bold magenta",
    "argument": "magenta",
    "observation": "",
    "failed": "red",
    "good": "green",
}


class TerminalView:
    """Lines as they come, with the turn that is being written and a status line below them."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self._console = console or Console(highlight=False)
        self._totals = Totals(live=True)
        self._partial = ""
        self._live: Live | None = None

    def __call__(self, event: Event) -> None:
        self._totals.take(event)
        if event.type is EventType.DELTA:
            self._partial = (self._partial + getattr(event.data["event"], "text", ""))[-2000:]
        elif event.type in (EventType.TURN, EventType.TURN_DROPPED, EventType.TURN_STARTED):
            self._partial = ""
        live = self._started()
        for style, line in describe(event, self._totals):
            live.console.print(_clean(line), style=STYLES[style], markup=False)
        if event.type is EventType.RUN_ENDED:
            live.stop()
            self._live = None

    def _started(self) -> Live:
        if self._live is None:
            from rich.live import Live

            self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=8, transient=True)
            self._live.start()
        return self._live

    def _render(self) -> Text:
        from rich.text import Text

        tail = "\n".join(_clean(line) for line in self._partial.strip().splitlines()[-6:])
        text = Text(tail + "\n" if tail else "", style=STYLES["thinking"])
        return text.append(self._totals.line(), style="reverse")


def summary(result: FixResult) -> None:
    """The last words: outcome, where the patch lies, what to do next."""
    print()
    print(f"{result.outcome.upper()} (exit code {result.exit_code}): {EXPLANATIONS[result.outcome]}")
    if result.message and result.outcome is not Outcome.VERIFIED:
        print(_clean(result.message))
    if result.patch:
        print(f"patch: {result.patch}")
    print(f"look at it again: agent runs show {result.run}")
