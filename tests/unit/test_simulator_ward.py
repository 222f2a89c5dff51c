"""The simulated ward: seeded, plausible, legal FHIR that ingest reads, and with a known truth."""

import functools
import json
import re
from collections import Counter
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from fhir.resources.R4B import get_fhir_model_class

from services.core.events import Flag
from services.core.terminology.book import TABLES, Terminology
from services.core.vitals import UNITS, VARIABLE_INDEX, VARIABLES
from services.ingest.normalise.findings import Measured, Moved, Noted, Person
from services.ingest.normalise.findings import Message as Raw
from services.ingest.normalise.message import Reader
from services.local.home import REPO
from services.simulator import fhir
from services.simulator.hospital import HOSPITAL, PHYSIOLOGY, TOWN
from services.simulator.messages import START, Message
from services.simulator.people import identifiers
from services.simulator.physiology import DECIMALS, LATENT, true_hours
from services.simulator.trouble import NO_TROUBLE, Trouble
from services.simulator.ward import Course, Ward

TERMINOLOGY = Terminology.parse(
    {name: (REPO / "schemas/terminology" / name).read_text() for name in TABLES}
)


def ward(seed: int = 7, *, beds: int = 8, trouble: Trouble = NO_TROUBLE) -> Ward:
    return Ward(np.random.default_rng(seed), START, beds=beds, trouble=trouble)


def resources(message: Message) -> list[dict[str, Any]]:
    content = json.loads(message.body)
    return [entry["resource"] for entry in content["entry"]] if "entry" in content else [content]


def observations(messages: list[Message]) -> list[dict[str, Any]]:
    found = [resource for message in messages for resource in resources(message)]
    return [resource for resource in found if resource["resourceType"] == "Observation"]


def raw(message: Message) -> Raw:
    received = round(message.time.timestamp() * 1e6)
    return Raw(
        body=message.body,
        source=message.source,
        received_at=received,
        accepted_at=received,
        ingest_id="0",
        partition=0,
        offset=0,
    )


@functools.cache
def stays() -> list[tuple[Any, Course]]:
    """Draw 1500 stays without writing them down."""
    hospital = ward(beds=20)
    chances = np.random.default_rng(7).spawn(1500)
    drawn = [hospital._admit(hospital.beds[n % 20], rng, 0.0) for n, rng in enumerate(chances)]
    return [(stay, course) for stay, course, _ in drawn]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    first = list(ward(trouble=Trouble()).messages(30))
    assert first == list(ward(trouble=Trouble()).messages(30))
    assert first != list(ward(8, trouble=Trouble()).messages(30))


def test_messages_come_in_order_of_time_and_nothing_is_sent_before_it_was_measured() -> None:
    sent = list(ward(trouble=Trouble()).messages(72))
    assert [m.time for m in sent] == sorted(m.time for m in sent)
    for message in sent:
        for one in observations([message]) if message.observations else []:
            assert datetime.fromisoformat(one["effectiveDateTime"]) <= message.time


def test_a_stay_begins_with_its_patient_and_ends_with_its_discharge() -> None:
    place = ward()
    lanes: dict[str, list[Message]] = {}
    for message in place.messages(24 * 9):
        lanes.setdefault(message.lane, []).append(message)
    ended = [c for c in place.courses if c.ended_at < START + timedelta(hours=24 * 9)]
    assert len(ended) > 8
    for course in ended:
        first, *_, last = lanes[course.patient]
        assert resources(first)[0]["resourceType"] == "Patient"
        assert resources(first)[-1]["status"] == "in-progress"
        assert [r["status"] for r in resources(last)] == ["finished"]
        assert (first.time, last.time) == (course.admitted_at, course.ended_at)
        assert timedelta(days=1) <= last.time - first.time <= timedelta(days=8)


def test_after_the_first_hour_nearly_every_bed_is_taken() -> None:
    place = ward(beds=40)
    assert list(place.messages(24 * 14))
    for hour in range(1, 24 * 14, 5):
        at = START + timedelta(hours=hour)
        taken = sum(course.admitted_at <= at < course.ended_at for course in place.courses)
        assert 34 <= taken <= 40


