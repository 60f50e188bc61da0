"""What a run may use up. A limit ends the loop softly: whatever diff is there is kept, checked and labelled.

Left out: the admission of runs to a server's cache (`runtime.admission`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from agent.ends import End, LoopEnded


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one run."""

    steps: int = 250  # turns
    tokens: int = 1_000_000  # tokens that the model writes, all turns together
    seconds: float = 4 * 3600.0  # wall time, the time that resumed parts took together
    nudges: int = 3  # turns without a call in a row that are answered before the run ends
    cost: float | None = None  # US dollars, on hosts with a price; None: no bound


@dataclass(slots=True)
class Spent:
    """What a run has used so far; rebuilt from the events on resume."""

    steps: int = 0
    tokens: int = 0
    earlier_seconds: float = 0.0
    nudges: int = 0  # in a row
    cost: float = 0.0  # US dollars, as far as prices are known
    unpriced: int = 0  # turns of which the cost isn't known
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return self.earlier_seconds + time.monotonic() - self.started


# Below this share of a limit the model is told what is left, once per turn, in an observation.
_TELL_BELOW = 0.1
_TELL_STEPS = 10


def check(limits: Limits, spent: Spent) -> None:
    """Raises LoopEnded when a limit is reached; called before each turn."""
    if spent.steps >= limits.steps:
        raise LoopEnded(End.STEPS, f"{spent.steps} turns were used; --max-steps allows no more")
    if spent.tokens >= limits.tokens:
        raise LoopEnded(End.TOKENS, f"the model wrote {spent.tokens} tokens; --max-tokens allows no more")
    if spent.seconds >= limits.seconds:
        raise LoopEnded(End.TIME, f"{spent.seconds:.0f} s have passed; --timeout allows no more")
    if limits.cost is not None and spent.cost >= limits.cost:
        raise LoopEnded(End.COST, f"the run has cost ${spent.cost:.2f}; --max-cost allows no more")
    if spent.nudges > limits.nudges:
        raise LoopEnded(End.STOPPED_TALKING, f"{spent.nudges} turns in a row came without a tool call")


def unknown_cost(limits: Limits, spent: Spent) -> str | None:
    """What to tell the user, once, where money is bounded and a turn's cost isn't known; else None."""
    if limits.cost is None or spent.unpriced != 1:
        return None
    return "what a turn costs isn't known here: --max-cost can't hold it, and the other limits do"


def warning(limits: Limits, spent: Spent) -> str | None:
    """A line for the model when little is left, else None. Says nothing of wall time, so that runs repeat."""
    left = limits.steps - spent.steps
    if 0 < left <= min(_TELL_STEPS, max(1, int(limits.steps * _TELL_BELOW))):
        return f"[note: {left} turn{'s' if left > 1 else ''} left; submit what you have before they run out]"
    tokens_left = limits.tokens - spent.tokens
    if 0 < tokens_left < limits.tokens * _TELL_BELOW:
        return f"[note: about {tokens_left} tokens left to write; submit what you have before they run out]"
    if limits.cost is not None and limits.cost * (1 - _TELL_BELOW) <= spent.cost < limits.cost:
        return "[note: the budget is nearly used up; submit what you have before it runs out]"
    return None
