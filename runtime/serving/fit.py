"""Does a model fit, and how much context and how many trajectories at a time does it leave room for?

The arithmetic of a server's memory: weights, recurrent states, keys and values, and what the server needs to work.
The rules are SGLang 0.5.23's (its heuristics for `--mem-fraction-static` and its slots per request) and llama.cpp's.
What is left out: which of several fits to take (`runtime.serving.planner`). Memory is in MiB, of one card unless said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from runtime.dimensions import BF16, FP32, MIB, Dimensions
from runtime.model_card import ModelCard, Variant
from runtime.serving.hardware import Card

LADDER: Final = (262_144, 196_608, 131_072, 98_304, 65_536, 49_152, 32_768)  # contexts that are offered
COMFORT: Final = 131_072
"""The model cards: keep at least 128K of context, or thinking suffers."""
LEAST: Final = 32_768  # below it, a run on a real repository ends before it is done
WORKING_SET: Final = 65_536  # tokens that a live trajectory is taken to hold, when counting how many fit
SLOTS: Final = 5  # states that SGLang reserves per running request with extra_buffer: 3, and 2 for the decode's marks
CHECKPOINTS: Final = 4  # further ones per trajectory: the shared front, the last turns, a fork
DRAFT_TOKENS: Final = 4  # of multi-token prediction, as the model cards give it
CUDA_CONTEXT: Final = 512
UNEVEN: Final = 1.02  # what every card holds in full under tensor parallelism (norms, routers) on top of its share
Q8_0: Final = 34 / 32  # bytes per number of llama.cpp's 8-bit cache
LLAMA_COMPUTE: Final = 1024  # buffers; logits over 248,320 tokens for a batch of 512 are 485 MiB of it
LLAMA_MARGIN: Final = 512
LLAMA_SLOTS: Final = 4
MOST_CHECKPOINTS: Final = 32  # llama.cpp's default, per slot


@dataclass(frozen=True, slots=True)
class Spending:
    """What is given up, step by step, to make room."""

    images: bool = True  # the vision tower is loaded
    mtp: bool = True  # the layer for multi-token prediction is loaded and used
    ssm: int = FP32  # bytes of a number in a recurrent state
    kv: float = BF16  # bytes of a number in the key-value cache


@dataclass(frozen=True, slots=True)
class Room:
    """What llama.cpp may use: all cards together, or the machine's memory."""

    memory: int
    kept: int  # of it, for others
    kept_for: str
    holds_checkpoints: bool  # llama.cpp keeps copies of recurrent states in the machine's memory, never on a card
    longest: int = LADDER[0]  # context that is offered unasked


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the memory table of a card (or of the machine, where there is none)."""

    what: str
    mib: float


@dataclass(frozen=True, slots=True)
class Fit:
    """A model on a card, with room for `context` tokens in one request."""

    context: int
    requests: int  # trajectories of WORKING_SET tokens that fit at the same time
    kv_tokens: int
    states: int
    spending: Spending
    parts: tuple[Part, ...]
    fraction: float = 0.0  # of a card's memory, for weights, states and cache
    chunk: int = 0  # tokens of a prompt that are computed in one go
    graph: int = 0  # largest decode batch that is captured as a CUDA graph
    checkpoints: int = 0  # llama.cpp: kept states per slot, in the machine's memory


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why not, and how many MiB of cards' or machine's memory it would take to fit at all."""

    why: str
    needed: int


def chunk_for(card: Card) -> int:
    """Tokens of a prompt in one go: more on larger cards, as SGLang does it; less where weights need the room."""
    bounds = ((35, 2048), (60, 4096), (160, 8192))
    return next((chunk for gib, chunk in bounds if card.memory < gib * 1024), 16_384)


def graph_for(card: Card) -> int:
    bounds = ((20, 8), (35, 16), (60, 32))
    return next((batch for gib, batch in bounds if card.memory < gib * 1024), 64)


def reserve(card: Card, tp: int, *, images: bool) -> float:
    """MiB for activations, graphs and communication, by SGLang's own estimate; images take some more."""
    kept = 512 + 1.5 * chunk_for(card) + 128 * tp + 2 * graph_for(card)
    if card.memory > 60 * 1024:
        kept = max(kept, 10 * 1024)
    return kept + (1024 if images else 0)


