"""The judges of patient-hours: every state has its evidence, and nobody can be made out."""

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import pytest
from builders import codec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core import tallies
from services.core.baseline import VITAL_FEATURES, Baseline, CohortReference, FeatureReference
from services.core.events import Measurement, State, Tally
from services.core.judge.days import Detection, day_of, patient_days
from services.core.judge.drift import ALARM_P, WATCH_P, drift
from services.core.judge.hours import DAYS, HourJudge
from services.core.judge.subgroups import subgroups
from services.core.judge.verdict import Earlier, Verdict
from services.core.stats.drift import Summary, compare, holm
from services.core.stats.fairness import Share, difference, score_interval, simultaneous
from services.core.stats.nulls import Null, tail_ranks
from services.core.tallies import CohortTally, GroupTally, HourTally, PatientDays
from services.core.windows import DAY, Window
from services.monitoring.detectors import adwin

WINDOW = Window(20 * DAY, 21 * DAY)
DRAWS = 31_999
INSUFFICIENT = State.INSUFFICIENT


def nulls() -> tuple[Null, ...]:
    """Chance takes psi to 1 once in all draws, to 0.001 every second time."""
    ranks = np.log(tail_ranks(DRAWS))
    psi = tuple(np.exp(-6.9 * ranks / ranks[-1]).tolist())
    return tuple(Null(patients=k, draws=DRAWS, psi=psi) for k in (20, 400))


def feature(**of: object) -> FeatureReference:
    made = {"edges": (0.5,), "weights": (500.0, 500.0), "patients": 1000, "mean": 0.5, "sd": 0.1}
    return msgspec.convert({**made, "nulls": nulls(), **of}, FeatureReference)


def cohort_reference(names: Sequence[str] = VITAL_FEATURES) -> CohortReference:
    return CohortReference(patients=1000, hours=9000, features={name: feature() for name in names})


def site(**cohorts: CohortReference) -> Baseline:
    named = {f"unit={name}": each for name, each in cohorts.items()}
    return Baseline(kind="site", name="s", cohorts={"all": cohort_reference(), **named})


def counted(
    patients: int, *, new: int | None = None, moved: Mapping[str, float] | None = None
) -> CohortTally:
    """A cohort whose features all look like the reference, but for the share of those moved."""
    shares = dict.fromkeys(VITAL_FEATURES, 0.5) | dict(moved or {})
    return CohortTally(
        patients=patients,
        new_patients=patients if new is None else new,
        hours=24 * patients,
        feature_patients=[patients] * len(VITAL_FEATURES),
        feature_hours=[24 * patients] * len(VITAL_FEATURES),
        weights=[[patients * (1 - share), patients * share] for share in shares.values()],
        mean_sums=[patients * share for share in shares.values()],
    )


def whole(**cohorts: CohortTally) -> HourTally:
    named = {name.replace("unit_", "unit="): each for name, each in cohorts.items()}
    return HourTally(patients=cohorts["all"].patients, cohorts=named)


def judged(
    tally: HourTally, baseline: Baseline | None = None, **of: object
) -> dict[tuple[str, str], Measurement]:
    before = frozenset({("all", "HR")} if of.get("before") else ())
    found, _ = drift(tally, baseline or site(), WINDOW, before)
    return {(m.cohort, m.feature): m for m in found}


def p_of(share: float, patients: int) -> float:
    window = Summary([patients * (1 - share), patients * share], share, patients)
    return compare(feature().summary, window, nulls()).p


def share_with_p(low: float, high: float, patients: int = 100) -> float:
    """A share of the upper bin whose p, corrected for sixteen features, lies between two."""
    for share in np.arange(0.5, 1.0, 0.001).tolist():
        if low < 16 * p_of(share, patients) <= high:
            return float(share)
    raise AssertionError("no share has such a p")


