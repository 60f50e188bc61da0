"""Grades saved logs against a data set, in one process and without any container.

Left out: showing the results (`cli.eval_regrade`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.grading.logs import read_log
from evals.grading.semantics import GradingFailed, Semantics
from evals.grading.verdict import report, semantics_of
from evals.instance import Instance
from evals.saved_logs import SavedLog


@dataclass(frozen=True)
class Outcome:
    """A log's report as the official harness writes it, or why there is none (`error`)."""

    instance_id: str
    model: str
    log: Path
    report: Mapping[str, Any] | None = None
    semantics: Semantics | None = None
    error: str = ""

    @property
    def resolved(self) -> bool | None:
        """None where there is no verdict."""
        return None if self.report is None else bool(self.report["resolved"])

    def row(self) -> dict[str, Any]:
        """One JSON object: who and what, then the official report's own fields, or `error`."""
        row: dict[str, Any] = {"instance_id": self.instance_id, "model": self.model, "resolved": self.resolved}
        row |= {"error": self.error} if self.report is None else self.report
        if self.semantics is not None:
            row["swebench"] = self.semantics.release
        return row | {"log": str(self.log)}


def regrade(
    logs: Iterable[SavedLog],
    instances: Mapping[str, Instance],
    semantics: Semantics | None = None,
    *,
    official: bool = False,
    parser: str = "",
) -> Iterator[Outcome]:
    """An outcome per log, in order; by the rules that each was written for where `semantics` is None.

    `official`: the release's own functions judge. `parser`: a parser for all.
    """
    for log in logs:
        try:
            rules, said = _report(log, instances, semantics, official, parser)
            yield Outcome(log.instance_id, log.model, log.path, said, rules)
        except GradingFailed as error:
            yield Outcome(log.instance_id, log.model, log.path, error=str(error))


def _report(
    log: SavedLog, instances: Mapping[str, Instance], wanted: Semantics | None, official: bool, parser: str
) -> tuple[Semantics, dict[str, Any]]:
    if log.broken:
        raise GradingFailed(log.broken)
    instance = instances.get(log.instance_id)
    if instance is None:
        raise GradingFailed("the data set has no usable row with this id")
    text = read_log(log.path)
    semantics = wanted or semantics_of(instance, text)
    if official:
        from evals.grading.official import official_report

        return semantics, official_report(instance, log.path, semantics, parser=parser)
    return semantics, report(instance, text, semantics, parser=parser)
