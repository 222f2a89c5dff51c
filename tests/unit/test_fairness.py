"""Differences between groups, held against Newcombe's own table, scipy and chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest  # type: ignore[import-untyped]  # it has no stubs here

from services.core.stats.fairness import (
    MARGIN,
    Difference,
    Share,
    difference,
    gate,
    score_interval,
    simultaneous,
)

SHARES = st.integers(1, 2000).flatmap(
    lambda trials: st.builds(Share, st.integers(0, trials), st.just(trials))
)


@settings(deadline=None)
@given(SHARES, st.sampled_from([0.9, 0.95, 0.99, 0.9983]))
def test_the_score_interval_is_scipys(share: Share, level: float) -> None:
    expected = binomtest(share.successes, share.trials).proportion_ci(level, method="wilson")
    assert score_interval(share, level) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [  # Newcombe, Stat Med 1998;17:873-890, table II, method 10
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_the_interval_of_a_difference_is_the_published_one(
    one: tuple[int, int], other: tuple[int, int], low: float, high: float
) -> None:
    found = difference(Share(*one), Share(*other))
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


@settings(deadline=None)
@given(SHARES, SHARES)
def test_a_difference_lies_in_its_interval_and_turns_its_sign_with_the_groups(
    one: Share, other: Share
) -> None:
    found, turned = difference(one, other), difference(other, one)
    assert -1 - 1e-9 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1 + 1e-9
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-12)


@settings(deadline=None)
@given(SHARES, SHARES, st.integers(1, 9))
def test_more_comparisons_make_intervals_wider(one: Share, other: Share, many: int) -> None:
    few, more = (difference(one, other, simultaneous(n)) for n in (many, many + 1))
    assert more.low <= few.low + 1e-12
    assert few.high <= more.high + 1e-12


def test_simultaneous_intervals_hold_together_as_often_as_they_say() -> None:
    """Five groups against one, all the same: in 95 % of draws no interval misses nothing."""
    chance = np.random.default_rng(7)
    missed = 0
    for _ in range(600):
        drawn = [Share(int(chance.binomial(120, 0.25)), 120) for _ in range(6)]
        found = [difference(each, drawn[0], simultaneous(5)) for each in drawn[1:]]
        missed += any(each.low > 0 or each.high < 0 for each in found)
    assert missed / 600 <= 0.07


@settings(deadline=None)
@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_gate_passes_inside_the_margin_fails_outside_and_says_nothing_between(
    value: float, below: float, above: float
) -> None:
    found = Difference(value, value - below, value + above)
    inside = found.low >= -MARGIN and found.high <= MARGIN
    outside = found.low > MARGIN or found.high < -MARGIN
    assert gate(found) == ("pass" if inside else "fail" if outside else "insufficient")


def test_it_takes_many_patients_to_pass_and_fewer_to_fail() -> None:
    assert gate(difference(Share(90, 100), Share(90, 100))) == "insufficient"
    assert gate(difference(Share(1800, 2000), Share(1800, 2000))) == "pass"
    assert gate(difference(Share(260, 400), Share(320, 400))) == "fail"