def test_p_is_corrected_for_every_feature_of_the_family_tested_or_not() -> None:
    tally = counted(100, moved={"HR": 0.7, "Temp": 0.66})
    places = [VITAL_FEATURES.index(name) for name in ("EtCO2", "EtCO2.presence")]
    few = [3 if place in places else 100 for place in range(len(VITAL_FEATURES))]
    tally = msgspec.structs.replace(tally, feature_patients=few)
    found = judged(whole(all=tally))
    tested = [p_of({"HR": 0.7, "Temp": 0.66}.get(name, 0.5), 100) for name in VITAL_FEATURES]
    expected = holm([1.0 if place in places else p for place, p in enumerate(tested)])
    for place, name in enumerate(VITAL_FEATURES):
        if place not in places:
            assert found["all", name].p_value == pytest.approx(expected[place])
    assert found["all", "EtCO2"].p_value is None


def test_units_are_corrected_for_each_other_and_everybody_is_not() -> None:
    baseline = site(A=cohort_reference(), B=cohort_reference(), C=cohort_reference())
    moved = counted(60, moved={"HR": 0.7})
    found = judged(whole(all=moved, unit_A=moved, unit_D=moved), baseline)
    alone = found["all", "HR"].p_value or 0.0
    assert found["unit=A", "HR"].p_value == pytest.approx(min(1.0, 3 * alone))
    assert found["unit=D", "HR"].why == "no_reference"
    assert (found["unit=A", "HR"].threshold or 0) > (found["all", "HR"].threshold or 0)


@pytest.mark.parametrize(
    ("low", "high", "state"),
    [(0.0, ALARM_P, State.ALARM), (ALARM_P, WATCH_P, State.WATCH), (WATCH_P, 1.0, State.OK)],
)
def test_the_state_follows_the_corrected_p(low: float, high: float, state: State) -> None:
    share = share_with_p(low, high)
    hr = judged(whole(all=counted(100, moved={"HR": share})))["all", "HR"]
    assert (hr.state, hr.why) == (state, "" if state is State.OK else "psi")
    assert (hr.direction, hr.patients, hr.hours) == ("higher", 100, 2400)
    assert (hr.numerator, hr.denominator) == pytest.approx((100 * share, 100))


@pytest.mark.parametrize(
    ("before", "new", "state", "why"),
    [
        (True, 50, State.ALARM, "twice"),
        (True, 49, State.WATCH, "psi"),
        (False, 100, State.WATCH, "psi"),
    ],
)
def test_watch_twice_is_alarm_when_half_of_the_patients_are_new(
    *, before: bool, new: int, state: State, why: str
) -> None:
    tally = counted(100, new=new, moved={"HR": share_with_p(ALARM_P, WATCH_P)})
    hr = judged(whole(all=tally), before=before)["all", "HR"]
    assert (hr.state, hr.why) == (state, why)


def test_the_threshold_is_the_psi_at_which_a_single_feature_becomes_watch() -> None:
    hr = judged(whole(all=counted(100, moved={"HR": 0.7})))["all", "HR"]
    share = share_with_p(WATCH_P * 0.98, WATCH_P)
    at = judged(whole(all=counted(100, moved={"HR": share})))["all", "HR"]
    assert at.value == pytest.approx(hr.threshold, rel=0.02)


def test_under_twenty_patients_there_is_a_value_and_no_state() -> None:
    hr = judged(whole(all=counted(19, moved={"HR": 0.99})))["all", "HR"]
    assert (hr.state, hr.why, hr.p_value) == (INSUFFICIENT, "few_patients", None)
    assert hr.value is not None
    assert hr.patients == 19


def test_under_eleven_patients_there_is_no_number_nor_in_the_next_smallest_unit() -> None:
    baseline = site(A=cohort_reference(), B=cohort_reference(), C=cohort_reference())
    tally = whole(all=counted(100), unit_A=counted(10), unit_B=counted(30), unit_C=counted(60))
    found = judged(tally, baseline)
    for cohort in ("unit=A", "unit=B"):
        hidden = found[cohort, "HR"]
        assert (hidden.state, hidden.why) == (INSUFFICIENT, "suppressed")
        assert {hidden.value, hidden.patients, hidden.hours, hidden.numerator} == {None}
        assert hidden.denominator is None
    assert found["unit=C", "HR"].patients == 60


