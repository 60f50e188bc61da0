"""The report of an evaluation run: JSON, one page, a page for each trajectory, and comparisons of two runs."""

from __future__ import annotations

from agent.step_diffs import keep_steps, step_diffs
from evals.report.folder import NoRun, write_report
from evals.report.page import page
from evals.report.summary import report_of, without_times
from evals.report.trajectory_page import trajectory_page

__all__ = [
    "NoRun",
    "keep_steps",
    "page",
    "report_of",
    "step_diffs",
    "trajectory_page",
    "without_times",
    "write_report",
]
