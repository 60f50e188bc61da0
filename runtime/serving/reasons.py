"""Why a plan is as it is: a sentence for each of its choices, with the figures that it rests on."""

from __future__ import annotations

from typing import Final

from runtime.dimensions import BF16, FP32, MIB
from runtime.model_card import Precision
from runtime.serving.fit import CHECKPOINTS, COMFORT, DRAFT_TOKENS, SLOTS, WORKING_SET
from runtime.serving.plan import Choice, Device, Engine, Plan, Wish

ROUTING_HEADER: Final = "x-smg-routing-key"

_PRECISIONS: Final = {
    Precision.FP8: "the maker's own checkpoint, with nearly the scores of bf16 in half the memory; "
    "cards before compute capability 8.9 run it as weights only",
    Precision.NVFP4: "FP8 doesn't leave enough room, and this card computes in 4-bit floating point",
    Precision.INT4: "FP8 doesn't leave enough room on these cards",
    Precision.BF16: "no smaller form of it is known to the catalog, or none was to be used",
    Precision.Q4_K_M: "the form that llama.cpp reads; 4 to 6 bits per weight",
    Precision.LOCAL: "the weights as they lie on this machine",
}


def explain(plan: Plan, wish: Wish) -> tuple[Choice, ...]:
    """All choices of a plan, in the order in which a person would ask for them."""
    choices = [_engine(plan, wish), _model(plan, wish), _precision(plan), _cards(plan), _context(plan, wish)]
    if plan.engine is Engine.LLAMACPP:
        choices.extend(_llama(plan))
    elif plan.device is Device.CPU:
        choices.append(
            Choice("kernels", "the CPU stand-in", "SGLang has none of its own for this CPU: slow, and meant for tests")
        )
    else:
        choices.extend(_pools(plan))
        choices.extend(_extras(plan))
    if plan.replicas > 1:
        choices.append(_router(plan))
    return tuple(choices)


def _engine(plan: Plan, wish: Wish) -> Choice:
    if wish.engine is not None:
        return Choice("engine", plan.engine, "asked for")
    if plan.engine is Engine.SGLANG:
        return Choice(
            "engine", plan.engine, "keeps recurrent states in its prefix cache, for many trajectories at a time"
        )
    if plan.device is Device.CPU:
        return Choice("engine", plan.engine, "there is no GPU, and it computes well on CPUs")
    why = "no form of the model for SGLang leaves room for 128K of context here; a GGUF does"
    return Choice("engine", plan.engine, why if not plan.variant.hub.endswith(".gguf") else "a GGUF file was named")


def _model(plan: Plan, wish: Wish) -> Choice:
    model = plan.model
    if wish.model is not None:
        return Choice("model", model.name, "asked for")
    if wish.prefer == "quality":
        score = f" (SWE-bench Verified {model.swe_bench_verified})" if model.swe_bench_verified else ""
        return Choice("model", model.name, f"the highest score of the open models that fit{score}")
    shape = model.dimensions
    assert shape is not None
    active = shape.active_parameters() / 1e9
    return Choice(
        "model",
        model.name,
        f"reads {active:.1f}B parameters per token and keeps {shape.kv_bytes_per_token() // 1024} KiB of it: the "
        "fastest of Qwen3.6, and most trajectories fit with it; --prefer quality takes the 27B first",
    )


def _precision(plan: Plan) -> Choice:
    variant = plan.variant
    size = f"{variant.bytes / 1e9:.1f} GB{', computed from the dimensions' if variant.estimated else ''}"
    form = variant.file or variant.hub
    return Choice("weights", f"{variant.precision}: {form} ({size})", _PRECISIONS[variant.precision])


def _cards(plan: Plan) -> Choice:
    if plan.device is Device.CPU:
        return Choice("device", "cpu", "asked for" if plan.hardware.cards else "there is no GPU")
    if plan.engine is Engine.LLAMACPP:
        return Choice("device", f"{plan.tp} card{'s' if plan.tp > 1 else ''}", "all layers lie on them")
    if plan.tp == 1:
        return Choice("tensor parallelism", "1", "the model fits on one card, which then waits for no other")
    return Choice(
        "tensor parallelism", str(plan.tp), f"with fewer than {plan.tp} cards there is no room for its context"
    )