def part(tally: HourTally, *, baseline: str, partition: int = 0) -> Tally:
    return Tally(
        family="hours/24h",
        layout="hours/1",
        start=WINDOW.start,
        end=WINDOW.end,
        topic="predictions.v1",
        partition=partition,
        through_offset=1,
        baseline=baseline,
        body=tallies.encode(tally),
    )


def nothing(days: Sequence[object]) -> Detection:
    return Detection(0.0, 0.0, len(days), changed=False)


def verdict(
    baseline: Baseline | None, parts: Sequence[Tally], earlier: Sequence[Earlier] = ()
) -> Verdict:
    judge = HourJudge(lambda _: baseline, nothing)
    return judge.judge(WINDOW, parts, earlier)


def drifts(made: Verdict) -> list[Measurement]:
    return [m for m in made.measurements if m.metric == "drift"]


@pytest.mark.parametrize(
    ("baseline", "digest", "why"),
    [
        (None, "", "no_baseline"),
        (None, site().digest, "no_baseline"),
        (site(), "", "other_baseline"),
        (msgspec.structs.replace(site(), kind="training"), "", "no_site_baseline"),
        (msgspec.structs.replace(site(), window_h=12), "", "other_length"),
    ],
)
def test_a_window_without_its_baseline_has_no_state(
    baseline: Baseline | None, digest: str, why: str
) -> None:
    made = drifts(verdict(baseline, [part(whole(all=counted(50)), baseline=digest)]))
    assert {(m.state, m.why, m.value, m.cohort) for m in made} == {
        (INSUFFICIENT, why, None, "all")
    }
    assert [m.feature for m in made] == list(VITAL_FEATURES)


def test_parts_in_different_bins_are_not_put_together_but_counted() -> None:
    bare = msgspec.structs.replace(counted(30), weights=[[]] * len(VITAL_FEATURES))
    parts = [
        part(whole(all=counted(50)), baseline=site().digest),
        part(whole(all=bare), baseline="", partition=1),
    ]
    made = drifts(verdict(site(), parts))
    assert {(m.why, m.patients) for m in made} == {("other_baseline", 80)}


def test_a_window_of_nobody_is_insufficient() -> None:
    made = verdict(site(), [part(HourTally(), baseline=site().digest)])
    assert {m.state for m in made.measurements} == {INSUFFICIENT}
    assert {m.state for m in verdict(None, []).measurements} == {INSUFFICIENT}


def test_what_was_watched_yesterday_is_remembered_and_what_was_the_day_before_is_not() -> None:
    share = share_with_p(ALARM_P, WATCH_P)
    parts = [part(whole(all=counted(100, moved={"HR": share})), baseline=site().digest)]
    first = verdict(site(), parts)
    yesterday = Earlier(start=WINDOW.start - DAY, end=WINDOW.start, memory=first.memory)
    gap = Earlier(start=WINDOW.start - 2 * DAY, end=WINDOW.start - DAY, memory=first.memory)

    def hr(made: Verdict) -> State:
        return next(m.state for m in drifts(made) if m.feature == "HR")

    assert hr(first) is State.WATCH
    assert hr(verdict(site(), parts, [yesterday])) is State.ALARM
    assert hr(verdict(site(), parts, [gap])) is State.WATCH
    assert verdict(site(), parts, [yesterday]).memory == first.memory


# Subgroups


def groups(**dimension: tuple[int, int]) -> HourTally:
    """A tally with one dimension: patients and how many of them were alerted."""
    made = {
        k: GroupTally(patients=n, alerted=a, not_scored=n - a) for k, (n, a) in dimension.items()
    }
    return HourTally(groups={"sex": made}, patients=sum(n for n, _ in dimension.values()))


def of(metric: str, tally: HourTally) -> dict[str, Measurement]:
    return {m.cohort: m for m in subgroups(tally, WINDOW) if m.metric == metric}


def test_the_share_of_every_group_has_its_score_interval() -> None:
    found = of("alert_rate", groups(f=(60, 12), m=(40, 4)))
    assert found["all"].value == pytest.approx(0.16)
    low, high = score_interval(Share(12, 60))
    assert (found["sex=f"].value, found["sex=f"].low, found["sex=f"].high) == (0.2, low, high)
    assert of("not_scored_rate", groups(f=(60, 12), m=(40, 4)))["sex=f"].value == 0.8


