"""The statistics of drift against scipy, their definitions, and what must never change them."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon  # type: ignore[import-untyped]  # has no types

from services.core.stats.drift import (
    SMOOTHING,
    Summary,
    bin_of,
    compare,
    holm,
    js_distance,
    psi,
    shares,
)
from services.core.stats.nulls import Null, tail_ranks
from services.core.stats.sketches import histogram

WEIGHT = st.floats(0, 1000)
PAIRS = st.integers(2, 12).flatmap(
    lambda bins: st.tuples(*[st.lists(WEIGHT, min_size=bins, max_size=bins)] * 2)
)
FEW_P = st.lists(st.floats(1e-6, 1), min_size=1, max_size=7)


@given(PAIRS)
def test_psi_is_what_the_definition_says(pair: tuple[list[float], list[float]]) -> None:
    def smoothed(weights: list[float]) -> list[float]:
        whole = sum(weights) + SMOOTHING * len(weights)
        return [(weight + SMOOTHING) / whole for weight in weights]

    parts = zip(*map(smoothed, pair), strict=True)
    assert float(psi(*pair)) == pytest.approx(sum((q - p) * math.log(q / p) for p, q in parts))


@given(PAIRS, st.randoms(use_true_random=False))
def test_psi_is_none_of_itself_never_negative_and_blind_to_order_and_direction(
    pair: tuple[list[float], list[float]], chance: object
) -> None:
    one, other = pair
    order = list(range(len(one)))
    chance.shuffle(order)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    moved = psi([one[i] for i in order], [other[i] for i in order])
    assert float(psi(one, one)) == 0.0
    assert float(psi(one, other)) >= 0
    assert float(psi(one, other)) == pytest.approx(float(psi(other, one)))
    assert float(moved) == pytest.approx(float(psi(one, other)))


@given(PAIRS)
def test_psi_of_many_windows_is_that_of_each(pair: tuple[list[float], list[float]]) -> None:
    reference, window = pair
    several = np.array([window, reference, window])
    assert psi(reference, several).tolist() == [float(psi(reference, w)) for w in several]


@given(st.lists(WEIGHT, min_size=2, max_size=12))
def test_smoothed_shares_are_above_nothing_and_sum_to_one(weights: list[float]) -> None:
    assert (shares(weights) > 0).all()
    assert float(shares(weights).sum()) == pytest.approx(1)


@given(PAIRS)
def test_the_js_distance_is_scipys(pair: tuple[list[float], list[float]]) -> None:
    one, other = pair
    if min(sum(one), sum(other)) < 1e-6:  # of nothing there is no distribution
        assert sum(one) > 0 < sum(other) or math.isnan(js_distance(one, other))
        return
    ours = js_distance(one, other)
    assert ours == pytest.approx(float(jensenshannon(one, other, base=2)), abs=1e-7)
    assert 0 <= ours <= 1 + 1e-12


@given(
    st.lists(st.floats(30, 45, width=32), min_size=1, max_size=9, unique=True),
    st.lists(st.floats(30, 45), min_size=1, max_size=20),
)
def test_an_edge_closes_its_bin_on_the_right_in_float32(
    edges: list[float], values: list[float]
) -> None:
    rising = sorted(edges)
    expected = [sum(np.float32(value) > np.float32(edge) for edge in rising) for value in values]
    assert bin_of(values, rising).tolist() == expected
    assert bin_of(rising, rising).tolist() == list(range(len(rising)))


def test_a_window_falls_into_the_very_bins_of_training() -> None:
    chance = np.random.default_rng(3)
    values = np.round(chance.normal(37, 1, 500), 1)
    edges = np.array([36.4, 36.7, 37.1], np.float32)
    theirs = histogram(values.astype(np.float32), np.arange(500), edges)
    decimal = [float(str(edge)) for edge in edges]
    assert np.bincount(bin_of(values, decimal), minlength=4).tolist() == theirs.weight.tolist()


@given(FEW_P)
def test_holm_is_the_closed_test_of_bonferroni(p: list[float]) -> None:
    def closed(place: int) -> float:
        others = [other for other in range(len(p)) if other != place]
        families = (
            (place, *members) for size in range(len(p)) for members in combinations(others, size)
        )
        return max(min(1.0, len(each) * min(p[i] for i in each)) for each in families)

    assert holm(p) == pytest.approx([closed(place) for place in range(len(p))])


@given(FEW_P)
def test_holm_keeps_the_order_and_lowers_nothing(p: list[float]) -> None:
    corrected = holm(p)
    assert all(one <= other for one, other in zip(p, corrected, strict=True))
    by_p = [corrected[place] for place in np.argsort(p)]
    assert by_p == sorted(by_p)


def null(patients: int, psi_at: float, mean_at: float | None) -> Null:
    """A null whose tail falls evenly from so much on."""
    points = np.geomspace(1, 0.1, len(tail_ranks(999)))
    mean = () if mean_at is None else tuple((mean_at * points).tolist())
    return Null(patients=patients, draws=999, psi=tuple((psi_at * points).tolist()), mean=mean)


def test_the_less_likely_statistic_speaks_and_pays_for_two_looks() -> None:
    reference = Summary([50.0, 50.0], 10.0, 100)
    nulls = [null(20, 0.5, 1.0)]
    shape = compare(reference, Summary([5.0, 35.0], 10.01, 40), nulls)
    level = compare(reference, Summary([20.0, 20.0], 12.0, 40), nulls)
    assert (shape.by, shape.direction, shape.p) == ("psi", "higher", 2 / 1000)
    assert (level.by, level.psi, level.p) == ("mean", 0.0, 2 / 1000)
    assert level.difference == pytest.approx(2.0)


def test_a_feature_of_two_bins_is_looked_at_once() -> None:
    reference, window = Summary([50.0, 50.0], 0.5, 100), Summary([5.0, 35.0], 0.875, 40)
    found = compare(reference, window, [null(20, 0.5, None)])
    assert (found.by, found.p) == ("psi", 1 / 1000)


@given(PAIRS, st.floats(-3, 3))
def test_a_reading_is_a_probability_and_the_direction_is_that_of_the_means(
    pair: tuple[list[float], list[float]], difference: float
) -> None:
    reference = Summary(pair[0], 1.0, 50)
    found = compare(reference, Summary(pair[1], 1.0 + difference, 30), [null(20, 0.5, 1.0)])
    assert 0 < found.p <= 1
    sign = {"higher": 1, "lower": -1, "": 0}[found.direction]
    assert sign == np.sign((1.0 + difference) - 1.0)
