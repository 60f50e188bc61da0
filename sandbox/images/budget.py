"""A bound on the disk that our images take: over it, those that were used longest ago go first.

It holds for the cache and for each engine by itself, because these may lie on different disks.
Never one that a sandbox, a container or a build uses, never a base that a kept one was made from, never the base that
this machine's recipe makes (without a network it could not be made again). Runs after a build and in `agent sandbox
prune`. Left out: images that we didn't make, and an engine's build cache.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.base import SandboxError
from sandbox.images.inventory import Kept, Part, Store, stores

VARIABLE = "PATCHWRIGHT_DISK_BUDGET"
DEFAULT = "25%"
RECENT = 600.0  # seconds since its last use that an image is safe: it may be chosen and not opened yet
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(%|[kmgt]?(?:i?b)?)", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class BudgetProblem(SandboxError):
    """A budget that is no size."""


@dataclass(frozen=True, slots=True)
class Evicted:
    """An image that went (or would), where it was, and the bytes that were freed by that."""

    store: str
    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an enforcement did in one store. Bytes are of all our images there; shared parts count once."""

    store: str
    before: int
    after: int
    limit: int | None
    evicted: tuple[Evicted, ...] = ()


@dataclass(frozen=True, slots=True)
class Budget:
    """A number of bytes, or a share of the disk that the images lie on; both None: no bound."""

    size: int | None = None
    share: float | None = None

    def bytes_on(self, disk: Path | None) -> int | None:
        """The bound for what lies there. A share of a disk that can't be seen from here is no bound."""
        if self.share is None:
            return self.size
        return None if disk is None else int(_disk(disk) * self.share)


NOTHING = Budget(size=0)


def budget_for(said: str | None = None, env: Mapping[str, str] | None = None) -> Budget:
    """What is said, else the variable, else the user's configuration, else the default. Raises BudgetProblem."""
    env = os.environ if env is None else env
    text = said or env.get(VARIABLE) or _configured(env) or DEFAULT
    if text.strip().lower() in ("none", "unlimited"):
        return Budget()
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise BudgetProblem(f"{text!r} is no size of a disk budget.\nTry: 40G, 500M, 20% (of the disk) or none.")
    number, unit = float(match[1]), match[2].lower()
    if unit == "%":
        return Budget(share=min(number, 100.0) / 100)
    return Budget(size=int(number * _UNITS[unit[:1] if unit[:1] in "kmgt" else ""]))


def config_file(env: Mapping[str, str]) -> Path:
    """The user's own settings: `$XDG_CONFIG_HOME/patchwright/config.toml`, else below `~/.config`."""
    folder = env.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(folder) / "patchwright" / "config.toml"


def _configured(env: Mapping[str, str]) -> str | None:
    file = config_file(env)
    try:
        said = tomllib.loads(file.read_text("utf-8")).get("sandbox", {}).get("disk_budget")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        raise BudgetProblem(f'{file} can\'t be read: {error}.\nTry: `[sandbox]` with `disk_budget = "40G"`.') from None
    return None if said is None else str(said)


def _disk(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).total


def enforce(
    budget: Budget,
    *,
    dry_run: bool = False,
    recent: float = RECENT,
    look: Callable[[], Iterable[Store]] = stores,
) -> list[Outcome]:
    """Bring our images below the budget, as far as may be. `recent`: seconds that a last use protects."""
    safe = time.time() - recent
    return [_enforce(store, budget.bytes_on(store.disk), safe, dry_run) for store in look()]


def _enforce(store: Store, limit: int | None, safe: float, dry_run: bool) -> Outcome:
    kept = list(store.images)
    held = _Held(kept)
    before = held.total
    evicted: list[Evicted] = []
    while limit is not None and held.total > limit and (one := _next(kept, safe)) is not None:
        kept.remove(one)
        if dry_run or one.remove():
            evicted.append(Evicted(store.name, one.name, held.drop(one)))
    return Outcome(store.name, before, held.total, limit, tuple(evicted))


def make_room() -> Iterator[str]:
    """Enforce the configured budget after a build; lines that say what was done. Raises BudgetProblem."""
    for done in enforce(budget_for()):
        for one in done.evicted:
            yield (
                f"removed the image {one.name} ({done.store}, {human(one.bytes)}), unused for the longest time: "
                "the disk budget is full"
            )
        if done.limit is not None and done.after > done.limit:
            yield (
                f"our images take {human(done.after)} ({done.store}), over the budget of {human(done.limit)}, and all "
                f"are in use or needed by others; {VARIABLE} sets another"
            )


def human(size: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _next(kept: Iterable[Kept], safe: float) -> Kept | None:
    """The one that goes next: unused for the longest time, and nothing kept is made from it."""
    kept = list(kept)
    needed = {parent for one in kept for parent in one.parents}
    free = [one for one in kept if not (one.busy or one.pinned or one.used > safe or one.name in needed)]
    return min(free, key=lambda one: one.used, default=None)


class _Held:
    """The parts that images hold, and how many names keep each of them."""

    def __init__(self, kept: Iterable[Kept]) -> None:
        self._names: dict[Part, int] = {}
        sizes: dict[Part, int] = {}
        for one in kept:
            for part, (size, _) in one.parts.items():
                sizes[part] = size
                self._names[part] = one.names[part]
        self.total = sum(sizes.values())

    def drop(self, one: Kept) -> int:
        """Bytes that go with an image: of the parts that nobody else holds."""
        freed = 0
        for part, (size, names) in one.parts.items():
            self._names[part] -= names
            if self._names[part] <= 0:
                freed += size
        self.total -= freed
        return freed
