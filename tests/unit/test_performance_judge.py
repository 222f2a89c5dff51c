"""Performance from late labels against scikit-learn and the definitions, and what it takes."""

from functools import cache

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_hours import BEGIN, chain, hour_label, labelled, progress, ward, who
from numpy.typing import NDArray
from scipy.stats import binom, binomtest  # type: ignore[import-untyped]  # it ships no types
from sklearn.metrics import (  # type: ignore[import-untyped]  # it ships no types
    precision_score,
    recall_score,
)

from services.core.errors import Refusal
from services.core.events import Labelled, Measurement, State
from services.core.folds.labels import LabelFold
from services.core.judge.cells import hidden
from services.core.judge.labels import LabelJudge, measured
from services.core.judge.shares import LEAD_TIME, SHARES
from services.core.measures import MEASURES
from services.core.stats.intervals import median_ranks, percentile, poisson_weights
from services.core.stats.performance import lead
from services.core.windows import DAY, HOUR, Window

DAY_ONE = Window(BEGIN, BEGIN + DAY)
H = 6 * 3600
Float64 = NDArray[np.float64]


def found(
    measurements: list[Measurement], metric: str, unit: str, cohort: str = "all"
) -> Measurement:
    """The one statement about a metric."""
    [one] = [
        each
        for each in measurements
        if (each.metric, each.unit_of_analysis, each.cohort) == (metric, unit, cohort)
    ]
    return one


@cache
def crowd() -> tuple[list[Labelled], list[Measurement]]:
    """A day of 400 patients, and what is said of it."""
    told = ward(1, 400)
    return told, measured(told, DAY_ONE)


def cohort_of(told: list[Labelled], cohort: str) -> list[Labelled]:
    dimension, _, label = cohort.partition("=")
    return [
        each
        for each in told
        if cohort == "all" or each.cohorts[each.cohort_dimensions.index(dimension)] == label
    ]


def by_patient(told: list[Labelled], above: Float64, below: Float64) -> tuple[float, float]:
    """The bootstrap by its definition: each hour counts as often as its patient is drawn."""
    names = sorted({each.pseudonym for each in told})
    row = {name: number for number, name in enumerate(names)}
    drawn = poisson_weights(names)[[row[each.pseudonym] for each in told]].astype(float)
    return percentile((above @ drawn) / (below @ drawn))


COHORTS = ("all", "sex=female", "age_band=80+", "race=asian", "unit=SICU")


@pytest.mark.parametrize("cohort", COHORTS)
def test_hours_at_the_threshold_agree_with_scikit_learn_and_a_bootstrap_by_patient(
    cohort: str,
) -> None:
    told, stated = crowd()
    rows = [each for each in cohort_of(told, cohort) if each.now and each.now.label >= 0]
    label = np.array([each.now.label for each in rows if each.now])
    alert = np.array([each.now.above for each in rows if each.now]).astype(int)
    score = np.array([each.now.score for each in rows if each.now])
    oracles = {
        "sensitivity": (recall_score(label, alert), label * alert, label),
        "specificity": (recall_score(1 - label, 1 - alert), (1 - label) * (1 - alert), 1 - label),
        "ppv": (precision_score(label, alert), label * alert, alert),
        "calibration": (label.mean() / score.mean(), label, score),
    }
    for metric, (value, above, below) in oracles.items():
        one = found(stated, metric, "hour", cohort)
        assert one.value == pytest.approx(value, abs=1e-8)
        assert (one.low, one.high) == pytest.approx(by_patient(rows, above, below), abs=1e-8)
        assert one.hours == len(cohort_of(told, cohort))
    positive = {each.pseudonym for each in rows if each.now and each.now.label}
    assert found(stated, "sensitivity", "hour", cohort).positives == len(positive)


@pytest.mark.parametrize("cohort", COHORTS)
def test_alerts_per_100_patient_days_are_alerts_over_the_hours_that_were_watched(
    cohort: str,
) -> None:
    told, stated = crowd()
    rows = cohort_of(told, cohort)
    marks = {
        "hour": np.array([bool(each.now and each.now.raised) for each in rows]),
        "first_alert": np.array([bool(each.now and each.now.first_alert) for each in rows]),
    }
    for unit, mark in marks.items():
        one = found(stated, "alerts_per_100_patient_days", unit, cohort)
        assert one.value == pytest.approx(100 * mark.sum() / (len(rows) / 24))
        assert (one.numerator, one.denominator) == (mark.sum(), len(rows) / 24)
        expected = by_patient(rows, 2400.0 * mark, np.ones(len(rows)))
        assert (one.low, one.high) == pytest.approx(expected)


