"""Models as data: what is known of each, where it was read, and what its dimensions come to.

The data lies in `catalog.toml` beside this file. `find` knows a model by what it is called anywhere; `locate` also by
what lies on this machine: a folder with a checkpoint, a GGUF file. What is left out: which of them a machine can serve
(`runtime.serving.plan`).
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from runtime.dimensions import BF16, ConfigUnreadable, Dimensions, Experts, Vision, from_config
from runtime.model_card import (
    ANSWER_TOKENS,
    Memory,
    ModelCard,
    Precision,
    Preset,
    Price,
    Tier,
    Variant,
)
from runtime.models.base import Sampling

__all__ = ["CATALOG", "Found", "Memory", "ModelCard", "Precision", "Preset", "Price", "Variant", "find", "locate"]

DATA: Final = Path(__file__).with_name("catalog.toml")
_LONGEST_NAME: Final = 4096  # characters; as long as a path can be


@dataclass(frozen=True, slots=True)
class Found:
    """A model as it was named: its card, and the weights where the name says which."""

    card: ModelCard
    variant: Variant | None = None


def find(name: str) -> ModelCard | None:
    """The card for a catalog name, a hub id, a name that a server gives, or a GGUF file's name. None: not known.

    The name is only read: a server's own path may name something else, or too much, on this machine.
    """
    return _named(name)[0]


def locate(name: str) -> Found | None:
    """A model as a user names it: like `find`, or a folder with a checkpoint here; with the weights it stands for."""
    path = _path(name)
    if path is not None:
        return _checkpoint(path) if path.is_dir() else _gguf(path)
    card, precision = _named(name)
    if card is None:
        return None
    named = next((v for v in card.variants if name in (v.hub, v.file, *v.alternatives)), None)
    if named is not None and named.hub != name and named.file != name:
        named = _instead(named, name)
    if named is None and precision is not None:
        named = card.variant(precision)
    return Found(card, named)


def _path(name: str) -> Path | None:
    """The folder or file of that name, if there is one; many a model's name can't be one's."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        path = Path(name).expanduser()
        if path.is_dir() or path.is_file():
            return path
    return None


def _gguf(path: Path) -> Found | None:
    card, _ = _named(path.name)
    if card is None:
        return None
    return Found(
        card, Variant(Precision.LOCAL, str(path), path.stat().st_size, file=path.name, mtp=False, vision=False)
    )


def _named(name: str) -> tuple[ModelCard | None, Precision | None]:
    """The card that a name without its owner, folders and endings stands for, and the precision of its endings."""
    if len(name) > _LONGEST_NAME:
        return None, None
    stem, precision = _split(name)
    return next((card for card in CATALOG if stem in _names(card)), None), precision


def _instead(variant: Variant, hub: str) -> Variant:
    return replace(variant, hub=hub)


# Endings of repositories and files that say how weights are stored, and the precision that each means.
_ENDINGS: Final = (
    (r"[-_.:](ud[-_])?q4_k_m", Precision.Q4_K_M),
    (r"[-_](fp8|fp8-dynamic)", Precision.FP8),
    (r"[-_]nvfp4", Precision.NVFP4),
    (r"[-_](gptq-int4|gptq-4bit|awq|awq-int4|awq-4bit|int4|w4a16|awq-bf16-int4|int4-autoround)", Precision.INT4),
    (r"[-_]bf16", Precision.BF16),
    (r"[-_](mtp-)?gguf", Precision.Q4_K_M),
)
_PLAIN_ENDINGS: Final = r"[-_](hi-fi|mtp|instruct|\d{4}-\d{2}-\d{2}|\d{8})"


def _split(name: str) -> tuple[str, Precision | None]:
    """A name without owner, folders and endings, and the precision that its endings mean."""
    stem = Path(name).name.lower().removesuffix(".gguf")
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", stem)
    stem = re.sub(r"^qwen_", "", stem)
    found: Precision | None = None
    shortened = True
    while shortened:
        shortened = False
        for ending, precision in (*_ENDINGS, (_PLAIN_ENDINGS, None)):
            cut = re.sub(f"{ending}$", "", stem)
            if cut != stem:
                stem, found, shortened = cut, found or precision, True
    return stem, found


def _names(card: ModelCard) -> set[str]:
    return {Path(name).name.lower() for name in (card.name, *card.aliases)}


