"""What chance does: the compressed nulls, and the drawing that they are made by."""

import math
import random
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.core.stats.drawing import REACH, Column, Hours, draw_nulls, placed, spread
from services.core.stats.drift import Summary, compare, psi
from services.core.stats.nulls import (
    Null,
    compress,
    mean_p_value,
    mean_threshold,
    p_value,
    tail,
    threshold,
)

WINDOW_H = 24
EDGES = (-0.8, 0.0, 0.8)
DRAWN = st.lists(st.floats(1e-6, 10), min_size=40, max_size=60)


def nulls_of(drawn: list[float], patients: int = 20) -> list[Null]:
    return [Null(patients=patients, draws=len(drawn), psi=compress(np.array(drawn)))]


def share_as_great(drawn: list[float], found: float) -> float:
    """The definition: (1 + #{>=}) / (1 + B)."""
    return (1 + sum(each >= found for each in drawn)) / (1 + len(drawn))


@given(DRAWN, st.data())
def test_a_p_value_is_the_share_of_draws_as_great_to_the_next_kept_point(
    drawn: list[float], data: st.DataObject
) -> None:
    found = data.draw(st.sampled_from(drawn) | st.floats(0, 11))
    kept = [1 / (1 + len(drawn)), *tail(len(drawn))]
    rounding = 2e-5  # of the points that are kept
    least = share_as_great(drawn, found * (1 + rounding))
    most = share_as_great(drawn, found * (1 - rounding))
    low = max(p for p in kept if p <= least)
    high = min((p for p in kept if p > most), default=1.0)
    assert low * 0.999 <= p_value(nulls_of(drawn), 20, found) <= high * 1.001


@given(DRAWN, st.lists(st.floats(0, 11), min_size=2, max_size=10))
def test_the_further_the_less_likely(drawn: list[float], found: list[float]) -> None:
    p = [p_value(nulls_of(drawn), 20, each) for each in sorted(found)]
    assert p == sorted(p, reverse=True)


def test_beyond_every_draw_chance_is_one_in_b_plus_one() -> None:
    assert p_value(nulls_of([1.0] * 99), 20, 1.1) == 0.01
    assert p_value(nulls_of([1.0] * 99), 20, 1.0) >= 0.5


@given(DRAWN, DRAWN, st.integers(20, 40), st.floats(0.01, 0.4))
def test_between_two_sizes_a_threshold_lies_between_theirs(
    one: list[float], other: list[float], patients: int, p: float
) -> None:
    many = min(len(one), len(other))
    nulls = nulls_of(one[:many]) + nulls_of(other[:many], 40)
    ends = sorted(threshold(nulls, each, p) for each in (20, 40))
    assert ends[0] * 0.999 <= threshold(nulls, patients, p) <= ends[1] * 1.001
    assert threshold(nulls, 4000, p) == threshold(nulls, 40, p)


@given(DRAWN, st.floats(0.02, 0.45))
def test_at_its_threshold_a_window_has_that_p(drawn: list[float], p: float) -> None:
    spaced = [each + place * 1e-3 for place, each in enumerate(sorted(drawn))]
    beyond = compress(np.array(spaced))
    nulls = [Null(patients=20, draws=len(spaced), psi=beyond, center=0.25, mean=beyond)]
    least = 4 / (1 + len(spaced))
    if p < least:
        return
    assert 2 * p_value(nulls, 20, threshold(nulls, 20, p)) == pytest.approx(p, rel=0.02)
    far = 0.25 - mean_threshold(nulls, 20, p)
    assert 2 * mean_p_value(nulls, 20, far) == pytest.approx(p, rel=0.02)


class People(NamedTuple):
    hours: Hours
    values: NDArray[np.float64]

    @property
    def columns(self) -> list[Column]:
        measured = ~np.isnan(self.values)
        place = np.where(measured, np.searchsorted(EDGES, self.values, side="left"), -1)
        return [Column(place, 4, self.values), Column(measured.astype(np.int64), 2)]


def people(seed: int, patients: int) -> People:
    """Stays of 5 to 80 hours about a level of their own; a fifth of the hours without a value."""
    chance = np.random.default_rng(seed)
    lengths = chance.integers(5, 80, patients)
    patient = np.repeat(np.arange(patients), lengths)
    hour = np.concatenate([np.arange(length) + chance.integers(1000) for length in lengths])
    values = chance.normal(0, 1, patients)[patient] + chance.normal(0, 0.5, len(patient))
    values[chance.random(len(patient)) < 0.2] = np.nan
    return People(Hours(patient, hour), values)


Stay = list[tuple[int, float]]


def slow_windows(who: People, patients: int, draws: int) -> Iterator[tuple[float, float]]:
    """PSI of the value, and difference of the means, straight from the words of the definition."""
    chance = random.Random(7)  # noqa: S311 - of windows
    stays: dict[int, Stay] = {}
    for patient, hour, value in zip(*who.hours, who.values, strict=True):
        stays.setdefault(int(patient), []).append((int(hour), float(value)))
    for _ in range(draws):
        drawn = chance.sample(sorted(stays), patients)
        window, mean = summed([slow_cut(stays[patient], chance) for patient in drawn])
        rest, level = summed([measured(stays[p]) for p in set(stays) - set(drawn)])
        yield float(psi(rest, window)), mean - level


def measured(stay: Stay) -> list[float]:
    return [value for _, value in stay if not math.isnan(value)]


def slow_cut(stay: Stay, chance: random.Random) -> list[float]:
    found: list[float] = []
    while not found:
        start = chance.randint(stay[0][0] - WINDOW_H + 1, stay[-1][0])
        found = measured([(h, value) for h, value in stay if start <= h < start + WINDOW_H])
    return found


