"""Statistics against values from the literature and by hand, and what must hold whatever the numbers are."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.statistics import (
    Interval,
    bootstrap_difference,
    difference_seen,
    discordant_share,
    instances_for_mean,
    instances_needed,
    mcnemar_exact,
    mean_seen,
    pass_at_k,
    pass_hat_k,
    quantile,
    sign_flip_exact,
    wilson,
    wilson_clustered,
)

COUNTS = st.integers(1, 800).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),  # Newcombe 1998, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_is_newcombes_table(k: int, n: int, low: float, high: float) -> None:
    assert wilson(k, n, 1.959964) == pytest.approx((low, high), abs=5e-5)


@given(COUNTS)
def test_wilson_holds_its_rate_and_mirrors(count: tuple[int, int]) -> None:
    k, n = count
    found = wilson(k, n)
    assert 0 <= found.low <= k / n <= found.high <= 1
    assert found == pytest.approx(tuple(1 - end for end in reversed(wilson(n - k, n))))
    wider = wilson(k, n, 2.58)
    assert wider.low <= found.low and found.high <= wider.high


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson(0, 0) == wilson_clustered([]) == (0, 1)
    for wrong in ((-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="no count"):
            wilson(*wrong)


@given(COUNTS)
def test_one_attempt_each_is_the_plain_interval(count: tuple[int, int]) -> None:
    k, n = count
    assert wilson_clustered([(1, 1)] * k + [(0, 1)] * (n - k)) == pytest.approx(wilson(k, n))


def test_attempts_that_agree_count_once_and_independent_ones_each() -> None:
    agreeing = [(4, 4)] * 60 + [(0, 4)] * 40
    assert wilson_clustered(agreeing) == pytest.approx(wilson(60, 100))
    spread = [(2, 4)] * 100  # spread less than chance would: no more than all attempts count
    assert wilson_clustered(spread) == pytest.approx(wilson(200, 400))
    assert wilson_clustered([(0, 4)] * 10) == pytest.approx(wilson(0, 10))
    with pytest.raises(ValueError, match="no rate"):
        wilson_clustered([(0, 0)])


@given(st.lists(st.integers(1, 6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1, max_size=60))
def test_a_clustered_interval_holds_the_mean(groups: list[tuple[int, int]]) -> None:
    found = wilson_clustered(groups)
    assert 0 <= found.low <= fmean(c / n for c, n in groups) + 1e-9
    assert fmean(c / n for c, n in groups) - 1e-9 <= found.high <= 1


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [
        (1, 7, 0.0703),  # Fagerland, Lydersen and Laake 2013: airway hyper-responsiveness
        (12, 2, 0.0129),  # Armitage and Berry 1994, p. 127: two media for tuberculosis
        (0, 0, 1.0),
        (3, 3, 1.0),
        (0, 5, 2 / 32),
        (0, 6, 2 / 64),  # the fewest one-sided flips that are told apart at 0.05
    ],
)
def test_mcnemar(b: int, c: int, p: float) -> None:
    assert mcnemar_exact(b, c) == pytest.approx(p, abs=5e-5)
    assert mcnemar_exact(b, c) == mcnemar_exact(c, b)


def test_mcnemar_of_thousands_is_no_overflow() -> None:
    assert 0 < mcnemar_exact(2600, 2400) < 0.01
    with pytest.raises(ValueError, match="no counts"):
        mcnemar_exact(-1, 2)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 9))
def test_the_sign_flip_test_of_single_attempts_is_mcnemars(b: int, c: int, same: int) -> None:
    assert sign_flip_exact([1] * b + [-1] * c + [0] * same) == pytest.approx(mcnemar_exact(b, c), rel=1e-12)


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(1, 4)), max_size=9))
def test_the_sign_flip_test_is_its_definition(pairs: list[tuple[int, int]]) -> None:
    differences = [Fraction(a, b) for a, b in pairs]
    observed = abs(sum(differences))
    patterns = list(itertools.product((1, -1), repeat=len(differences)))
    extreme = [s for s in patterns if abs(sum(x * y for x, y in zip(s, differences, strict=True))) >= observed]
    assert sign_flip_exact(differences) == pytest.approx(len(extreme) / len(patterns))


def test_a_bootstrap_interval_is_about_the_normal_one_and_repeats() -> None:
    differences = [1.0] * 60 + [-1.0] * 30 + [0.0] * 410
    found = bootstrap_difference(differences)
    mean = fmean(differences)
    half = 1.96 * math.sqrt(fmean((d - mean) ** 2 for d in differences) / 500)
    assert found == pytest.approx((mean - half, mean + half), abs=0.004)
    assert bootstrap_difference(differences) == found
    uneven = [i / 97 for i in range(-40, 60)]
    assert bootstrap_difference(uneven, seed=1) != bootstrap_difference(uneven, seed=2)
    assert bootstrap_difference([]) == bootstrap_difference([0.0] * 9) == (0, 0)
    assert bootstrap_difference([1.0] * 9) == (1, 1)


def test_a_bootstrap_interval_keeps_its_level() -> None:
    """Of 300 samples from a known source about 95 % hold the true mean; fewer than 90 % has a chance of 3 in 10,000."""
    draw, held = random.Random(3), 0
    for _ in range(300):
        sample = draw.choices([1.0, -1.0, 0.0], weights=[15, 10, 75], k=120)
        held += bootstrap_difference(sample, resamples=400).covers(0.05)
    assert held >= 270


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=1, max_size=30))
def test_a_bootstrap_interval_mirrors_and_stays_within_reach(differences: list[float]) -> None:
    found = bootstrap_difference(differences, resamples=200)
    mirrored = bootstrap_difference([-d for d in differences], resamples=200)
    assert found == pytest.approx((-mirrored.high, -mirrored.low))
    if any(differences):
        assert min(differences) <= found.low <= found.high <= max(differences)


@pytest.mark.parametrize(
    ("n", "c", "k", "at", "hat"),
    [(5, 2, 1, 0.4, 0.4), (5, 2, 2, 0.7, 0.1), (5, 2, 4, 1.0, 0.0), (4, 0, 2, 0.0, 0.0), (4, 4, 4, 1.0, 1.0)],
)
def test_pass_at_and_hat_by_hand(n: int, c: int, k: int, at: float, hat: float) -> None:
    assert (pass_at_k(n, c, k), pass_hat_k(n, c, k)) == pytest.approx((at, hat))


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_and_hat_are_what_all_choices_of_k_say(case: tuple[int, int, int]) -> None:
    n, c, k = case
    choices = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(fmean(any(one) for one in choices))
    assert pass_hat_k(n, c, k) == pytest.approx(fmean(all(one) for one in choices))
    assert pass_hat_k(n, c, k) == pytest.approx(1 - pass_at_k(n, n - c, k))
    assert pass_hat_k(n, c, k) <= c / n + 1e-12 and c / n <= pass_at_k(n, c, k) + 1e-12


def test_pass_at_k_of_a_thousand_attempts_is_no_overflow() -> None:
    assert pass_at_k(1000, 1, 100) == pytest.approx(0.1)
    for wrong in ((3, 4, 1), (3, 1, 4), (3, 1, 0)):
        with pytest.raises(ValueError, match="attempts"):
            pass_at_k(*wrong)


def test_instances_needed_unpaired_is_the_textbook_value() -> None:
    assert instances_needed(0.50, 0.75, power=0.90) == 77  # R's own example of power.prop.test: n = 76.7
    assert instances_needed(0.75, 0.50, power=0.90) == 77
    assert instances_needed(0.5, 0.53) == 4356  # by hand: ((1.959964 * 0.706789 + 0.841621 * 0.706470) / 0.03) ** 2


def test_instances_needed_paired_is_connors() -> None:
    assert instances_needed(0.95, 0.55, discordant=0.5) == 23  # p01 = 0.45, p10 = 0.05
    by_hand = ((1.959964 * math.sqrt(0.15) + 0.841621 * math.sqrt(0.15 - 0.03**2)) / 0.03) ** 2
    assert instances_needed(0.5, 0.53, discordant=0.15) == math.ceil(by_hand) == 1306


def test_what_no_two_runs_can_be_is_refused() -> None:
    for first, second, share in ((0.5, 0.5, None), (0.5, 1.2, None), (0.5, 0.6, 0.05), (0.1, 0.2, 0.4)):
        with pytest.raises(ValueError, match="rates"):
            instances_needed(first, second, discordant=share)
    with pytest.raises(ValueError, match="correlation"):
        discordant_share(0.1, 0.9, 0.9)
    with pytest.raises(ValueError, match="power"):
        instances_needed(0.1, 0.2, power=1)
    with pytest.raises(ValueError, match="zero"):
        instances_for_mean(0, 1)


def test_the_exact_test_has_about_the_power_that_was_asked_for() -> None:
    """Connor's number for a difference of 0.1 with a fifth of flips, played 2,000 times against the exact test."""
    n = instances_needed(0.5, 0.6, discordant=0.2)
    draw, found = random.Random(5), 0
    for _ in range(2000):
        flips = draw.choices([1, -1, 0], weights=[15, 5, 80], k=n)
        found += mcnemar_exact(flips.count(1), flips.count(-1)) < 0.05
    assert 0.72 < found / 2000 < 0.85  # the exact test is a little weaker than the approximation