def _checkpoint(folder: Path) -> Found | None:
    """A folder's card: the catalog's where the dimensions are a known model's, else one made from its config.json."""
    try:
        shape, config = from_config(folder)
    except ConfigUnreadable:
        return None
    weights = sorted(folder.glob("*.safetensors"))
    holds_vision, method = "vision_config" in config, config.get("quantization_config")
    variant = Variant(
        Precision.LOCAL,
        str(folder),
        sum(file.stat().st_size for file in weights),
        mtp=shape.mtp_layers > 0,
        vision=holds_vision,
        note=str(method.get("quant_method", "")) if isinstance(method, dict) else "",
        source=str(folder / "config.json"),
    )
    alike = [card for card in CATALOG if card.dimensions is not None and _same(card.dimensions, shape)]
    stem = _split(folder.name)[0]
    alike.sort(key=lambda card: stem not in _names(card))
    if alike:
        return Found(alike[0], variant)
    text = config.get("text_config", config)
    card = ModelCard(
        name=folder.resolve().name,
        context=int(text.get("max_position_embeddings", 0)) or 32_768,
        dimensions=shape,
        images=holds_vision,
        variants=(variant,),
        sources={"dimensions": str(folder / "config.json")},
        unknown={"presets": "not in the catalog: Qwen3.6's for coding"},
    )
    return Found(card, variant)


def _same(known: Dimensions, found: Dimensions) -> bool:
    """Equal in all that the text model's memory depends on."""
    fields = ("hidden", "linear_layers", "full_layers", "heads", "kv_heads", "head_dim", "linear_value_heads")
    return all(getattr(known, name) == getattr(found, name) for name in (*fields, "vocabulary", "experts"))


@cache
def _load() -> tuple[ModelCard, ...]:
    data = tomllib.loads(DATA.read_text(encoding="utf-8"))
    sources: Mapping[str, str] = data["sources"]
    towers = {name: Vision(**values) for name, values in data["vision"].items()}
    presets = {
        name: {Preset(use): Sampling(max_new_tokens=ANSWER_TOKENS, **values) for use, values in uses.items()}
        for name, uses in data["presets"].items()
    }
    return tuple(_card(entry, sources, towers, presets) for entry in data["model"])


def _card(
    entry: Mapping[str, Any],
    sources: Mapping[str, str],
    towers: Mapping[str, Vision],
    presets: Mapping[str, Mapping[Preset, Sampling]],
) -> ModelCard:
    shape = None
    if "dimensions" in entry:
        values = dict(entry["dimensions"])
        values["vision"] = towers[values["vision"]] if "vision" in values else None
        values["experts"] = Experts(**values["experts"]) if "experts" in values else None
        shape = Dimensions(**values)
    return ModelCard(
        name=entry["name"],
        context=entry["context"],
        hub_id=entry.get("hub"),
        aliases=tuple(entry.get("aliases", ())),
        dimensions=shape,
        longest_context=entry.get("longest_context"),
        images=entry["images"],
        keeps_thinking=entry.get("keeps_thinking", False),
        most_output=entry.get("most_output", ANSWER_TOKENS),
        swe_bench_verified=entry.get("swe_bench_verified"),
        presets=presets[entry["presets"]],
        variants=tuple(_variant(values, shape, sources) for values in entry.get("variant", ())),
        prices=tuple(_price(values, sources) for values in entry.get("price", ())),
        sources={figure: sources[key] for figure, key in entry["from"].items()},
        unknown=dict(entry.get("unknown", {})),
    )


def _variant(values: Mapping[str, Any], shape: Dimensions | None, sources: Mapping[str, str]) -> Variant:
    precision = Precision(values["precision"])
    gguf = precision is Precision.Q4_K_M
    bits, mtp = float(values.get("bits", 16.0)), bool(values.get("mtp", not gguf))
    size = values.get("bytes")
    capability = values.get("min_capability")
    return Variant(
        precision=precision,
        hub=values["hub"],
        bytes=size if size is not None else _estimate(shape, bits, values.get("quantised", "linears"), mtp),
        estimated=size is None,
        file=values.get("file"),
        mtp=mtp,
        vision=not gguf,
        bits=bits,
        min_capability=(capability[0], capability[1]) if capability else None,
        alternatives=tuple(values.get("alternatives", ())),
        note=values.get("note", ""),
        source=sources[values["from"]],
    )


def _estimate(shape: Dimensions | None, bits: float, quantised: str, mtp: bool) -> int:
    """Bytes of weights of which one part is quantised and the rest lies in bf16. 8 bits: the MTP layer too."""
    if shape is None:
        raise ValueError("a variant without a size needs its model's dimensions")
    counted = shape.parameters()
    small = counted.linears if quantised == "linears" else counted.experts
    inside_mtp = counted.mtp if mtp else 0
    rest = counted.text - small + (counted.vision or 0)
    return round(small * bits / 8 + rest * BF16 + inside_mtp * (min(bits, 8.0) / 8 if bits == 8.0 else BF16))


def _price(values: Mapping[str, Any], sources: Mapping[str, str]) -> Price:
    above = values.get("above")
    tier = None
    if above is not None:
        tier = Tier(above["prompt_tokens"], above["input"], above["output"], above.get("cached_input"))
    return Price(
        host=values["host"],
        model=values["model"],
        input=values["input"],
        output=values["output"],
        cached_input=values.get("cached_input"),
        cache_write=values.get("cache_write"),
        above=tier,
        source=sources[values["from"]],
    )


CATALOG: Final = _load()
