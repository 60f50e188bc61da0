"""`agent eval grade`: anyone's predictions through the same environments, judge and report as a run of our own.

Left out: grading saved logs without running anything (`cli.eval_regrade`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.eval_drive import Asked, drive_run, fail, judging_options, machine_options
from cli.eval_options import BAD_INPUT, choosing, printable
from cli.eval_run import chosen_instances
from cli.run_options import given

if TYPE_CHECKING:
    from evals.predictions import Prediction, Predictions

_SCORING = {"semantics": "semantics", "judge_seconds": "judge_timeout", "tries": "tries", "sandbox": "sandbox"}


@click.command()
@click.argument("dataset")
@click.option(
    "--predictions",
    "files",
    multiple=True,
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A .json or .jsonl file as the official harness takes it. Several: attempt 1, 2, and so on.",
)
@choosing
@click.option("--run", "name", default="", help="The run's name; that of one that was begun goes on with it.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="The run's folder, instead of the usual.")
@click.option("--retry-infrastructure", is_flag=True, help="Try those again that ended without a verdict.")
@judging_options
@machine_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event on standard output.")
@click.pass_context
def grade(ctx: click.Context, /, dataset: str, files: tuple[Path, ...], **options: Any) -> None:
    """Grade predictions for the instances of DATASET, in fresh sandboxes, and report on them.

    The model is only named in the predictions. Instances without one count as such; the denominator is what was
    chosen. The same command again goes on with a run that was cut off.

    Exit codes: 0 every prediction has a verdict; 3 some have none; 6 no such data set or predictions; 8 no sandbox;
    9 the run's folder can't be written; 130 stopped.
    """
    from evals.runs.begin import dataset_facts
    from evals.runs.facts import files_sha256
    from evals.runs.manifest import Settings

    read = [_read(ctx, path) for path in files]
    found, instances = chosen_instances(ctx, dataset, options)
    wanted = {instance.instance_id for instance in instances}
    chosen = [{name: one for name, one in predictions.by_id.items() if name in wanted} for predictions in read]
    if not any(chosen):
        fail(f"no prediction is for an instance of {dataset}: are they for another data set?")
        ctx.exit(BAD_INPUT)
    settings = Settings(kind="grade", attempts=len(files), predictions=files_sha256(files), **given(_SCORING, options))
    facts = dataset_facts(found, options["split"], instances)
    ctx.exit(drive_run(Asked(options, settings, facts, instances, given=chosen, name=_model(ctx, chosen))))


def _read(ctx: click.Context, path: Path) -> Predictions:
    from evals.predictions import read_predictions
    from evals.rows import DatasetUnusable

    try:
        found = read_predictions(path)
    except DatasetUnusable as error:
        fail(str(error))
        ctx.exit(BAD_INPUT)
    for line in found.broken:
        click.echo(f"{path}: {printable(line)}; left out", err=True)
    return found


def _model(ctx: click.Context, chosen: list[dict[str, Prediction]]) -> str:
    """Whose they are; one report is about one model."""
    names = sorted({one.model for predictions in chosen for one in predictions.values()})
    if len(names) > 1:
        fail(f"the predictions are of several models ({printable(', '.join(names[:5]))}): grade each by itself")
        ctx.exit(BAD_INPUT)
    return names[0]
