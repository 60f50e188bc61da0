"""Metrics of runs in Prometheus' text format, made of events and of nothing else.

`RunMetrics` adds up over as many runs as its readers are fed; `text` is what a scrape or the node exporter's textfile
collector reads. The format needs forty lines, so no library is asked for (`docs/decisions/0014-metrics.md`).
Left out: the server's own metrics, which it serves at `/metrics`; and serving ours over HTTP.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final
from urllib.parse import urlsplit

_Labels = tuple[str, ...]

SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
PER_SECOND: Final = (1.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 120.0, 200.0, 400.0)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name without the prefix, what it counts, its labels besides model and host."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()  # of a histogram; none: a counter, or a gauge if the name isn't a total

    @property
    def kind(self) -> str:
        if self.buckets:
            return "histogram"
        return "counter" if self.name.endswith("_total") else "gauge"


FAMILIES: Final = {
    family.name: family
    for family in (
        Family("runs_total", "Runs that have ended.", ("outcome",)),
        Family("turns_total", "Turns that the model has finished."),
        Family("turns_dropped_total", "Turns that were cut off by a limit or an error."),
        Family("model_retries_total", "Requests that were tried again."),
        Family("prompt_tokens_total", "Tokens of all prompts."),
        Family("prompt_tokens_cached_total", "Of these, those that the server said it had cached."),
        Family("prompt_tokens_computed_total", "Tokens of prompts that it computed, by reason.", ("reason",)),
        Family("prompt_cached_ratio", "Cached share of the prompts of which the server says it."),
        Family("completion_tokens_total", "Tokens that the model has written."),
        Family("reasoning_tokens_total", "Of these, tokens of its thinking."),
        Family("cost_dollars_total", "What the host has charged, as far as prices are known."),
        Family("time_to_first_token_seconds", "From a turn's request to its first token.", buckets=SECONDS),
        Family("turn_seconds", "From a turn's request to its last token.", buckets=SECONDS),
        Family("tokens_per_second", "Rate of a turn's tokens behind its first.", buckets=PER_SECOND),
    )
}


class RunMetrics:
    """The sums. Each run is read by a `reader` of its own, since a run's events say which host they are about."""

    def __init__(self) -> None:
        self._values: dict[str, dict[_Labels, float]] = {name: {} for name in FAMILIES}
        self._histograms: dict[str, dict[_Labels, _Histogram]] = {name: {} for name in FAMILIES}
        self._told: dict[_Labels, float] = {}  # tokens of prompts whose host says how many of them it had cached

    def reader(self) -> RunReader:
        return RunReader(self)

    def add(self, name: str, labels: _Labels, amount: float = 1.0) -> None:
        """Count. What is no amount (a host's word for a cost can be anything) isn't counted."""
        if _is_amount(amount):
            values = self._values[name]
            values[labels] = values.get(labels, 0.0) + amount

    def add_cached(self, labels: _Labels, prompt: int, cached: int) -> None:
        """Count a prompt whose host said how much of it was cached."""
        self._told[labels] = self._told.get(labels, 0.0) + prompt
        self.add("prompt_tokens_cached_total", labels, cached)

    def observe(self, name: str, labels: _Labels, value: float) -> None:
        if not _is_amount(value):
            return
        histogram = self._histograms[name].setdefault(labels, _Histogram(FAMILIES[name].buckets))
        histogram.take(value)

    def text(self) -> str:
        """All metrics in Prometheus' text format; a metric without values isn't in it."""
        self._values["prompt_cached_ratio"] = {
            labels: self._values["prompt_tokens_cached_total"].get(labels, 0.0) / prompt
            for labels, prompt in self._told.items()
            if prompt
        }
        return "".join(f"{line}\n" for family in FAMILIES.values() for line in self._lines(family))

    def _lines(self, family: Family) -> Iterator[str]:
        name, names = f"patchwright_{family.name}", ("model", "host", *family.labels)
        samples = [f"{name}{_braces(names, key)} {_number(v)}" for key, v in sorted(self._values[family.name].items())]
        for key, histogram in sorted(self._histograms[family.name].items()):
            samples += [
                f"{name}_bucket{_braces((*names, 'le'), (*key, le))} {count}" for le, count in histogram.cumulative()
            ]
            samples.append(f"{name}_sum{_braces(names, key)} {_number(histogram.total)}")
            samples.append(f"{name}_count{_braces(names, key)} {histogram.count}")
        if samples:
            yield f"# HELP {name} {family.help}"
            yield f"# TYPE {name} {family.kind}"
            yield from samples


class RunReader:
    """Reads one run's events, in order."""

    def __init__(self, metrics: RunMetrics) -> None:
        self._metrics = metrics
        self._host: _Labels = ("unknown", "unknown")

    def take(self, kind: str, data: Mapping[str, Any]) -> None:
        """An event's type and data; those that say nothing about the model are passed over."""
        match kind:
            case "run_started" | "run_resumed":
                self._host = ("unknown", host_label(data.get("request", {}).get("model", "unknown")))
            case "model_connected":
                self._host = (data["name"], host_label(data["target"]))
            case "model_retry":
                self._metrics.add("model_retries_total", self._host)
            case "turn_dropped":
                self._metrics.add("turns_dropped_total", self._host)
            case "turn":
                self._turn(data)
            case "run_ended":
                self._metrics.add("runs_total", (*self._host, data["outcome"]))
            case _:
                pass

    def _turn(self, data: Mapping[str, Any]) -> None:
        usage, add, observe = data["usage"], self._metrics.add, self._metrics.observe
        add("turns_total", self._host)
        add("prompt_tokens_total", self._host, usage["prompt"])
        prefix = data.get("prefix") or {}
        if prefix.get("cached", usage["cached"]) is not None:
            self._metrics.add_cached(self._host, usage["prompt"], usage["cached"])
        add("completion_tokens_total", self._host, usage["completion"])
        add("reasoning_tokens_total", self._host, usage.get("reasoning", 0))
        if usage.get("cost") is not None:
            add("cost_dollars_total", self._host, usage["cost"])
        for reason, count in prefix.get("uncached", {}).items():
            add("prompt_tokens_computed_total", (*self._host, reason), count)
        seconds, first = data["seconds"], data.get("first_token")
        observe("turn_seconds", self._host, seconds)
        if first is not None:
            observe("time_to_first_token_seconds", self._host, first)
            if usage["completion"] > 1 and seconds > first:
                observe("tokens_per_second", self._host, (usage["completion"] - 1) / (seconds - first))


@dataclass(slots=True)
class _Histogram:
    buckets: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0
    count: int = 0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.buckets) + 1)

    def take(self, value: float) -> None:
        self.counts[bisect_left(self.buckets, value)] += 1
        self.total += value
        self.count += 1

    def cumulative(self) -> Iterator[tuple[str, int]]:
        so_far = 0
        for bound, count in zip((*map(_number, self.buckets), "+Inf"), self.counts, strict=True):
            so_far += count
            yield bound, so_far


def host_label(target: str) -> str:
    """Where a model is, without what must not be shown: a URL's host and port, else the target as it was named."""
    _, has_scheme, rest = target.rpartition("://")
    if not has_scheme:
        return "local" if target.startswith(("/", ".", "~")) else target
    parts = urlsplit(f"//{rest}")
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def _braces(names: tuple[str, ...], values: _Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _is_amount(value: float) -> bool:
    return isfinite(value) and value >= 0


def _number(value: float) -> str:
    if not isfinite(value):  # a sum that grew too large
        return "+Inf"
    return str(int(value)) if value == int(value) else f"{value:.10g}"
