"""Two workers and a Postgres, as on several machines: one is killed in mid-instance, and each is graded once."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.evals.runs.harness import SECONDS, Evaluation, chosen
from tests.jobs.conftest import Postgres, postgres

__all__ = ["postgres"]

IDS = ("mini__tally-7", "mini__sweep-14", "mini__ticket-3")


@dataclass
class Hired:
    """A worker process, and what it says."""

    process: subprocess.Popen[str]
    events: list[dict[str, Any]] = field(default_factory=list)
    said: threading.Condition = field(default_factory=threading.Condition)

    def listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.said:
                self.events.append(json.loads(line))
                self.said.notify_all()

    def wait_for(self, event: str, count: int = 1) -> None:
        with self.said:
            assert self.said.wait_for(lambda: self.heard()[event] >= count, SECONDS), self.events

    def heard(self) -> Counter[str]:
        return Counter(event["event"] for event in self.events)

    def judged(self) -> list[tuple[str, int]]:
        """Attempts whose tests were begun."""
        begun = [e for e in self.events if e["event"] == "judge" and "try" not in e]
        return [(event["instance_id"], event["attempt"]) for event in begun]


def hired(home: Path, database: str) -> Hired:
    evaluation = Evaluation(home)  # a home of its own, as on another machine
    worker = Hired(evaluation.start("worker", "--database", database, "--workers", "1", "--json"))
    threading.Thread(target=worker.listen, daemon=True).start()
    return worker


@pytest.mark.postgres
@pytest.mark.timeout(600)
def test_a_lost_workers_instance_is_taken_by_the_other(tmp_path: Path, postgres: Postgres) -> None:
    database = postgres.database()
    victim, other = (hired(tmp_path / name, database) for name in ("victim", "other"))
    evaluation = Evaluation(tmp_path)
    driver = evaluation.start(*evaluation.arguments("--database", database, "--workers", "0", *chosen(*IDS), "-k", "2"))
    try:
        victim.wait_for("agent", 6)  # in the middle of its first
        os.kill(victim.process.pid, 9)
        out, err = driver.communicate(timeout=SECONDS)
        assert driver.returncode == 0, out + err
    finally:
        for process in (victim.process, other.process, driver):
            if process.poll() is None:
                process.terminate()
                process.wait(60)
    records = evaluation.records()
    assert sorted(records) == [(one, k) for one in sorted(IDS) for k in (1, 2)]
    assert not any(record.infrastructure for record in records.values())
    lost = next(e for e in victim.events if e["event"] == "started")
    assert records[lost["instance_id"], lost["attempt"]].worker != records.get(("", 0))
    judged = Counter([*victim.judged(), *other.judged()])
    assert set(judged.values()) == {1}, judged
    assert len(judged) == len([r for r in records.values() if r.judged])
    for (instance_id, attempt), record in records.items():
        assert record.predicted is not None
        assert len(evaluation.events(instance_id, attempt)) > 5  # its trajectory came home
        if record.judged is not None:
            suffix = "" if attempt == 1 else f".attempt-{attempt}"
            log = evaluation.out / "logs" / "run_evaluation" / f"out{suffix}" / record.model / instance_id
            assert {"report.json", "test_output.txt"} <= {path.name for path in log.iterdir()}
