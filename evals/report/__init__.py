"""The report of an evaluation run: JSON, one page, a page for each trajectory, and comparisons of two runs."""

from __future__ import annotations

from evals.report.steps import keep_steps, step_diffs
from evals.report.summary import report_of, without_times

__all__ = ["keep_steps", "report_of", "step_diffs", "without_times"]
