"""The features against their definitions, read off hour by hour in plain Python."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.features import (
    CHANGES_H,
    FEATURES,
    HISTORY_HOURS,
    TREND_VARIABLES,
    WINDOWS_H,
    HourGrid,
    Standing,
    compute,
)
from services.core.vitals import LABS, VARIABLES, VITALS

NAMES = [feature.name for feature in FEATURES]
NAN = math.nan
Course = dict[str, dict[int, list[float]]]
"""Per variable the values in each hour; hour 0 is the hour of the row, -1 the one before it."""

TYPICAL = {
    "HR": 92.0,
    "O2Sat": 95.0,
    "Temp": 37.4,
    "SBP": 103.0,
    "MAP": 71.0,
    "DBP": 58.0,
    "Resp": 21.0,
    "FiO2": 0.4,
    "WBC": 11.8,
    "PaCO2": 33.0,
    "Platelets": 120.0,
    "Bilirubin_total": 1.9,
    "Creatinine": 1.6,
    "BUN": 25.0,
}


def some_course(random: np.random.Generator) -> Course:
    """Up to 40 hours of a stay, each variable charted by its own habit."""
    hours = int(random.integers(1, 41))
    course: Course = {}
    for name in VARIABLES:
        habit = random.choice([0.0, 0.05, 0.3, 0.9])
        for hour in range(1 - hours, 1):
            if random.random() < habit:
                typical = TYPICAL.get(name, 20.0)
                values = typical * random.normal(1, 0.15, int(random.integers(1, 4)))
                rounded = [float(np.float32(value)) for value in values.round(2)]
                course.setdefault(name, {})[hour] = rounded
    return course


def as_arrays(
    courses: list[Course], ages: list[float], sexes: list[float]
) -> tuple[HourGrid, Standing]:
    shape = (len(courses), HISTORY_HOURS, len(TREND_VARIABLES))
    grid = HourGrid(np.zeros(shape), np.zeros(shape), *(np.full(shape, NAN) for _ in range(3)))
    wide = (len(courses), len(VARIABLES))
    standing = Standing(
        np.full(wide, NAN), np.full(wide, NAN), np.zeros(wide), np.array(ages), np.array(sexes)
    )
    for row, course in enumerate(courses):
        for place, name in enumerate(VARIABLES):
            hours = course.get(name)
            if hours is None:
                continue
            newest = max(hours)
            standing.last[row, place] = hours[newest][-1]
            standing.last_age_h[row, place] = -newest
            standing.count[row, place] = len(hours)
            if name not in TREND_VARIABLES:
                continue
            column = TREND_VARIABLES.index(name)
            for hour, values in hours.items():
                if hour > -HISTORY_HOURS:
                    at = row, HISTORY_HOURS - 1 + hour, column
                    grid.count[at], grid.total[at] = len(values), sum(values)
                    grid.lowest[at], grid.highest[at] = min(values), max(values)
                    grid.last[at] = values[-1]
    return grid, standing


def oracle(course: Course, age: float, sex: float) -> dict[str, float]:
    """Every feature by its definition."""
    row: dict[str, float] = {"age": age, "sex": sex}
    for name in VARIABLES:
        hours = course.get(name, {})
        row[f"{name}_last"] = hours[max(hours)][-1] if hours else NAN
        row[f"{name}_age"] = float(-max(hours)) if hours else NAN
        row[f"{name}_count"] = float(len(hours))
    for name in TREND_VARIABLES:
        for window in WINDOWS_H:
            for kind, value in trend(course.get(name, {}), window).items():
                row[f"{name}_{kind}_{window}h"] = value
        row[f"{name}_deviation_24h"] = row[f"{name}_last"] - row[f"{name}_mean_24h"]
        for back in CHANGES_H:
            earlier = [h for h in course.get(name, {}) if -HISTORY_HOURS < h <= -back]
            stood = course[name][max(earlier)][-1] if earlier else NAN
            row[f"{name}_change_{back}h"] = row[f"{name}_last"] - stood
    row |= derived(row)
    return row


def trend(hours: dict[int, list[float]], window: int) -> dict[str, float]:
    inside = {hour: values for hour, values in hours.items() if hour > -window}
    if not inside:
        return {"lowest": NAN, "highest": NAN, "mean": NAN, "slope": NAN, "hours": 0.0}
    means = {
        hour: float(np.float32(sum(values)) / np.float32(len(values)))
        for hour, values in inside.items()
    }
    mean_t, mean_y = sum(means) / len(means), sum(means.values()) / len(means)
    spread = sum((hour - mean_t) ** 2 for hour in means)
    lean = sum((hour - mean_t) * (mean - mean_y) for hour, mean in means.items())
    return {
        "lowest": min(min(values) for values in inside.values()),
        "highest": max(max(values) for values in inside.values()),
        "mean": mean_y,
        "slope": lean / spread if len(means) > 1 else NAN,
        "hours": float(len(means)),
    }


def derived(row: dict[str, float]) -> dict[str, float]:
    last = {name: row[f"{name}_last"] for name in VARIABLES}
    age = {name: row[f"{name}_age"] for name in VARIABLES}

    def ratio(above: str, below: str) -> float:
        return last[above] / last[below] if last[below] > 0 else NAN

    def points(value: float, passes: Callable[[float, float], bool], *bounds: float) -> float:
        if math.isnan(value):
            return NAN
        return float(sum(passes(value, float(np.float32(bound))) for bound in bounds))

    def below(value: float, bound: float) -> bool:
        return value < bound

    def reaches(value: float, bound: float) -> bool:
        return value >= bound

    oxygen = float(np.float32(ratio("O2Sat", "FiO2")))
    sofa = {
        "sofa_respiration": points(oxygen, below, 512, 357, 214, 89),
        "sofa_coagulation": points(last["Platelets"], below, 150, 100, 50, 20),
        "sofa_liver": points(last["Bilirubin_total"], reaches, 1.2, 2, 6, 12),
        "sofa_cardiovascular": points(row["MAP_lowest_24h"], below, 70),
        "sofa_renal": points(last["Creatinine"], reaches, 1.2, 2, 3.5, 5),
    }
    return sofa | {
        "shock_index": ratio("HR", "SBP"),
        "modified_shock_index": ratio("HR", "MAP"),
        "pulse_pressure": last["SBP"] - last["DBP"],
        "spo2_fio2": ratio("O2Sat", "FiO2"),
        "bun_creatinine": ratio("BUN", "Creatinine"),
        "sirs_met": float(
            (last["Temp"] > 38 or last["Temp"] < 36)
            + (last["HR"] > 90)
            + (last["Resp"] > 20 or last["PaCO2"] < 32)
            + (last["WBC"] > 12 or last["WBC"] < 4)
        ),
        "qsofa_partial": float((last["Resp"] >= 22) + (last["SBP"] <= 100)),
        "sofa_partial": sum(term for term in sofa.values() if not math.isnan(term)),
        "vitals_this_hour": float(sum(age[name] < 1 for name in VITALS)),
        "labs_6h": float(sum(age[name] < 6 for name in LABS)),
        "labs_24h": float(sum(age[name] < 24 for name in LABS)),
    }


def some_rows(count: int, seed: int) -> tuple[list[Course], list[float], list[float]]:
    random = np.random.default_rng(seed)
    courses = [some_course(random) for _ in range(count)]
    ages = [float(random.choice([NAN, 45.0, 71.5])) for _ in courses]
    sexes = [float(random.choice([NAN, 0.0, 1.0])) for _ in courses]
    return courses, ages, sexes


def test_each_feature_is_what_its_definition_says() -> None:
    courses, ages, sexes = some_rows(200, 7)
    found = compute(*as_arrays(courses, ages, sexes))
    for row, course in enumerate(courses):
        expected = oracle(course, ages[row], sexes[row])
        assert set(expected) == set(NAMES)
        wanted = np.array([expected[name] for name in NAMES])
        np.testing.assert_allclose(found[row], wanted, rtol=1e-6, atol=1e-6, equal_nan=True)


def test_the_oracle_meets_every_feature_both_known_and_unknown() -> None:
    found = compute(*as_arrays(*some_rows(200, 7)))
    counting = {"count", "hours"}
    always_known = {"sirs_met", "qsofa_partial", "sofa_partial", "vitals_this_hour"}
    for column, feature in enumerate(FEATURES):
        assert not np.isnan(found[:, column]).all(), feature.name
        assert len(np.unique(found[:, column])) > 1, feature.name
        if feature.kind in counting or feature.name in always_known | {"labs_6h", "labs_24h"}:
            assert not np.isnan(found[:, column]).any(), feature.name
        else:
            assert np.isnan(found[:, column]).any(), feature.name


@cache
def many_rows() -> tuple[HourGrid, Standing, bytes]:
    """Rows, and what they give in one go."""
    grid, standing = as_arrays(*some_rows(512, 11))
    return grid, standing, compute(grid, standing).tobytes()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 511])
def test_a_row_has_the_same_bits_in_a_batch_of_any_size(size: int) -> None:
    grid, standing, whole = many_rows()
    parts = [
        compute(
            HourGrid(*(array[start : start + size] for array in grid)),
            Standing(*(array[start : start + size] for array in standing)),
        )
        for start in range(0, 512, size)
    ]
    assert np.concatenate(parts).tobytes() == whole


def test_a_row_has_the_same_bits_among_other_rows_and_in_another_layout() -> None:
    grid, standing = as_arrays(*some_rows(256, 13))
    whole = compute(grid, standing)
    order = np.random.default_rng(1).permutation(256)
    packed = np.stack([array[order].astype(np.float32) for array in grid], axis=2)
    shuffled = compute(
        HourGrid(*(packed[:, :, part] for part in range(5))),
        Standing(*(array[order].astype(np.float32) for array in standing)),
    )
    assert shuffled.tobytes() == whole[order].tobytes()


@given(value=st.floats(0.5, 300, width=32), hours=st.integers(2, 24))
@settings(max_examples=50, deadline=None)
def test_a_flat_course_has_slope_and_deviation_zero(value: float, hours: int) -> None:
    course: Course = {"HR": {-hour: [value] for hour in range(hours)}}
    (row,) = compute(*as_arrays([course], [NAN], [NAN]))
    assert row[NAMES.index("HR_slope_24h")] == 0
    assert row[NAMES.index("HR_deviation_24h")] == 0
    assert row[NAMES.index("HR_mean_24h")] == np.float32(value)


def test_an_hour_weighs_the_same_however_often_it_was_charted() -> None:
    once: Course = {"HR": {-2: [80.0], 0: [100.0]}}
    often: Course = {"HR": {-2: [80.0] * 12, 0: [100.0] * 3}}
    first, second = compute(*as_arrays([once, often], [NAN, NAN], [NAN, NAN]))
    assert first.tobytes() == second.tobytes()


def test_nothing_charted_gives_no_value_and_no_warning() -> None:
    (row,) = compute(*as_arrays([{}], [NAN], [NAN]))
    assert np.isnan(row[NAMES.index("HR_last")])
    assert row[NAMES.index("HR_hours_24h")] == 0
    assert row[NAMES.index("sofa_partial")] == 0


def test_every_feature_has_one_name_and_a_unit() -> None:
    assert len(set(NAMES)) == len(FEATURES) >= 100
    assert all(feature.unit for feature in FEATURES)
    time_of_stay = {"ICULOS", "Unit1", "Unit2", "HospAdmTime"}
    assert not time_of_stay & {name.split("_")[0] for name in NAMES}