def test_each_group_is_held_against_the_largest_with_intervals_that_hold_together() -> None:
    tally = groups(a=(200, 20), b=(100, 10), c=(50, 20))
    found = of("alert_rate_difference", tally)
    assert set(found) == {"sex=b", "sex=c"}
    expected = difference(Share(20, 50), Share(20, 200), simultaneous(2))
    c = found["sex=c"]
    assert (c.value, c.low, c.high) == tuple(expected)
    assert (c.state, c.direction, c.reference) == (State.ALARM, "higher", "sex=a")
    assert (found["sex=b"].state, found["sex=b"].why) == (INSUFFICIENT, "wide_interval")


def test_groups_that_are_the_same_pass_when_there_are_enough() -> None:
    found = of("alert_rate_difference", groups(a=(9000, 900), b=(9000, 900)))
    assert [m.state for m in found.values()] == [State.OK]


def test_a_small_group_and_the_next_smallest_show_nothing_at_all() -> None:
    tally = groups(a=(200, 20), b=(50, 5), c=(10, 9))
    for metric in ("alert_rate", "not_scored_rate"):
        found = of(metric, tally)
        for cohort in ("sex=b", "sex=c"):
            hidden = found[cohort]
            assert (hidden.state, hidden.why, hidden.patients) == (
                INSUFFICIENT,
                "suppressed",
                None,
            )
            assert {hidden.value, hidden.low, hidden.high, hidden.numerator} == {None}
        assert found["sex=a"].patients == 200
        assert of(f"{metric}_difference", tally) == {}


def test_ten_patients_are_never_told_of_by_subtraction() -> None:
    found = subgroups(groups(a=(200, 20), c=(10, 9)), WINDOW)
    shown = [m for m in found if m.cohort != "all" and m.patients is not None]
    assert shown == []


# Patient-days


def days(*rates: float, patients: int = 60, seed: int = 3) -> list[np.ndarray]:
    chance = np.random.default_rng(seed)
    return [chance.random(patients) < rate for rate in rates]


def test_a_jump_of_the_alert_rate_is_watch_on_the_day_it_is_found_and_ok_later() -> None:
    stream = days(*[0.1] * 10, *[0.5] * 5)
    states = [patient_days(stream[: n + 1], WINDOW, adwin).state for n in range(len(stream))]
    assert set(states[:10]) == {State.OK}
    assert State.WATCH in states[10:12]
    assert states[-1] is State.OK
    at = 10 + states[10:].index(State.WATCH)
    found = patient_days(stream[: at + 1], WINDOW, adwin)
    assert (found.direction, found.denominator, found.patients) == ("higher", 60, 60)


def test_the_detector_is_a_function_of_its_days() -> None:
    stream = days(0.1, 0.2, 0.3)
    assert adwin(stream) == adwin([day.copy() for day in stream])
    assert adwin(stream).span == 180
    assert adwin(stream).mean == pytest.approx(np.concatenate(stream).mean())


def test_too_few_patients_have_no_state_and_fewer_than_eleven_no_number() -> None:
    few = patient_days(days(0.1, patients=15), WINDOW, adwin)
    assert (few.state, few.why, few.patients) == (INSUFFICIENT, "few_patients", 15)
    hidden = patient_days(days(0.1, patients=10), WINDOW, adwin)
    assert (hidden.state, hidden.why) == (INSUFFICIENT, "suppressed")
    assert {hidden.value, hidden.patients, hidden.numerator} == {None}
    nobody = patient_days(days(0.1, patients=0), WINDOW, adwin)
    assert (nobody.state, nobody.patients, nobody.value) == (INSUFFICIENT, 0, None)


