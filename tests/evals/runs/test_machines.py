"""Two workers and a Postgres, as on several machines: one is killed in mid-instance, and each is graded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.evals.runs.harness import Evaluation, Listening, chosen, judged, scripted
from tests.jobs.conftest import Postgres, postgres

__all__ = ["postgres"]

IDS = ("mini__sweep-14", "mini__tally-7")
ATTEMPTS = 2
STAGES: dict[str, dict[str, Any]] = {"agent": {"turn": 3}, "judge": {"try": None}}
"""Events of a worker that is in the middle of an attempt: the model has said three turns; the tests have begun."""


@pytest.fixture
def database(postgres: Postgres) -> str:
    return postgres.new_database()


@pytest.fixture
def workers(tmp_path: Path, database: str) -> Iterator[tuple[Listening, Listening]]:
    """Two, each with a home of its own, as on two machines."""
    found = []
    for name in ("victim", "other"):
        elsewhere = Evaluation(tmp_path / name)
        found.append(elsewhere.listen("worker", "--database", database, "--workers", "1"))
    for worker in found:
        worker.wait_for("working")
    yield found[0], found[1]
    for worker in found:
        worker.stop()


def asked(database: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(query).fetchall()


def claimed(database: str) -> dict[str, tuple[str, int]]:
    """Jobs that are being worked on: id -> the worker's name and process."""
    rows = asked(
        database,
        "SELECT workflow_uuid, worker.name, pid FROM dbos.workflow_status "
        "JOIN patchwright_workers worker ON id = executor_id WHERE status = 'PENDING'",
    )
    return {job: (name, pid) for job, name, pid in rows}


def graded(database: str) -> Counter[str]:
    """How many verdicts the queue has on record of each job."""
    rows = asked(database, "SELECT workflow_uuid FROM dbos.operation_outputs WHERE function_name LIKE 'judge %'")
    return Counter(job for (job,) in rows)


@pytest.mark.postgres
@pytest.mark.bubblewrap
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", STAGES)
def test_a_lost_workers_instance_is_finished_by_the_other_and_all_are_graded_once(
    tmp_path: Path, database: str, workers: tuple[Listening, Listening], stage: str
) -> None:
    victim, other = workers
    evaluation = Evaluation(tmp_path, "bubblewrap")
    model = scripted(tmp_path / "script.json", delay=0.005)  # so that no attempt is over before its worker is killed
    driver = evaluation.listen(
        *evaluation.arguments("--database", database, "--workers", "0", *chosen(*IDS), "-k", "2", model=model)
    )
    try:
        lost = victim.wait_for(stage, 1, **STAGES[stage])
        job = f"out/{lost['instance_id']}/{lost['attempt']}"
        held = claimed(database)[job]
        victim.kill()
        assert held == (victim.heard("started")[-1]["worker"], victim.process.pid)  # in the middle of it
        assert graded(database)[job] == 0
        assert (lost["instance_id"], lost["attempt"]) not in evaluation.records()
        assert driver.end() == 0, driver.events
    finally:
        driver.stop()
    _check_the_other_finished_it(evaluation, other, lost, stage)
    _check_each_is_graded_once(evaluation, graded(database), judged([victim, other]), lost, stage)


def _check_the_other_finished_it(evaluation: Evaluation, other: Listening, lost: dict[str, Any], stage: str) -> None:
    which = {name: lost[name] for name in ("instance_id", "attempt")}
    (again,) = other.heard("started", **which)
    record = evaluation.records()[lost["instance_id"], lost["attempt"]]
    assert record.worker == again["worker"]
    assert bool(other.heard("agent", **which)) == (stage == "agent")  # what the victim had predicted isn't done again
    kinds = Counter(event["type"] for event in evaluation.events(**which))
    assert (kinds["run_started"], kinds["run_resumed"], kinds["run_ended"]) == (1, 0, 1)


def _check_each_is_graded_once(
    evaluation: Evaluation, verdicts: Counter[str], begun: Counter[tuple[str, int]], lost: dict[str, Any], stage: str
) -> None:
    records = evaluation.records()
    keys = [(name, attempt) for name in sorted(IDS) for attempt in range(1, ATTEMPTS + 1)]
    assert sorted(records) == keys
    assert {record.infrastructure for record in records.values()} == {""}
    assert verdicts == {f"out/{name}/{attempt}": 1 for name, attempt in keys}
    cut_off = {(lost["instance_id"], lost["attempt"])} if stage == "judge" else set()
    assert begun == {key: 1 + (key in cut_off) for key in keys}
    for (name, attempt), record in records.items():
        assert record.judged is not None
        assert len(evaluation.events(name, attempt)) > 5  # its trajectory came home
        suffix = "" if attempt == 1 else f".attempt-{attempt}"
        log = evaluation.out / "logs" / "run_evaluation" / f"out{suffix}" / record.model / name
        assert {"report.json", "test_output.txt"} <= {path.name for path in log.iterdir()}
    counts = evaluation.report()["counts"]
    assert (counts["attempts"], counts["resolved"], counts["missing"]) == (4, 4, 0)
