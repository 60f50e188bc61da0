"""`agent eval run` and `agent eval worker`: the agent on a data set's instances, on this machine and on others.

Left out: what a run is (`evals.runs`), what is shown meanwhile (`cli.eval_live`), the report (`evals.report`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from cli.eval_drive import Asked, drive_run, fail, judging_options, machine_options, work_until_stopped
from cli.eval_options import BAD_INPUT, choosing, chosen_filter, load
from cli.run_options import GENERATION, GENERATION_NAMES, LIMIT_NAMES, LIMITS, PATIENCE_NAMES, given, with_options

if TYPE_CHECKING:
    from evals.datasets import Dataset
    from evals.instance import Instance
    from evals.runs.manifest import Settings

_SCORING = {"attempts": "attempts", "semantics": "semantics", "judge_seconds": "judge_timeout", "tries": "tries"}


@click.command()
@click.argument("dataset", required=False)
@choosing
@click.option(
    "--model",
    envvar="PATCHWRIGHT_MODEL",
    help="As `agent fix` takes it; `scripted` is the bundled set's own script.  [default: http://127.0.0.1:30000]",
)
@click.option("-k", "--attempts", type=click.IntRange(1, 100), help="Attempts at each instance.  [default: 1]")
@click.option("--run", "name", default="", help="The run's name; that of one that was begun goes on with it.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="The run's folder, instead of the usual.")
@click.option(
    "--from", "source", type=click.Path(exists=True, path_type=Path), help="Repeat the run of this manifest or folder."
)
@click.option("--retry-infrastructure", is_flag=True, help="Try those again that ended without a verdict.")
@judging_options
@machine_options
@with_options(*GENERATION, *LIMITS)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event on standard output.")
@click.pass_context
def run(ctx: click.Context, /, dataset: str | None, **options: Any) -> None:
    """Run the agent on the instances of DATASET and grade what it makes of them.

    DATASET is `mini` (bundled: `agent eval run mini --model scripted` needs no model), a file (.jsonl, .json,
    .parquet, also .xz and .gz), or a set on the hub (verified, lite, owner/name...). The same command again goes on
    with a run that was cut off, wherever that was, and so does --run NAME alone.

    Exit codes: 0 every attempt has a verdict; 3 some have none, through no fault of the model's; 6 no such data set,
    run or setting; 7 the model can't be reached; 8 no sandbox; 9 the run's folder can't be written; 130 stopped.
    """
    ctx.exit(drive_run(_asked(ctx, dataset, {**options, **_undefaulted(ctx, GENERATION_NAMES)})))


def _undefaulted(ctx: click.Context, names: Iterable[str]) -> dict[str, None]:
    """Options that nobody gave: they must not go before what a manifest says."""
    return {name: None for name in names if ctx.get_parameter_source(name) is ParameterSource.DEFAULT}


def _asked(ctx: click.Context, dataset: str | None, options: dict[str, Any]) -> Asked:
    """What the command line says, with the settings of a manifest where one is repeated or gone on with."""
    from evals.runs.begin import RunConflict, reopened, repeated
    from evals.runs.folder import FolderUnusable
    from evals.runs.manifest import ManifestBroken

    try:
        if options["source"]:
            before, instances = repeated(options["source"])
            settings = _settings(before.settings, options)
            return Asked(options, settings, before.dataset, instances, repeats=before)
        if dataset is None:
            begun = reopened(options["name"], options["out"]) if options["name"] or options["out"] else None
            if begun is None:
                _bad(ctx, "give a DATASET (`agent eval run mini --model scripted` needs nothing else), or a run with "
                          "--run NAME that was begun")  # fmt: skip
            return Asked(options, begun.manifest.settings, begun.manifest.dataset, begun.instances, begun=begun)
    except (RunConflict, FolderUnusable, ManifestBroken) as problem:
        _bad(ctx, str(problem))
    return _fresh(ctx, dataset, options)


def _fresh(ctx: click.Context, dataset: str, options: dict[str, Any]) -> Asked:
    from evals.runs.begin import MINI, dataset_facts
    from evals.runs.manifest import Settings
    from evals.runs.predict import SCRIPTED

    found, instances = chosen_instances(ctx, dataset, options)
    settings = _settings(Settings(model="http://127.0.0.1:30000"), options)
    if settings.model == SCRIPTED and dataset != MINI:
        _bad(ctx, f"the model `{SCRIPTED}` knows the bundled set only: `agent eval run {MINI} --model {SCRIPTED}`, or "
                  "script:FILE with turns of yours")  # fmt: skip
    return Asked(options, settings, dataset_facts(found, options["split"], instances), instances)


def chosen_instances(ctx: click.Context, dataset: str, options: dict[str, Any]) -> tuple[Dataset, tuple[Instance, ...]]:
    """The set and what the choosing options leave of it; ends the command when that is nothing."""
    from evals.runs.begin import MINI, dataset_of

    chosen = {name: options[name] for name in ("ids", "repos", "difficulties", "part")}
    wanted = chosen_filter(**chosen)
    found = dataset_of(MINI) if dataset == MINI else load(ctx, dataset, options["split"])
    instances = wanted.apply(found.instances)
    if not instances:
        _bad(ctx, f"of the {len(found.instances)} instances of {dataset} the choice leaves none")
    return found, instances


def _settings(before: Settings, options: dict[str, Any]) -> Settings:
    """`before` with everything that was given on the command line in its place."""
    from dataclasses import replace

    scoring: dict[str, Any] = given(_SCORING, options)
    scoring |= {name: options[name] for name in ("model", "seed", "sandbox") if options.get(name) is not None}
    generation = given({name: option for name, option in GENERATION_NAMES.items() if name != "seed"}, options)
    return replace(
        before,
        limits=replace(before.limits, **given(LIMIT_NAMES, options)),
        generation=replace(before.generation, **generation),
        patience=replace(before.patience, **given(PATIENCE_NAMES, options)),
        **scoring,
    )


def _bad(ctx: click.Context, text: str) -> NoReturn:
    fail(text)
    ctx.exit(BAD_INPUT)


@click.command()
@click.option("--database", envvar="PATCHWRIGHT_DATABASE", required=True, help="The run's, as postgresql://HOST/NAME.")
@machine_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event on standard output.")
@click.pass_context
def worker(ctx: click.Context, /, **options: Any) -> None:
    """Work on evaluation runs that other machines drive.

    Takes attempts from the queue in the database until it is stopped: Ctrl-C gives back what it works on, and what a
    worker was at that is killed is taken by another. Settings come with the attempts; keys of hosted models don't.

    Exit codes: 0 stopped; 6 no such database.
    """
    ctx.exit(work_until_stopped(options))
