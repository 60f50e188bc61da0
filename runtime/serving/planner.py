"""Hardware and a wish in, a plan out: candidates in the order in which we would want them, the first that does.

The order: SGLang before llama.cpp (a prefix cache for many trajectories at a time), FP8 before anything smaller
(nearly the scores of bf16 in half the memory), few cards per replica before many. A candidate does when one request
can have 128K of context; what costs least is given up first to get there. Left out: the sentences that say why
(`runtime.serving.reasons`), the command (`runtime.serving.recipes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from runtime.catalog import CATALOG, Found, find, locate
from runtime.dimensions import BF16, FP32
from runtime.model_card import ModelCard, Precision, Variant
from runtime.serving.fit import COMFORT, LADDER, Fit, Misfit, Room, Spending, fit_cards, fit_llama
from runtime.serving.hardware import Card, Hardware
from runtime.serving.plan import Alternative, Device, DoesNotFit, Engine, Plan, Preference, Wish, WishUnclear

DEFAULTS: Final = {
    Preference.SPEED: ("Qwen3.6-35B-A3B", "Qwen3.6-27B"),
    Preference.QUALITY: ("Qwen3.6-27B", "Qwen3.6-35B-A3B"),
}
PRECISIONS: Final = (Precision.LOCAL, Precision.FP8, Precision.NVFP4, Precision.INT4, Precision.BF16)
FP8_CACHE: Final = (8, 9)  # least compute capability whose kernels read a cache in FP8
SYSTEM: Final = (2048, 6144)  # MiB kept for the system and the sandboxes of runs: a quarter, within these bounds
CPU_CONTEXT: Final = COMFORT  # a longer prompt would take a CPU most of an hour
CPU_TOKENS: Final = 32_768  # of a checkpoint that SGLang serves on a CPU: for tests and tiny models
CPU_REQUESTS: Final = 8
SMALL: Final = 10_000_000_000  # parameters of models that are only to try things out
CPU_STATES: Final = 64


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to serve, and whether it fits."""

    engine: Engine
    device: Device
    model: ModelCard
    variant: Variant
    tp: int
    fit: Fit | Misfit

    @property
    def name(self) -> str:
        cards = f", {self.tp} cards" if self.tp > 1 else ""
        return f"{self.model.name}, {self.variant.precision}, {self.engine}{cards}"


def make_plan(wish: Wish, hardware: Hardware) -> Plan:
    """The best plan for the wish, without its reasons. Raises WishUnclear, DoesNotFit."""
    found = _named(wish)
    models = [found] if found else [Found(card) for name in DEFAULTS[wish.prefer] if (card := find(name))]
    hardware = replace(hardware, cards=()) if wish.device is Device.CPU else hardware
    if wish.device is Device.CUDA and not hardware.cards:
        raise WishUnclear("--device cuda was asked for, and there is no card: nvidia-smi lists none.")
    _check_context(wish, models)
    looked_at = [candidate for model in models for candidate in candidates(model, wish, hardware)]
    fitting = [candidate for candidate in looked_at if isinstance(candidate.fit, Fit)]
    if not fitting:
        raise refusal(wish, hardware, models, looked_at)
    chosen = best(fitting, wish)
    assert isinstance(chosen.fit, Fit)
    return Plan(
        hardware=hardware,
        engine=chosen.engine,
        device=chosen.device,
        model=chosen.model,
        variant=chosen.variant,
        fit=chosen.fit,
        tp=chosen.tp,
        replicas=_replicas(chosen, hardware),
        yarn=chosen.model.yarn(chosen.fit.context),
        alternatives=_others(chosen, looked_at, wish, hardware),
    )


def candidates(found: Found, wish: Wish, hardware: Hardware) -> Iterator[Candidate]:
    """All ways to serve one model here, those that we would rather have first."""
    model, named = found.card, found.variant
    variants = [named] if named else _ordered(model)
    cards, gguf = hardware.cards, [variant for variant in variants if variant.gguf]
    plain = [variant for variant in variants if not variant.gguf]
    for engine in (Engine.SGLANG, Engine.VLLM):
        if engine not in _engines(wish, hardware):
            continue
        for variant in plain:
            if cards:
                yield from _on_cards(engine, model, variant, wish, cards)
            elif variant.precision is Precision.LOCAL or wish.engine is engine:
                yield _on_cpu(engine, model, variant, wish, hardware)
    if Engine.LLAMACPP in _engines(wish, hardware):
        for variant in gguf:
            fit = fit_llama(model, variant, _room(hardware), wish.context)
            yield Candidate(Engine.LLAMACPP, Device.CUDA if cards else Device.CPU, model, variant, len(cards), fit)


