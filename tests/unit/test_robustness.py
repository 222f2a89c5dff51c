"""Stays charted otherwise, models that meet them, and thresholds from unlabelled scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stays import made_up
from typer.testing import CliRunner

from services.cli.main import app
from services.cli.robustness import table
from services.core.stats.budget import threshold_within
from services.core.stats.calibration import Line
from services.core.stats.utility import normalized, stay_utilities
from services.core.vitals import VARIABLE_INDEX, VITALS
from services.training.booster import Recipe
from services.training.charting import charted_otherwise
from services.training.matrix import matrix
from services.training.meeting import Judgement, Meeting, measured
from services.training.perturb import CHANGES
from services.training.robustness import SETS, robustness
from services.training.source import TIME_COLUMNS, Stays, read, silent
from services.training.study import course

BEDSIDE = len(VITALS)
SMALL = [replace(columns, recipe=Recipe(2)) for columns in SETS]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patients of two types of unit, every third of neither."""
    table, units = made_up(120, seed=11), {"Unit1": 0, "Unit2": 1}
    number = table["patient_id"].str.slice(8).cast(int).to_numpy() // 2 % 3
    for name, unit in units.items():
        table = table.with_columns(pl.Series(name, np.where(number == unit, 1.0, 0.0)))
    # What is made up is of the size of a heart rate; this is of the size of a temperature.
    table = table.with_columns(Temp=(pl.col("Temp") - 80) / 10 + 37)
    table.write_parquet(path := tmp_path_factory.mktemp("data") / "stays.parquet")
    return path


@pytest.fixture(scope="module")
def stays(data: Path) -> Stays:
    return read(data)


def changed(stays: Stays, what: str) -> Stays:
    return CHANGES[what](stays, np.random.default_rng(0)).stays


# --- changes


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_touches_no_label_no_patient_and_not_the_stays_it_was_given(
    stays: Stays, what: str
) -> None:
    before = stays.values.copy()
    after, kept = CHANGES[what](stays, np.random.default_rng(0))
    np.testing.assert_array_equal(stays.values, before)
    np.testing.assert_array_equal(after.label, stays.label[kept])
    np.testing.assert_array_equal(after.sex, stays.sex[kept])
    assert set(after.ids) <= set(stays.ids)
    assert len(after.hour) == after.starts[-1] == np.count_nonzero(kept)
    assert (after.hour[after.starts[:-1]] == 0).all()


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_touches_what_it_names_and_nothing_else(stays: Stays, what: str) -> None:
    kept = CHANGES[what](stays, np.random.default_rng(0)).kept
    after, before = changed(stays, what).values, stays.values[kept]
    same = (after == before) | (np.isnan(after) & np.isnan(before))
    touched = set(np.flatnonzero(~same.all(axis=0)).tolist())
    ever = set(np.flatnonzero((~np.isnan(stays.values)).any(axis=0)).tolist())
    vitals = ever & set(range(BEDSIDE))
    assert {VARIABLE_INDEX["Temp"], VARIABLE_INDEX["DBP"]} < vitals < ever
    wanted = {
        "half of the labs missing": ever - vitals,
        "vitals charted twice as often": vitals,
        "vitals charted half as often": vitals,
        "ICULOS + 24 h": set(),
        "first 24 h not seen": set(),
        "DBP missing 20 points more": {VARIABLE_INDEX["DBP"]},
        "DBP missing 20 points less": {VARIABLE_INDEX["DBP"]},
        "Temp every 4 h": {VARIABLE_INDEX["Temp"]},
    }
    assert touched == wanted[what]


def measured_hours(stays: Stays, column: int) -> int:
    return int(np.count_nonzero(~np.isnan(stays.values[:, column])))


def test_half_as_often_leaves_the_odd_values_of_each_patient(stays: Stays) -> None:
    after = changed(stays, "vitals charted half as often")
    for start, end in zip(stays.starts[:-1], stays.starts[1:], strict=True):
        for column in range(BEDSIDE):
            before = stays.values[start:end, column]
            left = after.values[start:end, column]
            rows = np.flatnonzero(~np.isnan(before))[::2]
            assert np.flatnonzero(~np.isnan(left)).tolist() == rows.tolist()
            assert (left[rows] == before[rows]).all()


