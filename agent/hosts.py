"""The model of a run: reached, written into the log with what is known of it, and how it is asked to write.

What was settled when a run began (sampling, the name of the model) stays in its log, so that a resumed run asks in
the same way even where the presets have changed since. Left out: the requests themselves (`agent.loop`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from agent.ends import End, InputProblem, LoopEnded, Outcome, RunProblem
from agent.events import EventLog, EventType
from agent.limits import Limits
from agent.request import FixRequest, Generation
from runtime.models.base import Feature, RequestOptions, Sampling

if TYPE_CHECKING:
    from runtime.admission import Place
    from runtime.models.base import Model
    from runtime.models.retry import Retry

INSTRUCT = "instruct"  # the preset that doesn't think
_FAMILY = "Qwen3.6-35B-A3B"
NO_LIMITS = Limits(seconds=float("inf"))
_EXPECTED_TOKENS = 65_536  # of the last prompt of a run, to be admitted by; one that grows beyond takes more


@dataclass(frozen=True, slots=True)
class Host:
    """A reached model and how this run asks it."""

    model: Model
    sampling: Sampling
    options: RequestOptions
    thinking: bool

    def constrained_to(self, specs: Sequence[Mapping[str, Any]], wanted: bool) -> RequestOptions:
        """The options, with calls limited to these tools where that is wanted and the host can do it."""
        if wanted and Feature.CONSTRAINED in self.model.facts.features:
            return replace(self.options, constrain_to=tuple(specs))
        return self.options


def refuse_secrets(target: str) -> None:
    """Raises InputProblem for an address with a login or a query, before it is written into the log."""
    from runtime.models import target as targets
    from runtime.models.base import ModelError

    try:
        targets.refuse_secrets(target)
    except ModelError as error:
        raise InputProblem(str(error)) from None


async def reach(request: FixRequest, log: EventLog) -> Host:
    """Connect, and write what was found into the log. Raises RunProblem."""
    from runtime.models.base import ModelError
    from runtime.models.stack import StackSettings, open_model

    def note(retry: Retry) -> None:
        log.append(EventType.MODEL_RETRY, why=str(retry.error), wait=round(retry.delay, 2), kept=retry.kept)

    wish, patience = request.generation, request.patience
    settings = StackSettings(patience.silence, patience.absence, wish.constrained)
    try:
        model = await open_model(request.model, settings, on_retry=note)
    except ModelError as error:
        raise RunProblem(Outcome.MODEL, str(error)) from None
    sampling = _settled(log, request.model) or sampling_for(wish, model.name)
    options = RequestOptions(routing_key=log.run_id, priority=wish.priority)
    log.append(EventType.MODEL_CONNECTED, target=request.model, **_known(model), sampling=asdict(sampling))
    return Host(model, sampling, options, wish.preset != INSTRUCT)


@asynccontextmanager
async def room(
    host: Host, target: str, log: EventLog, on_wait: Callable[[str], None], limits: Limits = NO_LIMITS
) -> AsyncIterator[Place]:
    """Room for the run in the memory of its server, waited for behind the runs that came before.

    `on_wait` is told what is waited for, and once where the server's memory isn't known. Raises LoopEnded when what
    is left of the run's time passes in the wait, OSError when the folder of runs can't be written.
    """
    from agent.runs import home
    from runtime.admission import admission_for
    from runtime.models.probe_server import address_of

    facts, before = host.model.facts, log.last(EventType.TURN_STARTED)
    needed = max(_EXPECTED_TOKENS, before.data["prompt"] if before else 0)
    address = address_of(target)
    admission = admission_for(facts.pools, facts.cache, server=address, folder=home() / "servers")
    if address and not admission.bounded:
        on_wait("the server doesn't say how much its cache holds, so this run isn't held back for others on it")
    needed = min(needed, host.model.context_length)
    async with AsyncExitStack() as stack:
        entering = admission.enter(needed, on_wait=lambda waiting: on_wait(str(waiting)))
        try:
            async with asyncio.timeout(limits.seconds - seconds_spent(log)):
                place = await stack.enter_async_context(entering)
        except TimeoutError:
            raise LoopEnded(
                End.TIME,
                "the time limit came while the run waited for room in the model server's cache; --timeout allows no "
                "more. Runs that were stopped with Ctrl-Z hold their room too",
            ) from None
        yield place


def seconds_spent(log: EventLog) -> float:
    """By the parts of the run before this one."""
    told = (event.data.get("spent") for event in reversed(log.events))
    return next((float(spent) for spent in told if isinstance(spent, int | float)), 0.0)


def sampling_for(wish: Generation, name: str) -> Sampling:
    """The preset of the model called `name`, with what the user set in its place."""
    given = {key: getattr(wish, key) for key in ("temperature", "seed", "thinking_budget")}
    return replace(_preset(wish.preset, name), **{key: value for key, value in given.items() if value is not None})


def _preset(preset: str, name: str) -> Sampling:
    """From the model's card; for a model that the catalog doesn't know, those of Qwen3.6."""
    from runtime.catalog import Preset, find

    card = find(name) or find(_FAMILY)
    assert card is not None
    return card.sampling(Preset(preset))


def _settled(log: EventLog, target: str) -> Sampling | None:
    """The sampling that this run began with, unless it now goes on with another model."""
    earlier = log.last(EventType.MODEL_CONNECTED)
    if earlier is None or earlier.data["target"] != target:
        return None
    return Sampling(**earlier.data["sampling"])


def _known(model: Model) -> dict[str, Any]:
    facts = model.facts
    return {
        "name": model.name,
        "engine": facts.engine,
        "version": facts.version,
        "context": model.context_length,
        "tokenizer": model.tokenizer.name,
        "features": sorted(facts.features),
        "pools": asdict(facts.pools),
        "cache": asdict(facts.cache) if facts.cache else None,
        "notes": list(facts.notes),
    }
