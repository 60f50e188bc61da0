"""The work of one attempt: environment, prediction, judging, record. A job of the queue, on whichever machine.

What must not be done twice is a step of the job and recorded; environments aren't, because they are this machine's.
A failure of the infrastructure is tried again after a while and in the end recorded as what it is, never as the
model's. Left out: the queue (`agent.jobs`), and who enqueues and collects (`drive`).
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.events import Event
from evals.environments import EnvironmentUnavailable, InstanceEnvironment, Options, Recipes, environment_of
from evals.grading.semantics import Semantics
from evals.instance import Instance, read_instance
from evals.judging.base import JudgeSpec, JudgingFailed
from evals.judging.flaky import InstanceTests, KnownTests
from evals.judging.judge import judge
from evals.judging.patches import edited_files
from evals.runs.ahead import Ahead
from evals.runs.folder import EvalFolder, check_run_name, evals_home
from evals.runs.manifest import Settings
from evals.runs.predict import PredictionFailed, Task, phases, predict
from evals.runs.record import AttemptKey, AttemptRecord, Judged, Predicted, Usage
from evals.runs.sending import Home, InFolder, ThroughQueue, bring_log, bring_trajectory
from evals.terminal.judging import folder_of as terminal_folder
from evals.terminal.judging import judge_task, judged_at_the_end, settings_for
from evals.terminal.tasks import is_terminal

if TYPE_CHECKING:
    from agent.jobs import JobContext

KIND: Final = "attempt"
APPLICATION: Final = "patchwright-evals"
_LONGEST_WAIT: Final = 600.0  # seconds between two tries
_PERHAPS_THE_PATCH: Final = " (its tests were running each time, so it may be the patch that does it)"
_FACTS: Final = (
    "source", "image", "image_digest", "digest", "python", "packages_sha256", "recipe", "recipe_sha256", "leaks",
)  # fmt: skip

Watch = Callable[[AttemptKey, str, Mapping[str, Any]], None]
"""Told what happens to an attempt: (which, what, details)."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a job's payload says."""

    key: AttemptKey
    instance: Instance
    settings: Settings
    model: str  # its name in files
    given: str | None = None  # somebody else's patch, which is only judged
    known: InstanceTests = field(default_factory=InstanceTests)  # tests that say nothing about a patch

    def payload(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "key": asdict(self.key),
            "row": dict(row),
            "settings": asdict(self.settings),
            "model": self.model,
            "given": self.given,
            "known": {
                "failing": sorted(self.known.failing),
                "flaky": sorted(self.known.flaky),
                "broken": self.known.broken,
            },
        }

    @classmethod
    def from_payload(cls, data: Mapping[str, Any]) -> Work:
        known = data["known"]
        return cls(
            AttemptKey(**data["key"]),
            read_instance(data["row"]),
            Settings.from_json(data["settings"]),
            data["model"],
            data["given"],
            InstanceTests(frozenset(known["failing"]), frozenset(known["flaky"]), known["broken"]),
        )


@dataclass(slots=True)
class Worker:
    """This machine's part: where it works, what it builds environments from. Called with each job."""

    recipes: Recipes
    repositories: Path | None = None
    folder: EvalFolder | None = None  # of the run that this process drives
    run: str = ""
    wait: float = 10.0  # seconds before the second try; twice that before the third
    watch: Watch = lambda key, what, details: None
    options: Options = field(default_factory=Options)
    tell: Callable[[str], None] = lambda line: None  # what concerns no single attempt
    ahead: Ahead = field(default_factory=Ahead)  # images that are on their way

    async def __call__(self, context: JobContext) -> Any:
        work = Work.from_payload(context.job.payload)
        key = work.key
        direct = self.folder is not None and key.run == self.run
        home: Home = ThroughQueue(context)
        if direct and self.folder is not None:
            home = InFolder(self.folder, key, work.model)
        attempt = _Attempt(self, context, work, home, scratch_of(key))
        self.watch(key, "started", {"worker": context.worker})
        record = await attempt.record()
        shutil.rmtree(scratch_of(key), ignore_errors=True)
        return record.to_json()


def scratch_folder(run: str) -> Path:
    """Where a run's attempts are worked on, on each machine."""
    return evals_home() / ".work" / check_run_name(run)


def scratch_of(key: AttemptKey) -> Path:
    return scratch_folder(key.run) / key.instance_id / str(key.attempt)


class _Failed(Exception):
    """A step that came to nothing because of the infrastructure."""