def _context(plan: Plan, wish: Wish) -> Choice:
    context, value = plan.fit.context, f"{plan.fit.context:,} tokens"
    if plan.yarn is not None:
        return Choice(
            "context", value, f"asked for; stretched by YaRN with factor {plan.yarn:g}, which may hurt short texts"
        )
    if wish.context is not None:
        return Choice("context", value, "asked for")
    if context == plan.model.context:
        return Choice("context", value, "all that the model was trained for")
    if plan.device is Device.CPU and context == COMFORT:
        return Choice("context", value, "what the model cards advise at least; reading more would take a CPU very long")
    if context >= COMFORT:
        return Choice(
            "context", value, "what there is room for beside the rest; the model cards advise at least 131,072"
        )
    return Choice("context", value, "what there is room for, and below the 131,072 that the model cards advise")


def _pools(plan: Plan) -> list[Choice]:
    fit, shape = plan.fit, plan.model.dimensions
    assert shape is not None
    choices = [
        Choice(
            "memory fraction",
            f"{fit.fraction:.2f}",
            f"the rest of a card is for activations of {fit.chunk:,} tokens, CUDA graphs up to {fit.graph} requests"
            f"{', pictures' if fit.spending.images else ''} and the driver",
        ),
        Choice(
            "prefill",
            f"chunks of {fit.chunk:,} tokens",
            "the larger the card, the more at once; each end is a checkpoint",
        ),
    ]
    if not plan.hybrid:
        return choices
    if plan.engine is Engine.VLLM:
        why = "experimental for recurrent states: it keeps them at the ends of blocks of some 500 tokens, SGLang of 64"
        return [*choices, Choice("prefix cache", "on", why)]
    size = shape.state_bytes(fit.spending.ssm) / MIB
    choices += [
        Choice(
            "recurrent states",
            "extra_buffer",
            "keeps a state within 64 tokens of the end of each prompt and each answer, so turns, forks and edits hit "
            "the cache; no_buffer keeps one only where a request ended",
        ),
        Choice(
            "state slots",
            f"{fit.states} of {size:.1f} MiB",
            f"{fit.requests} at a time x ({SLOTS} that a running request holds + {CHECKPOINTS} checkpoints); a "
            f"trajectory is counted with {WORKING_SET:,} tokens",
        ),
    ]
    return choices


def _extras(plan: Plan) -> list[Choice]:
    spending, images = plan.fit.spending, plan.model.images
    choices = []
    if plan.hybrid and spending.ssm != FP32:
        choices.append(Choice("state precision", "bf16", "half the size of fp32, for room; a little less exact"))
    if spending.kv == BF16:
        choices.append(Choice("cache precision", "bf16", "exact; FP8 would be used where nothing else makes room"))
    else:
        choices.append(Choice("cache precision", "fp8", "half the size of bf16, for room; this card's kernels read it"))
    if spending.mtp:
        why = (
            f"drafts 3 tokens ahead and checks {DRAFT_TOKENS} at once, with the model's own layer for it; there is room"
        )
        choices.append(Choice("multi-token prediction", "on", why))
    else:
        reason = (
            "these weights hold no layer for it" if not plan.variant.mtp else "its layer and states would take the room"
        )
        choices.append(Choice("multi-token prediction", "off", reason))
    if images:
        kept = (
            "screenshots in issues can be read; there is room" if spending.images else "its tower would take the room"
        )
        choices.append(Choice("images", "on" if spending.images else "off", kept))
    return choices


def _no_drafts(plan: Plan) -> str:
    if plan.engine is Engine.VLLM:
        return "with this server's prefix cache for states it was reported to spoil what is written"
    if not plan.variant.mtp:
        return "these weights hold no layer for it"
    return "its layer and states would take the room"


def _llama(plan: Plan) -> list[Choice]:
    fit, choices = plan.fit, []
    if fit.spending.kv == BF16:
        choices.append(Choice("cache precision", "f16", "exact, and there is room"))
    else:
        choices.append(Choice("cache precision", "q8_0", "half the size of f16, for a longer context"))
    where = "" if plan.device is Device.CPU else ", in the machine's memory"
    choices.append(
        Choice("slots", str(fit.requests), "share the context: one long trajectory, or several shorter ones")
    )
    choices.append(
        Choice(
            "kept states",
            f"{fit.checkpoints} per slot{where}",
            "a prompt that goes on from one of them isn't read again",
        )
    )
    choices.append(Choice("images", "off", "its projector is a file of its own and would take memory"))
    return choices


def _router(plan: Plan) -> Choice:
    return Choice(
        "replicas",
        f"{plan.replicas}, behind sglang-router",
        f"a trajectory stays with the replica that has its prefix, by the header {ROUTING_HEADER} (policy manual); the "
        "router's own prefix tree reads texts and sees none in token ids",
    )
