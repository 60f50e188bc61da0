"""What an evaluation run was asked for, as its manifest says it: the denominator that no failure may change."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.runs.record import AttemptRecord


@dataclass(frozen=True, slots=True)
class Asked:
    """`instances` x `attempts`; `names` are the instances where the manifest names them."""

    instances: int
    attempts: int  # of each instance
    names: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return self.instances * self.attempts

    def missing(self, known: Container[tuple[str, int]]) -> Iterator[tuple[str, int]]:
        """Those that were asked for and have no record."""
        for name in self.names:
            for attempt in range(1, self.attempts + 1):
                if (name, attempt) not in known:
                    yield name, attempt


def asked_of(manifest: Mapping[str, Any], records: Sequence[AttemptRecord]) -> Asked:
    """From the ids (or the number) of `instances` in the manifest's `dataset` and the `attempts` in its `settings`, or
    both at its top; never fewer than there are records of."""
    seen = sorted({record.instance_id for record in records})
    wanted = _number(_said(manifest, "settings", "attempts"))
    attempts = max([wanted, 1, *(record.attempt for record in records)])
    named = _said(manifest, "dataset", "instances")
    names = tuple(name for name in named if isinstance(name, str)) if isinstance(named, list | tuple) else ()
    if names:
        names = tuple(dict.fromkeys([*names, *seen]))
        return Asked(len(names), attempts, names)
    count = max(_number(named), len(seen))
    return Asked(count, attempts, tuple(seen) if count == len(seen) else ())


def _said(manifest: Mapping[str, Any], part: str, name: str) -> object:
    inner = manifest.get(part)
    return inner[name] if isinstance(inner, Mapping) and name in inner else manifest.get(name)


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
