"""Signs in a log that the environment broke, not the patch: advice for a reader, never a change of the verdict.

The signs, their order and their weight are those of swebench 5.0.2; 4.1 has none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Trouble:
    """`certain`: a patch of the repository's source can't cause it. Otherwise either may be at fault."""

    reason: str
    certain: bool


def _sign(reason: str, certain: bool, *texts: str) -> tuple[Trouble, re.Pattern[str]]:
    return Trouble(reason, certain), re.compile("|".join(texts), re.MULTILINE)


_SIGNS: Final = (
    _sign("browser_launch_failed", True, "Failed to launch", "Failed to connect to the bus"),
    _sign("display_unavailable", True, "cannot open display", "Missing X server", "unable to open X display"),
    _sign("out_of_memory", True, "Cannot allocate memory", "OutOfMemoryError", "^Killed$"),
    _sign("container_unavailable", True, "Error response from daemon", "Cannot connect to the Docker daemon"),
    _sign("network_unreachable", True, "Could not resolve host", "Temporary failure in name resolution"),
    _sign("missing_module", False, "Cannot find module", "MODULE_NOT_FOUND", "ModuleNotFoundError"),
    _sign("no_tests_collected", False, "no tests ran", "collected 0 items"),
    _sign("tests_timed_out", False, r"Timeout error: \d+ seconds exceeded"),
)


def trouble_in(text: str) -> Trouble | None:
    """The first sign that `text` holds, in the order of the list; None for none."""
    return next((trouble for trouble, pattern in _SIGNS if pattern.search(text)), None)
