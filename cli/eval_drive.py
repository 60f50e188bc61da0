"""What `agent eval run`, `grade` and `worker` share: options of this machine, and driving a run to its report.

Left out: the options that choose and score (`cli.eval_run`, `cli.eval_grade`).
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from cli.eval_options import ALL_GRADED, BAD_INPUT, SOME_FAILED, printable
from cli.run_options import with_options

if TYPE_CHECKING:
    from cli.eval_live import PlainView
    from evals.instance import Instance
    from evals.predictions import Prediction
    from evals.runs.begin import Begun
    from evals.runs.drive import Plan
    from evals.runs.manifest import DatasetFacts, Manifest, Settings
    from evals.runs.pipeline import Watch, Worker
    from evals.runs.record import AttemptKey, AttemptRecord

NO_SANDBOX: Final = 8  # these as the ends of `agent fix`
STORAGE: Final = 9
INTERRUPTED: Final = 130
T = TypeVar("T")

machine_options = with_options(
    click.option("--repositories", type=click.Path(path_type=Path), help="A folder with clones (owner__name)."),
    click.option("--recipes", multiple=True, type=click.Path(exists=True, path_type=Path), help="Recipes of yours."),
    click.option("--image-names", multiple=True, help="Patterns of published images' names. [default: swebench's]"),
    click.option("--image-mirror", default="", help="Put before images' names that name no registry."),
    click.option("--workers", type=click.IntRange(0, 256), help="Attempts at a time.  [default: by cores and memory]"),
    click.option("--retry-wait", type=click.FloatRange(0), default=10.0, show_default=True,
                 help="Seconds before a second try after a failure of the infrastructure; doubled for each."),
)  # fmt: skip
"""What a machine brings along; no score depends on it."""

judging_options = with_options(
    click.option("--sandbox", envvar="PATCHWRIGHT_SANDBOX", help="docker, podman, bubblewrap, none.  [default: auto]",
                 type=click.Choice(["auto", "docker", "podman", "bubblewrap", "none"])),
    click.option("--semantics", help="Whose rules: 5, 4.1, or auto (the row's).  [default: auto]"),
    click.option("--judge-timeout", type=click.FloatRange(1), help="Most seconds of a test run.  [default: 1800]"),
    click.option("--tries", type=click.IntRange(1, 20), help="Tries where the infrastructure fails.  [default: 3]"),
    click.option("--known", type=click.Path(exists=True, path_type=Path), help="Flaky tests, from `agent eval gold`."),
    click.option("--database", envvar="PATCHWRIGHT_DATABASE", default="",
                 help="postgresql://HOST/NAME, for several machines.  [default: a file in the run's folder]"),
)  # fmt: skip


@dataclass(slots=True)
class Asked:
    """A run as the command line asks for it. `begun`: one that is gone on with by its name alone."""

    options: Mapping[str, Any]
    settings: Settings
    dataset: DatasetFacts
    instances: tuple[Instance, ...]
    repeats: Manifest | None = None
    begun: Begun | None = None
    given: Sequence[Mapping[str, Prediction]] = field(default_factory=list)
    name: str = ""  # whose predictions they are


def fail(text: str) -> None:
    click.echo(f"Error: {text}", err=True)


def drive_run(asked: Asked) -> int:
    """Everything from the first question to the report; the exit code."""
    from agent.ends import EXIT_CODES, RunProblem
    from agent.jobs import JobsError
    from evals.environments import NameBroken, RecipeBroken
    from evals.judging.flaky import KnownTestsBroken
    from evals.mini.tasks import TaskBroken
    from evals.runs.begin import RunConflict
    from evals.runs.folder import FolderUnusable, RunNameBroken, check_run_name
    from evals.runs.manifest import ManifestBroken
    from evals.runs.record import RecordBroken
    from sandbox.base import SandboxError

    try:
        if asked.options["name"]:
            check_run_name(asked.options["name"])  # before a model or a sandbox is asked for
        return asyncio.run(_driven(asked))
    except RunProblem as problem:
        fail(str(problem))
        return EXIT_CODES[problem.outcome]
    except SandboxError as problem:
        fail(str(problem))
        return NO_SANDBOX
    except (RunConflict, RunNameBroken, ManifestBroken, RecordBroken, RecipeBroken, NameBroken) as error:
        fail(str(error))
        return BAD_INPUT
    except (KnownTestsBroken, TaskBroken, JobsError) as error:
        fail(str(error))
        return BAD_INPUT
    except FolderUnusable as problem:
        fail(str(problem))
        return STORAGE
    except OSError as error:
        fail(f"{error.filename or 'the run'} can't be written ({error.strerror or error}): make room, then go on")
        return STORAGE
    except KeyboardInterrupt:
        return INTERRUPTED


async def _driven(asked: Asked) -> int:
    begun = asked.begun or await _begun(asked)
    with begun.lock:
        plan = _plan(asked, begun)
        view = _view(asked, begun, plan)
        worker = _worker(asked.options)
        worker.folder, worker.run, worker.watch = begun.folder, begun.manifest.run, view.watch
        worker.tell = view.say
        try:
            await _stoppable(_ended(plan, worker, view))
        except asyncio.CancelledError:
            view.close()
            _finish(plan, view, quiet=True)
            view.say(f"stopped; what ended is kept. To go on: {_again(asked, begun)}")
            return INTERRUPTED
        view.close()
        records = _finish(plan, view)
    return SOME_FAILED if any(record.infrastructure for record in records) else ALL_GRADED


async def _begun(asked: Asked) -> Begun:
    """The run's folder, after the model and the sandbox have been asked for; what differs is told on stderr."""
    from evals.judging.flaky import read_known
    from evals.runs.begin import begin, found_out
    from evals.runs.facts import files_sha256
    from evals.runs.manifest import differences
    from sandbox.choose import choose

    options = asked.options
    files = {
        "recipes": tuple(options.get("recipes") or ()),
        "known": (known,) if (known := options.get("known")) else (),
    }
    if known:
        read_known(known)
    hashes: dict[str, Any] = {name: files_sha256(paths) for name, paths in files.items() if paths}
    settings = replace(asked.settings, sandbox=await choose(asked.settings.sandbox), **hashes)
    wanted = await found_out(settings, asked.dataset, asked.name)
    if asked.repeats is not None:
        for line in differences(asked.repeats, wanted):
            click.echo(f"not as in {asked.repeats.run}: {printable(line)}", err=True)
    begun = begin(wanted, asked.instances, options["name"], options["out"])
    for line in begun.told:
        click.echo(printable(line), err=True)
    return begun