@given(st.floats(0.05, 0.9), st.floats(0.02, 0.1), st.floats(0, 0.6))
def test_pairs_that_agree_need_fewer_instances(rate: float, difference: float, correlation: float) -> None:
    other = min(rate + difference, 0.98)
    try:
        share = discordant_share(rate, other, correlation)
    except ValueError:
        return
    independent = instances_needed(rate, other, discordant=discordant_share(rate, other))
    assert instances_needed(rate, other, discordant=share) <= independent
    assert independent == pytest.approx(instances_needed(rate, other), rel=0.15)


@given(st.floats(0.05, 0.9), st.integers(20, 5000), st.sampled_from([None, 0.1, 0.3]))
def test_the_difference_that_is_seen_needs_just_these_instances(rate: float, n: int, share: float | None) -> None:
    seen = difference_seen(rate, n, discordant=share)
    if seen is None:
        return
    other = min(1.0, rate + seen)
    limited = None if share is None else min(max(share, other - rate), rate + other, 2 - rate - other)
    assert instances_needed(rate, other, discordant=limited) <= n


def test_a_mean_of_rates_needs_what_a_mean_of_flips_does() -> None:
    assert instances_for_mean(0.5, 1.0) == 32  # by hand: ((1.959964 + 0.841621) / 0.5) ** 2 = 31.4
    assert mean_seen(1.0, 32) == pytest.approx(0.4953, abs=1e-4) and instances_for_mean(mean_seen(1, 80), 1) == 80
    assert instances_for_mean(-0.03, math.sqrt(0.15 - 0.03**2)) == pytest.approx(1306, abs=10)


def test_quantiles() -> None:
    assert [quantile([1, 2, 3, 4], share) for share in (0, 0.25, 0.5, 1)] == [1, 1.75, 2.5, 4]
    assert quantile([7], 0.9) == 7
    with pytest.raises(ValueError, match="no quantile"):
        quantile([], 0.5)
    assert Interval(0, 1).covers(0) and not Interval(0.1, 1).covers(0)
