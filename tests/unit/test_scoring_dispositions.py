"""Every offset has one entry, and its disposition says what became of the record."""

import hashlib
from typing import Any

import msgspec
import numpy as np
import pytest
import wards
from hypothesis import given, settings
from hypothesis import strategies as st
from wards import (
    CODEC,
    HOUR,
    MINUTE,
    POLICY,
    START,
    Run,
    admitted,
    identified,
    log,
    measured,
    person,
    replay,
    retracted,
    scorer,
    tick,
)

from services.core.cohorts import DIMENSIONS
from services.core.errors import Stop
from services.core.events import Cause, DeadLetter, Flag, Identity, Kind, Step, Vitals
from services.core.features import FEATURES
from services.core.policy import Abstain, Policy
from services.runtime.ports import Record
from services.scoring.watermark import Watermark

SCORED = ("SCORED", Cause.NONE)
LATE = ("SCORED", Cause.LATE)
DUPLICATE = ("DUPLICATE", Cause.NONE)
CONFLICT = ("CONFLICT", Cause.NONE)
STATE_ONLY = ("STATE_ONLY", Cause.NONE)
NOTHING = ("STATE_ONLY", Cause.NOTHING_CHANGED)
TOO_LATE = ("STATE_ONLY", Cause.TOO_LATE)
UNUSABLE = ("ABSTAINED", Cause.UNUSABLE)
UNREADABLE = ("ABSTAINED", Cause.UNREADABLE)
TOO_FEW = ("ABSTAINED", Cause.TOO_FEW_VITALS)
TOO_OLD = ("ABSTAINED", Cause.TOO_OLD)

HR = measured("p", START, {"HR": 80})
FIXED = measured("p", START, {"HR": 90}, version=2)
GONE = retracted("p", START, ["HR"])
PRESSURE = measured("p", START, {"SBP": 120, "DBP": 70}, ids={"SBP": "bp", "DBP": "bp"})
PRESSURE_GONE = retracted("p", START, ["any"], ids={"any": "bp"}, version=2)
E1, E2 = person("e1"), person("e2")


def outcomes(run: Run) -> list[tuple[str, int]]:
    return [(entry["disposition"], entry["cause"]) for entry in run.entries]


