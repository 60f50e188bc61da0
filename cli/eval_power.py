"""`agent eval power`: how many instances tell two rates apart, before anything is run.

Left out: the formulas (`evals.statistics`).
"""

from __future__ import annotations

import json
from typing import Any

import click

from cli.eval_options import table

_CORRELATIONS = (0.0, 0.3, 0.5, 0.7, 0.85)  # of two runs' verdicts; for the table


@click.command()
@click.option("--rate", type=click.FloatRange(0, 1), required=True, help="The rate of one run, as 0.5.")
@click.option("--difference", type=click.FloatRange(-1, 1), help="What the other resolves more, as 0.03.")
@click.option("--instances", type=click.IntRange(1), help="How many there are: says which difference they show.")
@click.option(
    "--discordant", type=click.FloatRange(0, 1), help="The share of instances that the runs solve differently, as 0.15."
)
@click.option("--power", type=click.FloatRange(0, 1), default=0.8, show_default=True, help="Chance to see it.")
@click.option("--alpha", type=click.FloatRange(0, 1), default=0.05, show_default=True, help="Level of the test.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def power(
    rate: float,
    difference: float | None,
    instances: int | None,
    discordant: float | None,
    power: float,
    alpha: float,
    as_json: bool,
) -> None:
    """Say how many instances a comparison of two runs needs.

    Runs on the same instances need fewer, the more they agree on which ones they solve. That is said by --discordant:
    `agent eval compare` shows it as its flips. Without it there is a line for each of several correlations.

    \b
    agent eval power --rate 0.5 --difference 0.03
    agent eval power --rate 0.5 --instances 500 --discordant 0.15
    """
    if (difference is None) == (instances is None):
        raise click.UsageError(
            "give --difference, to be told how many instances, or --instances, to be told the opposite"
        )
    try:
        found = _found(rate, difference, instances, discordant, power, alpha)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    wanted = "instances needed" if difference is not None else "difference that is seen"
    rows: list[tuple[str, ...]] = [("design", "solved differently", wanted)]
    for line in found["lines"]:
        share = "" if line["discordant"] is None else f"{100 * line['discordant']:.1f} %"
        rows.append((line["design"], share, _shown(line)))
    click.echo("\n".join(table(rows)))


def _shown(line: dict[str, Any]) -> str:
    if "instances" in line:
        return f"{line['instances']:,}" if line["discordant"] is not None else f"{line['instances']:,} for each run"
    seen = line["difference"]
    return "none" if seen is None else f"{100 * seen:.1f} points"


def _found(
    rate: float, difference: float | None, instances: int | None, discordant: float | None, power: float, alpha: float
) -> dict[str, Any]:
    """The lines of the table. ValueError for rates that can't be."""
    from evals.statistics import difference_seen, instances_needed

    asked = {"rate": rate, "difference": difference, "instances": instances, "power": power, "alpha": alpha}
    lines: list[dict[str, Any]] = []
    for design, share in _designs(rate, difference, discordant):
        line: dict[str, Any] = {"design": design, "discordant": share}
        if difference is not None:
            line["instances"] = instances_needed(rate, rate + difference, discordant=share, power=power, alpha=alpha)
        elif instances is not None:
            line["difference"] = difference_seen(rate, instances, discordant=share, power=power, alpha=alpha)
        lines.append(line)
    return {**asked, "lines": lines}


def _designs(rate: float, difference: float | None, discordant: float | None) -> list[tuple[str, float | None]]:
    """(design, share that is solved differently), None for runs on different instances."""
    from evals.statistics import discordant_share

    found: list[tuple[str, float | None]] = [("different instances", None)]
    if discordant is not None:
        return [*found, ("same instances", discordant)]
    for correlation in _CORRELATIONS:
        try:
            share = discordant_share(rate, rate + (difference or 0.0), correlation)
        except ValueError:
            if not correlation:
                raise
            continue
        name = f"correlation {correlation:g}" if correlation else "independent"
        found.append((f"same instances, {name}", share))
    return found