def _plan(asked: Asked, begun: Begun) -> Plan:
    from evals.judging.flaky import NOTHING_KNOWN, read_known
    from evals.runs.drive import Plan, default_workers

    options = asked.options
    workers = options["workers"]
    return Plan(
        begun.folder,
        begun.manifest,
        begun.instances,
        options["database"] or begun.folder.database,
        default_workers() if workers is None else workers,
        options.get("retry_infrastructure", False),
        asked.given,
        read_known(options["known"]) if options.get("known") else NOTHING_KNOWN,
    )


def _worker(options: Mapping[str, Any]) -> Worker:
    """Raises RecipeBroken, NameBroken, OSError."""
    from evals.environments import ImageNames, Options, Recipes
    from evals.runs.pipeline import Worker

    names = ImageNames.read(tuple(options["image_names"]), options["image_mirror"])
    repositories = options["repositories"]
    return Worker(
        Recipes.load(options["recipes"]),
        repositories.resolve() if repositories else None,
        wait=options["retry_wait"],
        options=Options(names=names),
    )


def _view(asked: Asked, begun: Begun, plan: Plan) -> PlainView:
    from cli.eval_live import view_of

    manifest, total = begun.manifest, len(plan.attempts())
    done = sum(begun.folder.record(key).is_file() for key in plan.attempts())
    view = view_of(asked.options["as_json"], manifest.run, total)
    doing = "going on with" if done else "run"
    what = f"{len(begun.instances)} instances of {manifest.dataset.name}"
    if manifest.settings.attempts > 1:
        what += f", {manifest.settings.attempts} attempts each"
    view.say(f"{doing} {manifest.run}: {what}, {manifest.model_name}, {manifest.settings.sandbox}, "
             f"{plan.workers} at a time" + (f"; {done} of {total} are done" if done else ""))  # fmt: skip
    return view


async def _ended(plan: Plan, worker: Worker, view: PlainView) -> None:
    from evals.runs.drive import drive

    await drive(plan, worker, view.ended)


def _finish(plan: Plan, view: PlainView, *, quiet: bool = False) -> list[AttemptRecord]:
    """The official files and the report; where it lies is said."""
    from evals.report.folder import summary_lines, write_report
    from evals.runs.drive import finish

    records = finish(plan)
    report = write_report(plan.folder.path)
    if not quiet:
        view.report(report, summary_lines(report), plan.folder.path)
    return records


def _again(asked: Asked, begun: Begun) -> str:
    options = asked.options
    place = f"--out {options['out']}" if options.get("out") else f"--run {begun.manifest.run}"
    database = " --database ..." if options["database"] else ""
    return f"agent eval run {place}{database}" if not asked.given else "the same command again"


async def _stoppable(work: Coroutine[Any, Any, T]) -> T:
    """Ctrl-C and SIGTERM cancel the work, once: a second Ctrl-C ends the process."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)

    def stop() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        click.echo("stopping; again to stop at once", err=True)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        return await task
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def work_until_stopped(options: Mapping[str, Any]) -> int:
    """`agent eval worker`: take jobs until somebody stops it."""
    from agent.jobs import JobsError
    from evals.environments import NameBroken, RecipeBroken

    try:
        worker = _worker(options)
        worker.watch = _told(options["as_json"])
        return asyncio.run(_working(options, worker))
    except (JobsError, RecipeBroken, NameBroken) as error:
        fail(str(error))
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED


async def _working(options: Mapping[str, Any], worker: Worker) -> int:
    from agent.jobs import open_jobs
    from evals.runs.drive import default_workers
    from evals.runs.pipeline import APPLICATION, KIND

    count = default_workers() if options["workers"] is None else max(options["workers"], 1)
    async with open_jobs(options["database"], {KIND: worker}, application=APPLICATION, concurrency={KIND: count}):
        click.echo(
            json.dumps({"event": "working", "workers": count}) if options["as_json"] else f"working, {count} at a time"
        )
        sys.stdout.flush()
        with suppress(asyncio.CancelledError):
            await _stoppable(asyncio.sleep(float("inf")))
    return ALL_GRADED


def _told(as_json: bool) -> Watch:
    def plain(key: AttemptKey, what: str, details: Mapping[str, Any]) -> None:
        if what in ("started", "predict", "judge", "retry", "done"):
            click.echo(printable(f"{key.job}: {what} {details.get('why', '')}".rstrip()))

    def lines(key: AttemptKey, what: str, details: Mapping[str, Any]) -> None:
        click.echo(
            json.dumps(
                {"event": what, "run": key.run, "instance_id": key.instance_id, "attempt": key.attempt, **details}
            )
        )

    return lines if as_json else plain
