"""What a model's dimensions come to: parameters, bytes per token of its cache, bytes of its recurrent state.

Plain arithmetic over the figures of a `config.json` of the Qwen3.5 family (Gated DeltaNet layers with a full-attention
layer after every few), with each step kept so that it can be shown. What is left out: which sizes exist and where
they were read (`runtime.catalog`), and what a server needs besides (`runtime.serving`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

BF16: Final = 2  # bytes of one number
FP32: Final = 4
MIB: Final = 1 << 20
GIB: Final = 1 << 30


class ConfigUnreadable(Exception):
    """A folder's config.json is missing, or doesn't describe a model that can be planned for."""


@dataclass(frozen=True, slots=True)
class Vision:
    """The vision tower: a transformer over patches, then a merger into the language model's width."""

    depth: int
    hidden: int
    intermediate: int
    patch: int = 16
    temporal_patch: int = 2
    merge: int = 2
    positions: int = 2304

    def parameters(self, out: int) -> int:
        """All of the tower, with the merger into `out` dimensions."""
        h, wide = self.hidden, self.hidden * self.merge**2
        block = 4 * h * h + 4 * h + 2 * h * self.intermediate + h + self.intermediate + 4 * h
        patches = 3 * self.temporal_patch * self.patch**2 * h + h
        merger = 2 * h + wide * wide + wide + wide * out + out
        return self.depth * block + patches + self.positions * h + merger


@dataclass(frozen=True, slots=True)
class Experts:
    """The mixture in each layer's feed-forward part."""

    count: int
    active: int  # routed, per token; the shared one comes on top
    intermediate: int
    shared_intermediate: int


@dataclass(frozen=True, slots=True)
class Parameters:
    """Numbers in the weights, by the part that they belong to."""

    embedding: int
    head: int  # 0 where it is tied to the embedding
    attention: int
    linear_attention: int
    feed_forward: int  # dense, or the shared experts and routers
    experts: int  # the routed ones
    small: int  # norms, convolutions, decay rates
    mtp: int
    vision: int | None  # None: the tower's dimensions are not known

    @property
    def text(self) -> int:
        """The language model, without the extra layer for multi-token prediction and the vision tower."""
        layers = self.attention + self.linear_attention + self.feed_forward + self.experts + self.small
        return self.embedding + self.head + layers

    @property
    def total(self) -> int:
        return self.text + self.mtp + (self.vision or 0)

    @property
    def linears(self) -> int:
        """What a quantisation of all linear layers makes smaller."""
        return self.attention + self.linear_attention + self.feed_forward + self.experts


@dataclass(frozen=True, slots=True)
class Dimensions:
    """A text model of the family. Lengths in numbers, not bytes."""

    hidden: int
    linear_layers: int  # Gated DeltaNet: a state of fixed size
    full_layers: int  # full attention: keys and values for every token
    heads: int
    kv_heads: int
    head_dim: int
    linear_value_heads: int
    linear_key_heads: int
    linear_head_dim: int
    vocabulary: int  # as padded in the weights
    tied: bool  # the output head is the embedding
    intermediate: int | None = None  # of a dense feed-forward part
    experts: Experts | None = None
    conv_kernel: int = 4
    mtp_layers: int = 1
    vision: Vision | None = None
    gated_attention: bool = True  # the query projection also makes the output's gate

    @property
    def layers(self) -> int:
        return self.linear_layers + self.full_layers

    @property
    def conv_channels(self) -> int:
        """Queries, keys and values of a Gated DeltaNet layer pass a short convolution together."""
        return (2 * self.linear_key_heads + self.linear_value_heads) * self.linear_head_dim

    def kv_bytes_per_token(self, number: float = BF16) -> int:
        """Keys and values that one token keeps in all full-attention layers, `number` bytes each."""
        return round(self.full_layers * 2 * self.kv_heads * self.head_dim * number)

    def state_bytes(self, ssm: int = FP32, conv: int = BF16) -> int:
        """One recurrent state: the matrices of all Gated DeltaNet layers and the tails of their convolutions."""
        matrices = self.linear_value_heads * self.linear_head_dim**2 * ssm
        tails = (self.conv_kernel - 1) * self.conv_channels * conv
        return self.linear_layers * (matrices + tails)

    def parameters(self) -> Parameters:
        d = self.hidden
        attention = self.full_layers * self._attention()
        keys, values = (n * self.linear_head_dim for n in (self.linear_key_heads, self.linear_value_heads))
        projections = d * (2 * keys + values) + 2 * d * values + 2 * d * self.linear_value_heads
        small = self.linear_layers * (
            self.conv_kernel * self.conv_channels + 2 * self.linear_value_heads + self.linear_head_dim
        )
        small += self.layers * 2 * d + d + self.full_layers * 2 * self.head_dim
        feed_forward, experts = self._feed_forward()
        mtp = self.mtp_layers * (self._attention() + feed_forward + experts + 2 * d * d + 5 * d)
        return Parameters(
            embedding=self.vocabulary * d,
            head=0 if self.tied else self.vocabulary * d,
            attention=attention,
            linear_attention=self.linear_layers * projections,
            feed_forward=self.layers * feed_forward,
            experts=self.layers * experts,
            small=small,
            mtp=mtp,
            vision=self.vision.parameters(d) if self.vision else None,
        )

    def active_parameters(self) -> int:
        """Read for one token, without the embedding's table."""
        counted = self.parameters()
        routed = counted.experts * self.experts.active // self.experts.count if self.experts else 0
        return counted.text - counted.experts - (0 if self.tied else counted.embedding) + routed

    def arithmetic(self) -> tuple[str, ...]:
        """How the bytes of cache and state come about, a line per figure."""
        kv, state = self.kv_bytes_per_token(), self.state_bytes()
        shape = f"{self.linear_value_heads} heads x {self.linear_head_dim} x {self.linear_head_dim} x {FP32} B"
        tail = f"{self.conv_kernel - 1} x {self.conv_channels:,} x {BF16} B"
        lines = [
            f"KV per token: {self.full_layers} full-attention layers x 2 (K, V) x {self.kv_heads} heads x "
            f"{self.head_dim} x {BF16} B (bf16) = {kv:,} B = {kv / 1024:g} KiB",
        ]
        if self.linear_layers:
            lines.append(
                f"state: {self.linear_layers} Gated DeltaNet layers x ({shape} (fp32) + {tail} (bf16 convolution)) = "
                f"{state:,} B = {state / MIB:.1f} MiB; with bf16 matrices {self.state_bytes(BF16) / MIB:.1f} MiB"
            )
            lines.append(f"one state weighs as much as the KV of {state // kv:,} tokens" if kv else "no KV")
        return tuple(lines)

    def _attention(self) -> int:
        queries = self.heads * self.head_dim
        return self.hidden * (
            queries * (2 if self.gated_attention else 1) + queries + 2 * self.kv_heads * self.head_dim
        )

    def _feed_forward(self) -> tuple[int, int]:
        """Parameters of one layer: dense (or shared experts and router), routed experts."""
        d = self.hidden
        if self.experts is None:
            return 3 * d * (self.intermediate or 0), 0
        mixture = self.experts
        return 3 * d * mixture.shared_intermediate + d * (
            mixture.count + 1
        ), 3 * d * mixture.intermediate * mixture.count