def summed(stays: list[list[float]]) -> tuple[list[float], float]:
    """Weights by bin, and the mean of the means."""
    weights = [0.0] * 4
    for stay in stays:
        for value in stay:
            weights[sum(value > edge for edge in EDGES)] += 1 / len(stay)
    return weights, sum(sum(stay) / len(stay) for stay in stays) / len(stays)


def test_drawn_nulls_are_those_of_a_slow_drawing_by_the_definition() -> None:
    who = people(1, 100)
    fast = draw_nulls(
        np.random.default_rng(2), who.hours, who.columns, window_h=WINDOW_H, draws=4000
    )[0]
    assert [null.patients for null in fast] == [20]
    slow = np.array(list(slow_windows(who, 20, 600)))
    beyond = np.abs(slow[:, 1] - fast[0].center)
    for p, tolerance in ((0.5, 0.1), (0.2, 0.1), (0.05, 0.15)):
        assert threshold(fast, 20, 2 * p) == pytest.approx(
            np.quantile(slow[:, 0], 1 - p), rel=tolerance
        )
        assert mean_threshold(fast, 20, 2 * p) == pytest.approx(
            np.quantile(beyond, 1 - p), rel=tolerance
        )


@pytest.mark.parametrize("patients", [20, 100])
def test_p_is_uniform_in_windows_of_other_patients_of_the_same_kind(patients: int) -> None:
    """At K = 100 of 400 too: the draws leave themselves out of the reference."""
    reference, others = people(3, 400), people(4, 4000)
    nulls = draw_nulls(
        np.random.default_rng(5), reference.hours, reference.columns, window_h=WINDOW_H, draws=4000
    )
    chance = np.random.default_rng(6)
    found = []
    for _ in range(8 if patients == 20 else 24):
        held = placed(chance, others.hours, WINDOW_H)
        order = chance.permutation(4000)
        for column, whole, null in zip(others.columns, reference.columns, nulls, strict=True):
            known = summary(spread(whole, reference.hours.patient, 400), whole)
            cut = column._replace(place=np.where(held, column.place, -1))
            each = spread(cut, others.hours.patient, 4000)[order]
            for start in range(0, 4000, patients):
                window = summary(each[start : start + patients], column)
                found.append(compare(known, window, null).p)
    p = np.array(found)
    for level in (0.05, 0.2):
        share = np.mean(p <= level)
        # Twice the smaller of two p-values is no less than it should be, and not much more.
        assert 0.5 * level <= share <= level + 3 * np.sqrt(level / len(p)) + 0.1 * level


def summary(each: NDArray[np.float64], column: Column) -> Summary:
    weights = each[:, : column.bins]
    patients = int(np.count_nonzero(weights.sum(axis=1) > 0.5))
    return Summary(weights.sum(axis=0).tolist(), each[:, -1].sum() / patients, patients)


def test_a_size_is_drawn_as_far_as_the_reference_reaches() -> None:
    who = people(8, 40 * REACH)
    drawn = draw_nulls(
        np.random.default_rng(1), who.hours, who.columns, window_h=WINDOW_H, draws=200
    )
    assert [[null.patients for null in nulls] for nulls in drawn] == [[20, 40], [20, 40]]


def test_a_reference_that_reaches_no_size_has_no_null() -> None:
    who = people(8, 20 * REACH - 1)
    drawn = draw_nulls(np.random.default_rng(1), who.hours, who.columns, window_h=WINDOW_H)
    assert drawn == [(), ()]


def test_the_same_chance_gives_the_same_nulls() -> None:
    who = people(9, 100)
    drawn = [
        draw_nulls(np.random.default_rng(4), who.hours, who.columns, window_h=24, draws=100)
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1]


def test_each_draw_holds_k_stays_and_none_twice() -> None:
    """A feature of one bin a stay would show a stay that counts twice."""
    hours = Hours(np.arange(80), np.zeros(80, np.int64))
    column = Column(np.arange(80), 80)
    (nulls,) = draw_nulls(np.random.default_rng(1), hours, [column], window_h=24, draws=50)
    once = np.zeros(80)
    once[:20] = 1
    assert nulls[0].psi == pytest.approx(
        [float(psi(1 - once, once))] * len(nulls[0].psi), rel=1e-5
    )


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(0, 2**32))
def test_a_window_is_placed_over_everybody(lengths: list[int], seed: int) -> None:
    patient = np.repeat(np.arange(len(lengths)), lengths)
    hour = np.concatenate([np.arange(length) for length in lengths])
    held = placed(np.random.default_rng(seed), Hours(patient, hour), WINDOW_H)
    for who, length in enumerate(lengths):
        of = hour[held & (patient == who)]
        assert 1 <= len(of) <= WINDOW_H
        assert of[-1] - of[0] == len(of) - 1
        assert len(of) == min(WINDOW_H, length) or of[0] == 0 or of[-1] == length - 1


def test_windows_are_placed_uniformly_over_minus_window_to_length() -> None:
    many, length = 20_000, 30
    patient, hour = np.repeat(np.arange(many), length), np.tile(np.arange(length), many)
    held = placed(np.random.default_rng(1), Hours(patient, hour), WINDOW_H)
    assert held.sum() / many == pytest.approx(
        length * WINDOW_H / (length + WINDOW_H - 1), rel=0.01
    )


@given(st.integers(0, 2**32))
def test_every_patient_weighs_one_and_its_mean_is_its_own(seed: int) -> None:
    who = people(seed, 7)
    for column in who.columns:
        each = spread(column, who.hours.patient, 7)
        assert each[:, : column.bins].sum(axis=1) == pytest.approx([1.0] * 7)
    means = [np.nanmean(who.values[who.hours.patient == patient]) for patient in range(7)]
    assert spread(who.columns[0], who.hours.patient, 7)[:, -1] == pytest.approx(means)
