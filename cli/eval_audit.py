"""`agent eval audit`: whether agents looked for the answer, and whether a checkout would let them find it.

Left out: the audits (`evals.leaks`).
"""

from __future__ import annotations

import json
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cli.eval_options import ALL_GRADED, BAD_INPUT, SOME_FAILED, load, printable

if TYPE_CHECKING:
    from evals.instance import Instance
    from evals.leaks.own import Audited

SANDBOX_FAILED: Final = 8  # as "sandbox failed" of a run
KINDS: Final = ("auto", "docker", "podman", "bubblewrap", "none")
MINI: Final = "mini"  # the bundled set
EVENTS: Final = "events.jsonl"


@click.command()
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option("--checkout", nargs=2, metavar="REPO REVISION", help="Audit our checkout of this commit instead.")
@click.option(
    "--environment", is_flag=True, help="Audit the image and checkout that a run gives to --instance instead."
)
@click.option("--sandbox", "kind", type=click.Choice(KINDS), default="auto", show_default=True)
@click.option("--image", help="The image of that sandbox; with --checkout.")
@click.option("--dataset", help="Where the instance's row is, unless TARGET is an evaluation's folder.")
@click.option("--instance", "instance_id", default="", help="The instance that a trajectory or checkout is of.")
@click.option("--recipes", multiple=True, type=click.Path(path_type=Path), help="With --environment. Repeatable.")
@click.option("--repositories", type=click.Path(path_type=Path), help="A folder with clones; with --environment.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line and trajectory or leak.")
@click.pass_context
def audit(
    ctx: click.Context,
    /,
    target: Path | None,
    checkout: tuple[str, str] | None,
    environment: bool,
    dataset: str | None,
    instance_id: str,
    as_json: bool,
    **said: Any,
) -> None:
    """Flag finished trajectories that looked for the answer, or list what a checkout lets an agent find.

    TARGET is an evaluation's folder, a run's folder, or an events.jsonl. With --checkout or --environment a sandbox is
    opened that no agent gets; with --instance it is searched for the instance's solution and tests as well. Exit codes:
    0 nothing was found; 3 something was; 6 nothing to audit; 8 the sandbox failed, or the audit came to no result.
    """
    if sum((target is not None, checkout is not None, environment)) != 1:
        raise click.UsageError("give a TARGET, or --checkout REPO REVISION, or --environment")
    if environment and not dataset:
        raise click.UsageError("--environment needs --dataset and --instance")
    instance = _instance(ctx, dataset, instance_id) if dataset else None
    if target is not None:
        ctx.exit(_trajectories(ctx, target, instance, as_json))
    if checkout is not None:
        audited = _own(checkout, said["kind"], said["image"], instance)
    else:
        assert instance is not None
        audited = _of_environment(ctx, instance, said["kind"], said["recipes"], said["repositories"])
    ctx.exit(_audited(audited, as_json))


def _instance(ctx: click.Context, dataset: str, instance_id: str) -> Instance:
    if dataset == MINI:
        from evals.mini.dataset import mini_dataset

        rows = mini_dataset()
    else:
        rows = load(ctx, dataset, "")
    found = rows.by_id().get(instance_id)
    if found is None:
        click.echo(f"{printable(dataset)} has no instance {instance_id!r}: name one with --instance", err=True)
        ctx.exit(BAD_INPUT)
    return found


async def _own(what: tuple[str, str], kind: str, image: str | None, instance: Instance | None) -> Audited:
    from evals.leaks.own import audit_own

    return await audit_own(*what, kind=kind, image=image, instance=instance, progress=_tell)


async def _of_environment(
    ctx: click.Context, instance: Instance, kind: str, recipes: tuple[Path, ...], repositories: Path | None
) -> Audited:
    from evals.environments import RecipeBroken, Recipes, environment_of
    from evals.leaks.own import audit_own

    try:
        known = Recipes.load(recipes)
    except (RecipeBroken, OSError) as problem:
        _tell(f"recipes: {problem}")
        ctx.exit(BAD_INPUT)
    folder = repositories.resolve() if repositories else None
    made = await environment_of(instance, kind=kind, recipes=known, repositories=folder, progress=_tell)
    workdir = None if made.kind == "none" else made.workdir
    return await audit_own(
        made.repository,
        made.base_commit,
        kind=made.kind,
        image=made.image or None,
        workdir=workdir,
        instance=instance,
        progress=_tell,
    )


def _tell(text: str) -> None:
    for line in text.splitlines():
        click.echo(printable(line), err=True)


def _audited(audited: Coroutine[Any, Any, Audited], as_json: bool) -> int:
    """Runs the audit, prints what it found; the exit code."""
    import asyncio

    from agent.ends import Outcome, RunProblem
    from evals.environments import EnvironmentUnavailable
    from evals.leaks import AuditFailed
    from sandbox.base import SandboxError

    try:
        done = asyncio.run(audited)
    except (AuditFailed, SandboxError, EnvironmentUnavailable) as error:
        _tell(str(error))
        return SANDBOX_FAILED
    except RunProblem as problem:
        _tell(str(problem))
        return BAD_INPUT if problem.outcome is Outcome.INPUT else SANDBOX_FAILED
    for leak in done.leaks:
        click.echo(json.dumps(leak.to_json()) if as_json else str(leak))
    looked = "the work folder alone, because this kind isolates nothing" if done.kind == "none" else "the whole sandbox"
    what_was = f"{done.commit[:12]} in {done.kind} {printable(done.image)}".strip()
    click.echo(f"{what_was}: {len(done.leaks)} leaks, {looked} was looked at in {done.seconds} s", err=True)
    return SOME_FAILED if done.leaks else ALL_GRADED


def _trajectories(ctx: click.Context, target: Path, instance: Instance | None, as_json: bool) -> int:
    from agent.events import EventLogError
    from evals.leaks import audit_trajectory

    rows = target / "instances.jsonl"
    known = load(ctx, str(rows), "").by_id() if instance is None and rows.is_file() else {}
    logs = sorted(target.rglob(EVENTS)) if target.is_dir() else [target] if target.is_file() else []
    code, audited = ALL_GRADED, 0
    for log in logs:
        of = instance or next((known[part] for part in reversed(log.parts) if part in known), None)
        if of is None:
            click.echo(f"{printable(str(log))}: of which instance? give --dataset and --instance", err=True)
            continue
        try:
            said = audit_trajectory(log, of)
        except EventLogError as error:
            click.echo(printable(str(error)), err=True)
            continue
        audited += 1
        code = SOME_FAILED if said else code
        if as_json:
            click.echo(json.dumps({"trajectory": str(log), "instance_id": of.instance_id, "looks": list(said)}))
        else:
            click.echo("\n".join(f"{printable(str(log))}: {line}" for line in said or ("nothing",)))
    if audited < len(logs) or not audited:
        click.echo(f"{audited} of {len(logs)} trajectories audited", err=True)
        return BAD_INPUT
    return code