def test_every_resource_is_legal_fhir() -> None:
    place = ward(trouble=Trouble(corrected=0.05, retracted=0.05, out_of_scope=0.2, bad=0))
    kinds: Counter[str] = Counter()
    for message in place.messages(20):
        get_fhir_model_class("Bundle").model_validate(json.loads(message.body))
        for resource in resources(message):
            get_fhir_model_class(resource["resourceType"]).model_validate(resource)
            kinds[resource["resourceType"]] += 1
    assert {"Patient", "Coverage", "Encounter", "Observation"} == set(kinds)
    assert kinds["Observation"] > 400


def test_ingest_reads_back_every_value_that_was_charted() -> None:
    place = ward(beds=12)
    charts: dict[Any, Any] = {}
    admit = place._admit
    place._admit = lambda *given: charts.setdefault(given[2], admit(*given))  # type: ignore[method-assign]  # to see the charts
    read: dict[tuple[str, str], float] = {}
    for message in place.messages(40):
        reader = Reader(raw(message), TERMINOLOGY)
        entries = reader.entries()
        assert (len(entries), reader.refused) == (message.entries, [])
        for finding in (entry.finding for entry in entries):
            assert isinstance(finding, Measured | Person | Moved | Noted)
            if isinstance(finding, Measured):
                for reading in finding.readings:
                    assert not reading.flags & Flag.UNUSABLE & ~Flag.INCONSISTENT
                    name = VARIABLES[reading.variable]
                    row = finding.identifier.split("-")[2]
                    read[f"{finding.encounter}-{row}", name] = reading.value
    charted = {
        (f"{stay.place.person.encounter}-{row}", VARIABLES[column]): stay.chart.values[row, column]
        for stay, _, _ in charts.values()
        for row, column in np.argwhere(~np.isnan(stay.chart.values))
        if stay.admitted + timedelta(seconds=int(stay.chart.sent_s[row]))
        < START + timedelta(hours=40)
    }
    assert set(read) == set(charted)
    assert len(read) > 2000
    for key, value in read.items():
        rounding = 0.5 * 10 ** -DECIMALS[key[1]] + 0.011 * abs(value)
        assert value == pytest.approx(charted[key], abs=rounding)


def test_units_send_their_own_units_and_codes() -> None:
    seen = set()
    place = ward(beds=20)
    sent = list(place.messages(48))
    unit_of = {course.encounter: course.unit for course in place.courses}
    names = {code: name for name, code in fhir.PRIMARY.items()} | {
        "14749-6": "Glucose",
        "14682-9": "Creatinine",
    }
    for one in observations(sent):
        if "valueQuantity" in one:
            unit = unit_of[one["encounter"]["reference"].removeprefix("Encounter/")]
            code = one["code"]["coding"][0]["code"]
            seen.add((unit, names[code], code, one["valueQuantity"]["code"]))
    assert ("ICU-SOUTH", "Temp", "8310-5", "[degF]") in seen
    assert ("ICU-SOUTH", "PaCO2", "2019-8", "kPa") in seen
    assert ("WARD-EAST", "Glucose", "14749-6", "mmol/L") in seen
    assert ("WARD-EAST", "Creatinine", "14682-9", "umol/L") in seen
    sends = {unit.name: unit.sends for unit in HOSPITAL.units}
    assert all(code == sends[unit].get(name, UNITS[name]) for unit, name, _, code in seen)


def test_ids_are_legal_and_a_version_of_one_is_sent_with_one_content() -> None:
    sent = list(ward(trouble=Trouble(duplicate=0.1, corrected=0.1, bad=0)).messages(48))
    contents: dict[tuple[str, str], set[str]] = {}
    for one in observations(sent):
        assert re.fullmatch(r"[A-Za-z0-9.-]{1,64}", one["id"])
        key = (one["id"], one["meta"]["versionId"])
        contents.setdefault(key, set()).add(json.dumps(one))
    assert all(len(said) == 1 for said in contents.values())
    assert {version for _, version in contents} == {"1", "2"}


def test_every_trouble_can_be_switched_off_without_moving_the_rest() -> None:
    calm = list(ward().messages(60))
    noisy = list(
        ward(trouble=Trouble(late=0, corrected=0, retracted=0.1, out_of_scope=0)).messages(60)
    )
    added = Counter(m.body for m in noisy) - Counter(m.body for m in calm)
    assert not Counter(m.body for m in calm) - Counter(m.body for m in noisy)
    assert added


