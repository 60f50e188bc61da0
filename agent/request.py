"""What a user asked for, as data that goes into the run's log and comes back out of it on resume."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.limits import Limits
from runtime.models.base import Sampling


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where the patch goes, besides the run's own folder."""

    out: str | None = None  # absolute path
    branch: str | None = None
    apply: bool = False


@dataclass(frozen=True, slots=True)
class FixRequest:
    """One `agent fix`."""

    repository: str
    issue: str
    model: str
    sandbox: str = "auto"
    image: str | None = None
    revision: str | None = None
    allow_dirty: bool = False
    allow_build: bool = False  # a repository from elsewhere may build its own image
    limits: Limits = field(default_factory=Limits)
    sampling: Sampling = field(default_factory=Sampling)
    delivery: Delivery = field(default_factory=Delivery)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FixRequest:
        """Raises TypeError or KeyError for data that `to_json` didn't make."""
        return cls(
            **{
                **data,
                "limits": Limits(**data["limits"]),
                "sampling": Sampling(**data["sampling"]),
                "delivery": Delivery(**data["delivery"]),
            }
        )


def absolute(path: str | None) -> str | None:
    return str(Path(path).expanduser().absolute()) if path else None
