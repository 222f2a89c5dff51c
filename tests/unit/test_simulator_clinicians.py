"""Invented clinicians: seeded, as good as their data file says, and in words the gateway takes."""

import functools
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.events import Alert, Feedback, Step, Verdict
from services.core.feedback import ACTIONS, REASONS, ROLES
from services.core.pseudonyms import encounter_pseudonym
from services.gateway.reception.hearing import Arrival, Hearing
from services.local.home import REPO
from services.runtime.codec import Codec
from services.simulator.clinicians import HABITS, Answer, Clinicians, Habits
from services.simulator.messages import START
from services.simulator.truth import Truth
from services.simulator.ward import Course, Ward

CODEC = Codec(REPO / "schemas")
HEARING = Hearing(b"k" * 32, CODEC.encode, {"feedback.v1": 4})
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MANY = 1500
SURE = 4.5
"""Standard deviations that chance does not reach in a test."""


def us(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def course(number: int, *, onset_h: float | None = 40.0, stay_h: float = 96.0) -> Course:
    return Course(
        patient=f"sim-{number}",
        encounter=f"stay-{number}",
        unit="ICU-NORTH",
        admitted_at=START,
        ended_at=START + timedelta(hours=stay_h),
        onset_at=None if onset_h is None else START + timedelta(hours=onset_h),
        severity=1.0,
    )


def alert(at_h: float = 36.0, *, encounter: bytes = b"e" * 16, offset: int = 7) -> Alert:
    measured_at = us(START + timedelta(hours=at_h))
    return Alert(
        alert_id=f"20d3-2-{offset}@1e6ed65d77d6",
        step=Step.RAISED,
        prediction_id=f"20d3-2-{offset}@1e6ed65d77d6",
        pseudonym=b"p" * 16,
        encounter=encounter,
        unit="ICU-NORTH",
        measured_at=measured_at,
        received_at=measured_at + 90_000_000,
        accepted_at=1,
        valid_until=measured_at + 1,
        score=0.7,
        threshold=0.5,
        cause="threshold",
        policy_version="1",
        model_digest="1e6ed65d77d6",
    )


@functools.cache
def answers(seed: int = 3, *, septic: bool = True) -> list[Answer | None]:
    clinicians = Clinicians(seed)
    onset_h = 40.0 if septic else None
    return [clinicians.answer(alert(), course(n, onset_h=onset_h)) for n in range(MANY)]


def given_answers(*, septic: bool = True) -> list[Answer]:
    return [each for each in answers(septic=septic) if each]


def near(hits: int, of: int, rate: float) -> bool:
    return abs(hits - of * rate) <= SURE * float(np.sqrt(of * rate * (1 - rate))) + 1


def test_the_same_seed_answers_the_same_and_another_does_not() -> None:
    clinicians = Clinicians(3)
    backwards = [clinicians.answer(alert(), course(n)) for n in reversed(range(200))]
    assert backwards[::-1] == answers()[:200]
    assert answers(4)[:200] != answers()[:200]


def test_an_answer_hangs_on_the_stay_and_not_on_the_key_of_the_stack() -> None:
    for number in range(50):
        one = Clinicians(3).answer(alert(encounter=b"1" * 16), course(number))
        other = Clinicians(3).answer(alert(encounter=b"2" * 16, offset=8), course(number))
        assert (one is None) == (other is None)
        if one and other:
            assert one._replace(alert_id=other.alert_id) == other


def test_they_answer_as_often_as_is_stated() -> None:
    assert near(len(given_answers()), MANY, HABITS.response_rate)


@pytest.mark.parametrize("septic", [True, False])
def test_they_are_right_as_often_as_is_stated(*, septic: bool) -> None:
    sure = [a for a in given_answers(septic=septic) if a.verdict is not Verdict.UNSURE]
    right = Verdict.CONFIRMED if septic else Verdict.DISMISSED
    assert near(sum(a.verdict is right for a in sure), len(sure), HABITS.accuracy)
    assert near(len(given_answers(septic=septic)) - len(sure),
                len(given_answers(septic=septic)), HABITS.unsure)  # fmt: skip  # one thought


@pytest.mark.parametrize("role", HABITS.roles)
def test_each_role_has_its_share_and_its_median_delay(role: str) -> None:
    habits = HABITS.roles[role]
    share = habits.share * habits.responds / HABITS.response_rate
    of_role = [a for a in given_answers() if a.role == role]
    assert near(len(of_role), len(given_answers()), share)
    delays_min = [(a.answered_at - a.shown_at).total_seconds() / 60 for a in of_role]
    off = abs(np.log(np.median(delays_min) / habits.delay_min))
    assert off <= SURE * 1.2533 * habits.spread / np.sqrt(len(of_role))


def changed(**changes: object) -> Habits:
    return msgspec.structs.replace(HABITS, **changes)


def everybody(**changes: float) -> Habits:
    roles = {n: msgspec.structs.replace(r, **changes) for n, r in HABITS.roles.items()}
    return changed(roles=roles, unsure=0.0)


@pytest.mark.parametrize(
    ("at_h", "onset_h", "verdict"),
    [
        (36.0, 40.0, Verdict.CONFIRMED),
        (44.0, 40.0, Verdict.CONFIRMED),
        (28.0, 40.0, Verdict.CONFIRMED),
        (27.9, 40.0, Verdict.DISMISSED),
        (36.0, None, Verdict.DISMISSED),
    ],
)
def test_who_is_never_wrong_confirms_what_has_its_onset_soon(
    at_h: float, onset_h: float | None, verdict: Verdict
) -> None:
    right = Clinicians(3, everybody(responds=1.0, accuracy=1.0))
    wrong = Clinicians(3, everybody(responds=1.0, accuracy=0.0))
    for number in range(20):
        told = right.answer(alert(at_h), course(number, onset_h=onset_h))
        untrue = wrong.answer(alert(at_h), course(number, onset_h=onset_h))
        assert told
        assert untrue
        assert told.verdict is verdict
        assert untrue.verdict is not verdict


def test_of_a_stay_that_nobody_knows_nothing_is_confirmed() -> None:
    told = Clinicians(3, everybody(responds=1.0, accuracy=1.0)).answer(alert(), None)
    assert told
    assert told.verdict is Verdict.DISMISSED


def test_who_never_responds_never_answers() -> None:
    silent = Clinicians(3, everybody(responds=0.0))
    assert not any(silent.answer(alert(), course(n)) for n in range(50))


def test_nobody_answers_for_a_patient_who_has_left() -> None:
    clinicians = Clinicians(3, everybody(responds=1.0))
    for number in range(300):
        short = course(number, stay_h=36.5)
        told = clinicians.answer(alert(), short)
        if told:
            assert max(told.answered_at, told.told_at) <= short.ended_at


@pytest.mark.parametrize("septic", [True, False])
def test_times_follow_each_other(*, septic: bool) -> None:
    received_at = EPOCH + timedelta(microseconds=alert().received_at)
    for told in given_answers(septic=septic):
        times = [received_at, told.shown_at, told.answered_at, *(at for _, at in told.actions)]
        assert times == sorted(times)
        assert told.told_at == times[-1]


def test_something_is_done_after_a_confirmation_and_nothing_after_a_dismissal() -> None:
    for told in given_answers():
        assert told.verdict is not Verdict.DISMISSED or not told.actions
    confirmed = [told for told in given_answers() if told.verdict is Verdict.CONFIRMED]
    for kind, followed in HABITS.actions.items():
        done = sum(any(k == kind for k, _ in told.actions) for told in confirmed)
        assert near(done, len(confirmed), followed.confirmed)


def test_the_data_file_speaks_the_words_of_the_gateway() -> None:
    assert set(HABITS.roles) <= set(ROLES)
    assert set(HABITS.reasons) | set(HABITS.doubts) <= {"", *REASONS}
    assert set(HABITS.actions) <= set(ACTIONS)
    assert sum(role.share for role in HABITS.roles.values()) == pytest.approx(1)


def test_the_gateway_takes_every_answer_as_it_was_meant() -> None:
    for told in given_answers()[:200] + given_answers(septic=False)[:200]:
        arrival = Arrival("clinicians", us(told.told_at), 1)
        (record,) = HEARING.feedback(arrival, told.body()).records
        heard = CODEC.decode(record.value or b"", Feedback)
        assert (heard.alert_id, heard.verdict, heard.role) == (*told[:2], told.role)
        assert (heard.reason, heard.answered_at) == (told.reason, us(told.answered_at))
        assert [(a.kind, a.at) for a in heard.actions] == [(k, us(at)) for k, at in told.actions]


@given(st.integers(0, 2**32), st.binary(min_size=16, max_size=16), st.floats(0, 95))
def test_any_alert_of_any_seed_can_be_answered(seed: int, encounter: bytes, at_h: float) -> None:
    told = Clinicians(seed).answer(alert(at_h, encounter=encounter), None)
    assert told is None or told.body()


def test_the_truth_is_found_by_pseudonym_while_the_ward_grows() -> None:
    ward, key = Ward(np.random.default_rng(5), START, beds=6), b"k" * 32
    truth = Truth(ward.courses, key)
    assert truth.of(b"e" * 16) is None
    for _ in ward.messages(24 * 6):
        pass
    assert len(ward.courses) > 8
    for each in ward.courses:
        assert truth.of(encounter_pseudonym(key, "ward", each.encounter)) is each
    assert truth.of(b"e" * 16) is None
