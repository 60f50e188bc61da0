"""What the tests of grading are made of: rows, logs, the form of a case, and text of pieces at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from evals.grading.logs import END, START, read_log
from evals.grading.semantics import GradingFailed, Semantics
from evals.grading.verdict import report
from evals.instance import Instance, read_instance

VERSIONS = {
    "pallets/flask": "2.0",
    "psf/requests": "2.0",
    "astropy/astropy": "5.0",
    "django/django": "4.0",
    "matplotlib/matplotlib": "3.5",
    "mwaskom/seaborn": "0.12",
    "sympy/sympy": "1.10",
}
"""A repository per Python parser, and a version that 4.1 knows of it."""


def row(repo: str = "pallets/flask", **fields: Any) -> dict[str, Any]:
    """A row of the old schema."""
    return {
        "instance_id": str(repo).replace("/", "__") + "-1",
        "repo": repo,
        "base_commit": "0" * 40,
        "version": VERSIONS.get(repo, "1.0"),
        "problem_statement": "It breaks.",
        "FAIL_TO_PASS": ["f"],
        "PASS_TO_PASS": ["p"],
        **fields,
    }


def instance(repo: str = "pallets/flask", **fields: Any) -> Instance:
    return read_instance(row(repo, **fields))


def framed(body: str, after: str = "") -> str:
    """A log as the harness's script makes it, with the test command's output between the markers."""
    return f"+ : '{START}'\n{body}\n+ : '{END}'\n{after}"


def graded(one: Instance, text: str, semantics: Semantics, folder: Path) -> dict[str, Any]:
    path = folder / "test_output.txt"
    path.write_bytes(text.encode())
    return report(one, read_log(path), semantics)


@dataclass(frozen=True)
class Case:
    """A log, and what each of the two harnesses says of it: the lists as (F2P +, F2P -, P2P +, P2P -), or a word.

    "invalid": no valid run, so no lists; "stops": no report at all.
    """

    name: str
    body: str
    four: tuple[str, str, str, str] | str
    five_too: tuple[str, str, str, str] | str | None = None
    repo: str = "pallets/flask"
    after: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    bare: bool = False

    @property
    def five(self) -> tuple[str, str, str, str] | str:
        """What 5 says; the same as 4 where nothing else is given."""
        return self.four if self.five_too is None else self.five_too


def said_of(case: Case, semantics: Semantics, folder: Path) -> tuple[str, ...] | str:
    one = instance(case.repo, **case.fields)
    try:
        said = graded(one, case.body if case.bare else framed(case.body, case.after), semantics, folder)
    except GradingFailed:
        return "stops"
    if "tests_status" not in said:
        return "invalid"
    lists = said["tests_status"]
    return tuple(
        " ".join(lists[kind][side]) for kind in ("FAIL_TO_PASS", "PASS_TO_PASS") for side in ("success", "failure")
    )


_NAMES = (
    "f",
    "p",
    "a/b.py::t[x]",
    "t.py::f[a b]",
    "t.py::f[a",
    "t.py::f[/tmp/q/r]",
    "t[//h]",
    "f (a.B)",
    "test_f",
    "[100%]",
    "[2]",
    "MouseButton.LEFT",
    "t[é –]",
)
_PIECES = (
    *("PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL", "ERRORS", "FAIL:", "ERROR:", "ok", "OK", "E", "F"),
    *(" ... ", " ... ok", " ...  OK", " ... FAIL", " ... ERROR", " ... skipped", " - ", "...", ".py:", "_", "__ "),
    *(" ... Testing against Django installed in ", " silenced).", " ... Internal Server Error: /", "/", "silenced"),
    *(
        " ... System check identified no issues (0 silenced)",
        "Applying sites.0002_alter_domain_unique...test_no_migrations",
    ),
    *("--version is equivalent to version", "\x1b[31m", "[0m", "\t", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\xa0"),
    *(
        "\n",
        "\n",
        "\n",
        "\nok\n",
        "\r",
        "\r\n",
        " ",
        " ",
        "  ",
        "test_",
        "Killed",
        "1 passing",
        ">>>>> Test Exit Code: 1",
    ),
)
BODIES = st.lists(st.sampled_from(_PIECES + _NAMES), max_size=60).map("".join)
TEST_LISTS = st.lists(st.sampled_from((*_NAMES, "t.py::f[", "t[", "é")), max_size=5)