def refusal(wish: Wish, hardware: Hardware, models: Sequence[Found], looked_at: Sequence[Candidate]) -> DoesNotFit:
    """Why nothing fits, what would be needed, and what can be done instead."""
    names = list(dict.fromkeys(found.card.name for found in models))
    misfits = [(c.name, c.fit) for c in looked_at if isinstance(c.fit, Misfit)]
    told = [(name, fit) for name, fit in misfits if fit.needed] or misfits
    tried = [Alternative(name, verdict(fit)) for name, fit in told]
    at = f" with a context of {wish.context:,} tokens" if wish.context else ""
    needed = min((fit.needed for _, fit in misfits if fit.needed), default=0)
    verb = " can't" if len(names) == 1 else " can"
    text = f"{_neither(names)}{verb} be served here{at}: there is {hardware}."
    if needed:
        kind = "cards" if hardware.cards else "memory"
        text += f" The smallest form needs about {needed / 1024:.0f} GiB of {kind}."
    elif not looked_at:
        text += " No published form of it runs on this engine and hardware."
    return DoesNotFit(text, (*tried[:4], *_instead(hardware, models)))


def _is(kind: Callable[[Path], bool], name: str) -> bool:
    try:
        return kind(Path(name).expanduser())
    except (OSError, ValueError, RuntimeError):  # no name that a file can have
        return False


