"""Data sets by name or file, filtered; a broken row is named with its place and reason, and the rest goes on.

Left out: what a file or a row looks like (`rows`, `instance`), and anything that needs an environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from evals.instance import Instance, RowBroken, read_instance
from evals.rows import DatasetUnusable, Raw, read_rows


@dataclass(frozen=True)
class HubName:
    """A set on the hub: its id and the split that is evaluated."""

    hub_id: str
    split: str


NAMES: Final = {
    "verified": HubName("SWE-bench/SWE-bench_Verified", "test"),
    "lite": HubName("SWE-bench/SWE-bench_Lite", "test"),
    "full": HubName("SWE-bench/SWE-bench", "test"),
    "multimodal": HubName("SWE-bench/SWE-bench_Multimodal", "dev"),
    "multilingual": HubName("SWE-bench/SWE-bench_Multilingual", "test"),
    "live": HubName("SWE-bench-Live/SWE-bench-Live", "lite"),
    "smith": HubName("SWE-bench/SWE-smith", "train"),
    "gym": HubName("SWE-Gym/SWE-Gym", "train"),
    "pro": HubName("ScaleAI/SWE-bench_Pro", "test"),
}
BUNDLED: Final = "mini"
"""The name of the set that comes with this package (`evals.mini`)."""
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class BrokenRow:
    """A row that was left out. `place` is its line (JSON Lines) or its number (others), from 1."""

    place: int
    reason: str

    def __str__(self) -> str:
        return f"row {self.place}: {self.reason}"


@dataclass(frozen=True)
class Dataset:
    """The usable instances in the order of the source, and the rows that are broken."""

    name: str
    instances: tuple[Instance, ...]
    broken: tuple[BrokenRow, ...] = ()

    def by_id(self) -> dict[str, Instance]:
        return {instance.instance_id: instance for instance in self.instances}


@dataclass(frozen=True)
class Filter:
    """Which instances count; empty means all. Globs (`django__*`) are allowed in ids and repositories.

    `part` is a slice (start, stop, step) of what the others let through.
    """

    ids: tuple[str, ...] = ()
    repos: tuple[str, ...] = ()
    difficulties: tuple[str, ...] = ()
    part: slice = field(default_factory=lambda: slice(None))

    def apply(self, instances: Iterable[Instance]) -> tuple[Instance, ...]:
        return tuple(instance for instance in instances if self._passes(instance))[self.part]

    def _passes(self, instance: Instance) -> bool:
        return (
            _any(instance.instance_id, self.ids)
            and _any(instance.repo, self.repos)
            and _any(instance.difficulty, self.difficulties)
        )


def _any(value: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(value == pattern or fnmatchcase(value, pattern) for pattern in patterns)


def parse_slice(text: str) -> slice:
    """`10`, `:10`, `5:20`, `::7` as a slice; ValueError for others and for steps below 1."""
    parts = text.split(":")
    if len(parts) > 3 or not re.fullmatch(r"[-0-9: ]*[0-9][-0-9: ]*", text):
        raise ValueError(f"{text!r} is no slice: write 10, :10, 5:20 or ::7")
    numbers = [int(part) if part.strip() else None for part in parts]
    if len(numbers) == 1:
        return slice(numbers[0])
    found = slice(*numbers)
    if found.step is not None and found.step < 1:
        raise ValueError(f"{text!r} has a step below 1")
    return found


def load_dataset(source: str, *, wanted: Filter | None = None, split: str = "") -> Dataset:
    """The set that `source` names: a file, a folder of Terminal-Bench tasks (or one), `mini`, one of `NAMES`, or
    `owner/name` on the hub, with `@revision`.

    DatasetUnusable when it can't be read at all. Hub sets need the extra `evals`; what was fetched once is used again
    without a network.
    """
    path = Path(source)
    if source.lower() == BUNDLED and not path.is_file():
        return _bundled(wanted or Filter())
    raw = _raw(source, path, split)
    instances: dict[str, Instance] = {}
    broken: list[BrokenRow] = []
    for row in raw:
        try:
            instance = _instance(row)
        except RowBroken as error:
            broken.append(BrokenRow(row.place, str(error)))
            continue
        if instance.instance_id in instances:
            broken.append(BrokenRow(row.place, f"{instance.instance_id} was there before; the first one counts"))
        else:
            instances[instance.instance_id] = instance
    return Dataset(source, (wanted or Filter()).apply(instances.values()), tuple(broken))


def _raw(source: str, path: Path, split: str) -> Iterable[Raw]:
    """Rows from wherever the source is. A folder that has the name of a set has to be given as a path (./verified)."""
    if path.is_dir() and source.lower() not in NAMES:
        from evals.terminal.tasks import read_tasks

        return read_tasks(path)
    local = path.suffix in (".jsonl", ".json", ".parquet", ".xz", ".gz", ".bz2") or path.is_file()
    return read_rows(path) if local else _hub_rows(source, split)


def _bundled(wanted: Filter) -> Dataset:
    from evals.mini.dataset import mini_dataset
    from evals.mini.tasks import TaskBroken

    try:
        whole = mini_dataset()
    except TaskBroken as error:
        raise DatasetUnusable(str(error)) from error
    return Dataset(whole.name, wanted.apply(whole.instances), whole.broken)


def _instance(row: Raw) -> Instance:
    if row.broken:
        raise RowBroken(row.broken)
    return read_instance(row.value)


def _hub_rows(source: str, split: str) -> Iterator[Raw]:
    name, _, revision = source.partition("@")
    known = NAMES.get(name.lower())
    if known is None and not _HUB_ID.fullmatch(name):
        raise DatasetUnusable(
            f"{source!r} is no data set: give a .jsonl, .json or .parquet file (also .xz, .gz), a folder of "
            f"Terminal-Bench tasks, one of {', '.join((BUNDLED, *NAMES))}, or owner/name on the hub"
        )
    hub_id, chosen = (known.hub_id, split or known.split) if known else (name, split or "test")
    try:
        from datasets import load_dataset as load
    except ImportError:
        raise DatasetUnusable(
            f"{source} is on the hub, which needs the extra: pip install 'patchwright[evals]'; or give a local file"
        ) from None
    try:
        # Remote code is never run: `datasets` refuses it unless it is told to, and it isn't.
        table = load(hub_id, split=chosen, revision=revision or None)
    except Exception as error:  # dozens of kinds from three libraries, all meaning "can't be had"
        raise DatasetUnusable(f"{hub_id} ({chosen}) can't be had: {type(error).__name__}: {error}") from error
    for place, row in enumerate(table, 1):
        yield Raw(place, row)