def test_a_duplicate_is_the_same_bytes_later() -> None:
    troubled = Trouble(late=0, corrected=0, retracted=0, bad=0, out_of_scope=0, duplicate=0.2)
    sent = list(ward(trouble=troubled).messages(60))
    times: dict[bytes, list[datetime]] = {}
    for message in sent:
        times.setdefault(message.body, []).append(message.time)
    assert {len(at) for at in times.values()} == {1, 2}
    share = np.mean([len(at) == 2 for at in times.values()])
    assert 0.1 < share < 0.25


def test_a_correction_brings_the_right_value_as_version_two() -> None:
    troubled = Trouble(late=0, corrected=0.2, retracted=0, bad=0, out_of_scope=0, duplicate=0)
    right = {one["id"]: one for one in observations(list(ward().messages(60)))}
    sent = observations(list(ward(trouble=troubled).messages(60)))
    second = {one["id"]: one for one in sent if one["meta"]["versionId"] == "2"}
    first = {one["id"]: one for one in sent if one["meta"]["versionId"] == "1"}
    assert len(second) > 20
    for identity, one in second.items():
        assert one["status"] == "amended"
        assert one["valueQuantity"] == right[identity]["valueQuantity"]
        assert first[identity]["valueQuantity"]["value"] > one["valueQuantity"]["value"]


def test_a_retraction_names_what_was_sent_before() -> None:
    troubled = Trouble(late=0, corrected=0, retracted=0.1, bad=0, out_of_scope=0, duplicate=0)
    seen: set[str] = set()
    retracted = 0
    for one in observations(list(ward(trouble=troubled).messages(60))):
        if one["status"] == "entered-in-error":
            retracted += 1
            assert one["id"] in seen
        seen.add(one["id"])
    assert retracted > 10


def test_what_nobody_can_use_stands_beside_what_everybody_can() -> None:
    calm = {m.body for m in ward().messages(60)}
    troubled = Trouble(late=0, corrected=0, retracted=0, bad=0.1, out_of_scope=0, duplicate=0)
    sent = list(ward(trouble=troubled).messages(60))
    bad = [m for m in sent if m.body not in calm]
    assert calm <= {m.body for m in sent}
    refused = set()
    for message in bad:
        try:
            reader = Reader(raw(message), TERMINOLOGY)
        except Exception as error:  # noqa: BLE001 - which ones is asserted below
            refused.add(str(getattr(error, "reason", error)))
        else:
            assert all(entry.fate == "dead" for entry in reader.entries())
            refused |= {str(one.reason) for one in reader.refused}
    assert refused == {"JSON_SYNTAX", "UNIT_UNKNOWN", "SUBJECT", "FHIR_STATUS"}


def test_late_reports_come_hours_after_they_were_taken() -> None:
    troubled = Trouble(late=1, corrected=0, retracted=0, bad=0, out_of_scope=0, duplicate=0)
    delays_h = [
        (message.time - datetime.fromisoformat(one["effectiveDateTime"])) / timedelta(hours=1)
        for message in ward(trouble=troubled).messages(60)
        for one in observations([message])
        if one["category"][0]["coding"][0]["code"] == "laboratory"
    ]
    assert np.median(delays_h) > 3


def test_onset_lies_in_the_stay_and_about_one_stay_in_ten_is_septic() -> None:
    courses = [course for _, course in stays()]
    septic = [course for course in courses if course.onset_at]
    assert 0.06 < len(septic) / len(courses) < 0.15
    for course in septic:
        assert course.onset_at
        assert course.admitted_at + timedelta(hours=12) <= course.onset_at <= course.ended_at
        assert course.severity > 0
    assert all(course.severity == 0 for course in courses if not course.onset_at)


