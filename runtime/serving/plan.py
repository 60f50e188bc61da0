"""What is going to be served, on what, and why: the planner's result, and what a user may ask of it.

Plain data; what is left out: how it is found (`runtime.serving.planner`) and which command it comes to
(`runtime.serving.recipes`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from runtime.model_card import ModelCard, Variant
from runtime.serving.fit import Fit
from runtime.serving.hardware import Hardware


class Engine(StrEnum):
    SGLANG = "sglang"
    VLLM = "vllm"
    LLAMACPP = "llamacpp"


class Device(StrEnum):
    CUDA = "cuda"
    CPU = "cpu"


class Preference(StrEnum):
    """Which model is looked at first when none is named."""

    SPEED = "speed"
    QUALITY = "quality"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user asks for; None leaves it to the planner."""

    model: str | None = None  # a catalog name, hub id, folder or GGUF file
    prefer: Preference = Preference.SPEED
    engine: Engine | None = None
    device: Device | None = None
    context: int | None = None
    tp: int | None = None
    images: bool | None = None
    mtp: bool | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision, and the sentence that defends it."""

    what: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Alternative:
    """Something else that was looked at, and what came of it."""

    what: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Plan:
    """One model on one machine. `tp` cards per replica; 0 on a machine without."""

    hardware: Hardware
    engine: Engine
    device: Device
    model: ModelCard
    variant: Variant
    fit: Fit
    tp: int = 1
    replicas: int = 1
    yarn: float | None = None  # factor by which the trained context is stretched
    choices: tuple[Choice, ...] = ()
    alternatives: tuple[Alternative, ...] = field(default=())

    @property
    def hybrid(self) -> bool:
        """Whether the model has recurrent states, which a prefix cache must keep besides keys and values."""
        return self.model.dimensions is not None and self.model.dimensions.linear_layers > 0


class DoesNotFit(Exception):
    """Nothing that was asked for can be served here. The text says why, `alternatives` what else could be done."""

    def __init__(self, message: str, alternatives: tuple[Alternative, ...] = ()) -> None:
        super().__init__(message)
        self.alternatives = alternatives


class WishUnclear(Exception):
    """What was asked for contradicts itself or names nothing; the text says what to write instead."""