class _Attempt:
    def __init__(self, worker: Worker, context: JobContext, work: Work, home: Home, scratch: Path) -> None:
        self.worker, self.context, self.work, self.home, self.scratch = worker, context, work, home, scratch
        self.tries: list[str] = []
        self._environment: InstanceEnvironment | None = None

    async def record(self) -> AttemptRecord:
        started = await self.context.step("start", _now)
        predicted, patch, judged, infrastructure, facts = None, "", None, "", {}
        try:
            said = await self._tried("predict", self._predicted)
            predicted, patch, facts = predicted_of(said["predicted"]), said["patch"], said["environment"]
            if patch or self.work.instance.rest.get("grade_empty_patch"):
                said = await self._tried("judge", lambda: self._judged(patch))
                judged, facts = Judged(**said["judged"]), said["environment"]
        except _Failed as failure:
            infrastructure = str(failure)
        work, instance = self.work, self.work.instance
        return AttemptRecord(
            work.key.run,
            instance.instance_id,
            work.key.attempt,
            work.model,
            instance.repo,
            instance.difficulty,
            predicted,
            judged,
            infrastructure,
            tuple(self.tries),
            gold_files(instance),
            facts,
            self.context.worker,
            started,
            await self.context.step("end", _now),
        )

    async def _tried(self, name: str, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """The step's result; every failure is recorded as a step of its own. _Failed when no try is left."""
        tries, tests_ran = self.work.settings.tries, True
        for number in range(1, tries + 1):
            self._tell(name, {"try": number})
            said: dict[str, Any] = await self.context.step(f"{name} {number}", lambda: _outcome(work))
            if "failed" not in said:
                return said
            tests_ran = tests_ran and said.get("tests_ran", False)
            if number == tries or not said["again"]:
                raise _Failed(said["failed"] + (_PERHAPS_THE_PATCH if tests_ran else ""))
            self.tries.append(f"{name}: {said['failed']}")
            wait = min(self.worker.wait * 2 ** (number - 1), _LONGEST_WAIT)
            self._tell("retry", {"why": said["failed"], "wait": wait})
            await asyncio.sleep(wait)
        raise AssertionError("the loop ends by itself")

    async def _predicted(self) -> dict[str, Any]:
        work = self.work
        if work.given is not None:
            edited = edited_files(work.given)
            return {
                "predicted": asdict(Predicted("given", edited=edited)),
                "patch": work.given,
                "environment": {},
            }
        environment = await self._made()
        folder = self.scratch / "predict"
        task = Task.of(work.instance)
        self._tell("predict", {})
        settings = settings_for(work.instance, work.settings)
        with judged_at_the_end(work.instance, terminal_folder(self.scratch)):
            answer = await predict(task, environment, settings, work.key.attempt, folder, (self._heard,))
        return {
            "predicted": asdict(replace(answer.predicted, **await self._brought(answer.run))),
            "patch": answer.patch,
            "environment": brief(environment),
        }

    async def _brought(self, run: Path) -> dict[str, Any]:
        """The trajectory home, audited: what the record says of it."""
        from agent.step_diffs import keep_steps
        from evals.leaks.trajectory import audit_trajectory

        await keep_steps(run)
        await bring_trajectory(run, self.home)
        key = self.work.key
        leaks = await asyncio.to_thread(audit_trajectory, run / "events.jsonl", self.work.instance)
        return {"trajectory": f"trajectories/{key.instance_id}/{key.attempt}", "leaks": leaks}

    async def _judged(self, patch: str) -> dict[str, Any]:
        work = self.work
        environment = await self._made()
        spec = JudgeSpec(
            work.instance,
            environment,
            work.model,
            work.key.run,
            seconds=work.settings.judge_seconds,
            semantics=Semantics.named(work.settings.semantics),
            known=KnownTests({work.instance.instance_id: work.known}),
        )
        log = self.scratch / "log"
        self._tell("judge", {})
        try:
            if is_terminal(work.instance):
                judged = await judge_task(spec, patch, log, seen=terminal_folder(self.scratch))
            else:
                judged = await judge(spec, patch, log)
        finally:
            await bring_log(log, self.home)
        return {"judged": asdict(judged), "environment": brief(environment)}

    async def _made(self) -> InstanceEnvironment:
        if self._environment is None:
            self._tell("environment", {})
            await self.worker.ahead.wait_for(self.work.key.instance_id)
            self._environment = await environment_of(
                self.work.instance,
                kind=self.work.settings.sandbox,
                recipes=self.worker.recipes,
                repositories=self.worker.repositories,
                progress=lambda line: self._tell("progress", {"doing": line}),
                options=self.worker.options,
            )
        return self._environment

    def _heard(self, event: Event) -> None:
        if (told := phases(event)) is not None:
            self._tell("agent", told)

    def _tell(self, what: str, details: Mapping[str, Any]) -> None:
        self.worker.watch(self.work.key, what, details)


async def _outcome(work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """A failure of the infrastructure as data, so that it is recorded like a result."""
    try:
        return await work()
    except JudgingFailed as failure:
        return {"failed": str(failure), "again": failure.again, "tests_ran": failure.tests_ran}
    except (EnvironmentUnavailable, PredictionFailed) as failure:
        return {"failed": str(failure), "again": failure.again}
    except OSError as problem:  # a full disk, a folder that is gone
        return {"failed": f"this machine's files: {problem}", "again": True}


async def _now() -> float:
    return round(time.time(), 3)


def predicted_of(data: Mapping[str, Any]) -> Predicted:
    lists = {name: tuple(data[name]) for name in ("edited", "leaks")}
    return Predicted(**{**data, "usage": Usage(**data["usage"]), **lists})


def brief(environment: InstanceEnvironment) -> dict[str, Any]:
    """What a record says of its environment; the list of packages by hash only."""
    facts = environment.facts
    return {"kind": environment.kind, **{name: facts[name] for name in _FACTS if facts.get(name)}}


def gold_files(instance: Instance) -> tuple[str, ...]:
    return () if instance.patch_breaks else edited_files(instance.patch)
