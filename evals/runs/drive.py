"""Drives an evaluation run: enqueues what isn't finished, takes home what ends, and writes the files at the end.

Started again with the same folder it goes on: attempts with a record aren't looked at, the queue knows the others.
Left out: the work of an attempt (`pipeline`), what is shown (`cli.eval_live`), the report (`evals.report`).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from evals.instance import Instance
from evals.judging.flaky import NOTHING_KNOWN, KnownTests
from evals.predictions import Prediction, write_whole
from evals.runs.ahead import pulling_ahead
from evals.runs.folder import EvalFolder, read_records
from evals.runs.manifest import Manifest
from evals.runs.official import MISSING, write_official
from evals.runs.pipeline import APPLICATION, KIND, Watch, Work, Worker, gold_files, scratch_folder
from evals.runs.record import AttemptKey, AttemptRecord, Predicted, Status
from evals.runs.rows import row_of
from evals.runs.sending import write_bytes

if TYPE_CHECKING:
    from agent.jobs import Ended, Job, Jobs

MOST_WORKERS: Final = 24
WORKER_MEMORY: Final = 2 << 30  # bytes that an attempt's sandboxes and tests may want at the same time


@dataclass(frozen=True, slots=True)
class Plan:
    """A run and how it is worked on. `given`: somebody's predictions, per attempt; then nothing is predicted."""

    folder: EvalFolder
    manifest: Manifest
    instances: tuple[Instance, ...]
    database: str
    workers: int
    retry_infrastructure: bool = False
    given: Sequence[Mapping[str, Prediction]] = ()
    known: KnownTests = NOTHING_KNOWN

    def attempts(self) -> list[AttemptKey]:
        """The first attempt at every instance comes before the second at any, so that an early look says something."""
        attempts = range(1, self.manifest.settings.attempts + 1)
        run = self.manifest.run
        return [AttemptKey(run, instance.instance_id, k) for k in attempts for instance in self.instances]


def default_workers(cores: int | None = None, memory: int | None = None) -> int:
    """min(0.75 x cores, 24), no more than the memory has room for, at least 1."""
    from sandbox.admission import machine_memory

    if memory is None:
        known = machine_memory()
        memory = known.total if known else None
    cores = cores or len(os.sched_getaffinity(0))
    by_memory = MOST_WORKERS if memory is None else memory // WORKER_MEMORY
    return max(1, min(int(0.75 * cores), MOST_WORKERS, by_memory))


async def drive(plan: Plan, worker: Worker, ended: Callable[[AttemptRecord, bool], None]) -> list[AttemptRecord]:
    """All records of the run, when every attempt has one. `ended` is told of each, and whether it was there before.

    Cancelled softly: what is going on is stopped and goes on when the run is driven again.
    """
    from agent.jobs import open_jobs

    begun = _begin(plan)
    for record in begun.values():
        ended(record, True)
    left = [key for key in plan.attempts() if key not in begun]
    if not left:
        return list(begun.values())
    ids = _ids(plan, left)
    async with (
        _pulling(plan, worker, left),
        open_jobs(
            plan.database,
            {KIND: worker},
            application=APPLICATION,
            worker=plan.workers > 0,
            concurrency={KIND: plan.workers},
        ) as jobs,
    ):
        await jobs.enqueue(_jobs(plan, ids))
        by_id = {job: key for key, job in ids.items()}
        async for end in jobs.ended(by_id):
            ended(await _collect(plan, jobs, by_id[end.id], end), False)
    shutil.rmtree(scratch_folder(plan.manifest.run), ignore_errors=True)
    return read_records(plan.folder.path)


def _pulling(plan: Plan, worker: Worker, left: Sequence[AttemptKey]) -> AbstractAsyncContextManager[None]:
    """Images for what this process will work on, in the order in which it is begun."""
    by_id = {instance.instance_id: instance for instance in plan.instances}
    wanted = [by_id[name] for name in dict.fromkeys(key.instance_id for key in left)] if plan.workers else []
    return pulling_ahead(worker.ahead, wanted, plan.manifest.settings.sandbox, worker.options, worker.tell)


