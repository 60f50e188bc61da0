"""Durable jobs: a queue in a database, worked on by any number of processes, each job finished once.

What a job is and does is the caller's (`Job.kind` names an async function). The engine is DBOS, the database SQLite on
one machine and Postgres past it; docs/decisions/0027-jobs.md says why, and what holds when processes die. Importing
this package is cheap: DBOS is loaded by `open_jobs`. Left out: schedules, and any knowledge of what the jobs are.
"""

from agent.jobs.context import JobContext, Work
from agent.jobs.model import (
    Ended,
    FileTooLarge,
    Job,
    JobFailed,
    JobsBusy,
    JobsError,
    JobsMissing,
    JobsUnavailable,
    JobUnknown,
    StepFailed,
    WorkerSeen,
)
from agent.jobs.opening import Jobs, open_jobs

__all__ = [
    "Ended",
    "FileTooLarge",
    "Job",
    "JobContext",
    "JobFailed",
    "JobUnknown",
    "Jobs",
    "JobsBusy",
    "JobsError",
    "JobsMissing",
    "JobsUnavailable",
    "StepFailed",
    "Work",
    "WorkerSeen",
    "open_jobs",
]