def from_config(folder: Path) -> tuple[Dimensions, Mapping[str, Any]]:
    """The dimensions in a checkpoint's config.json, and the whole of it. Raises `ConfigUnreadable`."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigUnreadable(f"{path} can't be read: {error}. Give a folder with a checkpoint in it.") from error
    if not isinstance(config, dict):
        raise ConfigUnreadable(f"{path} holds no JSON object. Give a folder with a checkpoint in it.")
    text = config.get("text_config", config)
    try:
        return _dimensions(text, config), config
    except (KeyError, TypeError) as error:
        raise ConfigUnreadable(
            f"{path} lacks {error}, which a plan needs. Only models of the Qwen3 and Qwen3.5 kind can be planned for."
        ) from error


def _dimensions(text: Mapping[str, Any], config: Mapping[str, Any]) -> Dimensions:
    layers = int(text["num_hidden_layers"])
    kinds = text.get("layer_types")
    if kinds is not None:
        linear = sum(kind == "linear_attention" for kind in kinds)
    else:
        interval = text.get("full_attention_interval")
        linear = layers - layers // int(interval) if interval else 0
    hybrid = linear > 0
    mixture = None
    if text.get("num_experts"):
        mixture = Experts(
            count=int(text["num_experts"]),
            active=int(text["num_experts_per_tok"]),
            intermediate=int(text["moe_intermediate_size"]),
            shared_intermediate=int(text.get("shared_expert_intermediate_size") or 0),
        )
    return Dimensions(
        hidden=int(text["hidden_size"]),
        linear_layers=linear,
        full_layers=layers - linear,
        heads=int(text["num_attention_heads"]),
        kv_heads=int(text["num_key_value_heads"]),
        head_dim=int(text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]),
        linear_value_heads=int(text["linear_num_value_heads"]) if hybrid else 0,
        linear_key_heads=int(text["linear_num_key_heads"]) if hybrid else 0,
        linear_head_dim=int(text["linear_value_head_dim"]) if hybrid else 0,
        vocabulary=int(text["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
        intermediate=text.get("intermediate_size"),
        experts=mixture,
        conv_kernel=int(text.get("linear_conv_kernel_dim", 4)),
        mtp_layers=int(text.get("mtp_num_hidden_layers", 0)),
        vision=_vision(config.get("vision_config")),
        gated_attention=hybrid,
    )


def _vision(config: Any) -> Vision | None:
    if not isinstance(config, dict) or "depth" not in config:
        return None
    return Vision(
        depth=int(config["depth"]), hidden=int(config["hidden_size"]), intermediate=int(config["intermediate_size"])
    )