LAWS: dict[str, tuple[list[Vitals | bytes | None], list[tuple[str, Cause]]]] = {
    "D01 the same message twice": ([HR, HR], [SCORED, DUPLICATE]),
    "D02 the same version with another value": (
        [HR, measured("p", START, {"HR": 81})],
        [SCORED, CONFLICT],
    ),
    "D02 the same version at another time": (
        [HR, measured("p", START + 1, {"HR": 80}, ids={"HR": f"p/{START}/HR"})],
        [SCORED, CONFLICT],
    ),
    "D03 a correction after its first version": ([HR, FIXED], [SCORED, SCORED]),
    "D03 a correction before its first version": ([FIXED, HR], [SCORED, NOTHING]),
    "D04 a value that was entered in error": (
        [HR, measured("p", START, {"SBP": 99}), GONE],
        [SCORED, SCORED, SCORED],
    ),
    "D04 the only value was entered in error": ([HR, GONE], [SCORED, TOO_FEW]),
    "D05 a retraction before its value": ([GONE, HR], [NOTHING, NOTHING]),
    "D05 a retraction before its value, twice": ([GONE, GONE], [NOTHING, DUPLICATE]),
    "D05 a retraction of a whole resource before it": (
        [PRESSURE_GONE, PRESSURE, PRESSURE_GONE],
        [NOTHING, NOTHING, DUPLICATE],
    ),
    "a whole resource is taken back": ([PRESSURE, PRESSURE_GONE], [SCORED, TOO_FEW]),
    "a newer version comes after a retraction": ([HR, GONE, FIXED], [SCORED, TOO_FEW, SCORED]),
    "a retraction of a version that was corrected": (
        [HR, FIXED, GONE],
        [SCORED, SCORED, NOTHING],
    ),
    "T05 a value out of order": (
        [HR, measured("p", START - HOUR, {"HR": 70})],
        [SCORED, LATE],
    ),
    "T05 at the edge of the history": (
        [HR, measured("p", START - 23 * HOUR, {"HR": 70})],
        [SCORED, LATE],
    ),
    "T05 older than the history": (
        [HR, measured("p", START - 24 * HOUR, {"HR": 70}), HR],
        [SCORED, TOO_LATE, DUPLICATE],
    ),
    "T02 a year old when it was received": (
        [measured("p", START - 9000 * HOUR, {"HR": 190}, received_at=START), HR],
        [TOO_LATE, SCORED],
    ),
    "T02 before the epoch, by its own clock": (
        [measured("p", -5 * HOUR, {"HR": 80}), measured("p", -4 * HOUR, {"HR": 80})],
        [SCORED, SCORED],
    ),
    "a retraction received much later finds its value": (
        [HR, retracted("p", START, ["HR"], received_at=START + 90 * HOUR)],
        [SCORED, TOO_FEW],
    ),
    "a time beyond every calendar": (
        [measured("p", 1 << 60, {"HR": 190}), tick(1 << 60), HR],
        [UNREADABLE, UNREADABLE, SCORED],
    ),
    "K01 a tombstone": ([None, HR], [UNREADABLE, SCORED]),
    "K03 no event at all": ([b"x", b"\xc3\x01", HR], [UNREADABLE, UNREADABLE, SCORED]),
    "A03 a truncated event": ([CODEC.encode(HR)[:-1], HR], [UNREADABLE, SCORED]),
    "an event of another type": (
        [CODEC.encode(Identity(pseudonym=E1, key_epoch=0, ciphertext=b"")), HR],
        [UNREADABLE, SCORED],
    ),
    "columns of different lengths": (
        [msgspec.structs.replace(HR, ids=b"1234567"), HR],
        [UNREADABLE, SCORED],
    ),
    "a pseudonym of another length": (
        [measured("p", START, {"HR": 80}, pseudonym=b"ticks"), HR],
        [UNREADABLE, SCORED],
    ),
    "an encounter of another length": (
        [measured("p", START, {"HR": 80}, encounter=b"e"), HR],
        [UNREADABLE, SCORED],
    ),
    "nobody's observation": (
        [measured("p", START, {"HR": 80}, pseudonym=b""), HR],
        [UNREADABLE, SCORED],
    ),
    "a variable that nobody knows": ([measured("p", START, {"x": 1}), HR], [UNUSABLE, SCORED]),
    "a known variable beside an unknown one": (
        [measured("p", START, {"x": 1, "HR": 1})],
        [SCORED],
    ),
    "a value that may not be used": (
        [measured("p", START, {"HR": 10}, flags=Flag.UNUSUAL), HR],
        [UNUSABLE, CONFLICT],
    ),
    "a value that is absent": ([measured("p", START, {"HR": float("nan")})], [UNUSABLE]),
    "a value beyond float32": ([measured("p", START, {"Lactate": 1e300}), HR], [UNUSABLE, SCORED]),
    "no value at all": ([measured("p", START, {})], [NOTHING]),
    "a patient, an encounter, a tick": (
        [identified("p", START, age=50), admitted("p", START, "e1"), tick(START)],
        [STATE_ONLY, STATE_ONLY, STATE_ONLY],
    ),
    "an encounter that says nothing": (
        [wards.event(Kind.ENCOUNTER, "p", START), wards.event(Kind.PATIENT, "p", START)],
        [NOTHING, NOTHING],
    ),
    "a value of the encounter before": (
        [
            measured("p", START, {"HR": 80}, encounter=E1),
            measured("p", START + HOUR, {"HR": 80}, encounter=E2),
            measured("p", START + 2 * HOUR, {"HR": 80}, encounter=E1),
            measured("p", START + 3 * HOUR, {"HR": 80}, encounter=E2),
        ],
        [SCORED, SCORED, TOO_LATE, SCORED],
    ),
    "a late value of the encounter before, after an admission": (
        [
            measured("p", START, {"HR": 80}, encounter=E1),
            admitted("p", START + HOUR, "e2"),
            measured("p", START + 1, {"HR": 80}, encounter=E1),
            measured("p", START + HOUR, {"HR": 80}, encounter=E2),
        ],
        [SCORED, STATE_ONLY, TOO_LATE, SCORED],
    ),
    "an encounter that is planned, or was over before it was heard of": (
        [
            measured("p", START, {"HR": 80}, encounter=E1),
            admitted("p", START, "e2", "planned"),
            admitted("p", START, "e2", "finished"),
            HR,
        ],
        [SCORED, NOTHING, NOTHING, DUPLICATE],
    ),
}