def test_twice_as_often_repeats_what_was_last_charted_and_invents_nothing(stays: Stays) -> None:
    after = changed(stays, "vitals charted twice as often")
    for column in range(BEDSIDE):
        before = measured_hours(stays, column)
        assert before <= measured_hours(after, column) <= 2 * before
    for start, end in zip(stays.starts[:-1], stays.starts[1:], strict=True):
        last = np.float32(np.nan)
        for row in range(start, end):
            value = stays.values[row, 0]
            last = last if np.isnan(value) else value
            assert np.isnan(after.values[row, 0]) or after.values[row, 0] == last


def test_shares_of_labs_and_diastolic_pressures_change_by_what_is_said(stays: Stays) -> None:
    lab, dbp, hours = VARIABLE_INDEX["Glucose"], VARIABLE_INDEX["DBP"], len(stays.hour)
    halved = changed(stays, "half of the labs missing")
    assert measured_hours(halved, lab) == pytest.approx(measured_hours(stays, lab) / 2, rel=0.2)
    rarer, oftener = (changed(stays, f"DBP missing 20 points {way}") for way in ("more", "less"))
    share = measured_hours(stays, dbp) / hours
    assert measured_hours(rarer, dbp) / hours == pytest.approx(share - 0.2, abs=0.03)
    assert measured_hours(oftener, dbp) / hours == pytest.approx(share + 0.2, abs=0.03)


def test_temperatures_in_rounds_are_the_last_of_four_hours(stays: Stays) -> None:
    column = VARIABLE_INDEX["Temp"]
    after = changed(stays, "Temp every 4 h").values[:, column]
    for start, end in zip(stays.starts[:-1], stays.starts[1:], strict=True):
        for row in range(start, end):
            hour = row - start
            window = stays.values[max(start, row - 3) : row + 1, column]
            known = window[~np.isnan(window)]
            if hour % 4 or not len(known):
                assert np.isnan(after[row])
            else:
                assert after[row] == known[-1]


def test_a_clock_that_runs_ahead_is_all_that_changes(stays: Stays) -> None:
    moved = changed(stays, "ICULOS + 24 h").context - stays.context
    assert (moved[:, TIME_COLUMNS.index("ICULOS")] == 24).all()
    assert not np.delete(moved, TIME_COLUMNS.index("ICULOS"), axis=1).any()


# --- other hands


def test_other_hands_leave_values_out_and_repeat_vital_signs_but_invent_none(stays: Stays) -> None:
    after = charted_otherwise(stays, np.random.default_rng(0)).values
    for start, end in zip(stays.starts[:-1], stays.starts[1:], strict=True):
        for column in np.flatnonzero((~np.isnan(stays.values)).any(axis=0)):
            last = np.float32(np.nan)
            for row in range(start, end):
                value = after[row, column]
                known = np.isnan(value) or value == stays.values[row, column]
                assert known or (column < BEDSIDE and value == last)
                last = last if np.isnan(value) else value


def test_other_hands_chart_each_patient_in_a_measure_of_their_own(stays: Stays) -> None:
    before, after = (
        np.add.reduceat(~np.isnan(values[:, BEDSIDE:]), stays.starts[:-1]).sum(axis=1)
        for values in (stays.values, charted_otherwise(stays, np.random.default_rng(0)).values)
    )
    share = after / before
    assert 0.35 < np.mean(share == 1) < 0.65
    assert 0.2 < share.min() < 0.4


# --- the budget


@given(
    st.lists(st.floats(0, 1, width=16), min_size=1, max_size=60),
    st.integers(1, 100).map(lambda percent: percent / 100),
)
def test_a_budget_is_kept_and_no_lower_threshold_would_keep_it(
    scores: list[float], share: float
) -> None:
    score = np.array(scores)
    threshold = threshold_within(score, share)
    assert np.mean(score >= threshold) <= share + 1e-9
    lower = score[score < threshold]
    if len(lower):
        assert np.mean(score >= lower.max()) > share


