"""A plan for people: what was found, each choice with its reason, the memory of a card line by line, the commands."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from runtime.serving.fit import Part
from runtime.serving.plan import Alternative, DoesNotFit, Engine, Plan
from runtime.serving.recipes import Command, Recipe

WIDTH: Final = 118


def shown(plan: Plan, recipe: Recipe) -> str:
    """All of a plan as text."""
    blocks = [
        f"hardware: {plan.hardware}",
        "\n".join(_choices(plan)),
        "\n".join(_memory(plan)),
        *(["\n".join(("also looked at:", *_alternatives(plan.alternatives)))] if plan.alternatives else []),
        "\n\n".join(_commands(recipe)),
        f"then: agent fix ... --model {recipe.url}",
    ]
    return "\n\n".join(blocks)


def refused(error: DoesNotFit) -> str:
    """A refusal, with what else can be done."""
    return "\n".join((*textwrap.wrap(str(error), WIDTH), *_alternatives(error.alternatives)))


def as_json(plan: Plan, recipe: Recipe) -> dict[str, Any]:
    """The same, for programs. Memory in MiB."""
    return {
        "hardware": asdict(plan.hardware),
        "engine": plan.engine,
        "device": plan.device,
        "model": plan.model.name,
        "weights": plan.variant.hub,
        "file": plan.variant.file,
        "precision": plan.variant.precision,
        "tensor_parallelism": plan.tp,
        "replicas": plan.replicas,
        "context": plan.fit.context,
        "requests": plan.fit.requests,
        "kv_tokens": plan.fit.kv_tokens,
        "states": plan.fit.states,
        "choices": [asdict(choice) for choice in plan.choices],
        "memory": [asdict(part) for part in plan.fit.parts],
        "alternatives": [asdict(alternative) for alternative in plan.alternatives],
        "commands": [_command(command) for command in recipe.commands],
        "url": recipe.url,
    }


def _command(command: Command) -> dict[str, Any]:
    return {
        "role": command.role,
        "argv": list(command.argv),
        "env": dict(command.env),
        "url": command.address.url,
        "health": command.health,
    }


def _commands(recipe: Recipe) -> Iterator[str]:
    """Each command; of replicas the first, and what differs in the others."""
    first, *others = recipe.servers
    yield f"# {first.role}\n{first.shown()}"
    if others:
        lines = [
            f"# {other.role}: the same with {' '.join(f'{k}={v}' for k, v in other.env.items() if first.env[k] != v)} "
            f"and --port {other.address.port}"
            for other in others
        ]
        yield "\n".join(lines)
    if recipe.router is not None:
        yield f"# {recipe.router.role}\n{recipe.router.shown()}"


def _choices(plan: Plan) -> Iterator[str]:
    widest = max(len(choice.what) for choice in plan.choices)
    for choice in plan.choices:
        yield f"{choice.what:<{widest}}  {choice.value}"
        yield from textwrap.wrap(
            choice.why, WIDTH, initial_indent=" " * (widest + 4), subsequent_indent=" " * (widest + 4)
        )


def _memory(plan: Plan) -> Iterator[str]:
    parts: Sequence[Part] = plan.fit.parts
    if not plan.hardware.cards or plan.tp == 0:
        yield "memory:"
    elif plan.engine is Engine.LLAMACPP:
        yield "memory of the cards together:" if plan.tp > 1 else "memory of the card:"
    else:
        yield "memory of each card:" if len(plan.hardware.cards) > 1 else "memory of the card:"
    for part in parts:
        yield f"{part.mib:>9,.0f} MiB  {part.what}"
    yield f"{sum(part.mib for part in parts):>9,.0f} MiB"
    shape = plan.model.dimensions
    assert shape is not None
    for line in shape.arithmetic():
        yield from textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _alternatives(alternatives: Sequence[Alternative]) -> Iterator[str]:
    for alternative in alternatives:
        yield from textwrap.wrap(
            f"{alternative.what}: {alternative.verdict}", WIDTH, initial_indent="  - ", subsequent_indent="    "
        )
