"""What a machine has: cards, memory, cores; looked up, or described by a user who plans for another machine.

What is left out: what to do with it (`runtime.serving.plan`), and cards that `nvidia-smi` doesn't list.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

QUERY: Final = ("--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits")
NOMINAL: Final = 0.995
"""Of a nominal size, what a driver or kernel gives out: 24,564 of 24,576 MiB, 81,559 of 81,920."""
FORMS: Final = (
    "CARDSxGIB, such as 1x24 or 8x80, with @CAPABILITY for the CUDA compute capability (1x24@8.9) and ,ram:GIB for "
    "the machine's memory; cpu:GIB for a machine without a card; or a JSON file"
)


class HardwareUnknown(Exception):
    """A description of hardware can't be read; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Card:
    """One accelerator. Memory in MiB, as the driver states it."""

    name: str
    memory: int
    capability: tuple[int, int] | None = None  # CUDA compute capability; None: not known

    def at_least(self, capability: tuple[int, int]) -> bool:
        """Whether it is known to have so much. An unknown card isn't."""
        return self.capability is not None and self.capability >= capability


@dataclass(frozen=True, slots=True)
class Hardware:
    """One machine. Memory in MiB; None where it isn't known."""

    cards: tuple[Card, ...] = ()
    ram: int | None = None
    cores: int | None = None
    described: bool = False  # by a user, not found on this machine

    def __str__(self) -> str:
        memory = f"{round(self.ram / 1024)} GiB of memory" if self.ram else "memory unknown"
        cores = f", {self.cores} cores" if self.cores else ""
        if not self.cards:
            return f"no GPU, {memory}{cores}"
        kinds = list(dict.fromkeys((card.name, card.memory, card.capability) for card in self.cards))
        cards = " and ".join(self._kind(kind) for kind in kinds)
        return cards if self.ram is None else f"{cards}; {memory}{cores}"

    def _kind(self, kind: tuple[str, int, tuple[int, int] | None]) -> str:
        name, memory, capability = kind
        count = sum((card.name, card.memory, card.capability) == kind for card in self.cards)
        able = f", compute capability {capability[0]}.{capability[1]}" if capability else ""
        return f"{count} x {name} with {memory:,} MiB{able}"


def detect() -> Hardware:
    """This machine, without any card where `nvidia-smi` is missing or fails."""
    return Hardware(_cards(), _ram(), len(os.sched_getaffinity(0)))


def parse_nvidia_smi(text: str) -> tuple[Card, ...]:
    """Cards from the answer to `QUERY`, a line each. Lines that don't state a size (a shared memory) are left out."""
    cards = []
    for line in text.splitlines():
        fields = [part.strip() for part in line.split(",")]
        if len(fields) < 2 or not fields[1].isdigit():
            continue
        cards.append(Card(fields[0], int(fields[1]), _capability(fields[2] if len(fields) > 2 else "")))
    return tuple(cards)


def describe(text: str) -> Hardware:
    """The machine that `text` describes (see `FORMS`). Raises HardwareUnknown."""
    path = Path(text).expanduser()
    if path.is_file():
        return _from_file(path)
    cards: tuple[Card, ...] = ()
    ram: int | None = None
    for part in text.lower().replace(" ", "").split(","):
        if found := re.fullmatch(r"(?:ram|cpu):(\d+)", part):
            ram = _nominal(int(found[1]))
        elif found := re.fullmatch(r"(\d+)x(\d+)(?:@(\d+\.\d+))?", part):
            count, size = int(found[1]), int(found[2])
            cards += (Card(f"{size} GB card", _nominal(size), _capability(found[3] or "")),) * count
        else:
            raise HardwareUnknown(f"{text!r} describes no hardware: {part!r} is none of {FORMS}.")
    return Hardware(cards, ram, described=True)


def _nominal(gib: int) -> int:
    return int(gib * 1024 * NOMINAL)


def _capability(text: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def _from_file(path: Path) -> Hardware:
    """`{"cards": [{"name": ..., "memory": MIB, "capability": "8.9"}], "ram": MIB, "cores": N}`; all may be left out."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        cards = tuple(_card(entry) for entry in data.get("cards", ()))
        return Hardware(cards, data.get("ram"), data.get("cores"), described=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HardwareUnknown(f"{path} describes no hardware ({error!r}): {_from_file.__doc__}") from error


def _card(entry: dict[str, Any]) -> Card:
    return Card(str(entry.get("name", "card")), int(entry["memory"]), _capability(str(entry.get("capability", ""))))


def _cards() -> tuple[Card, ...]:
    found = shutil.which("nvidia-smi")
    if found is None:
        return ()
    try:
        done = subprocess.run([found, *QUERY], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return parse_nvidia_smi(done.stdout) if done.returncode == 0 else ()


def _ram() -> int | None:
    """The machine's memory, or what the control group of this process allows of it."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", _read(Path("/proc/meminfo")), re.MULTILINE)
    if found is None:
        return None
    total = int(found[1]) // 1024
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _read(Path(path)).strip()
        if limit.isdigit():
            total = min(total, int(limit) >> 20)
    return total


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