@pytest.mark.parametrize(("events", "expected"), LAWS.values(), ids=LAWS)
def test_disposition(
    events: list[Vitals | bytes | None], expected: list[tuple[str, Cause]]
) -> None:
    assert outcomes(replay(events)) == expected
    entries: list[tuple[str, int]] = []
    rows: dict[bytes, bytes] = {}
    for record in log(events):
        run = Run(rows=rows).hand([record])
        rows = run.rows
        entries += outcomes(run)
    assert entries == expected, "with a restart after each record"


def test_a_record_that_is_no_event_leaves_a_dead_letter_without_a_byte_of_it() -> None:
    junk = b"patient Miller"
    run = Run().hand([Record("vitals.v1", 3, 7, 1_000, b"key", junk)])
    found = [each for each in run.outputs if each.topic == "dlq.v1"]
    assert len(found) == 1
    dead = wards.CODEC.decode(found[0].value or b"", DeadLetter)
    assert (dead.topic, dead.partition, dead.offset, dead.reason) == (
        *("vitals.v1", 3, 7),
        "SCHEMA_UNKNOWN",
    )
    assert dead.sha256 == hashlib.sha256(junk).digest()
    assert b"Miller" not in (found[0].value or b"")


def test_an_unknown_schema_stops_the_process_before_anything_is_lost() -> None:
    strange = b"\xc3\x01" + b"unknown!" + CODEC.encode(HR)[10:]
    with pytest.raises(Stop):
        replay([strange])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=80), st.integers(0, 600), st.integers(1, 255))
def test_whatever_a_record_holds_it_has_one_entry(junk: bytes, place: int, flip: int) -> None:
    whole = bytearray(CODEC.encode(measured("p", START, {"HR": 80, "SBP": 120, "pH": 7.4})))
    header = whole[:10]
    whole[10 + place % (len(whole) - 10)] ^= flip
    records = log([bytes(whole), bytes(header) + junk, HR])
    run = Run().hand(records)
    assert [entry["offset"] for entry in run.entries] == [record.offset for record in records]


def features_of_last(*events: Vitals) -> dict[str, float]:
    run = replay(list(events))
    names = [feature.name for feature in FEATURES]
    return dict(zip(names, run.features[-1].tolist(), strict=True))


def test_of_a_conflict_the_first_to_come_stands() -> None:
    other = measured("p", START, {"HR": 120})
    last = features_of_last(HR, other, measured("p", START, {"SBP": 100}))
    assert last["HR_last"] == 80


def test_a_bundle_that_repeats_a_reading_counts_it_once() -> None:
    twice = measured("p", START, {"HR": 80})
    doubled = wards.doubled(twice)
    assert outcomes(replay([doubled, twice])) == [SCORED, DUPLICATE]
    other = measured("p", START + MINUTE, {"HR": 120})
    ours, theirs = features_of_last(doubled, other), features_of_last(twice, other)
    assert ours == pytest.approx(theirs, nan_ok=True)
    assert ours["HR_mean_6h"] == 100


