"""What was found, bounded: a few findings of each kind, each short, and how many there were besides."""

import time
from typing import Any, Dict, List, Set, Tuple

MOST_OF_A_KIND = 12
MOST_TEXT = 400


class Report:
    """Findings in the order in which they came, and the time that is left."""

    def __init__(self, seconds: float, most: int) -> None:
        self.deadline = time.monotonic() + seconds
        self.findings: List[Dict[str, str]] = []
        self.more: Dict[str, int] = {}
        self._most = most
        self._of_kind: Dict[str, int] = {}
        self._seen: Set[Tuple[str, str]] = set()
        self.counts: Dict[str, Any] = {}

    def add(self, kind: str, where: str, what: str) -> None:
        """One finding; the same place is named once for each kind."""
        if (kind, where) in self._seen:
            return
        self._seen.add((kind, where))
        count = self._of_kind.get(kind, 0) + 1
        self._of_kind[kind] = count
        if count > MOST_OF_A_KIND or len(self.findings) >= self._most:
            self.more[kind] = self.more.get(kind, 0) + 1
        else:
            self.findings.append({"kind": kind, "where": where[:MOST_TEXT], "what": what[:MOST_TEXT]})

    def count(self, name: str, number: int = 1) -> int:
        """Adds to a counter that goes out with the findings; its new value."""
        self.counts[name] = self.counts.get(name, 0) + number
        return int(self.counts[name])

    @property
    def left(self) -> float:
        """Seconds; 0 and less when the time is over."""
        return self.deadline - time.monotonic()