def first_alerts(told: list[Labelled]) -> tuple[list[int | None], list[int | None]]:
    """Leads of the first alerts, and of the onsets, by encounter."""
    alerts = [each.now.lead_s for each in told if each.now and each.now.first_alert]
    onsets = [each.now.lead_s for each in told if each.now and each.now.onset]
    return alerts, onsets


@pytest.mark.parametrize("cohort", COHORTS)
def test_first_alerts_agree_with_their_definition_and_wilson(cohort: str) -> None:
    told, stated = crowd()
    alerts, onsets = first_alerts(cohort_of(told, cohort))
    counted = [each for each in alerts if each is None or each > 0]
    shares = {
        "sensitivity": (sum(each is not None and 0 < each <= H for each in onsets), len(onsets)),
        "alerted_before_onset": (
            sum(each is not None and each > 0 for each in onsets),
            len(onsets),
        ),
        "ppv": (sum(each is not None and each <= H for each in counted), len(counted)),
    }
    for metric, (above, below) in shares.items():
        one = found(stated, metric, "first_alert", cohort)
        interval = binomtest(above, below).proportion_ci(0.95, method="wilson")
        assert (one.numerator, one.denominator) == (above, below)
        assert one.value == pytest.approx(above / below)
        assert (one.low, one.high) == pytest.approx((interval.low, interval.high))


def test_a_true_first_alert_is_a_timely_onset_and_the_other_way_round() -> None:
    _, stated = crowd()
    ppv = found(stated, "ppv", "first_alert")
    assert ppv.numerator == found(stated, "sensitivity", "first_alert").numerator


def test_the_lead_time_is_the_median_over_all_onsets_with_the_missed_at_nothing() -> None:
    told, stated = crowd()
    timed = [each for each in told if each.now and each.now.onset and not each.now.from_start]
    hours = [max(each.now.lead_s or 0, 0) / 3600 for each in timed if each.now]
    one = found(stated, "lead_time_h", "first_alert")
    assert one.value == pytest.approx(np.quantile(hours, 0.5, method="inverted_cdf"))
    assert (one.numerator, one.denominator) == (sum(each > 0 for each in hours), len(hours))
    assert 0 < (one.low or 0) <= (one.value or 0) <= (one.high or 0)


def test_where_half_the_onsets_are_missed_the_median_case_is_missed() -> None:
    def stay(patient: int) -> Labelled:
        onset = hour_label(onset=True, label=-1, lead_s=7200 if patient % 2 else None)
        return labelled(onset, patient=patient, hour=BEGIN + HOUR)

    stays = [stay(patient) for patient in range(40)]
    told = [labelled(hour_label(label=1), patient=patient) for patient in range(40)] + stays
    one = found(measured(told, DAY_ONE), "lead_time_h", "first_alert")
    assert (one.value, one.why, one.state) == (None, "missed", State.OK)
    fewer = [each for number, each in enumerate(told) if number != 40]
    one = found(measured(fewer, DAY_ONE), "lead_time_h", "first_alert")
    assert (one.value, one.why, one.state) == (2.0, "", State.OK)


