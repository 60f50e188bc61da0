"""`agent fix` and `agent resume`: read the options, call one function, show the events, exit with its code."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from agent.fix import FixResult

_LIMITS = (
    click.option(
        "--max-steps",
        envvar="PATCHWRIGHT_MAX_STEPS",
        type=click.IntRange(1),
        help="Most turns of the model.  [default: 250]",
    ),
    click.option(
        "--max-tokens",
        envvar="PATCHWRIGHT_MAX_TOKENS",
        type=click.IntRange(1),
        help="Most tokens the model may write.  [default: 1000000]",
    ),
    click.option(
        "--timeout",
        envvar="PATCHWRIGHT_TIMEOUT",
        type=click.FloatRange(min=1),
        help="Most seconds of wall time.  [default: 14400]",
    ),
)


def _limit_options(command: Any) -> Any:
    for option in reversed(_LIMITS):
        command = option(command)
    return command


@click.command()
@click.argument("repository", metavar="REPO")
@click.argument("issue", metavar="ISSUE")
@click.option(
    "--model",
    default="http://127.0.0.1:30000",
    envvar="PATCHWRIGHT_MODEL",
    show_default=True,
    help="A server's URL, a checkpoint's folder, or script:FILE.",
)
@click.option(
    "--sandbox",
    envvar="PATCHWRIGHT_SANDBOX",
    type=click.Choice(["auto", "docker", "bubblewrap", "none"]),
    default="auto",
    show_default=True,
    help="Where commands run. `none` is no isolation at all.",
)
@click.option(
    "--image", envvar="PATCHWRIGHT_IMAGE", help="Docker image, or folder with a root file system for bubblewrap."
)
@click.option("--revision", help="Commit, branch or tag to start from.  [default: HEAD]")
@click.option("--allow-dirty", is_flag=True, help="Start from the last commit although there are uncommitted changes.")
@click.option("--allow-build", is_flag=True, help="Let a repository that isn't a local folder build its own image.")
@_limit_options
@click.option("--temperature", type=click.FloatRange(0, 2), help="Sampling temperature.  [default: 0.6]")
@click.option("--seed", type=int, help="Seed of the sampler, for hosts that take one.")
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
    from agent.request import Delivery, FixRequest, absolute
    from cli.view import listeners
    from runtime.models.base import Sampling

    request = FixRequest(
        repository=repository,
        issue=issue,
        model=options["model"],
        sandbox=options["sandbox"],
        image=options["image"],
        revision=options["revision"],
        allow_dirty=options["allow_dirty"],
        allow_build=options["allow_build"],
        limits=Limits(**_given(steps="max_steps", tokens="max_tokens", seconds="timeout", options=options)),
        sampling=Sampling(**_given(temperature="temperature", seed="seed", options=options)),
        delivery=Delivery(absolute(options["out"]), options["branch"], options["apply"]),
    )
    _finish(solve(request, listeners(as_json)), as_json)


@click.command()
@click.argument("run")
@click.option("--model", help="Another server or checkpoint than the run began with.")
@_limit_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event on standard output.")
def resume(run: str, as_json: bool, **options: Any) -> None:
    """Go on with RUN (an id, a part of one, or `last`) where it was cut off, or with higher limits."""
    from dataclasses import replace

    from agent.fix import resume as go_on
    from agent.request import FixRequest
    from cli.view import listeners

    def change(request: FixRequest) -> FixRequest:
        raised = _given(steps="max_steps", tokens="max_tokens", seconds="timeout", options=options)
        limits = replace(request.limits, **raised)
        return replace(request, limits=limits, model=options["model"] or request.model)

    _finish(go_on(run, listeners(as_json), change), as_json)


def _given(*, options: dict[str, Any], **names: str) -> dict[str, Any]:
    """The options that were given, under the names that the settings have."""
    return {name: options[option] for name, option in names.items() if options.get(option) is not None}


def _finish(work: Coroutine[Any, Any, FixResult], as_json: bool) -> None:
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
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task
