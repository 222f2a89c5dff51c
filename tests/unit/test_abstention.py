"""No score, with its cause: too little, too old, or nobody like it was ever seen."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from wards import HOUR, POLICY, START, Kept, Run, identified, log, measured, retracted, scorer

from services.core.events import Cause, Step
from services.core.features import Standing
from services.core.policy import Abstain
from services.core.support import Limits, Support, outside, read_limits
from services.core.vitals import VARIABLE_INDEX, VARIABLES, VITALS
from services.scoring.abstention import causes
from services.training.matrix import batches
from services.training.source import Stays, read
from services.training.support import RARE, support

RULE = Support(
    variables={"HR": (30, 180), "Temp": (32.5, 40.44), "SBP": (43, 235)},
    youngest=18,
    most_outside=1,
)
LIMITS = Limits.of(RULE)
TWO_OUT = {"HR": 181.0, "SBP": 240.0}


def standing(rows: list[dict[str, float]], age: float = 50.0, age_h: float = 0.0) -> Standing:
    last = np.full((len(rows), len(VARIABLES)), np.nan, np.float32)
    for row, values in enumerate(rows):
        for name, value in values.items():
            last[row, VARIABLE_INDEX[name]] = value
    ages_h = np.where(np.isnan(last), np.float32(np.nan), np.float32(age_h))
    people = np.full(len(rows), age, np.float32)
    return Standing(last, ages_h, np.isfinite(last).astype(np.float32), people, people)


@pytest.mark.parametrize(
    ("values", "age", "expected"),
    [
        ({"HR": 80}, 50, False),
        ({"HR": 181}, 50, False),  # one value makes no other patient: the sickest stand there
        ({"HR": 181, "Temp": 40.44}, 50, False),  # the end of a range belongs to it
        ({"HR": 181, "Temp": 40.45}, 50, True),
        ({"HR": 29, "SBP": 236}, 50, True),
        ({"HR": 80}, 18, False),
        ({"HR": 80}, 17.99, True),
        ({"HR": 80}, float("nan"), False),  # what is not known speaks against nobody
        ({}, float("nan"), False),
        ({"Lactate": 1e9, "Creatinine": -1e9}, 50, False),  # of these the rule says nothing
    ],
)
def test_who_is_like_nobody_that_was_seen(
    values: dict[str, float], age: float, *, expected: bool
) -> None:
    given = standing([values], age)
    assert outside(LIMITS, given.last, given.age).tolist() == [expected]


def oracle(rule: Abstain, of: Standing, row: int, limits: Limits | None) -> Cause:
    """The definition, value by value."""
    ages = [float(age) for age in of.last_age_h[row, : len(VITALS)]]
    if sum(age <= rule.max_age_h for age in ages) < rule.min_vitals:
        ever = sum(np.isfinite(age) for age in ages)
        return Cause.TOO_OLD if ever >= rule.min_vitals else Cause.TOO_FEW_VITALS
    if limits is None:
        return Cause.NONE
    values = zip(of.last[row], limits.low, limits.high, strict=True)
    beyond = sum(bool(value < low or value > high) for value, low, high in values)
    other = beyond > limits.most_outside or of.age[row] < limits.youngest
    return Cause.OUTSIDE_SUPPORT if other else Cause.NONE


@given(
    st.integers(0, 1 << 32),
    st.integers(1, 3),
    st.sampled_from([0.0, 6.0]),
    st.sampled_from([None, LIMITS]),
)
def test_the_causes_of_a_batch_are_those_of_its_rows(
    seed: int, min_vitals: int, max_age_h: float, limits: Limits | None
) -> None:
    random = np.random.default_rng(seed)
    last = random.normal(100, 60, (20, len(VARIABLES))).astype(np.float32)
    last[random.random(last.shape) < random.random((20, 1))] = np.nan
    ages = random.integers(0, 13, last.shape).astype(np.float32)
    of = standing([{}] * 20)._replace(
        last=last,
        last_age_h=np.where(np.isnan(last), np.float32(np.nan), ages),
        age=random.choice(np.array([np.nan, 17, 50], np.float32), 20),
    )
    rule = Abstain(min_vitals=min_vitals, max_age_h=max_age_h)
    expected = [oracle(rule, of, row, limits) for row in range(20)]
    assert causes(rule, of, limits).tolist() == expected


def test_whoever_is_outside_the_support_gets_no_score_and_its_cause() -> None:
    told = Kept()
    run = Run(scorer(support=LIMITS, told=told)).hand(log([measured("p", START, TWO_OUT)]))
    (entry,) = run.entries
    assert (entry["disposition"], entry["cause"]) == ("ABSTAINED", Cause.OUTSIDE_SUPPORT)
    assert (entry["score"], entry["threshold"], entry["decision"]) == (None, None, "NONE")
    assert (entry["features"], run.alerts) == (b"", [])
    assert [each["cause"] for each in told.entries] == [Cause.OUTSIDE_SUPPORT]


def test_a_bundle_without_a_rule_speaks_of_everybody() -> None:
    run = Run(scorer()).hand(log([measured("p", START, TWO_OUT)]))
    assert run.entries[0]["disposition"] == "SCORED"


def test_a_child_is_scored_until_its_age_is_known() -> None:
    events = [
        measured("p", START, {"HR": 80.0}),
        identified("p", START + 1, age=6.0),
        measured("p", START + HOUR, {"HR": 81.0}),
    ]
    run = Run(scorer(support=LIMITS)).hand(log(events))
    assert [e["cause"] for e in run.entries] == [0, 0, Cause.OUTSIDE_SUPPORT]


def test_an_alert_goes_on_while_its_patient_is_outside_and_what_shook_it_takes_it_back() -> None:
    alerted = measured("p", START, {"HR": 170.0})
    beyond = measured("p", START + HOUR, TWO_OUT)
    gone = retracted("p", START, ["HR"], received_at=START + 2 * HOUR)
    run = Run(scorer(support=LIMITS)).hand(log([alerted, beyond]))
    assert [alert.step for alert in run.alerts] == [Step.RAISED]
    run.hand(log([gone], first=9))
    assert [alert.step for alert in run.alerts] == [Step.RAISED, Step.WITHDRAWN]


@pytest.mark.parametrize(
    "change",
    [
        {"variables": {"HeartRate": [30, 180]}},
        {"variables": {"HR": [180, 30]}},
        {"variables": {"HR": [30]}},
        {"variables": {"HR": ["low", "high"]}},
        {"most_outside": -1},
        {"most_outside": 1000},
        {"oldest": 89},
    ],
    ids=str,
)
def test_a_rule_that_is_none_is_refused(change: dict[str, Any]) -> None:
    stated = msgspec.to_builtins(RULE)
    assert read_limits({"support": stated}) is not None
    with pytest.raises(ValueError, match=r"variables|range|most_outside|oldest"):
        read_limits({"support": stated | change})


def test_a_reference_that_states_no_rule_has_none() -> None:
    assert read_limits({"schema": "vigil.reference/1"}) is None


# ----------------------------------------------------------------------------- where it comes from


SI = {"Creatinine": 88.4, "Glucose": 1 / 18.016, "Hgb": 10.0, "Calcium": 0.2495, "BUN": 0.357}
"""Of one conventional unit so many of the international system."""


def stays(values: NDArray[np.float32], age: NDArray[np.float32]) -> Stays:
    """Patients of one hour each."""
    many = len(values)
    whole = np.full((many, len(VARIABLES)), np.nan, np.float32)
    whole[:, 0] = values
    return Stays(
        ids=tuple(str(i) for i in range(many)),
        starts=np.arange(many + 1),
        hour=np.zeros(many, np.int64),
        values=whole,
        age=age,
        sex=np.zeros(many, np.float32),
        label=np.zeros(many, np.int8),
        context=np.full((many, 4), np.nan, np.float32),
        digest="",
    )


def test_no_end_of_a_range_is_the_value_of_fewer_than_eleven_patients() -> None:
    values = np.arange(100, dtype=np.float32)
    found = support(stays(values, values + np.float32(0.5)))
    assert found["variables"] == {"HR": (10.0, 89.0)}
    assert found["youngest"] == 10.0


def test_a_variable_of_ten_patients_has_no_range_and_ten_ages_no_youngest() -> None:
    values = np.arange(10, dtype=np.float32)
    found = support(stays(values, values))
    assert (found["variables"], found["youngest"], found["most_outside"]) == ({}, None, 0)


def test_so_many_values_may_be_beyond_that_hardly_an_hour_of_training_is_left_out() -> None:
    values = np.arange(100, dtype=np.float32)
    found = support(stays(values, np.full(100, 50, np.float32)))
    assert (found["most_outside"], found["hours_outside"]) == (1, 0.0)  # 20 of 100 lie beyond


@pytest.mark.data
def test_a_laboratory_that_sends_other_units_makes_its_patients_unlike_any(
    shared_data: Path,
) -> None:
    """Conventional numbers are learned, SI numbers come under their name."""
    learned = first(4000, read(shared_data / "physionet2019" / "devA.parquet"))
    rule = msgspec.convert(support(learned), Support)
    limits = Limits.of(rule)
    assert share_outside(limits, learned) == pytest.approx(rule.hours_outside, abs=1e-6)
    assert share_outside(limits._replace(youngest=-np.inf), learned) <= RARE
    met = read(shared_data / "physionet2019" / "demo200.parquet")
    sent = met.values.copy()
    for name, factor in SI.items():
        sent[:, VARIABLE_INDEX[name]] *= np.float32(factor)
    assert share_outside(limits, met) < 0.01
    assert share_outside(limits, met._replace(values=sent)) > 0.6


def first(patients: int, of: Stays) -> Stays:
    end = int(of.starts[patients])
    rows = ("hour", "values", "age", "sex", "label", "context")
    cut = {name: getattr(of, name)[:end] for name in rows}
    return of._replace(ids=of.ids[:patients], starts=of.starts[: patients + 1], **cut)


def share_outside(limits: Limits, of: Stays) -> float:
    found = [outside(limits, known.last, known.age) for _, known in batches(of)]
    return float(np.mean(np.concatenate(found)))


def test_the_policy_says_nothing_of_the_support() -> None:
    """It belongs to the model: another policy does not widen whom the model can speak of."""
    assert "support" not in type(POLICY.abstain).__struct_fields__
