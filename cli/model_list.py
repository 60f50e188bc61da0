"""`agent model list` and `agent model show`: the catalog, and what of it fits this machine.

Left out: how a fit is found (`runtime.serving`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from runtime.model_card import ModelCard, Price, Variant
    from runtime.serving.hardware import Hardware

UNKNOWN_MODEL = 6  # as "bad input" of a run


@click.command("list")
@click.option("--hardware", help="What fits this instead of what is here: 1x24, 8x80@9.0, cpu:32, or a JSON file.")
@click.option("--show", "named", metavar="MODEL", help="All about one model; the same as `agent model show MODEL`.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array, an object per form of each model's weights.")
@click.pass_context
def list_models(ctx: click.Context, /, hardware: str | None, named: str | None, as_json: bool) -> None:
    """List the models of the catalog: sizes, cache, prices, and whether this machine can serve them.

    A size with ~ is computed from the dimensions. KV and state are bytes in bf16 and fp32.
    """
    from runtime.catalog import CATALOG

    if named is not None:
        ctx.invoke(show_model, model=named, hardware=hardware, as_json=as_json)
        return
    machine = _hardware(ctx, hardware)
    rows = [row for card in CATALOG for row in _rows(card, machine)]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    click.echo(f"here: {machine}\n")
    click.echo("\n".join(_table(rows)))


@click.command("show")
@click.argument("model")
@click.option("--hardware", help="What fits this instead of what is here.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def show_model(ctx: click.Context, /, model: str, hardware: str | None, as_json: bool) -> None:
    """Show all that is known of MODEL (a name, a hub id, a folder, a GGUF file), with arithmetic and sources."""
    from runtime.catalog import CATALOG, locate

    found = locate(model)
    if found is None:
        known = ", ".join(card.name for card in CATALOG)
        click.echo(f"{model!r} is no model that is known: {known}, or a folder with a checkpoint.", err=True)
        ctx.exit(UNKNOWN_MODEL)
    rows = _rows(found.card, _hardware(ctx, hardware))
    if as_json:
        click.echo(json.dumps({**_described(found.card), "weights": rows}, indent=1))
    else:
        click.echo("\n".join(_page(found.card, rows)))


def _hardware(ctx: click.Context, described: str | None) -> Hardware:
    from runtime.serving.hardware import HardwareUnknown, describe, detect

    try:
        return describe(described) if described else detect()
    except HardwareUnknown as error:
        click.echo(str(error), err=True)
        ctx.exit(UNKNOWN_MODEL)


def _rows(card: ModelCard, hardware: Hardware) -> list[dict[str, Any]]:
    """One per form of the weights, or one for a model that is only hosted."""
    shape = card.dimensions
    common = {
        "model": card.name,
        "context": card.context,
        "longest_context": card.longest_context,
        "kv_bytes_per_token": shape.kv_bytes_per_token() if shape else None,
        "state_bytes": shape.state_bytes() if shape else None,
        "price": _price(card.price) if card.price else None,
    }
    if card.hosted_only:
        return [{**common, "precision": None, "weights": None, "bytes": None, "fits": None, "why": "hosted only"}]
    return [{**common, **_form(card, variant, hardware)} for variant in card.variants]


def _form(card: ModelCard, variant: Variant, hardware: Hardware) -> dict[str, Any]:
    from runtime.catalog import Found
    from runtime.serving.fit import Fit
    from runtime.serving.plan import Wish
    from runtime.serving.planner import best, candidates, verdict

    looked_at = list(candidates(Found(card, variant), Wish(), hardware))
    fitting = [candidate for candidate in looked_at if isinstance(candidate.fit, Fit)]
    if fitting:
        chosen = best(fitting, Wish())
        why = f"{chosen.engine}{f' on {chosen.tp} cards' if chosen.tp > 1 else ''}, {verdict(chosen.fit)}"
    elif looked_at:
        why = verdict(looked_at[-1].fit)
    else:
        why = "doesn't fit: SGLang and vLLM want a GPU for it"
    return {
        "precision": variant.precision,
        "weights": variant.hub,
        "file": variant.file,
        "bytes": variant.bytes,
        "estimated": variant.estimated,
        "fits": bool(fitting),
        "why": why,
    }


def _price(price: Price) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(price)


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    head = ("model", "weights", "size", "context", "KV/token", "state", "$ in/out", "fits here?")
    cells: list[tuple[str, ...]] = [head]
    last = ""
    for row in rows:
        same = row["model"] == last
        last = row["model"]
        size = "" if row["bytes"] is None else f"{'~' if row['estimated'] else ''}{row['bytes'] / 1e9:.1f} GB"
        cells.append(("", row["precision"] or "-", size, *[""] * 4, row["why"]) if same else _first_of(row, size))
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    for line in cells:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()


def _first_of(row: dict[str, Any], size: str) -> tuple[str, ...]:
    kv, state, price = row["kv_bytes_per_token"], row["state_bytes"], row["price"]
    return (
        row["model"],
        row["precision"] or "-",
        size,
        f"{row['context']:,}",
        f"{kv / 1024:g} KiB" if kv is not None else "?",
        f"{state / (1 << 20):.1f} MiB" if state is not None else "?",
        f"{price['input']:g}/{price['output']:g}" if price else "-",
        row["why"],
    )


def _described(card: ModelCard) -> dict[str, Any]:
    from dataclasses import asdict

    shape = card.dimensions
    return {
        "model": card.name,
        "hub_id": card.hub_id,
        "context": card.context,
        "longest_context": card.longest_context,
        "images": card.images,
        "keeps_thinking": card.keeps_thinking,
        "swe_bench_verified": card.swe_bench_verified,
        "dimensions": asdict(shape) if shape else None,
        "parameters": asdict(shape.parameters()) if shape else None,
        "arithmetic": list(shape.arithmetic()) if shape else [],
        "sampling": {preset: asdict(sampling) for preset, sampling in card.presets.items()},
        "prices": [asdict(price) for price in card.prices],
        "sources": dict(card.sources),
        "unknown": dict(card.unknown),
    }


def _page(card: ModelCard, rows: list[dict[str, Any]]) -> Iterator[str]:
    yield f"{card.name}{f'  ({card.hub_id})' if card.hub_id else ''}"
    longest = f", with YaRN {card.longest_context:,}" if card.longest_context else ""
    yield f"  context     {card.context:,} tokens{longest}"
    yield f"  images      {'yes' if card.images else 'no'}"
    yield f"  thinking    {'of earlier turns is used (trained so)' if card.keeps_thinking else 'of the current turn'}"
    if card.swe_bench_verified:
        yield f"  SWE-bench Verified  {card.swe_bench_verified}"
    if card.dimensions is not None:
        yield from _dimensions(card)
    yield "\nweights"
    for row in rows:
        if row["weights"]:
            size = f"{'~' if row['estimated'] else ''}{row['bytes'] / 1e9:.1f} GB"
            place = f"{row['weights']} {row['file']}" if row["file"] else row["weights"]
            yield f"  {row['precision']:<7} {size:>9}  {place}"
            yield f"  {'':<17}  {row['why']}"
    yield from _sampling_and_prices(card)
    yield "\nsources"
    for figure, source in card.sources.items():
        yield f"  {figure}: {source}"
    for variant in card.variants:
        yield f"  weights {variant.precision}: {variant.source}{f'; {variant.note}' if variant.note else ''}"
    for figure, reason in card.unknown.items():
        yield f"  not established: {figure}: {reason}"


def _dimensions(card: ModelCard) -> Iterator[str]:
    shape = card.dimensions
    assert shape is not None
    counted = shape.parameters()
    parts = {
        "embedding": counted.embedding,
        "head": counted.head,
        "attention": counted.attention,
        "Gated DeltaNet": counted.linear_attention,
        "feed-forward": counted.feed_forward,
        "experts": counted.experts,
    }
    yield (
        f"  layers      {shape.layers}: {shape.linear_layers} Gated DeltaNet ({shape.linear_value_heads} value and "
        f"{shape.linear_key_heads} key heads of {shape.linear_head_dim}), {shape.full_layers} full attention "
        f"({shape.heads} heads, {shape.kv_heads} for KV, of {shape.head_dim})"
    )
    if shape.experts is not None:
        mixture = shape.experts
        yield f"  experts     {mixture.count}, of which {mixture.active} and a shared one are used per token"
    sum_of = " + ".join(f"{count / 1e9:.2f} {part}" for part, count in parts.items() if count)
    yield f"  parameters  {counted.text / 1e9:.2f}B = {sum_of}; {shape.active_parameters() / 1e9:.2f}B per token"
    tower = f", vision {counted.vision / 1e9:.2f}B" if counted.vision is not None else ""
    yield f"              besides: multi-token prediction {counted.mtp / 1e9:.2f}B{tower}"
    for line in shape.arithmetic():
        yield f"  {line}"


def _sampling_and_prices(card: ModelCard) -> Iterator[str]:
    yield "\nsampling"
    for preset, sampling in card.presets.items():
        yield (
            f"  {preset:<9} temperature {sampling.temperature:g}, top_p {sampling.top_p:g}, top_k {sampling.top_k}, "
            f"presence_penalty {sampling.presence_penalty:g}"
        )
    if card.prices:
        yield "\nprices (US dollars per million tokens)"
    for price in card.prices:
        cached = f", cached {price.cached_input:g}" if price.cached_input is not None else ""
        above = ""
        if price.above is not None:
            tier = price.above
            above = f"; above {tier.prompt_tokens:,} tokens of prompt {tier.input:g} in, {tier.output:g} out"
        yield f"  {price.host}:{price.model}  {price.input:g} in{cached}, {price.output:g} out{above}  ({price.source})"