@given(
    st.lists(st.floats(-20, 20, width=16), min_size=1, max_size=60),
    st.floats(-5, 5, width=16),
    st.integers(1, 20).map(lambda twentieths: twentieths / 20),
)
def test_scores_that_shift_take_their_threshold_along(
    scores: list[float], shift: float, share: float
) -> None:
    score = np.array(scores)
    before = score >= threshold_within(score, share)
    np.testing.assert_array_equal(score + shift >= threshold_within(score + shift, share), before)


@pytest.mark.parametrize("share", [0, -0.1, 1.1, np.nan])
def test_a_budget_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        threshold_within(np.array([0.5]), share)
    with pytest.raises(ValueError, match="scores"):
        threshold_within(np.array([]), 0.5)


# --- meetings


def judged(stays: Stays, shift: float = 0.0) -> Judgement:
    noise = np.random.default_rng(2).normal(0, 1, len(stays.hour))
    return Judgement(2.0 * stays.label + noise + shift, Line(-2.0, 0.8), 1.0)


def test_nothing_is_lost_where_nothing_changes(stays: Stays) -> None:
    home = judged(stays)
    found = measured(Meeting(stays, home, home))
    assert found["utility"]["lost"] == 0
    assert found["utility"]["interval"] == [0, 0]
    assert found["utility"]["budget"] == pytest.approx(found["utility"]["home"], abs=0.05)
    oracle = stay_utilities(home.alert, stays.label, stays.starts).sum(axis=0)
    assert found["utility"]["home"] == pytest.approx(float(normalized(oracle)))


def test_a_budget_wins_back_what_a_shift_of_all_scores_lost(stays: Stays) -> None:
    home = judged(stays)
    found = measured(Meeting(stays, home, judged(stays, shift=-3.0)))
    assert found["alert_share"]["met"] < found["alert_share"]["home"] / 3
    assert found["auroc"]["met"] == pytest.approx(found["auroc"]["home"])
    assert found["calibration_slope"]["met"] == pytest.approx(found["calibration_slope"]["home"])
    low, high = found["utility"]["interval"]
    assert 0.1 < low < found["utility"]["lost"] < high
    assert found["utility"]["budget"] == pytest.approx(found["utility"]["home"], abs=0.05)


def test_classes_that_a_line_can_tell_apart_have_no_slope(stays: Stays) -> None:
    clear = judged(stays)._replace(margin=np.where(stays.label == 1, 1.0, -1.0))
    found = measured(Meeting(stays, clear, clear))
    assert found["calibration_slope"] == {"home": None, "met": None}


def test_every_set_meets_every_change_and_the_other_unit(stays: Stays) -> None:
    told = robustness(course(stays, matrix(stays)), sets=SMALL, say=silent)
    assert told["schema"] == "vigil.robustness/1"
    assert set(told["sets"]) == {"full", "shipped", "strict"}
    meetings = {f"made in {a}, met {b}" for a, b in (("Unit1", "Unit2"), ("Unit2", "Unit1"))}
    for name, found in told["sets"].items():
        assert set(found) == {*CHANGES, *meetings}
        clock = found["ICULOS + 24 h"]["utility"]
        assert name == "full" or clock["met"] == clock["home"]
        units = (
            found[f"made in {a}, met {b}"]["patients"]
            for a, b in (("Unit1", "Unit2"), ("Unit2", "Unit1"))
        )
        assert sum(units) == 80
        lines = table(name, found).splitlines()
        assert len(lines) == 2 + len(found)
        assert len({line.count("|") for line in lines}) == 1


def test_units_of_which_nothing_is_known_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIGIL_HOME", str(tmp_path))
    made_up(40).write_parquet(tmp_path / "one.parquet")
    done = CliRunner().invoke(app, ["robustness", "--data", str(tmp_path / "one.parquet")])
    assert done.exit_code == 5
    assert "Unit2" in done.stderr


def test_columns_that_see_no_patient_cannot_be_asked_for() -> None:
    done = CliRunner().invoke(
        app, ["robustness", "--data", "any.parquet", "--columns", "time_only"]
    )
    assert done.exit_code == 2
    assert "strict" in done.stderr
