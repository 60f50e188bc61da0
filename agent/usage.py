"""What a run's turns cost in tokens, and how its prompts fared in the prefix cache: a reader of its events.

Left out: money over several runs, and metrics for other programs (`runtime.metrics`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.events import Event, EventType
from runtime.prefix import PrefixUse, Reason, explain


@dataclass(frozen=True, slots=True)
class TurnUsage:
    """One turn. Counts of tokens; `first_token` in seconds, None where a log doesn't say."""

    turn: int
    prefix: PrefixUse
    completion: int
    reasoning: int
    seconds: float
    first_token: float | None
    accounted: bool  # logs from before there was prefix accounting say nothing but prompt and cached

    @property
    def lost(self) -> str | None:
        """In words what was computed again that need not have been."""
        return explain(self.prefix) if self.accounted else None

    def to_json(self) -> dict[str, Any]:
        return {
            "turn": self.turn,
            **self.prefix.to_json(),
            "lost": self.lost,
            "completion": self.completion,
            "reasoning": self.reasoning,
            "seconds": self.seconds,
            "first_token": self.first_token,
        }


@dataclass(frozen=True, slots=True)
class RunUsage:
    """All turns of a run, in order."""

    turns: tuple[TurnUsage, ...]

    @property
    def prompt(self) -> int:
        return sum(turn.prefix.prompt for turn in self.turns)

    @property
    def cached(self) -> int | None:
        """None: the host never said."""
        said = [turn.prefix.cached for turn in self.turns if turn.prefix.cached is not None]
        return sum(said) if said else None

    @property
    def completion(self) -> int:
        return sum(turn.completion for turn in self.turns)

    @property
    def uncached(self) -> dict[Reason, int]:
        """Tokens of prompts that were computed, by reason, the most first."""
        totals = dict.fromkeys(Reason, 0)
        for turn in self.turns:
            for reason, count in turn.prefix.uncached.items():
                totals[reason] += count
        return {reason: totals[reason] for reason in sorted(totals, key=lambda why: -totals[why]) if totals[reason]}

    def to_json(self) -> dict[str, Any]:
        return {
            "turns": [turn.to_json() for turn in self.turns],
            "totals": {
                "prompt": self.prompt,
                "cached": self.cached,
                "completion": self.completion,
                "reasoning": sum(turn.reasoning for turn in self.turns),
                "uncached": {str(reason): count for reason, count in self.uncached.items()},
            },
        }


def usage_of(events: Iterable[Event]) -> RunUsage:
    """The turns of a log."""
    return RunUsage(tuple(turn_usage(event.data) for event in events if event.type is EventType.TURN))


def turn_usage(data: Mapping[str, Any]) -> TurnUsage:
    """One turn's event."""
    usage, prefix = data["usage"], data.get("prefix")
    return TurnUsage(
        turn=data["turn"],
        prefix=PrefixUse.from_json(prefix) if prefix else _unaccounted(usage),
        completion=usage["completion"],
        reasoning=usage.get("reasoning", 0),
        seconds=data["seconds"],
        first_token=data.get("first_token"),
        accounted=prefix is not None,
    )


def _unaccounted(usage: Mapping[str, Any]) -> PrefixUse:
    prompt, cached = usage["prompt"], usage["cached"]
    return PrefixUse(prompt, cached, cached, None, {Reason.OTHER: prompt - cached} if prompt > cached else {})
