"""`agent eval audit`: whether agents looked for the answer, and whether a checkout would let them find it.

Left out: the audits (`evals.leaks`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cli.eval_options import ALL_GRADED, BAD_INPUT, SOME_FAILED, load, printable

if TYPE_CHECKING:
    from evals.instance import Instance

SANDBOX_FAILED: Final = 8  # as "sandbox failed" of a run
KINDS: Final = ("auto", "docker", "podman", "bubblewrap", "none")
EVENTS: Final = "events.jsonl"


@click.command()
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option("--checkout", nargs=2, metavar="REPO REVISION", help="Audit our checkout of this commit instead.")
@click.option("--sandbox", "kind", type=click.Choice(KINDS), default="auto", show_default=True)
@click.option("--image", help="The image of that sandbox.")
@click.option("--dataset", help="Where the instance's row is, unless TARGET is an evaluation's folder.")
@click.option("--instance", "instance_id", default="", help="The instance that a trajectory or checkout is of.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line and trajectory or leak.")
@click.pass_context
def audit(
    ctx: click.Context,
    /,
    target: Path | None,
    checkout: tuple[str, str] | None,
    kind: str,
    image: str | None,
    dataset: str | None,
    instance_id: str,
    as_json: bool,
) -> None:
    """Flag finished trajectories that looked for the answer, or list what a checkout lets an agent find.

    TARGET is an evaluation's folder, a run's folder, or an events.jsonl. With --checkout a sandbox is opened that no
    agent gets; with --instance it is searched for the instance's solution and tests as well. Exit codes: 0 nothing
    was found; 3 something was; 6 nothing to audit; 8 the sandbox failed, or the audit came to no result.
    """
    if (target is None) == (checkout is None):
        raise click.UsageError("give a TARGET, or --checkout REPO REVISION")
    instance = _instance(ctx, dataset, instance_id) if dataset else None
    if checkout is not None:
        ctx.exit(_checkout(ctx, checkout, kind, image, instance, as_json))
    assert target is not None
    ctx.exit(_trajectories(ctx, target, instance, as_json))


def _instance(ctx: click.Context, dataset: str, instance_id: str) -> Instance:
    found = load(ctx, dataset, "").by_id().get(instance_id)
    if found is None:
        click.echo(f"{printable(dataset)} has no instance {instance_id!r}: name one with --instance", err=True)
        ctx.exit(BAD_INPUT)
    return found


def _checkout(
    ctx: click.Context, what: tuple[str, str], kind: str, image: str | None, instance: Instance | None, as_json: bool
) -> int:
    import asyncio

    from agent.ends import Outcome, RunProblem
    from evals.leaks import AuditFailed
    from evals.leaks.own import audit_own
    from sandbox.base import SandboxError

    def tell(line: str) -> None:
        click.echo(line, err=True)

    try:
        done = asyncio.run(audit_own(*what, kind=kind, image=image, instance=instance, progress=tell))
    except (AuditFailed, SandboxError) as error:
        click.echo(str(error), err=True)
        return SANDBOX_FAILED
    except RunProblem as problem:
        click.echo(str(problem), err=True)
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
