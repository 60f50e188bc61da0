"""`agent fix` and `agent resume`: read the options, call one function, show the events, exit with its code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
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
    click.option(
        "--max-cost",
        envvar="PATCHWRIGHT_MAX_COST",
        type=click.FloatRange(min=0, min_open=True),
        help="Most US dollars on a host with prices.  [default: no bound]",
    ),
    click.option(
        "--model-silence",
        envvar="PATCHWRIGHT_MODEL_SILENCE",
        type=click.FloatRange(min=1),
        help="Most seconds that the server may say nothing inside an answer.  [default: 600]",
    ),
    click.option(
        "--model-absence",
        envvar="PATCHWRIGHT_MODEL_ABSENCE",
        type=click.FloatRange(min=0),
        help="Most seconds to wait for a server that is away, busy or failing.  [default: 600]",
    ),
)
_GENERATION = (
    click.option(
        "--preset",
        envvar="PATCHWRIGHT_PRESET",
        type=click.Choice(["coding", "thinking", "instruct"]),
        default="coding",
        show_default=True,
        help="Sampling as the model's card recommends it; `instruct` doesn't think.",
    ),
    click.option(
        "--temperature",
        envvar="PATCHWRIGHT_TEMPERATURE",
        type=click.FloatRange(0, 2),
        help="Sampling temperature.  [default: the preset's]",
    ),
    click.option("--seed", envvar="PATCHWRIGHT_SEED", type=int, help="Seed of the sampler, for hosts that take one."),
    click.option(
        "--thinking-budget",
        envvar="PATCHWRIGHT_THINKING_BUDGET",
        type=click.IntRange(1),
        help="Most tokens of thinking in one turn.  [default: the preset's]",
    ),
    click.option(
        "--constrained",
        envvar="PATCHWRIGHT_CONSTRAINED",
        is_flag=True,
        help="Let the server allow only calls that fit the tools' specs, where it can.",
    ),
    click.option(
        "--priority",
        envvar="PATCHWRIGHT_PRIORITY",
        type=int,
        help="Priority of the requests on servers that know priorities; higher goes first.",
    ),
)


_Command = Callable[..., None]


def _with(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


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
@_with(*_GENERATION, *_LIMITS)
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
        limits=Limits(**_given(_LIMIT_NAMES, options)),
        generation=Generation(**_given(_GENERATION_NAMES, options)),
        patience=Patience(**_given(_PATIENCE_NAMES, options)),
        delivery=Delivery(absolute(options["out"]), options["branch"], options["apply"]),
    )
    _finish(solve(request, listeners(as_json)), as_json)


@click.command()
@click.argument("run")
@click.option("--model", help="Another server or checkpoint than the run began with.")
@_with(*_LIMITS)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event on standard output.")
def resume(run: str, as_json: bool, **options: Any) -> None:
    """Go on with RUN (an id, a part of one, or `last`) where it was cut off, or with higher limits."""
    from dataclasses import replace

    from agent.fix import resume as go_on
    from agent.request import FixRequest
    from cli.view import listeners

    def change(request: FixRequest) -> FixRequest:
        return replace(
            request,
            limits=replace(request.limits, **_given(_LIMIT_NAMES, options)),
            patience=replace(request.patience, **_given(_PATIENCE_NAMES, options)),
            model=options["model"] or request.model,
        )

    _finish(go_on(run, listeners(as_json), change), as_json)


# name in the settings: name of the option
_LIMIT_NAMES = {"steps": "max_steps", "tokens": "max_tokens", "seconds": "timeout", "cost": "max_cost"}
_PATIENCE_NAMES = {"silence": "model_silence", "absence": "model_absence"}
_GENERATION_NAMES = {
    name: name for name in ("preset", "temperature", "seed", "thinking_budget", "constrained", "priority")
}


def _given(names: dict[str, str], options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, under the names that the settings have."""
    return {name: options[option] for name, option in names.items() if options.get(option) is not None}


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
