"""What a user asked for, as data that goes into the run's log and comes back out of it on resume."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.limits import Limits


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where the patch goes, besides the run's own folder."""

    out: str | None = None  # absolute path
    branch: str | None = None
    apply: bool = False


@dataclass(frozen=True, slots=True)
class Generation:
    """How the model writes: a preset, and what goes before it. None: as the preset has it."""

    preset: str = "coding"  # coding, thinking, or instruct, which doesn't think
    temperature: float | None = None
    seed: int | None = None
    thinking_budget: int | None = None  # tokens of thinking in one turn
    constrained: bool = False  # calls can only be written as the tools' specs allow
    priority: int | None = None  # higher goes first, on servers that know priorities


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a silent or missing model server is waited for, in seconds."""

    silence: float = 600.0  # longest pause inside an answer; a long prompt on a busy server takes minutes
    absence: float = 600.0  # waited in all for a server that is away, busy or failing, since the last new token


@dataclass(frozen=True, slots=True)
class FixRequest:
    """One `agent fix`."""

    repository: str
    issue: str
    model: str
    sandbox: str = "auto"
    image: str | None = None
    workdir: str | None = None  # where the image wants its checkout; None: wherever it has one
    network: str = "none"  # none, registries, full; never taken from the repository
    runtime: str | None = None  # an OCI runtime that the container engine knows
    revision: str | None = None
    allow_dirty: bool = False
    allow_build: bool = False  # a repository from elsewhere may build its own image
    limits: Limits = field(default_factory=Limits)
    generation: Generation = field(default_factory=Generation)
    patience: Patience = field(default_factory=Patience)
    delivery: Delivery = field(default_factory=Delivery)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FixRequest:
        """Raises TypeError or KeyError for data that `to_json` didn't make, now or in an earlier version."""
        data = dict(data)
        earlier = data.pop("sampling", {})  # before there were presets
        kept = {name: earlier[name] for name in ("temperature", "seed") if name in earlier}
        return cls(
            **{
                **data,
                "limits": Limits(**data["limits"]),
                "generation": Generation(**data.get("generation", kept)),
                "patience": Patience(**data.get("patience", {})),
                "delivery": Delivery(**data["delivery"]),
            }
        )


def absolute(path: str | None) -> str | None:
    return str(Path(path).expanduser().absolute()) if path else None