def test_another_encounter_begins_without_the_readings_of_the_last() -> None:
    first = measured("p", START, {"HR": 80, "Lactate": 3}, encounter=E1)
    other = measured("p", START + HOUR, {"Temp": 37}, encounter=E2)
    last = features_of_last(identified("p", START, age=61, sex="male"), first, other)
    assert np.isnan([last["HR_last"], last["Lactate_last"], last["HR_lowest_24h"]]).all()
    assert (last["Temp_last"], last["age"], last["sex"], last["HR_count"]) == (37, 61, 1, 0)


@pytest.mark.parametrize(
    ("hours", "same"), [(23, True), (24, True), (25, False)], ids=["23 h", "24 h", "25 h"]
)
def test_an_encounter_without_a_name_ends_after_a_day_of_silence(
    hours: int, *, same: bool
) -> None:
    later = measured("p", START + hours * HOUR, {"Temp": 37})
    first, second = replay([HR, later]).entries
    assert (first["encounter"] == second["encounter"]) is same
    assert np.isnan(features_of_last(HR, later)["HR_last"]) != same


def test_a_named_encounter_outlives_silence() -> None:
    first = measured("p", START, {"HR": 80}, encounter=E1)
    later = measured("p", START + 40 * HOUR, {"Temp": 37}, encounter=E1)
    last = features_of_last(first, later)
    assert (last["HR_last"], last["HR_age"], last["HR_hours_24h"]) == (80, 40, 0)


def test_a_measurement_without_encounter_belongs_to_the_open_one() -> None:
    run = replay([admitted("p", START, "e1"), measured("p", START + 30 * HOUR, {"HR": 80})])
    assert run.entries[-1]["encounter"] == E1


def test_a_measurement_without_encounter_after_the_discharge_begins_another() -> None:
    stay: dict[str, Any] = {"admitted_at": START, "ended_at": START + HOUR}
    run = replay(
        [
            measured("p", START, {"HR": 80}, encounter=E1),
            admitted("p", START + HOUR, "e1", "finished", **stay),
            measured("p", START + HOUR - 1, {"HR": 81}),
            measured("p", START + HOUR + 1, {"HR": 82}),
        ]
    )
    assert [entry["encounter"] == E1 for entry in run.entries] == [True, True, True, False]


def test_an_older_encounter_does_not_come_back_and_a_newer_one_does() -> None:
    run = replay(
        [
            admitted("p", START, "e2", admitted_at=START),
            admitted("p", START + 1, "e1", admitted_at=START - HOUR),
            measured("p", START + 2, {"HR": 80}),
            admitted("p", START + 3, "e3", admitted_at=START + 3),
            measured("p", START + 4, {"HR": 80}),
        ]
    )
    assert outcomes(run)[1] == NOTHING
    assert [run.entries[i]["encounter"] for i in (2, 4)] == [E2, person("e3")]


def test_a_retraction_neither_ages_the_patient_nor_begins_an_encounter() -> None:
    at = START + 40 * HOUR
    gone = retracted("p", at, ["HR"], ids={"HR": f"p/{START}/HR"})
    run = replay([HR, measured("p", START, {"SBP": 100}), gone])
    assert outcomes(run)[-1] == SCORED
    assert run.entries[-1]["as_of"] == START
    assert run.entries[-1]["encounter"] == run.entries[0]["encounter"]


VITAL_SIGNS = {"HR": 80.0, "SBP": 120.0, "Temp": 37.0}
STRICT = Policy(
    version="1", threshold=0.1, clear_below=0.1, abstain=Abstain(min_vitals=3, max_age_h=6)
)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([measured("p", START, {})], NOTHING),
        ([measured("p", START, {"Lactate": 2})], TOO_FEW),
        ([measured("p", START, {"HR": 80, "SBP": 120, "Lactate": 2})], TOO_FEW),
        ([measured("p", START, VITAL_SIGNS)], SCORED),
        ([measured("p", START, VITAL_SIGNS), measured("p", START + 6 * HOUR, {"pH": 7})], SCORED),
        ([measured("p", START, VITAL_SIGNS), measured("p", START + 7 * HOUR, {"pH": 7})], TOO_OLD),
        (
            [
                measured("p", START, VITAL_SIGNS),
                measured("p", START + 7 * HOUR, {"HR": 80, "SBP": 120}),
            ],
            TOO_OLD,
        ),
    ],
)
def test_too_little_or_too_old_input_gives_no_score_and_its_cause(
    events: list[Vitals], expected: tuple[str, Cause]
) -> None:
    run = replay(events, STRICT)
    assert outcomes(run)[-1] == expected
    entry = run.entries[-1]
    if expected != SCORED:
        assert (entry["score"], entry["threshold"], entry["decision"]) == (None, None, "NONE")
        assert not entry["features"]


