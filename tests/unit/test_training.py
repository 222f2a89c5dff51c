"""From recorded stays to a bundle: read right, judged fairly, made again to the byte."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from stays import COLUMNS, made_up, write_parquet, write_psv

from services.cli import robustness as robustness_command
from services.cli import train as train_command
from services.core.errors import CommandError, ExitCode
from services.core.features import FEATURES, HISTORY_HOURS, TREND_VARIABLES
from services.core.policy import Policy
from services.core.stats.calibration import fit_line, sigmoid
from services.core.stats.drift import SMALLEST_K
from services.core.stats.nulls import Null
from services.core.stats.sketches import SMALLEST_CELL
from services.core.stats.utility import best_threshold, hours_from_onset
from services.core.support import Support
from services.core.vitals import VARIABLE_INDEX, VARIABLES
from services.runtime.bundle import FILES, MANIFEST, load
from services.training import pipeline, study
from services.training.booster import Recipe, lessons, margins
from services.training.evaluate import evaluate
from services.training.folds import FOLDS, THINNING, drawn, folds_of, septic, thinned
from services.training.matrix import batches, matrix
from services.training.pipeline import Trained, train
from services.training.robustness import SETS
from services.training.source import TIME_COLUMNS, Stays, read

PATIENTS = 100
SMALL = [replace(columns, recipe=Recipe(6)) for columns in study.STUDY]
SHIPPED = [columns for columns in SMALL if columns.name == "shipped"]
MADE_BY: dict[str, Any] = {"git_commit": "0" * 40, "code_sha256": "0" * 64}
NAMES = [feature.name for feature in FEATURES]


def quiet(_: str) -> None:
    """Nobody is at the terminal."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquet(tmp_path_factory.mktemp("data") / "stays.parquet", PATIENTS)


