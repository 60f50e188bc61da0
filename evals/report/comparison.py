"""Two runs side by side: the same instances, what each resolved of them, and whether the difference may be chance.

An instance counts once on each side, with the share of its attempts that is resolved; with one attempt each that is
yes or no, and the test is McNemar's. Instances without a verdict on one side are left out and named. Two runs are told
apart only where the exact test and the interval agree. Left out: showing it (`comparison_page`, the command).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from statistics import fmean, pstdev
from typing import Any, Final

from evals.report.folder import NoRun
from evals.report.setup import lines_of
from evals.report.sides import MEASURES, Result, Side
from evals.statistics import (
    bootstrap_difference,
    difference_seen,
    instances_for_mean,
    instances_needed,
    mcnemar_exact,
    mean_seen,
    sign_flip_exact,
    wilson_clustered,
)

FORMAT: Final = 1
ALPHA: Final = 0.05
POWER: Final = 0.8
MAX_DIFFERENCES: Final = 200  # of the manifests
_DIGITS: Final = 6
_FEWER: Final = 2_000  # resamples for what runs took: nobody decides by its third digit
_NOT_SETTINGS: Final = frozenset({"run", "created", "machine", "environments", "seeds", "format"})
RULE: Final = (
    "An instance counts once on each side, with the share of its attempts that is resolved. Instances without a "
    "verdict on one side are left out."
)

Pair = tuple[str, Result, Result]


def compare(a: Side, b: Side) -> dict[str, Any]:
    """The comparison, fit for JSON; differences are B minus A. NoRun when they have no instance in common."""
    common = sorted(a.results.keys() & b.results.keys())
    pairs = [(name, a.results[name], b.results[name]) for name in common]
    judged = [pair for pair in pairs if pair[1].judged and pair[2].judged]
    if not judged:
        raise NoRun(f"{a.name} and {b.name} have no instance in common that both have a verdict for")
    return {
        "format": FORMAT,
        "rule": RULE,
        "a": _side(a, [one for _, one, _ in judged]),
        "b": _side(b, [other for _, _, other in judged]),
        "pairs": len(judged),
        "left_out": {
            "no_verdict": [name for name, one, other in pairs if not (one.judged and other.judged)],
            "only_a": sorted(a.results.keys() - b.results.keys()),
            "only_b": sorted(b.results.keys() - a.results.keys()),
        },
        **_difference(judged),
        "flips": {
            "gained": [_flip(pair) for pair in judged if pair[2].rate > pair[1].rate],
            "lost": [_flip(pair) for pair in judged if pair[2].rate < pair[1].rate],
        },
        "usage": {name: found for name in MEASURES if (found := _used(judged, name))},
        "settings": _settings(a.manifest, b.manifest),
    }


def _side(side: Side, results: Sequence[Result]) -> dict[str, Any]:
    interval = wilson_clustered([(one.resolved, one.judged) for one in results])
    return {
        "name": side.name,
        "models": list(side.models),
        "kind": side.kind,
        "instances": len(side.results),
        "attempts": sum(one.judged for one in results),
        "resolved": sum(one.resolved for one in results),
        "failed": sum(one.failed for one in side.results.values()),
        "rate": round(fmean(one.rate for one in results), _DIGITS),
        "low": round(interval.low, _DIGITS),
        "high": round(interval.high, _DIGITS),
    }


def _difference(pairs: Sequence[Pair]) -> dict[str, Any]:
    exact = [Fraction(b.resolved, b.judged) - Fraction(a.resolved, a.judged) for _, a, b in pairs]
    differences = [float(one) for one in exact]
    mean, interval = fmean(differences), bootstrap_difference(differences)
    single = all(a.judged == b.judged == 1 for _, a, b in pairs)
    if single:
        gained, lost = sum(one > 0 for one in exact), sum(one < 0 for one in exact)
        p = mcnemar_exact(gained, lost)
    else:
        p = sign_flip_exact(exact)
    apart = p < ALPHA and not interval.covers(0.0)
    return {
        "difference": round(mean, _DIGITS),
        "interval": [round(interval.low, _DIGITS), round(interval.high, _DIGITS)],
        "p": p,
        "test": "McNemar, exact" if single else "sign flips of the differences of rates, exact",
        "told_apart": apart,
        "table": _table(pairs) if single else None,
        **_power(pairs, differences, single),
    }


def _table(pairs: Sequence[Pair]) -> dict[str, int]:
    both = sum(bool(a.resolved and b.resolved) for _, a, b in pairs)
    only_a = sum(bool(a.resolved and not b.resolved) for _, a, b in pairs)
    only_b = sum(bool(b.resolved and not a.resolved) for _, a, b in pairs)
    return {"both": both, "only_a": only_a, "only_b": only_b, "neither": len(pairs) - both - only_a - only_b}


def _power(pairs: Sequence[Pair], differences: Sequence[float], single: bool) -> dict[str, Any]:
    """How many instances would show the seen difference, and what difference these show (None: neither can be said)."""
    n, mean = len(pairs), fmean(differences)
    first, second = fmean(a.rate for _, a, _ in pairs), fmean(b.rate for _, _, b in pairs)
    if single:
        share = fmean(bool(one) for one in differences)
        needed = instances_needed(first, second, discordant=share, power=POWER, alpha=ALPHA) if mean else None
        seen = difference_seen(first, n, discordant=share, power=POWER, alpha=ALPHA) if first < 1 and share else None
    else:
        deviation = pstdev(differences)
        needed = instances_for_mean(mean, deviation, power=POWER, alpha=ALPHA) if mean else None
        seen = mean_seen(deviation, n, power=POWER, alpha=ALPHA)
    return {
        "instances_needed": needed,
        "difference_seen": None if seen is None else round(seen, _DIGITS),
        "power": POWER,
    }


def _flip(pair: Pair) -> dict[str, Any]:
    name, a, b = pair
    causes = list(a.causes if a.rate < b.rate else b.causes)  # of the side that resolves it less often
    return {"instance_id": name, "a": [a.resolved, a.judged], "b": [b.resolved, b.judged], "causes": causes}


def _used(pairs: Sequence[Pair], measure: str) -> dict[str, Any] | None:
    """Means per attempt over the pairs of which both sides are known; None where there are none."""
    known = [(a.used[measure], b.used[measure]) for _, a, b in pairs if measure in a.used and measure in b.used]
    if not known:
        return None
    interval = bootstrap_difference([b - a for a, b in known], resamples=_FEWER)
    return {
        "pairs": len(known),
        "a": round(fmean(a for a, _ in known), _DIGITS),
        "b": round(fmean(b for _, b in known), _DIGITS),
        "difference": round(fmean(b - a for a, b in known), _DIGITS),
        "interval": [round(interval.low, _DIGITS), round(interval.high, _DIGITS)],
    }


def _settings(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> list[list[str]] | None:
    """[name, A's value, B's value] for what differs of all that changes a score; None where a side says nothing."""
    if a is None or b is None:
        return None
    one, other = (dict(_scoring(manifest)) for manifest in (a, b))
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return [[name, one.get(name, "not said"), other.get(name, "not said")] for name in names[:MAX_DIFFERENCES]]


def _scoring(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    kept = {name: value for name, value in manifest.items() if name not in _NOT_SETTINGS}
    return list(lines_of(kept))


# -- in words ---------------------------------------------------------------------------------------------------


def verdict(found: Mapping[str, Any]) -> str:
    """What can be concluded, in a sentence."""
    from evals.report.numbers import p_value, points

    low, high = found["interval"]
    numbers = (
        f"a difference of {points(found['difference'])} over {found['pairs']:,} instances "
        f"(95 % interval {100 * low:+.1f} to {100 * high:+.1f}, p = {p_value(found['p'])})"
    )
    if not found["told_apart"]:
        return f"A and B cannot be told apart: {numbers}."
    better, other = ("B", "A") if found["difference"] > 0 else ("A", "B")
    return f"{better} resolves more than {other}: {numbers}."


def power_words(found: Mapping[str, Any]) -> list[str]:
    """What more instances would show, a sentence each."""
    from evals.report.numbers import count

    said = []
    chance = "4 of 5 comparisons"
    if not found["told_apart"] and (needed := found["instances_needed"]):
        said.append(
            f"To see a difference of this size in {chance}, {count(needed)} instances would be needed; "
            f"these are {count(found['pairs'])}."
        )
    if seen := found["difference_seen"]:
        said.append(f"These {count(found['pairs'])} show a difference of {100 * seen:.1f} points in {chance}.")
    return said
