"""A saved test log: read within bounds, and cut at the harness's markers.

Left out: what its lines mean (`parsers`) and the verdict (`verdict`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evals.grading.semantics import GradingFailed

MAX_LOG: Final = 256 << 20
"""Bytes of a log; a longer one gets no verdict, where the official harness would try."""

START: Final = ">>>>> Start Test Output"
END: Final = ">>>>> End Test Output"
_BAD: Final = (
    ">>>>> Patch Apply Failed",
    ">>>>> Reset Failed",
    ">>>>> Tests Errored",
    ">>>>> Tests Timed Out",
)
_EXIT_CODE: Final = re.compile(r">>>>> Test Exit Code:\s*(-?\d+)")
_RAN: Final = re.compile(
    r"Executed [1-9]\d* of \d+|TOTAL: [1-9]\d* (?:SUCCESS|FAILED)|[1-9]\d* passing|Tests:\s+[1-9]\d*"
    r"|Test Suites:\s+(?:\d+ \w+, )*[1-9]\d* total|^# tests [1-9]\d*|[1-9]\d* specs?, \d+ failures?|': ok$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Log:
    """The text, with newlines as Python's text mode makes them; a carriage return ends a line."""

    text: str

    @property
    def usable(self) -> bool:
        """Whether both markers are there, and none that says that tests weren't run."""
        return START in self.text and END in self.text and not any(mark in self.text for mark in _BAD)

    @property
    def results(self) -> str:
        """What stands between the markers; a second start marker ends it as well."""
        start = self.text.index(START) + len(START)
        ends = [found for mark in (START, END) if (found := self.text.find(mark, start)) >= 0]
        return self.text[start : min(ends)] if ends else self.text[start:]

    @property
    def of_version_5(self) -> bool:
        """Whether a script of harness 5.x wrote it: only those note the exit code, behind the end marker."""
        return _EXIT_CODE.search(self.text, max(self.text.rfind(END), 0)) is not None

    @property
    def suite_ran(self) -> bool:
        """Whether some runner's summary says that at least one test was run."""
        return bool(_RAN.search(self.text))

    @property
    def exit_code(self) -> int | None:
        """The test command's status as the script noted it, None where it didn't (every script before 5.0)."""
        found = _EXIT_CODE.search(self.text)
        if found is None:
            return None
        try:
            return int(found[1])
        except ValueError:
            raise GradingFailed("the exit code in the log has thousands of digits; the harness stops there") from None


def read_log(path: Path) -> Log:
    """The log at `path`, a plain file. GradingFailed when it is too long, can't be read, or isn't UTF-8."""
    try:
        size = path.stat().st_size
        if size > MAX_LOG:
            raise GradingFailed(f"the log has {size >> 20} MB, more than {MAX_LOG >> 20} are not graded here")
        with path.open("rb") as file:
            data = file.read(MAX_LOG + 1)
    except OSError as error:
        raise GradingFailed(f"the log can't be read: {error.strerror}") from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise GradingFailed(
            f"the log isn't UTF-8 at byte {error.start}; the official harness stops there as well"
        ) from None
    return Log(text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text)