def finish(plan: Plan) -> list[AttemptRecord]:
    """Write the official files and the manifest's environments from what is there, complete or not; the records."""
    records = read_records(plan.folder.path)
    manifest = replace(plan.manifest, environments=_environments(records))
    write_whole(plan.folder.manifest, manifest.text())
    write_official(plan.folder, manifest, records)
    return records


def _environments(records: Sequence[AttemptRecord]) -> dict[str, Any]:
    return {record.instance_id: dict(record.environment) for record in records if record.environment}


def _begin(plan: Plan) -> dict[AttemptKey, AttemptRecord]:
    """What is finished; predictions that aren't there count without a job."""
    done = {}
    by_id = {instance.instance_id: instance for instance in plan.instances}
    for key in plan.attempts():
        record = plan.folder.finished(key)
        if record is None and plan.given and key.instance_id not in plan.given[key.attempt - 1]:
            record = _missing(plan, key, by_id[key.instance_id])
            plan.folder.write_record(record)
        if record and not (plan.retry_infrastructure and record.status is Status.INFRASTRUCTURE):
            done[key] = record
    return done


def _missing(plan: Plan, key: AttemptKey, instance: Instance) -> AttemptRecord:
    return AttemptRecord(
        key.run,
        key.instance_id,
        key.attempt,
        plan.manifest.model_name,
        instance.repo,
        instance.difficulty,
        Predicted(MISSING, message="there is no prediction for it"),
        gold_files=gold_files(instance),
    )


def _ids(plan: Plan, keys: Sequence[AttemptKey]) -> dict[AttemptKey, str]:
    """A job for each. One that is tried again after a failure of the infrastructure gets a new id, noted in a file."""
    path = plan.folder.path / "again.json"
    rounds: dict[str, int] = json.loads(path.read_bytes()) if path.is_file() else {}
    if plan.retry_infrastructure:
        for key in keys:
            record = plan.folder.finished(key)
            if record is not None:
                rounds[key.job] = rounds.get(key.job, 0) + 1
                plan.folder.record(key).unlink()
        write_whole(path, json.dumps(rounds, indent=1, sort_keys=True) + "\n")
    return {key: f"{key.job}/again-{rounds[key.job]}" if key.job in rounds else key.job for key in keys}


def _jobs(plan: Plan, ids: Mapping[AttemptKey, str]) -> list[Job]:
    from agent.jobs import Job

    rows = {instance.instance_id: json.loads(json.dumps(row_of(instance), default=str)) for instance in plan.instances}
    by_id = {instance.instance_id: instance for instance in plan.instances}
    found = []
    for key, job in ids.items():
        given = plan.given[key.attempt - 1][key.instance_id].patch or "" if plan.given else None
        instance, manifest = by_id[key.instance_id], plan.manifest
        known = plan.known.of(key.instance_id)
        work = Work(key, instance, manifest.settings, manifest.model_name, given, known)
        found.append(Job(job, KIND, work.payload(rows[key.instance_id])))
    return found


async def _collect(plan: Plan, jobs: Jobs, key: AttemptKey, end: Ended) -> AttemptRecord:
    """Bring home what an attempt left, then its record: with the record there, all of it is."""
    for name, data in (await jobs.take(end.id)).items():
        path = plan.folder.file_sent(key, plan.manifest.model_name, name)
        await asyncio.to_thread(write_bytes, path, data)
    if end.error is None:
        record = AttemptRecord.from_json(end.result)
    else:
        instance = next(one for one in plan.instances if one.instance_id == key.instance_id)
        record = replace(_missing(plan, key, instance), predicted=None, infrastructure=f"its job failed: {end.error}")
    plan.folder.write_record(record)
    await jobs.taken(end.id)
    return record


__all__ = ["Plan", "Watch", "default_workers", "drive", "finish"]