@pytest.fixture(scope="module")
def stays(data: Path) -> Stays:
    return read(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models") / "made-up" / "0.1.0"


@pytest.fixture(scope="module")
def trained(data: Path, folder: Path) -> Trained:
    return train(data, folder, made_by=MADE_BY, sets=SMALL, say=quiet)


@pytest.fixture(scope="module")
def course(stays: Stays) -> study.Course:
    return study.course(stays, matrix(stays))


# --- reading


def test_a_folder_of_psv_files_reads_like_the_same_stays_in_parquet(tmp_path: Path) -> None:
    table = made_up(6, seed=4)
    table.sample(fraction=1, shuffle=True, seed=1).write_parquet(tmp_path / "stays.parquet")
    first, second = read(tmp_path / "stays.parquet"), read(write_psv(tmp_path / "psv", table))
    for name in ("starts", "hour", "values", "age", "sex", "label", "context"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.ids == second.ids
    assert first.digest != second.digest


def test_values_that_the_stream_keeps_from_the_model_are_not_learned_from(tmp_path: Path) -> None:
    table = made_up(1).with_columns(
        HR=pl.lit(301.0), Temp=pl.lit(31.0), SBP=pl.lit(70.0), DBP=pl.lit(90.0), MAP=pl.lit(60.0)
    )
    table.write_parquet(tmp_path / "odd.parquet")
    values = read(tmp_path / "odd.parquet").values
    for name in ("HR", "Temp", "SBP", "DBP"):
        assert np.isnan(values[:, VARIABLE_INDEX[name]]).all()
    assert (values[:, VARIABLE_INDEX["MAP"]] == 60).all()


def test_ages_are_read_as_the_stream_tells_them_and_nobody_is_older_than_the_oldest(
    tmp_path: Path,
) -> None:
    ages = [17.0, 89.9, 90.0, 90.1, 100.0, None]
    told = dict(zip(sorted(set(made_up(6)["patient_id"])), ages, strict=True))
    table = made_up(6).with_columns(
        Age=pl.col("patient_id").replace_strict(told, return_dtype=pl.Float64)
    )
    table.write_parquet(tmp_path / "old.parquet")
    for path in (tmp_path / "old.parquet", write_psv(tmp_path / "psv", table)):
        stays = read(path)
        found = stays.age[stays.starts[:-1]]
        wanted = np.array([17.0, 89.9, 90.0, 90.0, 90.0, np.nan], np.float32)
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    "fault",
    [
        pl.DataFrame({"patient_id": ["a"]}),
        made_up(1).drop("Lactate"),
        made_up(1).drop("patient_id"),
        made_up(1).clear(),
        made_up(1).with_columns(ICULOS=pl.lit(3)),
        made_up(1).with_columns(ICULOS=pl.col("ICULOS") + 0.5 * (pl.col("ICULOS") % 2)),
        made_up(1).with_columns(SepsisLabel=pl.lit(2)),
        made_up(1).with_columns(HR=pl.lit("high")),
    ],
)
def test_data_of_another_shape_are_refused(tmp_path: Path, fault: pl.DataFrame) -> None:
    fault.write_parquet(tmp_path / "bad.parquet")
    with pytest.raises(CommandError) as caught:
        read(tmp_path / "bad.parquet")
    assert caught.value.exit_code is ExitCode.REFUSED


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no table")
    with pytest.raises(CommandError) as caught:
        read(tmp_path / "text")
    assert caught.value.exit_code is ExitCode.REFUSED
    with pytest.raises(CommandError) as caught:
        read(tmp_path / "nothing")
    assert caught.value.exit_code is ExitCode.CONFIGURATION


# --- the hour grid


def gapped() -> pl.DataFrame:
    """Stays in which some hours have no row."""
    return made_up(8, seed=2).filter(pl.col("ICULOS") % 7 != 3)


def test_the_grid_of_a_row_holds_the_hours_up_to_it_and_no_other(tmp_path: Path) -> None:
    table = gapped()
    table.write_parquet(tmp_path / "gaps.parquet")
    stays = read(tmp_path / "gaps.parquet")
    row = 0
    for grid, standing in batches(stays, size=37):
        for place in range(len(grid.count)):
            patient = np.searchsorted(stays.starts, row, side="right") - 1
            past = slice(stays.starts[patient], row + 1)
            hours, values = stays.hour[past] - stays.hour[row], stays.values[past]
            for column, name in enumerate(TREND_VARIABLES):
                wanted = np.full(HISTORY_HOURS, np.nan, np.float32)
                for hour, value in zip(hours, values[:, VARIABLE_INDEX[name]], strict=True):
                    if hour > -HISTORY_HOURS:
                        wanted[HISTORY_HOURS - 1 + hour] = value
                np.testing.assert_array_equal(grid.last[place, :, column], wanted)
                assert (grid.count[place, :, column] == ~np.isnan(wanted)).all()
            for column in range(len(VARIABLES)):
                measured = np.flatnonzero(~np.isnan(values[:, column]))
                assert standing.count[place, column] == len(measured)
                if len(measured):
                    assert standing.last[place, column] == values[measured[-1], column]
                    assert standing.last_age_h[place, column] == -hours[measured[-1]]
                else:
                    assert np.isnan(standing.last[place, column])
                    assert np.isnan(standing.last_age_h[place, column])
            row += 1
    assert row == len(stays.hour)


def test_what_comes_later_changes_no_earlier_row(tmp_path: Path) -> None:
    table = made_up(3, seed=5)
    table.write_parquet(tmp_path / "whole.parquet")
    table.filter(pl.col("ICULOS") <= 15).write_parquet(tmp_path / "early.parquet")
    whole, early = read(tmp_path / "whole.parquet"), read(tmp_path / "early.parquet")
    assert matrix(whole)[whole.hour < 15].tobytes() == matrix(early).tobytes()


# --- fair judgement


def test_a_patient_s_fold_does_not_depend_on_the_company() -> None:
    names = tuple(f"p{number}" for number in range(1000))
    assert (folds_of(names)[::7] == folds_of(names[::7])).all()
    assert np.bincount(folds_of(names), minlength=FOLDS).min() > 150


def test_a_share_of_the_patients_is_the_same_in_any_company_and_of_every_fold() -> None:
    names = tuple(f"p{number}" for number in range(3000))
    few, more = drawn(names, 0.2), drawn(names, 0.4)
    assert more.mean() == pytest.approx(0.4, abs=0.03)
    assert (more | ~few).all()
    assert (drawn(names[::3], 0.4) == more[::3]).all()
    assert np.bincount(folds_of(names)[more], minlength=FOLDS).min() > 180
    assert drawn(names, 1).all()


def test_thinning_keeps_every_septic_hour_and_one_in_three_of_the_others(stays: Stays) -> None:
    kept, sick = thinned(stays), septic(stays)[stays.patient]
    assert kept[sick].all()
    assert kept[~sick].mean() == pytest.approx(1 / THINNING, abs=0.02)


def test_hours_are_weighed_by_what_an_alert_is_worth() -> None:
    worth = np.array([[0.0, -0.05], [-0.5, 0.5], [0.0, 0.0]])
    target, weight = lessons(worth, np.zeros(3, np.bool_))
    assert target.tolist() == [False, True, False]
    assert weight.tolist() == [0.05, 1.0, 0.0]


def test_an_early_alert_is_taught_as_won_at_the_weight_at_which_it_loses() -> None:
    worth = np.array([[0.0, -0.05], [-0.5, 0.5], [0.0, 0.0]])
    target, weight = lessons(worth, np.ones(3, np.bool_))
    assert target.tolist() == [True, True, False]
    assert weight.tolist() == [0.05, 1.0, 0.0]


@pytest.mark.parametrize("columns", study.STUDY, ids=lambda columns: columns.name)
def test_only_strict_columns_are_taught_to_be_early_and_only_for_so_many_hours_of_the_septic(
    course: study.Course, columns: study.Columns
) -> None:
    taught = study.to_learn(course, columns, course.taught)
    plain = study.to_learn(course, replace(columns, early_h=0.0), course.taught)
    np.testing.assert_array_equal(taught.weight, plain.weight)
    onset = hours_from_onset(course.stays.label, course.stays.starts)[course.taught]
    early = (onset >= -48) & (onset < -12) if columns.name == "strict" else np.zeros_like(onset)
    np.testing.assert_array_equal(taught.target, plain.target | early.astype(np.bool_))
    assert (taught.target != plain.target).any() == (columns.name == "strict")


def test_nothing_about_a_fold_but_its_own_inputs_reaches_its_alerts(course: study.Course) -> None:
    before = study.judge(course, SHIPPED[0], say=quiet)
    own = course.fold == 2
    label = np.where(own, 0, course.stays.label).astype(np.int8)
    turned = study.course(course.stays._replace(label=label), course.features)
    after = study.judge(turned, SHIPPED[0], say=quiet)
    np.testing.assert_array_equal(after.margin[own], before.margin[own])
    np.testing.assert_array_equal(after.score[own], before.score[own])
    np.testing.assert_array_equal(after.alert[own], before.alert[own])
    assert (after.margin[~own] != before.margin[~own]).any()


def test_stays_from_which_nothing_can_be_learned_are_refused(tmp_path: Path) -> None:
    made_up(20).with_columns(SepsisLabel=pl.lit(0)).write_parquet(tmp_path / "well.parquet")
    with pytest.raises(CommandError) as caught:
        train(
            tmp_path / "well.parquet",
            tmp_path / "m" / "1",
            made_by=MADE_BY,
            sets=SHIPPED,
            say=quiet,
        )
    assert caught.value.exit_code is ExitCode.REFUSED


def test_the_shipped_calibration_and_threshold_come_from_all_folds(course: study.Course) -> None:
    judged = study.judge(course, SHIPPED[0], say=quiet)
    line = fit_line(judged.margin[course.counted], course.stays.label[course.counted])
    threshold = best_threshold(judged.margin, course.worth)
    assert judged.line == line
    served = float(sigmoid(np.array(line.intercept + line.slope * threshold)))
    assert judged.threshold == pytest.approx(served, abs=1e-6)


def test_the_four_sets_of_columns_see_what_they_may_see() -> None:
    full, shipped, strict, time = (columns.names for columns in study.STUDY)
    context = ["ICULOS", "Unit1", "Unit2", "HospAdmTime"]
    assert shipped == NAMES
    assert full == NAMES + context
    assert time == context
    assert set(shipped) - set(strict) == {f"{name}_count" for name in VARIABLES}


def test_strict_columns_cap_ages_and_leave_the_rest(course: study.Course) -> None:
    strict = study.STUDY[2]
    found = study.inputs(strict, course.features, course.stays.context)
    for column, name in enumerate(strict.names):
        given = course.features[:, NAMES.index(name)]
        wanted = np.minimum(given, 24) if name.endswith("_age") else given
        np.testing.assert_array_equal(found[:, column], wanted)
    ages = [column for column, name in enumerate(NAMES) if name.endswith("_age")]
    assert np.nanmax(course.features[:, ages]) > 24


# --- recipes


def test_the_shipped_columns_alone_learn_from_what_other_hands_charted(
    course: study.Course,
) -> None:
    emptied = course._replace(by_other_hands=np.full_like(course.by_other_hands, np.nan))
    for columns in SMALL:
        same = study.learn(course, columns) == study.learn(emptied, columns)
        assert same == (columns.name != "shipped")


@pytest.mark.parametrize("worse", [1, -1])
def test_what_is_clinically_worse_never_lowers_a_signed_margin(
    course: study.Course, worse: int
) -> None:
    strict = study.STUDY[2]
    finer = Recipe(30, {**strict.recipe.others, "min_data_in_leaf": 20})
    learned = replace(strict, recipe=finer)
    model = study.learn(course, learned)
    rows = study.inputs(learned, course.features, course.stays.context)[::7]
    before, moved = margins(model, rows), 0
    for column in np.flatnonzero(np.array(learned.signs) == worse):
        for step in (0.5, 5.0, 500.0):
            worsened = rows.copy()
            worsened[:, column] += np.float32(worse * step)
            after = margins(model, worsened)
            assert (after >= before).all()
            moved += int((after > before).sum())
    assert moved


def test_only_strict_columns_are_signed_and_no_time_place_trend_or_habit_is() -> None:
    signed = {columns.name: columns.signs for columns in study.STUDY if columns.signed}
    assert set(signed) == {"strict"}
    strict = study.STUDY[2]
    signs = dict(zip(strict.names, signed["strict"] or [], strict=True))
    assert signs["Lactate_last"] == signs["HR_highest_24h"] == signs["sofa_renal"] == 1
    assert signs["MAP_lowest_6h"] == signs["spo2_fio2"] == signs["Platelets_last"] == -1
    kinds = {feature.name: feature.kind for feature in FEATURES}
    levels = {"last", "lowest", "highest", "mean", "derived"}
    assert {kinds[name] for name, each in signs.items() if each} == levels
    for name in ("Temp_last", "WBC_last", "vitals_this_hour", "labs_24h", "age", "HR_change_6h"):
        assert signs[name] == 0
    assert replace(strict, time=True, signed=True).signs == [*signs.values(), 0, 0, 0, 0]


# --- the bundle


AGAIN = """
import json, sys
from dataclasses import replace
from pathlib import Path
from services.training.booster import Recipe
from services.training.pipeline import train
from services.training.study import SHIPPED

small = replace(SHIPPED, recipe=Recipe(6))
made_by = json.loads(sys.argv[3])
train(Path(sys.argv[1]), Path(sys.argv[2]), made_by=made_by, sets=[small], say=print)
"""


def test_the_same_command_gives_the_same_bytes(data: Path, tmp_path: Path) -> None:
    first, second = (tmp_path / attempt / "made-up" / "0.1.0" for attempt in "ab")
    digest = train(data, first, made_by=MADE_BY, sets=SHIPPED, say=quiet).digest
    environment = {**os.environ, "PYTHONHASHSEED": "99"}
    subprocess.run(
        [sys.executable, "-c", AGAIN, data, second, json.dumps(MADE_BY)],
        check=True,
        env=environment,
        timeout=500,
    )
    for name in (*FILES, MANIFEST):
        assert (second / name).read_bytes() == (first / name).read_bytes(), name
    assert load(second).digest == digest


def test_a_set_of_columns_alone_is_judged_as_beside_the_others(
    data: Path, trained: Trained
) -> None:
    assert pipeline.study(data, SMALL[2:3], say=quiet) == {"strict": trained.rows["strict"]}


def test_every_set_of_columns_can_be_asked_for_by_its_name() -> None:
    assert [str(each) for each in train_command.Sets] == [each.name for each in study.STUDY]
    assert {str(each) for each in robustness_command.Sets} == {each.name for each in SETS}


def test_a_model_that_learned_finds_the_sick(trained: Trained) -> None:
    shipped, time = (trained.rows[name]["all"] for name in ("shipped", "time_only"))
    assert shipped["auroc"]["value"] > 0.75
    assert shipped["utility"]["value"] > time["utility"]["value"]
    low, high = shipped["auroc"]["interval"]
    assert low < shipped["auroc"]["value"] < high


def test_a_bundle_names_no_patient_and_shows_no_small_cell(trained: Trained, folder: Path) -> None:
    for name in (*FILES, MANIFEST):
        assert b"patient-0" not in (folder / name).read_bytes(), name
    assert load(folder).digest == trained.digest
    reference = load(folder).reference
    assert reference["variables"]["EtCO2"]["kind"] == "absent"
    for part in (reference["variables"], reference["presence"]):
        for each in part.values():
            assert each["patients"] is None or each["patients"] >= SMALLEST_CELL
    nulls = msgspec.convert(reference["nulls"], dict[str, list[Null]])
    assert {"HR", "HR.presence"} <= set(nulls)
    assert {"EtCO2", "EtCO2.presence"}.isdisjoint(nulls)
    assert min(null.patients for each in nulls.values() for null in each) == SMALLEST_K


def test_a_bundle_holds_the_rule_by_which_it_abstains_from_strangers(
    trained: Trained, folder: Path
) -> None:
    del trained
    rule = msgspec.convert(load(folder).reference["support"], Support)
    assert rule.youngest is not None
    assert "HR" in rule.variables


def test_the_reference_counts_each_patient_once(
    trained: Trained, folder: Path, stays: Stays
) -> None:
    del trained
    for place, name in enumerate(VARIABLES):
        found = load(folder).reference["variables"][name]
        measured = stays.patient[~np.isnan(stays.values[:, place])]
        if found["kind"] == "binned":
            assert found["patients"] == len(set(measured.tolist()))
            assert sum(found["weight"]) == pytest.approx(found["patients"], abs=1e-4)
            assert found["edges"] == sorted(set(found["edges"]))


def test_a_bundle_holds_a_policy_that_the_service_reads(trained: Trained, folder: Path) -> None:
    del trained
    policy = msgspec.convert(load(folder).policy, Policy)
    assert 0 < policy.clear_below < policy.threshold < 1
    assert policy.persistence == 1


def test_the_card_says_what_it_is_for_what_it_rests_on_and_where_it_ends(
    trained: Trained, folder: Path, data: Path
) -> None:
    card = load(folder).card
    assert card["intended"]["not_for"]
    assert card["limits"]
    assert card["data"]["license"] == "not stated"
    assert card["data"]["patients"] == PATIENTS
    assert card["data"]["sha256"] == read(data).digest
    assert set(card["study"]) == {"full", "shipped", "strict", "time_only"}
    assert card["study"]["shipped"]["utility"] == trained.rows["shipped"]["all"]["utility"]
    assert set(card["subgroups"]) == {"sex", "age_band"}


def test_evaluation_of_the_training_data_says_so(
    trained: Trained, folder: Path, stays: Stays
) -> None:
    del trained
    report = evaluate(load(folder), stays)
    assert report["data"]["trained_on"]
    assert report["all"]["patients"] == PATIENTS
    sexes = report["subgroups"]["sex"]
    assert sum(group["patients"] for group in sexes.values()) == PATIENTS


def test_groups_under_eleven_patients_and_thin_evidence_show_no_figure(
    trained: Trained, folder: Path, tmp_path: Path
) -> None:
    del trained
    few = read(write_parquet(tmp_path / "few.parquet", 12, seed=8))
    report = evaluate(load(folder), few)
    assert not report["data"]["trained_on"]
    assert report["all"]["septic_patients"] == "<11"
    for name in ("auroc", "sensitivity", "ece"):
        assert report["all"][name] == {"value": None, "state": "insufficient"}
    for group in report["subgroups"]["age_band"].values():
        assert group == {"patients": "<11"} or group["patients"] >= SMALLEST_CELL


# --- the columns


def test_every_column_of_the_challenge_is_read_or_left_out_by_name(stays: Stays) -> None:
    assert set(COLUMNS) == {*VARIABLES, "Age", "Gender", "SepsisLabel", *TIME_COLUMNS}
    assert stays.context.shape == (len(stays.hour), len(TIME_COLUMNS))