@given(st.integers(6, 2000))
def test_the_median_s_interval_covers_it_at_least_19_times_in_20(count: int) -> None:
    low, middle, high = median_ranks(count)
    assert binom.cdf(high - 1, count, 0.5) - binom.cdf(low - 1, count, 0.5) >= 0.95
    assert (low - 1, middle) == (count - high, (count + 1) // 2)


@given(st.lists(st.floats(0.1, 100), max_size=60), st.integers(0, 60))
def test_a_missed_case_is_a_lead_of_nothing(times: list[float], missed: int) -> None:
    if not times and not missed:
        return
    found_ = lead(sorted(times), missed)
    cases = [0.0] * missed + times
    assert (found_.median or 0.0) == np.quantile(cases, 0.5, method="inverted_cdf")
    assert (found_.low or 0) <= (found_.median or 0) <= (found_.high or 0)


def patients(count: int, **of: object) -> list[Labelled]:
    """So many patients with one hour each."""
    return [labelled(hour_label(**of), patient=number) for number in range(count)]


@pytest.mark.parametrize(
    ("metric", "unit", "few", "least", "of"),
    [
        ("sensitivity", "hour", "few_positives", 20, {"label": 1}),
        ("specificity", "hour", "few_patients", 100, {"label": 0}),
        ("ppv", "hour", "few_alerted", 20, {"above": True}),
        ("alerts_per_100_patient_days", "hour", "few_patients", 20, {}),
        ("alerts_per_100_patient_days", "first_alert", "few_patients", 20, {}),
        ("sensitivity", "first_alert", "few_positives", 20, {"onset": True, "label": 1}),
        ("alerted_before_onset", "first_alert", "few_positives", 20, {"onset": True}),
        ("lead_time_h", "first_alert", "few_positives", 20, {"onset": True}),
        ("ppv", "first_alert", "few_alerted", 20, {"first_alert": True}),
    ],
)
def test_a_number_without_its_evidence_is_insufficient(
    metric: str, unit: str, few: str, *, least: int, of: dict[str, object]
) -> None:
    short = found(measured(patients(least - 1, **of), DAY_ONE), metric, unit)
    enough = found(measured(patients(least, **of), DAY_ONE), metric, unit)
    assert (short.state, short.why) == (State.INSUFFICIENT, few)
    assert enough.state is State.OK


@pytest.mark.parametrize(
    ("count", "hours", "why"), [(100, 10, ""), (100, 9, "few_hours"), (99, 11, "few_patients")]
)
def test_calibration_takes_100_patients_and_1000_hours(count: int, hours: int, why: str) -> None:
    told = [
        labelled(hour_label(), patient=patient, hour=BEGIN + hour * HOUR)
        for patient in range(count)
        for hour in range(hours)
    ]
    one = found(measured(told, DAY_ONE), "calibration", "hour")
    assert one.why == why
    assert one.state is (State.INSUFFICIENT if why else State.OK)
    assert (one.value, one.denominator) == (0.0, 0.25 * count * hours)


@pytest.mark.parametrize(("open_", "state"), [(10, State.OK), (11, State.INSUFFICIENT)])
def test_labels_must_be_nine_tenths_final(open_: int, state: State) -> None:
    told = [
        labelled(
            hour_label(label=1, above=True, final=number >= open_),
            patient=number,
        )
        for number in range(100)
    ]
    stated = measured(told, DAY_ONE)
    for metric in ("sensitivity", "ppv"):
        one = found(stated, metric, "hour")
        assert (one.state, one.maturity) == (state, 1 - open_ / 100)
        assert one.why == ("" if state is State.OK else "immature")
    assert found(stated, "label_maturity", "hour").value == 1 - open_ / 100


def test_onsets_are_believed_no_sooner_than_the_hours_in_which_others_may_still_come() -> None:
    onsets = patients(30, onset=True, label=-1, lead_s=3600)
    quiet = [labelled(hour_label(final=False), patient=100 + number) for number in range(30)]
    one = found(measured(onsets + quiet, DAY_ONE), "sensitivity", "first_alert")
    assert (one.value, one.state, one.why, one.maturity) == (
        1.0,
        State.INSUFFICIENT,
        "immature",
        0,
    )


@given(
    st.dictionaries(
        st.sampled_from(("a", "b", "c")),
        st.lists(st.integers(0, 40), min_size=1, max_size=6),
        min_size=1,
    )
)
def test_no_small_cell_can_be_found_out_from_the_others(cells: dict[str, list[int]]) -> None:
    sizes = {f"{name}={at}": n for name, each in cells.items() for at, n in enumerate(each)}
    gone = hidden(sizes)
    for name, each in cells.items():
        inside = sorted(n for at, n in enumerate(each) if f"{name}={at}" in gone)
        shown = [n for at, n in enumerate(each) if f"{name}={at}" not in gone]
        assert all(n == 0 or n >= 11 for n in shown)
        assert bool(inside) == any(0 < n < 11 for n in each)
        if inside and any(shown):
            assert inside[-1] >= 11
            assert inside[-1] <= min(n for n in shown if n)


def test_a_small_cohort_shows_nothing_and_takes_the_next_smallest_with_it() -> None:
    told = [
        labelled(hour_label(label=1), patient=number, cohort_dimensions=["sex"], cohorts=[sex])
        for number, sex in enumerate(["male"] * 40 + ["female"] * 25 + ["other"] * 10)
    ]
    stated = measured(told, DAY_ONE)
    for sex in ("other", "female"):
        for each in (each for each in stated if each.cohort == f"sex={sex}"):
            assert (each.state, each.why) == (State.INSUFFICIENT, "suppressed")
            assert {each.value, each.low, each.high, each.numerator, each.denominator} == {None}
            assert {each.patients, each.positives, each.hours, each.maturity} == {None}
    assert found(stated, "sensitivity", "hour", "sex=male").patients == 40


def test_few_positives_are_not_told_even_of_a_large_cohort() -> None:
    told = [
        labelled(
            hour_label(label=int(number < 5 or number >= 60)),
            patient=number,
            cohort_dimensions=["sex"],
            cohorts=["female" if number < 60 else "male"],
        )
        for number in range(120)
    ]
    stated = measured(told, DAY_ONE)
    for sex in ("female", "male"):
        one = found(stated, "sensitivity", "hour", f"sex={sex}")
        assert (one.value, one.denominator, one.positives) == (None, None, None)
        assert (one.patients, one.why) == (60, "suppressed")
    assert found(stated, "specificity", "hour", "sex=female").positives is None


def test_an_empty_window_is_stated_and_says_nothing() -> None:
    stated = measured([], DAY_ONE)
    assert {each.cohort for each in stated} == {"all"}
    assert {each.value for each in stated} == {None}
    assert {each.state for each in stated} == {State.INSUFFICIENT}


def test_every_statement_names_a_measure_and_holds_no_nan() -> None:
    for each in crowd()[1]:
        assert each.metric in MEASURES
        numbers = (each.value, each.low, each.high, each.numerator, each.denominator)
        assert all(n is None or np.isfinite(n) for n in numbers)
    named = {(each.metric, each.unit_of_analysis) for each in crowd()[1]}
    shares = {(share.metric, share.unit) for share in (*SHARES, LEAD_TIME)}
    assert named == {*shares, ("calibration_difference", "hour")}


@pytest.mark.parametrize("partitions", [1, 3])
def test_live_windows_and_the_period_in_one_go_give_the_same_numbers(partitions: int) -> None:
    told = ward(2, 120)
    tallies = []
    for partition in range(partitions):
        fold = LabelFold(partition)
        mine = [each for each in told if each.pseudonym[0] % partitions == partition]
        for offset, event in enumerate([progress(BEGIN), *mine, progress(BEGIN + DAY)]):
            fold.take(event, offset)
        tallies += list(fold.due())
    verdict = LabelJudge().judge(DAY_ONE, tallies, [])
    assert verdict.measurements == measured(told, DAY_ONE)


@settings(max_examples=20)
@given(st.permutations(range(6)))
def test_of_a_period_the_highest_revision_of_each_hour_counts_in_any_order(
    order: list[int],
) -> None:
    told = [
        *chain(
            [hour_label(label=1), hour_label(), hour_label(label=1, above=True)], hour=BEGIN + HOUR
        ),
        *chain([hour_label(label=1), hour_label(label=1), None], patient=1, hour=BEGIN + HOUR),
    ]
    crowd = patients(30)
    shuffled = measured([*(told[at] for at in order), *crowd], DAY_ONE)
    assert shuffled == measured([told[2], *crowd], DAY_ONE)
    assert found(shuffled, "ppv", "hour").hours == 31


def test_hours_outside_the_period_and_mere_time_are_left_out() -> None:
    told = patients(30, label=1)
    outside = labelled(hour_label(label=1), patient=99, hour=BEGIN + DAY)
    assert measured([*told, outside, progress(BEGIN)], DAY_ONE) == measured(told, DAY_ONE)


def test_what_is_no_label_is_refused_of_a_period_too() -> None:
    with pytest.raises(Refusal):
        measured([labelled(hour_label(label=7))], DAY_ONE)


def test_a_patient_of_two_units_counts_in_both_and_once_in_all() -> None:
    told = patients(30) + [
        msgspec.structs.replace(each, cohorts=[*each.cohorts[:-1], "SICU"], hour=BEGIN + HOUR)
        for each in patients(30)
    ]
    stated = measured(told, DAY_ONE)
    for cohort, hours in (("all", 60), ("unit=MICU", 30), ("unit=SICU", 30)):
        one = found(stated, "alerts_per_100_patient_days", "hour", cohort)
        assert (one.patients, one.hours) == (30, hours)


def test_pseudonyms_that_end_in_zeros_are_told_apart() -> None:
    told = [
        msgspec.structs.replace(labelled(hour_label()), pseudonym=who(number)[:-2] + end)
        for number in range(15)
        for end in (b"\x01\x00", b"\x00\x00")
    ]
    assert found(measured(told, DAY_ONE), "label_maturity", "hour").patients == 30