def test_abstention_raises_no_alert() -> None:
    run = replay([measured("p", START, {"HR": 190, "SBP": 80})], STRICT)
    assert run.alerts == []


def test_the_slowest_source_that_is_heard_holds_the_watermark() -> None:
    watermark = Watermark()
    seen = []
    for source, minutes in [("a", 0), ("b", 10), ("a", 5), ("b", 50), ("b", 90), ("a", 20)]:
        watermark.tick(source, START + minutes * MINUTE)
        seen.append(((watermark.now or 0) - START) // MINUTE)
    assert seen == [0, 0, 5, 5, 90, 90]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-(10**12), 10**12)), min_size=1))
def test_a_watermark_never_goes_back_and_survives_a_restart(ticks: list[tuple[str, int]]) -> None:
    watermark, before = Watermark(), None
    for source, at in ticks:
        restored = Watermark()
        restored.load(dict(watermark.changes()).get(b"ticks"))
        watermark.tick(source, at)
        assert before is None or (watermark.now or 0) >= before
        before = watermark.now
        if restored.now is not None:
            restored.tick(source, at)
            assert restored.now == watermark.now


def test_patients_are_forgotten_two_days_after_their_last_measurement() -> None:
    run = Run(scorer(POLICY)).hand(log([HR, tick(START + 48 * HOUR)]))
    assert person("p") in run.patients
    run.hand(log([tick(START + 49 * HOUR)], first=100))
    assert person("p") not in run.patients


def test_an_open_alert_keeps_its_patient() -> None:
    policy = Policy(version="1", threshold=0.6, clear_below=0.5, valid_for_h=100)
    policy = msgspec.structs.replace(policy, abstain=Abstain(min_vitals=1))
    high = measured("p", START, {"HR": 190})
    run = Run(scorer(policy)).hand(log([high, tick(START + 60 * HOUR)]))
    assert person("p") in run.patients
    run.hand(log([tick(START + 101 * HOUR)], first=100))
    assert [alert.step for alert in run.alerts] == [Step.RAISED, Step.CLEARED]
    assert person("p") not in run.patients


def test_somebody_who_was_never_measured_is_remembered_for_a_month() -> None:
    run = Run().hand(log([identified("p", START, age=50.0), tick(START + 29 * 24 * HOUR)]))
    assert person("p") in run.patients
    run.hand(log([tick(START + 31 * 24 * HOUR)], first=100))
    assert person("p") not in run.patients


def cohort_of_last(dimension: str, *events: Vitals) -> str:
    entry = replay([*events, measured("p", START + HOUR, {"HR": 80})]).entries[-1]
    return str(dict(zip(DIMENSIONS, entry["cohorts"], strict=True))[dimension])


def test_a_payer_that_is_told_alone_leaves_the_rest_and_stays_until_another_is_told() -> None:
    told = identified("p", START, sex="female", birth_sex="male", language="es")
    paid = identified("p", START + 1, payer="medicaid")
    for events in ((told, paid), (paid, told)):
        found = {name: cohort_of_last(name, *events) for name in DIMENSIONS}
        assert (found["sex"], found["birth_sex"], found["language"]) == ("female", "male", "es")
        assert found["payer"] == "medicaid"
    other = identified("p", START + 2, payer="private")
    assert cohort_of_last("payer", paid, told, other) == "private"
