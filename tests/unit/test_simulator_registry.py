"""The invented registry: late, sometimes wrong, in the end true, and never ahead of itself."""

import functools
import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.events import Authority, Outcome, partition_of
from services.core.pseudonyms import encounter_pseudonym, patient_pseudonym
from services.gateway.reception.hearing import Arrival, Hearing
from services.local.home import REPO
from services.runtime.codec import Codec
from services.simulator.messages import FHIR, OUTCOMES, START, Message
from services.simulator.outcomes import with_outcomes
from services.simulator.registry import HABITS, Registry, Telling
from services.simulator.ward import Course, Ward

KEY = b"k" * 32
CODEC = Codec(REPO / "schemas")
HEARING = Hearing(KEY, CODEC.encode, {"outcomes.v1": 4})
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MANY = 1500
SURE = 4.5
"""Standard deviations that chance does not reach in a test."""


def course(number: int, *, onset_h: float | None = 40.3, stay_h: float = 96.0) -> Course:
    return Course(
        patient=f"sim-{number}",
        encounter=f"stay-{number}",
        unit="ICU-NORTH",
        admitted_at=START,
        ended_at=START + stay_h * HOUR,
        onset_at=None if onset_h is None else START + onset_h * HOUR,
        severity=1.0,
    )


@functools.cache
def told(*, septic: bool) -> list[list[Telling]]:
    registry = Registry(3)
    return [registry.of(course(n, onset_h=40.3 if septic else None)) for n in range(MANY)]


def by(authority: Authority, tellings: Iterable[Telling]) -> list[Telling]:
    return [telling for telling in tellings if telling.authority is authority]


def near(hits: int, of: int, rate: float) -> bool:
    return abs(hits - of * rate) <= SURE * float(np.sqrt(of * rate * (1 - rate))) + 1


courses = st.builds(
    lambda number, stay_h, part: course(
        number, stay_h=stay_h, onset_h=None if part is None else part * stay_h
    ),
    st.integers(0, 10**6),
    st.floats(24, 192),
    st.none() | st.floats(0, 1),
)


@given(st.integers(0, 2**32), courses, st.floats(0, 2))
def test_what_is_told_last_is_final_and_true(seed: int, stay: Course, scale: float) -> None:
    *_, last = Registry(seed, scale=scale).of(stay)
    assert (last.authority, last.onset_at) == (Authority.FINAL, stay.onset_at)


@given(st.integers(0, 2**32), courses, st.floats(0, 2))
def test_nothing_is_told_before_it_happened(seed: int, stay: Course, scale: float) -> None:
    for telling in Registry(seed, scale=scale).of(stay):
        happened = [telling.onset_at, telling.recognized_at, telling.treated_at]
        assert all(at <= telling.at for at in happened if at)
        assert stay.admitted_at <= telling.at
        if telling.onset_at:
            assert stay.admitted_at <= telling.onset_at <= stay.ended_at


@given(st.integers(0, 2**32), courses)
def test_tellings_come_in_order_and_revisions_count_from_one(seed: int, stay: Course) -> None:
    tellings = Registry(seed).of(stay)
    assert [each.at for each in tellings] == sorted(each.at for each in tellings)
    for authority in Authority:
        revisions = [each.revision for each in by(authority, tellings)]
        assert revisions == list(range(1, len(revisions) + 1))


def test_nobody_speaks_after_the_adjudication() -> None:
    late = [course(number, onset_h=96.0) for number in range(250)]
    cut = 0
    for seed in (1, 2):
        for stay in late:
            *before, last = Registry(seed).of(stay)
            assert all(each.at < last.at for each in before)
            cut += not by(Authority.PROVISIONAL, before)
    assert cut / 500 > 1 - HABITS.provisional.noticed + 0.01  # some were overtaken


@given(st.integers(0, 2**32), courses, st.floats(0.05, 1))
def test_delays_scale(seed: int, stay: Course, scale: float) -> None:
    slow, quick = (
        by(Authority.FINAL, Registry(seed, scale=s).of(stay))[0].at - stay.ended_at
        for s in (1.0, scale)
    )
    assert HABITS.final.from_h <= slow / HOUR <= HABITS.final.to_h
    assert abs(quick - scale * slow) <= timedelta(seconds=1)


def test_the_same_seed_tells_the_same_and_another_does_not() -> None:
    again = [Registry(3).of(course(n)) for n in reversed(range(100))]
    assert again[::-1] == told(septic=True)[:100]
    assert [Registry(4).of(course(n)) for n in range(100)] != told(septic=True)[:100]


def test_onsets_are_noticed_missed_and_mistaken_as_often_as_is_stated() -> None:
    first = [by(Authority.PROVISIONAL, each) for each in told(septic=True)]
    noticed = [each for each in first if each]
    wrong = [each for each in noticed if each[0].onset_at != START + 40.3 * HOUR]
    revised = [each for each in wrong if len(each) == 2]
    habits = HABITS.provisional
    assert near(len(noticed), MANY, habits.noticed)
    assert near(len(wrong), len(noticed), habits.wrong_time)
    assert near(len(revised), len(wrong), habits.revised)
    assert all(each[1].onset_at == START + 40.3 * HOUR for each in revised)
    suspected = [by(Authority.PROVISIONAL, each) for each in told(septic=False)]
    assert near(sum(bool(each) for each in suspected), MANY, habits.suspected)


