"""What can be concluded from counts of resolved instances: intervals, paired tests, pass@k, and how many are needed.

Pure functions of the standard library. A rate lies in [0, 1]; every test is two-sided. Left out: what is counted
(`evals.report`), and corrections for many comparisons: who compares ten runs finds one difference by chance.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from fractions import Fraction
from statistics import NormalDist
from typing import Final, NamedTuple

LEVEL: Final = 0.95
SEED: Final = 20260401  # of resampling: the same numbers give the same interval
RESAMPLES: Final = 10_000
_NORMAL: Final = NormalDist()
_MOST_SUMS: Final = 4_000_000  # sums that the exact sign-flip test may hold


class Interval(NamedTuple):
    """From `low` to `high`, both included."""

    low: float
    high: float

    def covers(self, value: float) -> bool:
        return self.low <= value <= self.high


def wilson(k: float, n: float, z: float = 1.96) -> Interval:
    """The score interval of a rate of which `k` of `n` were seen; (0, 1) for n = 0.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), 209-212; it
    keeps its level near 0 and 1, where the usual one has no width (Newcombe, Statistics in Medicine 17 (1998),
    857-872, whose table I is the test). ValueError unless 0 <= k <= n.
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is no count")
    if n == 0:
        return Interval(0.0, 1.0)
    p, zz = k / n, z * z
    middle = (p + zz / (2 * n)) / (1 + zz / n)
    half = z / (1 + zz / n) * math.sqrt(p * (1 - p) / n + zz / (4 * n * n))
    return Interval(0.0 if k == 0 else max(0.0, middle - half), 1.0 if k == n else min(1.0, middle + half))


def wilson_clustered(groups: Sequence[tuple[int, int]], z: float = 1.96) -> Interval:
    """The score interval of the mean of the groups' rates; a group is (resolved, attempts) of one instance.

    Attempts at one instance resemble each other, so that 500 instances with four attempts each aren't 2,000
    observations. The number of observations is the effective one, p(1 - p) over the variance of the mean, between that
    of groups and that of attempts: Korn and Graubard, Survey Methodology 24 (1998), 193-201, with Wilson's interval as
    Dean and Pagano advise, J. Survey Statistics and Methodology 3 (2015), 484-503. With one attempt each it is
    `wilson`. ValueError for a group without attempts.
    """
    rates = [_rate(*group) for group in groups]
    if not rates:
        return Interval(0.0, 1.0)
    n = len(rates)
    p = sum(rates) / n
    spread = sum((rate - p) ** 2 for rate in rates) / n
    attempts = sum(count for _, count in groups)
    effective = attempts if spread == 0 else min(max(n * p * (1 - p) / spread, n), attempts)
    if spread == 0 and p in (0.0, 1.0):
        effective = n  # all alike: nothing shows that attempts differ
    return wilson(min(p * effective, effective), effective, z)


def _rate(resolved: int, attempts: int) -> float:
    if not 0 <= resolved <= attempts or attempts == 0:
        raise ValueError(f"{resolved} of {attempts} is no rate")
    return resolved / attempts


def mcnemar_exact(b: int, c: int) -> float:
    """The p-value of McNemar's test from the pairs that differ: `b` one way, `c` the other.

    Under equal rates each goes either way with 1/2, a sign test (McNemar, Psychometrika 12 (1947), 153-157; exact form
    in Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91 (2013)). It errs on the careful side.
    """
    if b < 0 or c < 0:
        raise ValueError(f"{b} and {c} are no counts")
    n = b + c
    tail = sum(math.comb(n, i) for i in range(min(b, c) + 1))
    return min(1.0, float(Fraction(2 * tail, 2**n)))


def sign_flip_exact(differences: Sequence[Fraction | int]) -> float:
    """The p-value of a mean of paired differences against zero, when each might as well have had the other sign.

    Fisher's randomisation test for pairs (The Design of Experiments, 1935, section 21), by counting all sign patterns.
    For differences of -1, 0 and 1 it is `mcnemar_exact`; with several attempts each instance brings the difference of
    its rates. ValueError where the differences have so many values that counting isn't feasible.
    """
    seen = [Fraction(one) for one in differences if one]
    scale = math.lcm(*(one.denominator for one in seen)) if seen else 1
    steps = [abs(int(one * scale)) for one in seen]
    total = sum(steps)
    if total > _MOST_SUMS:
        raise ValueError("too many different rates for an exact test")
    ways = [1] + [0] * total
    reach = 0  # the number of sign patterns by the sum of what they flip, one difference after another
    for step in steps:
        reach += step
        for at in range(reach, step - 1, -1):
            ways[at] += ways[at - step]
    observed = abs(sum(int(one * scale) for one in seen))
    extreme = sum(count for flipped, count in enumerate(ways) if abs(total - 2 * flipped) >= observed)
    return float(Fraction(extreme, 2 ** len(steps)))


