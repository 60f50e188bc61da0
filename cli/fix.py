"""`agent fix` and `agent resume`: read the options, call one function, show the events, exit with its code."""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import click

from cli.run_options import (
    GENERATION,
    GENERATION_NAMES,
    LIMIT_NAMES,
    LIMITS,
    PATIENCE_NAMES,
    given,
    with_options,
)

if TYPE_CHECKING:
    from agent.fix import FixResult


@click.command()
@click.argument("repository", metavar="REPO")
@click.argument("issue", metavar="ISSUE")
@click.option(
    "--model",
    default="http://127.0.0.1:30000",
    envvar="PATCHWRIGHT_MODEL",
    show_default=True,
    help="A server's URL, a checkpoint's folder, script:FILE, or a hosted model: docs/models.md.",
)
@click.option(
    "--sandbox",
    envvar="PATCHWRIGHT_SANDBOX",
    type=click.Choice(["auto", "docker", "podman", "bubblewrap", "none"]),
    default="auto",
    show_default=True,
    help="Where commands run. `none` is no isolation at all.",
)
@click.option(
    "--image", envvar="PATCHWRIGHT_IMAGE", help="Docker image, or folder with a root file system for bubblewrap."
)
@click.option(
    "--network",
    envvar="PATCHWRIGHT_NETWORK",
    type=click.Choice(["none", "registries", "full"]),
    default="none",
    show_default=True,
    help="What commands can reach: nothing, package indexes through a proxy of ours, everything.",
)
@click.option(
    "--runtime",
    envvar="PATCHWRIGHT_RUNTIME",
    help="OCI runtime of the container engine, such as runsc or kata-runtime.",
)
@click.option("--revision", help="Commit, branch or tag to start from.  [default: HEAD]")
@click.option("--allow-dirty", is_flag=True, help="Start from the last commit although there are uncommitted changes.")
@click.option("--allow-build", is_flag=True, help="Let a repository that isn't a local folder build its own image.")
@with_options(*GENERATION, *LIMITS)
@click.option("--out", type=click.Path(dir_okay=False), help="Write the patch to this file too.")
@click.option("--branch", help="Add a branch with the patch to the local repository; the checkout stays as it is.")
@click.option("--apply", is_flag=True, help="Apply the patch, once verified, to the local checkout.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event on standard output.")
def fix(repository: str, issue: str, as_json: bool, **options: Any) -> None:
    """Solve ISSUE in REPO.

    REPO is a folder, a git URL or owner/name on GitHub. ISSUE is a number or URL on GitHub, a file, `-` for
    standard input, or the text itself. Nothing of yours is changed unless --branch or --apply asks for it.
    """
    from agent.fix import fix as solve
    from agent.limits import Limits
    from agent.request import Delivery, FixRequest, Generation, Patience, absolute
    from cli.view import listeners

    request = FixRequest(
        repository=repository,
        issue=issue,
        model=options["model"],
        sandbox=options["sandbox"],
        image=options["image"],
        network=options["network"],
        runtime=options["runtime"],
        revision=options["revision"],
        allow_dirty=options["allow_dirty"],
        allow_build=options["allow_build"],
        limits=Limits(**given(LIMIT_NAMES, options)),
        generation=Generation(**given(GENERATION_NAMES, options)),
        patience=Patience(**given(PATIENCE_NAMES, options)),
        delivery=Delivery(absolute(options["out"]), options["branch"], options["apply"]),
    )
    _finish(solve(request, listeners(as_json)), as_json)


@click.command()
@click.argument("run")
@click.option("--model", help="Another server or checkpoint than the run began with.")
@click.option("--say", help="Tell a run that has ended what to do further; `-` reads it from standard input.")
@with_options(*LIMITS)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event on standard output.")
def resume(run: str, as_json: bool, **options: Any) -> None:
    """Go on with RUN (an id, a part of one, or `last`) where it was cut off, or with higher limits.

    With --say a run that has ended goes on as well: the same conversation, with what is said as the next message in
    it, and as much of each limit again as it was given at first.
    """
    from dataclasses import replace

    from agent.fix import resume as go_on
    from agent.follow_up import MAX_CHARACTERS, FollowUp
    from agent.request import FixRequest
    from cli.view import listeners

    def change(request: FixRequest) -> FixRequest:
        return replace(
            request,
            limits=replace(request.limits, **given(LIMIT_NAMES, options)),
            patience=replace(request.patience, **given(PATIENCE_NAMES, options)),
            model=options["model"] or request.model,
        )

    more = None
    if (said := options["say"]) is not None:
        more = FollowUp(sys.stdin.read(MAX_CHARACTERS + 1), source="standard input") if said == "-" else FollowUp(said)
    _finish(go_on(run, listeners(as_json), change, more), as_json)


def _finish(work: Coroutine[Any, Any, FixResult], as_json: bool) -> None:
    import asyncio

    from agent.ends import EXIT_CODES, RunProblem

    try:
        result = asyncio.run(_until_terminated(work))
    except RunProblem as problem:
        click.echo(f"Error: {problem}", err=True)
        sys.exit(EXIT_CODES[problem.outcome])
    except KeyboardInterrupt:
        sys.exit(130)
    if not as_json:
        from cli.view import summary

        summary(result)
    sys.exit(result.exit_code)


async def _until_terminated(work: Coroutine[Any, Any, FixResult]) -> FixResult:
    """SIGTERM ends a run as Ctrl-C does: sandbox removed, log closed, to be resumed."""
    import asyncio
    import signal

    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task
