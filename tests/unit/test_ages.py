"""Ages over 89 are one age outside the PHI zone."""

import datetime as dt

import msgspec
from builders import codec, ingest, patient, record
from hypothesis import given
from hypothesis import strategies as st

from services.core.cohorts import age_band, cohorts_of
from services.core.events import Demographics, Patient, Vitals

TODAY = dt.date(2026, 1, 5)  # of `builders.RECEIVED`
OLDEST = 90.0
BIRTHS = st.dates(dt.date(1896, 1, 6), TODAY)
FORMS = st.sampled_from(["%Y-%m-%d", "%Y-%m", "%Y"])
OLD = st.dates(dt.date(1897, 1, 1), dt.date(1935, 12, 31))  # 90 years and more, however told


def told(birth_date: str) -> tuple[Vitals, Patient]:
    """What vitals.v1 and patients.v1 say of somebody."""
    values = {o.topic: o.value for o in ingest().handle([record(patient(birthDate=birth_date))])}
    event = codec().decode(values["vitals.v1"] or b"", Vitals)
    return event, codec().decode(values["patients.v1"] or b"", Patient)


def completed(birth: dt.date) -> int:
    return TODAY.year - birth.year - ((TODAY.month, TODAY.day) < (birth.month, birth.day))


@given(BIRTHS)
def test_the_age_is_that_of_the_day_and_never_above_90(birth: dt.date) -> None:
    for event in told(birth.isoformat()):
        assert event.demographics is not None
        assert event.demographics.age == min(completed(birth), OLDEST)


@given(OLD, OLD, FORMS)
def test_nobody_over_89_can_be_told_from_another(one: dt.date, other: dt.date, form: str) -> None:
    both = [told(birth.strftime(form)) for birth in (one, other)]
    assert both[0] == both[1]
    event, view = both[0]
    assert event.demographics == view.demographics == Demographics(age=OLDEST, sex="female")


@given(BIRTHS, FORMS)
def test_no_date_of_birth_leaves_in_any_form(birth: dt.date, form: str) -> None:
    text = birth.strftime(form)
    for event in told(text):
        shown = msgspec.json.encode(msgspec.to_builtins(event.demographics)).decode()
        assert text not in shown


@given(st.floats(min_value=90, max_value=130), st.floats(min_value=90, max_value=130))
def test_a_cohort_tells_no_two_ages_over_89_apart(one: float, other: float) -> None:
    assert age_band(one) == age_band(other)
    names = [cohorts_of(Demographics(age=age), None) for age in (one, other)]
    assert names[0] == names[1]