def _neither(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    return "Neither " + " nor ".join(names) if len(names) == 2 else "None of " + ", ".join(names)


def _named(wish: Wish) -> Found | None:
    if wish.model is None:
        return None
    found = locate(wish.model)
    if found is None:
        if _is(Path.is_dir, wish.model):
            raise WishUnclear(f"{wish.model} is a folder without a config.json that a plan can be made from.")
        known = ", ".join(card.name for card in CATALOG if card.variants)
        if _is(Path.is_file, wish.model):
            raise WishUnclear(
                f"What model the file {wish.model} holds can't be seen from its name. Only GGUF files are served by "
                f"file, and the name must contain the model's, as in Qwen3.6-27B-Q4_K_M.gguf: {known}."
            )
        raise WishUnclear(f"{wish.model!r} is neither a folder, a GGUF file nor a model of the catalog: {known}.")
    if found.card.hosted_only:
        price = found.card.price
        target = f" --model {price.host}:{price.model}" if price else ""
        raise WishUnclear(f"{found.card.name} has no published weights. Use it where it is hosted: agent fix{target}.")
    return found


def _check_context(wish: Wish, models: Sequence[Found]) -> None:
    if wish.context is None:
        return
    try:
        for found in models:
            found.card.yarn(wish.context)
    except ValueError as error:
        raise WishUnclear(f"--context {wish.context}: {error}") from error


def _ordered(model: ModelCard) -> list[Variant]:
    in_order = [model.variant(precision) for precision in (*PRECISIONS, Precision.Q4_K_M)]
    return [variant for variant in in_order if variant is not None]


def _engines(wish: Wish, hardware: Hardware) -> tuple[Engine, ...]:
    return (wish.engine,) if wish.engine else (Engine.SGLANG, Engine.LLAMACPP)


def _on_cards(
    engine: Engine, model: ModelCard, variant: Variant, wish: Wish, cards: tuple[Card, ...]
) -> Iterator[Candidate]:
    card = min(cards, key=lambda one: one.memory)
    if variant.min_capability and not card.at_least(variant.min_capability):
        major, minor = variant.min_capability
        why = f"needs compute capability {major}.{minor}, which the card isn't known to have"
        yield Candidate(engine, Device.CUDA, model, variant, 1, Misfit(why, 0))
        return
    widths = [wish.tp] if wish.tp else [width for width in (1, 2, 4, 8) if width <= len(cards)]
    for width in widths:
        if width > len(cards):
            raise WishUnclear(f"--tp {width} needs {width} cards, and there are {len(cards)}.")
        fits = [
            fit_cards(model, variant, card, width, spending, wish.context)
            for spending in _spendings(engine, model, variant, wish, card)
        ]
        yield Candidate(engine, Device.CUDA, model, variant, width, _first(fits, wish))


def _spendings(engine: Engine, model: ModelCard, variant: Variant, wish: Wish, card: Card) -> list[Spending]:
    """From everything to the barest, each with one thing less, as far as the wish leaves it open.

    vLLM gets no drafts: with its prefix cache for states they have been reported to spoil what is written.
    """
    shape = model.dimensions
    can_draft = shape is not None and shape.mtp_layers > 0 and variant.mtp and wish.mtp is not False
    can_draft = can_draft and engine is not Engine.VLLM
    images = model.images and variant.vision and wish.images is not False
    steps = [Spending(images, can_draft)]
    if wish.mtp is not True:
        steps.append(Spending(images, False))
    if wish.images is not True:
        steps.append(replace(steps[-1], images=False))
    if shape is not None and shape.linear_layers and engine is Engine.SGLANG:
        steps.append(replace(steps[-1], ssm=BF16))
    if card.at_least(FP8_CACHE):
        steps.append(replace(steps[-1], kv=1))
    return list(dict.fromkeys(steps))


def _first(fits: Sequence[Fit | Misfit], wish: Wish) -> Fit | Misfit:
    """The first that does; else the one with the longest context, for which the least is given up."""
    good = [fit for fit in fits if isinstance(fit, Fit)]
    if not good:
        return fits[-1]
    for requests in (2, 1):  # two trajectories at a time are worth more than what is given up for them
        if fit := next((fit for fit in good if _does(fit, wish) and fit.requests >= requests), None):
            return fit
    return max(good, key=lambda fit: fit.context)


def _does(fit: Fit, wish: Wish) -> bool:
    return fit.context >= (wish.context or COMFORT)


def best(fitting: Sequence[Candidate], wish: Wish) -> Candidate:
    """The first that has room for enough context; else the one with the longest."""

    def context(candidate: Candidate) -> int:
        return candidate.fit.context if isinstance(candidate.fit, Fit) else 0

    for candidate in fitting:
        if isinstance(candidate.fit, Fit) and (
            _does(candidate.fit, wish) or candidate.fit.context >= candidate.model.context
        ):
            return candidate
    return max(fitting, key=context)


def _replicas(chosen: Candidate, hardware: Hardware) -> int:
    if chosen.engine is Engine.LLAMACPP or not hardware.cards:
        return 1
    return max(1, len(hardware.cards) // chosen.tp)


def _room(hardware: Hardware) -> Room:
    if hardware.cards:
        memory = sum(card.memory for card in hardware.cards)
        return Room(memory, 512 * len(hardware.cards), "driver", holds_checkpoints=False)
    ram = hardware.ram or 0
    kept = max(SYSTEM[0], min(SYSTEM[1], ram // 4))
    return Room(ram, kept, "the system, and the sandboxes of runs", holds_checkpoints=True, longest=CPU_CONTEXT)


def _on_cpu(engine: Engine, model: ModelCard, variant: Variant, wish: Wish, hardware: Hardware) -> Candidate:
    """SGLang on a CPU, with its stand-in for the kernels: small checkpoints, in a fixed frame."""
    from runtime.dimensions import MIB
    from runtime.serving.fit import Part

    shape = model.dimensions
    assert shape is not None
    context = wish.context or min(model.context, CPU_TOKENS)
    tokens = 4 * context
    weights = variant.bytes / MIB * 2  # computed in float32, as are states and cache
    states, cache = (
        (CPU_STATES + 1) * shape.state_bytes(FP32, FP32) / MIB,
        tokens * shape.kv_bytes_per_token(FP32) / MIB,
    )
    needed = round(weights + states + cache + 4096)
    fit: Fit | Misfit
    if hardware.ram is not None and needed > hardware.ram:
        fit = Misfit(f"{needed / 1024:.1f} GiB of memory, and there are {hardware.ram / 1024:.1f}", needed)
    else:
        parts = (
            Part("weights, as the CPU computes with them", weights),
            Part(f"{CPU_STATES} recurrent states, and one spare", states),
            Part(f"keys and values of {tokens:,} tokens", cache),
            Part("three processes of the server", 4096),
        )
        fit = Fit(context, CPU_REQUESTS, tokens, CPU_STATES, Spending(images=False, mtp=False), parts)
    return Candidate(engine, Device.CPU, model, variant, 0, fit)


def _others(
    chosen: Candidate, looked_at: Sequence[Candidate], wish: Wish, hardware: Hardware
) -> tuple[Alternative, ...]:
    """What else was looked at of the same model, and the other models that an agent would use."""
    rest = [candidate for candidate in looked_at if candidate is not chosen]
    wanted = {chosen.model.name, *(candidate.model.name for candidate in looked_at)}
    if wish.engine is None and hardware.cards:
        names = [*DEFAULTS[wish.prefer], *(["Qwen3.5-397B-A17B"] if len(hardware.cards) >= 4 else [])]
        for name in names:
            if name not in wanted and (card := find(name)) is not None:
                rest.extend(candidates(Found(card), Wish(), hardware))
    return tuple(Alternative(candidate.name, verdict(candidate.fit)) for candidate in _shortened(rest, chosen))


def _shortened(rest: Sequence[Candidate], chosen: Candidate) -> list[Candidate]:
    """Of each form of the chosen model the best width, of other models only the form that we would take."""
    kept: dict[tuple[str, ...], Candidate] = {}
    for candidate in rest:
        if isinstance(candidate.fit, Misfit) and not candidate.fit.needed:
            continue
        key: tuple[str, ...] = (candidate.model.name,)
        if candidate.model.name == chosen.model.name:
            key += (candidate.variant.hub, candidate.engine)
            if key[1:] == (chosen.variant.hub, chosen.engine):
                continue
        if isinstance(kept.get(key, candidate).fit, Misfit) or key not in kept:
            kept[key] = candidate
    return list(kept.values())


def verdict(fit: Fit | Misfit) -> str:
    if isinstance(fit, Misfit):
        return f"doesn't fit: {fit.why}"
    at_once = "trajectory" if fit.requests == 1 else "trajectories"
    return f"fits: {fit.context:,} tokens of context, {fit.requests} {at_once} at a time"


def _instead(hardware: Hardware, models: Sequence[Found]) -> Iterator[Alternative]:
    """What a user can do whose machine serves none of the models."""
    hosted = find("Qwen3.6-Plus")
    if hosted is not None and hosted.price is not None:
        price = hosted.price
        yield Alternative(
            f"agent fix --model {price.host}:{price.model}",
            f"{hosted.name}, hosted: ${price.input:g} in, ${price.output:g} out per million tokens; the code leaves "
            "this machine",
        )
    yield Alternative(
        "agent fix --model http://SERVER:30000",
        "a server elsewhere; `agent model serve --dry-run --hardware 1x24` shows what another machine would serve",
    )
    given = {found.card.name for found in models}
    for name in (name for name in DEFAULTS[Preference.SPEED] if name not in given):
        if line := _line(find(name), hardware, ""):
            yield line
            return
    for card in CATALOG:  # the largest comes first
        small = card.dimensions is not None and card.dimensions.parameters().text < SMALL
        line = _line(card, hardware, "; to try things out: too small a model to solve issues") if small else None
        if line and card.name not in given:
            yield line
            return


def _line(card: ModelCard | None, hardware: Hardware, remark: str) -> Alternative | None:
    """A model that would fit, and in which form."""
    if card is None:
        return None
    fits = [c for c in candidates(Found(card), Wish(), hardware) if isinstance(c.fit, Fit)]
    if not fits:
        return None
    chosen = best(fits, Wish())
    form = f"{chosen.variant.precision}, {chosen.engine}"
    return Alternative(f"agent model serve {card.name}", f"{form}: {verdict(chosen.fit)}{remark}")


__all__ = ["DEFAULTS", "LADDER", "Candidate", "best", "candidates", "make_plan", "refusal", "verdict"]
