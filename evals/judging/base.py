"""What judging takes, how it fails, and the official harness's words and file names.

Left out: doing it (`judge`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from evals.grading.semantics import Semantics
from evals.instance import Instance, Schema
from evals.judging.flaky import NOTHING_KNOWN, KnownTests

if TYPE_CHECKING:
    from evals.environments.base import InstanceEnvironment

TEST_SECONDS: Final = 1800.0
"""The official time limit of a test run."""

PATCH_APPLIED: Final = ">>>>> Applied Patch"
PATCH_FAILED: Final = ">>>>> Patch Apply Failed"
TESTS_ERRORED: Final = ">>>>> Tests Errored"
TESTS_TIMED_OUT: Final = ">>>>> Tests Timed Out"

PATCH_FILE: Final = "patch.diff"
SCRIPT_FILE: Final = "eval.sh"
OUTPUT_FILE: Final = "test_output.txt"
REPORT_FILE: Final = "report.json"
LOG_FILE: Final = "run_instance.log"
OFFICIAL_FILES: Final = (PATCH_FILE, SCRIPT_FILE, OUTPUT_FILE, REPORT_FILE, LOG_FILE)


def timeout_text(seconds: float) -> str:
    """What the harness writes behind the output of tests that were stopped."""
    return f"\n\nTimeout error: {seconds:g} seconds exceeded."


def official_error(log: str) -> bool:
    """Whether the harness leaves such a log's instance without a report and counts it as an error: its patch didn't
    apply, or its tests timed out. Ours have a report in any case, which says unresolved."""
    return log.startswith(PATCH_FAILED) or log.endswith(f"\n{TESTS_TIMED_OUT}\n")


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """What is judged, and how. `seconds` bounds the evaluation script; `parser` overrules which parser reads the log.

    `semantics` None: 5 for rows of the 5.x schema, 4.1 for all others.
    """

    instance: Instance
    environment: InstanceEnvironment
    model: str
    run: str
    seconds: float = TEST_SECONDS
    semantics: Semantics | None = None
    parser: str = ""
    known: KnownTests = field(default=NOTHING_KNOWN)

    @property
    def rules(self) -> Semantics:
        """Whose rules count: fixed before anything runs, so that no output of the tests can change them."""
        if self.semantics is not None:
            return self.semantics
        return Semantics.V5 if self.instance.schema is Schema.SWE_BENCH_5 else Semantics.V4


class JudgingFailed(Exception):
    """The infrastructure failed, so there is no verdict. The message says what, and what to do.

    `again`: whether another try may help. `tests_ran`: whether the patch's own code was running when it happened, so
    that a patch which always ends its sandbox can be told from a machine that does.
    """

    def __init__(self, message: str, *, again: bool, tests_ran: bool = False) -> None:
        super().__init__(message)
        self.again = again
        self.tests_ran = tests_ran
