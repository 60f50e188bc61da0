"""What is known of one model, as types: its weights' forms, prices, sampling presets and what it weighs in memory.

What is left out: the models themselves (`runtime.catalog`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from runtime.dimensions import BF16, Dimensions
from runtime.models.base import Sampling, Usage

ANSWER_TOKENS: Final = 32_768  # what the model cards recommend as the longest output of one turn
YARN_MOST: Final = 4.0  # the factor that the cards give for 1,010,000 tokens


class Preset(StrEnum):
    """Sampling parameters by what is asked of the model; none has temperature 0."""

    THINKING = "thinking"
    CODING = "coding"
    INSTRUCT = "instruct"  # without thinking


class Precision(StrEnum):
    BF16 = "bf16"
    FP8 = "fp8"
    NVFP4 = "nvfp4"
    INT4 = "int4"  # AWQ or GPTQ
    Q4_K_M = "q4_k_m"  # GGUF
    LOCAL = "as it lies"  # a folder or file on this machine


@dataclass(frozen=True, slots=True)
class Variant:
    """One published form of a model's weights."""

    precision: Precision
    hub: str  # hub id, or a path for local weights
    bytes: int  # of all weights in it
    estimated: bool = False  # computed from the dimensions, not read
    file: str | None = None  # within the repository, for GGUF
    mtp: bool = True  # holds the layer for multi-token prediction
    vision: bool = True
    bits: float = 16.0  # of a quantised number
    min_capability: tuple[int, int] | None = None  # least CUDA compute capability
    alternatives: tuple[str, ...] = ()
    note: str = ""
    source: str = ""

    @property
    def gguf(self) -> bool:
        return self.precision is Precision.Q4_K_M or (self.file or self.hub).lower().endswith(".gguf")


@dataclass(frozen=True, slots=True)
class Tier:
    """Prices for prompts longer than a bound."""

    prompt_tokens: int
    input: float
    output: float
    cached_input: float | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens at one host."""

    host: str  # dashscope, openrouter
    model: str  # the host's name for it
    input: float
    output: float
    cached_input: float | None = None  # None: cached tokens cost as much as others
    cache_write: float | None = None
    above: Tier | None = None
    source: str = ""

    def cost(self, usage: Usage) -> float:
        """US dollars of one request."""
        tier: Price | Tier = self
        if self.above is not None and usage.prompt_tokens > self.above.prompt_tokens:
            tier = self.above
        cached = tier.input if tier.cached_input is None else tier.cached_input
        fresh = usage.prompt_tokens - usage.cached_tokens
        return (fresh * tier.input + usage.cached_tokens * cached + usage.completion_tokens * tier.output) / 1_000_000


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that serving takes on all cards together, without what the server needs for itself."""

    weights: int
    kv: int
    states: int

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.states


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of one model. `unknown` has the reason for every figure that is missing or computed."""

    name: str
    context: int  # tokens, as trained
    hub_id: str | None = None
    aliases: tuple[str, ...] = ()
    dimensions: Dimensions | None = None
    longest_context: int | None = None  # with YaRN
    images: bool = False
    keeps_thinking: bool = False  # trained to use the thinking of earlier turns (`preserve_thinking`)
    most_output: int = ANSWER_TOKENS
    swe_bench_verified: float | None = None
    presets: Mapping[Preset, Sampling] = field(default_factory=dict)
    variants: tuple[Variant, ...] = ()
    prices: tuple[Price, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def hosted_only(self) -> bool:
        return not self.variants

    def sampling(self, preset: Preset = Preset.CODING) -> Sampling:
        """The card's parameters for a use; the defaults of `Sampling` for a model that has none of its own."""
        return self.presets.get(preset, Sampling())

    def variant(self, precision: Precision) -> Variant | None:
        return next((variant for variant in self.variants if variant.precision is precision), None)

    @property
    def price(self) -> Price | None:
        """At Alibaba's Model Studio, where it is known; else at the first host that has one."""
        return self.price_at("dashscope") or next(iter(self.prices), None)

    def price_at(self, host: str) -> Price | None:
        return next((price for price in self.prices if price.host == host), None)

    def weights(self, variant: Variant, *, vision: bool = True, mtp: bool = True) -> int:
        """Bytes of a variant's weights that are loaded, leaving out the vision tower or the MTP layer on demand."""
        size = variant.bytes
        if self.dimensions is None or variant.gguf:
            return size
        counted = self.dimensions.parameters()
        if not vision and variant.vision and counted.vision:
            size -= counted.vision * BF16
        if not mtp and variant.mtp:
            size -= round(counted.mtp * _mtp_bits(variant) / 8)
        return size

    def memory(self, variant: Variant, *, tokens: int, states: int = 1, kv_number: float = BF16) -> Memory:
        """Bytes for so many cached tokens and recurrent states beside the weights. 0 where dimensions are unknown."""
        shape = self.dimensions
        if shape is None:
            return Memory(variant.bytes, 0, 0)
        return Memory(variant.bytes, tokens * shape.kv_bytes_per_token(kv_number), states * shape.state_bytes())

    def yarn(self, context: int) -> float | None:
        """The factor for a context beyond the native one; None: not needed. Raises ValueError beyond the longest."""
        if context <= self.context:
            return None
        if self.longest_context is None or context > self.longest_context:
            most = self.longest_context or self.context
            raise ValueError(f"{self.name} takes at most {most:,} tokens; {context:,} were asked for.")
        return 2.0 if context <= 2 * self.context else YARN_MOST


def _mtp_bits(variant: Variant) -> float:
    """FP8 weights hold the MTP layer in FP8 too, which their published sizes show; 4-bit ones keep it in bf16."""
    return 8.0 if variant.precision is Precision.FP8 else 16.0
