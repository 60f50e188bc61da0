"""The options that bound a run of the agent and say how its model writes, shared by `fix`, `resume` and `eval run`.

Left out: options that only one of them has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

LIMITS = (
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
GENERATION = (
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


Command = Callable[..., None]


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


# name in the settings: name of the option
LIMIT_NAMES = {"steps": "max_steps", "tokens": "max_tokens", "seconds": "timeout", "cost": "max_cost"}
PATIENCE_NAMES = {"silence": "model_silence", "absence": "model_absence"}
GENERATION_NAMES = {
    name: name for name in ("preset", "temperature", "seed", "thinking_budget", "constrained", "priority")
}


def given(names: dict[str, str], options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, under the names that the settings have."""
    return {name: options[option] for name, option in names.items() if options.get(option) is not None}