def bootstrap_difference(
    differences: Sequence[float], *, seed: int = SEED, resamples: int = RESAMPLES, level: float = LEVEL
) -> Interval:
    """The percentile interval of the mean of paired differences; an instance, with all its attempts, is drawn whole.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 13 and 23. The same seed gives the same
    interval. (0, 0) for no differences at all or none that isn't zero.
    """
    n = len(differences)
    if not any(differences):
        return Interval(0.0, 0.0)
    draw = random.Random(seed)  # noqa: S311 - resampling, nothing secret
    means = sorted(math.fsum(draw.choices(differences, k=n)) / n for _ in range(resamples))
    return Interval(_quantile(means, (1 - level) / 2), _quantile(means, (1 + level) / 2))


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear between the two nearest, type 7 of Hyndman and Fan, The American Statistician 50 (1996), 361-365."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def quantile(values: Sequence[float], share: float) -> float:
    """That value below which `share` of the values lie. ValueError for no values."""
    if not values or not 0 <= share <= 1:
        raise ValueError(f"no quantile {share} of {len(values)} values")
    return _quantile(sorted(values), share)


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that at least one of `k` attempts is right, unbiased, from `c` right ones of `n`.

    1 - C(n-c, k) / C(n, k): Chen et al., "Evaluating large language models trained on code", arXiv:2107.03374 (2021).
    ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    _check_attempts(n, c, k)
    return float(1 - Fraction(math.comb(n - c, k), math.comb(n, k)))


def pass_hat_k(n: int, c: int, k: int) -> float:
    """The chance that all of `k` attempts are right (pass^k), unbiased, from `c` right ones of `n`.

    C(c, k) / C(n, k): Yao et al., "tau-bench", arXiv:2406.12045 (2024). ValueError as `pass_at_k`.
    """
    _check_attempts(n, c, k)
    return float(Fraction(math.comb(c, k), math.comb(n, k)))


def _check_attempts(n: int, c: int, k: int) -> None:
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"{k} of {n} attempts with {c} right ones: 0 <= c <= n and 1 <= k <= n must hold")


def discordant_share(first: float, second: float, correlation: float = 0.0) -> float:
    """The share of instances that two runs with these rates solve differently; `correlation` is phi of the verdicts.

    ValueError where no two runs can have these rates with this correlation.
    """
    for rate in (first, second):
        if not 0 <= rate <= 1:
            raise ValueError(f"a rate lies between 0 and 1, not at {rate}")
    variances = first * (1 - first) * second * (1 - second)
    share = first * (1 - second) + second * (1 - first) - 2 * correlation * math.sqrt(variances)
    most = min(first + second, 2 - first - second)
    if not abs(first - second) - 1e-12 <= share <= most + 1e-12:
        raise ValueError(f"runs with rates {first:g} and {second:g} can't have the correlation {correlation:g}")
    return max(share, abs(first - second))


def instances_needed(
    first: float, second: float, *, discordant: float | None = None, power: float = 0.8, alpha: float = 0.05
) -> int:
    """How many instances each of two runs needs, so that their difference is found with probability `power`.

    Unpaired (`discordant` None), of each run: Fleiss, Levin and Paik, Statistical Methods for Rates and Proportions
    (3rd ed. 2003), equation 4.14, without the continuity correction; as `power.prop.test` of R. Paired, when both run
    on the same instances and solve the share `discordant` of them differently: Connor, Biometrics 43 (1987), 207-211.
    ValueError for equal rates, or a share that no such runs can have.
    """
    difference = abs(first - second)
    z_alpha, z_beta = _normal_quantiles(power, alpha)
    if not (0 <= first <= 1 and 0 <= second <= 1) or not difference:
        raise ValueError(f"rates of {first:g} and {second:g}: two different ones between 0 and 1 are needed")
    if discordant is None:
        mean = (first + second) / 2
        spread = math.sqrt(first * (1 - first) + second * (1 - second))
        root = z_alpha * math.sqrt(2 * mean * (1 - mean)) + z_beta * spread
    else:
        if not difference - 1e-12 <= discordant <= min(first + second, 2 - first - second) + 1e-12:
            raise ValueError(f"runs with rates {first:g} and {second:g} can't differ in a share {discordant:g}")
        root = z_alpha * math.sqrt(discordant) + z_beta * math.sqrt(max(discordant - difference**2, 0.0))
    return math.ceil(round((root / difference) ** 2, 9))


def instances_for_mean(mean: float, deviation: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """How many pairs it takes to tell a mean of differences from zero; `deviation` is the standard one of a pair.

    The usual normal approximation, e.g. Cohen, Statistical Power Analysis (2nd ed. 1988), section 2.3.5: for runs with
    several attempts, where a pair's difference isn't only -1, 0 or 1. ValueError for a mean of zero.
    """
    if not mean:
        raise ValueError("no number of pairs shows a difference of zero")
    return max(1, math.ceil(round((sum(_normal_quantiles(power, alpha)) * deviation / mean) ** 2, 9)))


def mean_seen(deviation: float, pairs: int, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest mean that so many pairs tell from zero with probability `power`: `instances_for_mean` inverted."""
    return sum(_normal_quantiles(power, alpha)) * deviation / math.sqrt(pairs)


def _normal_quantiles(power: float, alpha: float) -> tuple[float, float]:
    if not (0 < alpha < 1 and alpha / 2 < power < 1):
        raise ValueError(f"power {power:g} and level {alpha:g}: both lie between 0 and 1, power above half the level")
    return _NORMAL.inv_cdf(1 - alpha / 2), _NORMAL.inv_cdf(power)


def difference_seen(
    rate: float, instances: int, *, discordant: float | None = None, power: float = 0.8, alpha: float = 0.05
) -> float | None:
    """The smallest rise above `rate` that `instances` of them show with probability `power`; None: not even to 1.

    The inverse of `instances_needed`, by bisection.
    """

    def enough(difference: float) -> bool:
        other = min(1.0, rate + difference)
        share = None if discordant is None else min(max(discordant, other - rate), rate + other, 2 - rate - other)
        return instances_needed(rate, other, discordant=share, power=power, alpha=alpha) <= instances

    low, high = 0.0, 1.0 - rate
    if high <= 0 or not enough(high):
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if middle and enough(middle) else (middle, high)
    return high
