"""The audit of a finished trajectory: whether the agent looked for the answer, and whether it found something.

What an agent wrote is data of a stranger: it is bounded, escaped and never run. Left out: what a command means
(`evals.leaks.commands`).
"""

from __future__ import annotations

from pathlib import Path

from evals.instance import Instance


def audit_trajectory(events_path: Path, instance: Instance) -> tuple[str, ...]:
    """A sentence for each step that looked for the answer: `step 4 looked: ...` or `step 4 found something: ...`.

    Raises agent.events.EventLogError for a log that isn't one.
    """
    raise NotImplementedError