def test_the_detector_sees_thirty_days_and_no_more() -> None:
    seen: list[int] = []

    def detect(stream: Sequence[object]) -> Detection:
        seen.append(len(stream))
        return nothing(stream)

    part_of_day = PatientDays(partition=0, patients=60, alerted=bytes(8))
    tally = HourTally(patients=60, days=[part_of_day])
    judge = HourJudge(lambda _: None, detect)
    memory = judge.judge(WINDOW, [part(tally, baseline="")], []).memory
    earlier = [
        Earlier(start=WINDOW.start - n * DAY, end=WINDOW.start - (n - 1) * DAY, memory=memory)
        for n in range(40, 0, -1)
    ]
    judge.judge(WINDOW, [part(tally, baseline="")], earlier)
    assert seen == [1, DAYS]


def test_bits_of_partitions_stand_one_after_the_other() -> None:
    parts = [
        PatientDays(partition=0, patients=3, alerted=np.packbits([1, 0, 1]).tobytes()),
        PatientDays(partition=2, patients=1, alerted=np.packbits([1]).tobytes()),
    ]
    assert day_of(parts).tolist() == [True, False, True, True]
    assert day_of([]).tolist() == []


# Everything

COUNTS = st.integers(0, 40)


@st.composite
def hour_tallies(draw: st.DrawFn) -> HourTally:
    cohorts = {}
    for name in ["all", *draw(st.lists(st.sampled_from(["unit=A", "unit=B"]), unique=True))]:
        many = draw(st.integers(1, 60))
        base = counted(many, moved={"HR": draw(st.floats(0, 1)), "Temp": draw(st.floats(0, 1))})
        seen = [draw(st.integers(0, many)) for _ in VITAL_FEATURES]
        weights = [
            [n * w / many for w in each] for n, each in zip(seen, base.weights, strict=True)
        ]
        cohorts[name] = msgspec.structs.replace(base, feature_patients=seen, weights=weights)
    dimension = draw(st.dictionaries(st.sampled_from("abc"), COUNTS.filter(bool), min_size=1))
    made = {}
    for label, patients in dimension.items():
        alerted = draw(st.integers(0, patients))
        unscored = draw(st.integers(0, patients - alerted))
        made[label] = GroupTally(patients=patients, alerted=alerted, not_scored=unscored)
    bits = np.array(draw(st.lists(st.booleans(), max_size=40)), bool)
    day = PatientDays(partition=0, patients=len(bits), alerted=np.packbits(bits).tobytes())
    return HourTally(cohorts=cohorts, groups={"sex": made}, days=[day])


@settings(max_examples=60, deadline=None)
@given(hour_tallies())
def test_whatever_was_counted_the_measurements_are_numbers_and_no_state_lacks_evidence(
    tally: HourTally,
) -> None:
    baseline = site(A=cohort_reference())
    made = HourJudge(lambda _: baseline, adwin).judge(
        WINDOW, [part(tally, baseline=baseline.digest)], []
    )
    keys = [(m.metric, m.feature, m.cohort, m.unit_of_analysis) for m in made.measurements]
    assert len(set(keys)) == len(keys)
    for m in made.measurements:
        assert codec().decode(codec().encode(m), Measurement) == m
        numbers = [m.value, m.low, m.high, m.numerator, m.denominator, m.threshold, m.p_value]
        assert all(math.isfinite(number) for number in numbers if number is not None)
        assert m.patients is None or m.patients == 0 or m.patients >= 11
        if m.state is not INSUFFICIENT:
            assert (m.patients or 0) >= 20
            assert m.value is not None
        if m.patients is None:
            assert (m.why, m.value, m.numerator, m.denominator) == ("suppressed", None, None, None)


def test_a_window_that_was_watched_in_part_has_a_value_and_no_state() -> None:
    """Stays that are cut short scatter more than any drawn window: chance would call every day."""
    known = msgspec.structs.replace(cohort_reference(), window_hours=16.0)
    baseline = Baseline(kind="site", name="s", cohorts={"all": known})
    moved = counted(100, moved={"HR": 0.9})
    short, long = (msgspec.structs.replace(moved, hours=hours * 100) for hours in (11, 13))
    part = judged(whole(all=short), baseline)["all", "HR"]
    assert (part.state, part.why, part.p_value) == (State.INSUFFICIENT, "partly_watched", None)
    assert part.value is not None
    assert judged(whole(all=long), baseline)["all", "HR"].state is State.ALARM