def fit_cards(
    model: ModelCard, variant: Variant, card: Card, tp: int, spending: Spending, context: int | None = None
) -> Fit | Misfit:
    """On `tp` cards of this kind under SGLang. `context`: that one; None: the longest that there is room for."""
    shape = _shape(model)
    fraction = math.floor((card.memory - reserve(card, tp, images=spending.images)) / card.memory * 100) / 100
    static = (card.memory - CUDA_CONTEXT) * fraction
    weights = model.weights(variant, vision=spending.images, mtp=spending.mtp) / MIB / tp * (UNEVEN if tp > 1 else 1)
    state = shape.state_bytes(spending.ssm) / MIB / tp
    kv = kv_bytes(shape, spending) * max(1 / tp, 1 / shape.kv_heads) / MIB
    drafts = DRAFT_TOKENS * state if spending.mtp else 0.0
    least = weights + (SLOTS + 2) * state + 2 * drafts + (context or LEAST) * kv
    needed = math.ceil((least + reserve(card, tp, images=spending.images) + CUDA_CONTEXT) * tp)
    pool = static - weights
    if pool <= 0:
        return Misfit(f"{_gib(weights)} of weights per card, and {_gib(static)} to put them in", needed)
    requests = _requests(pool, state, kv, drafts, min(context or WORKING_SET, WORKING_SET), graph_for(card))
    states = (SLOTS + CHECKPOINTS) * requests
    for_states, for_drafts = (states + 1) * state, (requests + 1) * drafts
    tokens = math.floor((pool - for_states - for_drafts) / kv)
    longest = context if context is not None else _rung(tokens, model.context)
    if longest is None or tokens < longest:
        return Misfit(f"room for {max(tokens, 0):,} tokens, and {context or LEAST:,} are wanted", needed)
    parts = (
        Part("weights", weights),
        Part(f"{states} recurrent states, and one spare", for_states),
        *((Part("states while drafts are checked", for_drafts),) if spending.mtp else ()),
        Part(f"keys and values of {tokens:,} tokens", tokens * kv),
        Part("activations, graphs, driver", card.memory - static),
    )
    return Fit(longest, requests, tokens, states, spending, parts, fraction, chunk_for(card), graph_for(card))


def fit_llama(model: ModelCard, variant: Variant, room: Room, context: int | None = None) -> Fit | Misfit:
    """Under llama.cpp; its 8-bit cache is used only where that brings a longer context than the plain one."""
    plain = Spending(images=False, mtp=False)
    first = _llama(model, variant, room, plain, context)
    if isinstance(first, Fit) and first.context >= min(COMFORT, context or COMFORT):
        return first
    second = _llama(model, variant, room, replace(plain, kv=Q8_0), context)
    if isinstance(first, Fit) and (isinstance(second, Misfit) or first.context >= second.context):
        return first
    return second


def _llama(model: ModelCard, variant: Variant, room: Room, spending: Spending, context: int | None) -> Fit | Misfit:
    shape = _shape(model)
    weights = variant.bytes / MIB
    state = shape.state_bytes(FP32, FP32) / MIB
    kv = shape.kv_bytes_per_token(spending.kv) / MIB
    buffers = LLAMA_COMPUTE + LLAMA_MARGIN
    beside = (1 + (CHECKPOINTS if room.holds_checkpoints else 0)) * state
    needed = math.ceil(room.kept + weights + buffers + beside + (context or LEAST) * kv)
    pool = room.memory - room.kept - buffers - weights
    if pool <= 0:
        return Misfit(f"{_gib(weights)} of weights, and {_gib(max(pool + weights, 0))} to put them in", needed)
    tokens = max(0, math.floor((pool - beside) / kv))
    longest = context if context is not None else _rung(tokens, min(model.context, room.longest))
    if longest is None or tokens < longest:
        return Misfit(f"room for {tokens:,} tokens, and {context or LEAST:,} are wanted", needed)
    requests = max(1, min(LLAMA_SLOTS, longest // WORKING_SET, math.floor((pool - longest * kv) / beside)))
    spare = pool - requests * state - longest * kv
    checkpoints = MOST_CHECKPOINTS
    if room.holds_checkpoints:
        checkpoints = min(checkpoints, math.floor(spare / state / requests))
    parts = (
        Part("weights", weights),
        Part(f"recurrent states of {requests} slots", requests * state),
        *(
            (Part(f"{checkpoints} kept states per slot", requests * checkpoints * state),)
            if room.holds_checkpoints
            else ()
        ),
        Part(f"keys and values of {longest:,} tokens", longest * kv),
        Part("buffers", buffers),
        Part(room.kept_for, room.kept),
    )
    return Fit(longest, requests, longest, requests, spending, parts, checkpoints=checkpoints)


def kv_bytes(shape: Dimensions, spending: Spending) -> float:
    """Per token on all cards together; multi-token prediction is a full-attention layer with a cache of its own."""
    layers = (shape.full_layers + (shape.mtp_layers if spending.mtp else 0)) / max(shape.full_layers, 1)
    return shape.kv_bytes_per_token(spending.kv) * layers


def _requests(pool: float, state: float, kv: float, drafts: float, tokens: int, most: int) -> int:
    each = (SLOTS + CHECKPOINTS) * state + drafts + tokens * kv
    return max(1, min(most, math.floor((pool - state - drafts) / each)))


def _rung(tokens: int, most: int) -> int | None:
    """The longest context on offer that fits; a model that was trained for less than the least gets its own length."""
    if most < LEAST:
        return most if tokens >= most else None
    return next((rung for rung in LADDER if rung <= tokens and rung <= most), None)


def _shape(model: ModelCard) -> Dimensions:
    if model.dimensions is None:
        raise ValueError(f"{model.name} has no known dimensions; it is only hosted")
    return model.dimensions


def _gib(mib: float) -> str:
    return f"{mib / 1024:.1f} GiB"