def test_codes_and_adjudication_err_as_often_as_is_stated() -> None:
    for septic, rate in ((True, HABITS.coded.sensitive), (False, 1 - HABITS.coded.specific)):
        codes = [by(Authority.CODED, each) for each in told(septic=septic)]
        found = [each for each in codes if each and each[0].onset_at]
        assert near(len(found), sum(bool(each) for each in codes), rate)
        assert all((each[0].onset_at or EPOCH).hour == 0 for each in found)
    twice = [each for each in told(septic=True) if len(by(Authority.FINAL, each)) == 2]
    assert near(len(twice), MANY, HABITS.final.revised)
    assert all(len(by(Authority.FINAL, each)) == 1 for each in told(septic=False))


@functools.cache
def stream(hours: float = 24 * 9, scale: float = 1 / 6) -> tuple[Ward, list[Message]]:
    ward = Ward(np.random.default_rng(5), START, beds=8)
    return ward, list(with_outcomes(ward, ward.messages(hours), Registry(3, scale=scale)))


def body(message: Message) -> dict[str, Any]:
    return dict(json.loads(message.body)) if message.route == OUTCOMES else {}


def test_the_ward_sends_what_it_would_and_outcomes_stand_between_in_order_of_time() -> None:
    _, merged = stream()
    alone = Ward(np.random.default_rng(5), START, beds=8)
    assert [m for m in merged if m.route == FHIR] == list(alone.messages(24 * 9))
    assert [m.time for m in merged] == sorted(m.time for m in merged)
    assert stream.__wrapped__()[1] == merged


def test_every_outcome_that_is_due_is_told_once() -> None:
    ward, merged = stream()
    sent = Counter(m.body for m in merged if "patient" in body(m))
    registry = Registry(3, scale=1 / 6)
    due = Counter(
        registry.message(each, telling).body
        for each in ward.courses
        for telling in registry.of(each)
        if telling.at <= merged[-1].time
    )
    assert sent == due
    assert {body(m)["authority"] for m in merged if "authority" in body(m)} == {
        "provisional",
        "coded",
        "final",
    }


def test_after_progress_nothing_new_is_told_of_the_time_before() -> None:
    ward, merged = stream()
    settled = {each.encounter: Registry(3, scale=1 / 6).of(each)[-1].at for each in ward.courses}
    reached = START
    marks = 0
    for message in (m for m in merged if "complete_through" in body(m)):
        through = datetime.fromisoformat(body(message)["complete_through"])
        assert reached <= through <= message.time
        marks += through > reached
        reached = through
        for each in ward.courses:
            if each.admitted_at + timedelta(milliseconds=1) < through:
                assert settled[each.encounter] <= message.time
    assert marks > 3


def test_what_is_left_can_be_told_after_the_last_message() -> None:
    ward = Ward(np.random.default_rng(5), START, beds=4)
    end = START + timedelta(days=30)
    merged = list(with_outcomes(ward, ward.messages(60), Registry(3), until=end))
    final = [body(m)["encounter"] for m in merged if body(m).get("authority") == "final"]
    assert set(final) == {each.encounter for each in ward.courses}


def test_the_gateway_takes_every_outcome_under_the_names_of_ingest() -> None:
    ward, merged = stream()
    stays = {each.encounter: each for each in ward.courses}
    for message in (m for m in merged if m.route == OUTCOMES):
        at = (message.time - EPOCH) // timedelta(microseconds=1)
        name, records = HEARING.outcome(Arrival("ward", at, 1), message.body)
        said = body(message)
        assert name == said["id"]
        if "patient" not in said:
            assert len(records) == 4
            continue
        heard = CODEC.decode(records[0].value or b"", Outcome)
        assert heard.pseudonym == patient_pseudonym(KEY, "ward", stays[said["encounter"]].patient)
        assert heard.encounter == encounter_pseudonym(KEY, "ward", said["encounter"])
        assert records[0].partition == partition_of(heard.pseudonym, 4)


def test_ids_differ_and_tell_nothing_of_the_stay() -> None:
    ward, merged = stream()
    ids = [body(m)["id"] for m in merged if m.route == OUTCOMES]
    assert len(set(ids)) == len(ids)
    for each in ward.courses:
        for part in (each.patient, each.encounter, each.encounter.removeprefix("stay-")):
            assert not any(part in name for name in ids)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, 1 / 6, 1.0]))
def test_any_ward_with_any_registry_stays_in_order(seed: int, scale: float) -> None:
    ward = Ward(np.random.default_rng(seed), START, beds=4)
    times = [m.time for m in with_outcomes(ward, ward.messages(50), Registry(seed, scale=scale))]
    assert times == sorted(times)