def test_septic_courses_move_the_signs_in_the_direction_of_the_illness() -> None:
    moved: dict[str, list[float]] = {name: [] for name in ("HR", "Resp", "MAP", "Lactate", "WBC")}
    for stay, course in stays():
        if not course.onset_at:
            continue
        onset_min = (course.onset_at - course.admitted_at) / timedelta(minutes=1)
        since = stay.chart.measured_min - onset_min
        before, during = since < -600, (since > 0) & (since < 360)
        for name, changes in moved.items():
            value = stay.chart.values[:, VARIABLE_INDEX[name]]
            pair = [value[part & ~np.isnan(value)] for part in (before, during)]
            if all(len(part) for part in pair):
                changes.append(float(pair[1].mean() - pair[0].mean()))
    assert all(len(changes) > 30 for changes in moved.values())
    mean = {name: np.mean(changes) for name, changes in moved.items()}
    assert mean["HR"] > 10
    assert mean["Resp"] > 3
    assert mean["MAP"] < -7
    assert mean["Lactate"] > 1
    assert mean["WBC"] > 3


def test_a_drift_loses_half_in_its_half_life_and_has_its_spread() -> None:
    truth = true_hours(np.random.default_rng(1), 60_000, first_local_hour=0.0, illnesses=[])
    hours = np.arange(len(truth)) % 24
    for place, name in enumerate(LATENT):
        row = PHYSIOLOGY[name]
        series = truth[:, place]
        daily = np.array([series[hours == hour].mean() for hour in range(24)])
        drift = series - daily[hours]
        lag = max(round(row.half_h), 1)
        correlation = np.corrcoef(drift[:-lag], drift[lag:])[0, 1]
        assert correlation == pytest.approx(0.5 ** (lag / row.half_h), abs=0.06)
        assert drift.std() == pytest.approx(row.drift, rel=0.15)
        if row.day and row.half_h <= 6:
            assert daily.argmax() in range(14, 21)


def test_charting_has_gaps_and_the_pace_of_the_unit() -> None:
    gaps: dict[str, list[int]] = {}
    for stay, _ in stays()[:200]:
        rounds = np.sort(stay.chart.measured_min[~stay.chart.lab])
        gaps.setdefault(stay.place.bed.unit.name, []).extend(np.diff(rounds).tolist())
    for unit in HOSPITAL.units:
        assert np.median(gaps[unit.name]) == pytest.approx(unit.round_min, abs=3)
        assert max(gaps[unit.name]) > 2.5 * unit.round_min


def test_identifiers_are_nobody_elses_and_stand_in_the_messages() -> None:
    place = ward(beds=20)
    bodies = b"".join(m.body for m in place.messages(24 * 8)).decode()
    assert len(place.people) > 30
    unique = [
        text for person in place.people for text in identifiers(person) if not _is_date(text)
    ]
    assert len(set(unique)) == len(unique)
    for person in place.people:
        assert all(text in bodies and len(text) >= 8 for text in identifiers(person))


def test_people_are_of_every_kind_the_monitor_tells_apart() -> None:
    people = [stay.place.person for stay, _ in stays()]
    for dimension in ("sex", "race", "ethnicity", "payer", "language"):
        shares = Counter(getattr(person, dimension) for person in people)
        assert set(shares) == set(getattr(TOWN, dimension))
    ages = [(START.date() - person.born).days / 365.25 for person in people]
    assert 18 <= min(ages) < 30
    assert 85 < max(ages) < 98


def test_demographics_reach_ingest_in_the_words_of_the_cohorts() -> None:
    place = ward(beds=40)
    seen: Counter[str] = Counter()
    for message in place.messages(1.5):
        for entry in Reader(raw(message), TERMINOLOGY).entries():
            if isinstance(entry.finding, Person):
                told = entry.finding.demographics
                seen.update(
                    word
                    for word in (told.sex, told.race, told.ethnicity, told.payer, told.language)
                    if word
                )
    assert {"male", "female", "White", "Not Hispanic or Latino", "medicare", "en"} <= set(seen)


def test_devices_differ_in_their_error_and_belong_to_their_bed() -> None:
    place = ward(beds=40)
    offsets = [bed.monitor.offset["MAP"] for bed in place.beds]
    assert 0.4 < np.std(offsets) < 2
    assert len({bed.monitor.identity for bed in place.beds}) == 40
    assert all(
        one["device"]["reference"].startswith("Device/")
        for one in observations(list(place.messages(3)))
    )


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
