"""Baselines: frozen once, read back as they were, in force when they were put into use."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import builders
import msgspec
import numpy as np
import pytest
from builders import REPO, terminology
from hypothesis import given
from hypothesis import strategies as st
from wards import CODEC, HOUR, entries_of, scorer

from services.core.baseline import (
    EVERYBODY,
    SCHEMA,
    VITAL_FEATURES,
    Baseline,
    Baselines,
    CohortReference,
    decode,
    encode,
)
from services.core.errors import Reason, Refusal
from services.core.events import PredictionBatch
from services.core.freeze import PatientHours, Period, freeze
from services.core.pseudonyms import patient_pseudonym
from services.core.stats.drift import bin_of
from services.core.stats.sketches import SMALLEST_CELL, histogram
from services.core.vitals import VITALS
from services.runtime.ports import Record
from services.scoring.pipeline import Scoring
from services.simulator.messages import START, instant
from services.simulator.unchanged import joined, unchanged
from services.simulator.ward import Ward

WARD = REPO / "services" / "simulator" / "baselines" / "ward.json"
NORTH, SOUTH = 130, 90
"""Patients of two units; the second is too small for a reference of its own."""


@pytest.fixture(scope="module")
def given_hours() -> PatientHours:
    """A ward in which EtCO2 is never measured, MAP is 80 or 90, and SBP is always there."""
    chance = np.random.default_rng(1)
    lengths = chance.integers(3, 50, NORTH + SOUTH)
    patient = np.repeat(np.arange(len(lengths)), lengths)
    hour = np.concatenate([np.arange(length) for length in lengths])
    values = np.round(chance.normal(50, 10, (len(patient), len(VITALS))), 1)
    values[chance.random(values.shape) < 0.3] = np.nan
    values[:, VITALS.index("MAP")] = chance.choice([80.0, 90.0], len(patient), p=[0.95, 0.05])
    values[:, VITALS.index("SBP")] = 120 + chance.integers(30, size=len(patient))
    values[:, VITALS.index("EtCO2")] = np.nan
    return PatientHours(patient, hour, values, ["NORTH"] * NORTH + ["SOUTH"] * SOUTH)


@pytest.fixture(scope="module")
def frozen(given_hours: PatientHours) -> Baseline:
    return freeze(np.random.default_rng(2), given_hours, Period("test", 0, HOUR), draws=200)


@pytest.fixture(scope="module")
def shipped() -> Baseline:
    return decode(WARD.read_bytes())


def test_a_baseline_comes_back_as_it_was_and_its_digest_is_that_of_the_bytes(
    frozen: Baseline,
) -> None:
    content = encode(frozen)
    assert decode(content) == frozen
    assert encode(decode(content)) == content
    assert decode(content).digest == frozen.digest == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda body: body.update(schema="vigil.baseline/2"), Reason.SCHEMA_UNKNOWN),
        (lambda body: body.update(more=1), Reason.SCHEMA_UNKNOWN),
        (lambda body: body.pop("cohorts"), Reason.SCHEMA_UNKNOWN),
        (lambda body: body["cohorts"].pop(EVERYBODY), Reason.SCHEMA_UNKNOWN),
        (
            lambda body: body["cohorts"][EVERYBODY]["features"]["HR"]["weights"].pop(),
            Reason.SCHEMA_UNKNOWN,
        ),
        (
            lambda body: body["cohorts"][EVERYBODY]["features"]["HR"]["nulls"][0]["psi"].pop(),
            Reason.SCHEMA_UNKNOWN,
        ),
    ],
)
def test_what_is_no_baseline_is_refused_by_a_code(
    frozen: Baseline, change: Any, reason: Reason
) -> None:
    body = json.loads(encode(frozen))
    change(body)
    with pytest.raises(Refusal) as refused:
        decode(json.dumps(body).encode())
    assert refused.value.reason is reason


@given(st.binary())
def test_bytes_that_are_no_json_are_refused(content: bytes) -> None:
    with pytest.raises(Refusal):
        decode(content)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9)), max_size=8), st.integers(0, 20))
def test_the_latest_one_is_in_force_and_of_two_at_once_the_one_published_later(
    published: list[tuple[int, int]], start: int
) -> None:
    named = [
        (since, Baseline(kind="site", name=str(name), cohorts={})) for since, name in published
    ]
    in_force = None
    for since, baseline in named:
        if since <= start and (in_force is None or since >= in_force[0]):
            in_force = (since, baseline)
    found = Baselines(named).at(start)
    assert found is (in_force[1] if in_force else None)


def test_a_unit_has_a_reference_of_its_own_from_a_hundred_patients_on(frozen: Baseline) -> None:
    assert {name: of.patients for name, of in frozen.cohorts.items()} == {
        EVERYBODY: NORTH + SOUTH,
        "unit=NORTH": NORTH,
    }


def test_too_few_patients_make_no_baseline(given_hours: PatientHours) -> None:
    rows = given_hours.patient < 99
    few = PatientHours(
        given_hours.patient[rows], given_hours.hour[rows], given_hours.values[rows], ["A"] * 99
    )
    with pytest.raises(ValueError, match="100 patients"):
        freeze(np.random.default_rng(1), few, Period("few"), draws=100)


def test_histograms_are_those_of_training(frozen: Baseline, given_hours: PatientHours) -> None:
    found = frozen.cohorts[EVERYBODY].features["HR"]
    measured = ~np.isnan(given_hours.values[:, 0])
    values = given_hours.values[measured, 0].astype(np.float32)
    known = histogram(values, given_hours.patient[measured], np.array(found.edges, np.float32))
    assert found.weights == pytest.approx(known.weight.tolist(), abs=1e-6)
    assert found.patients == known.total
    assert min(known.patients) >= SMALLEST_CELL
    assert bin_of(found.edges, found.edges).tolist() == list(range(len(found.edges)))


def test_presence_weighs_existing_hours(frozen: Baseline, given_hours: PatientHours) -> None:
    found = frozen.cohorts[EVERYBODY].features["HR.presence"]
    present = ~np.isnan(given_hours.values[:, 0])
    shares = [present[given_hours.patient == who].mean() for who in range(NORTH + SOUTH)]
    assert found.weights[1] == pytest.approx(sum(shares), abs=1e-5)
    assert found.mean == pytest.approx(np.mean(shares))
    assert sum(found.weights) == pytest.approx(NORTH + SOUTH)


def test_the_hours_of_a_window_are_those_of_stays_cut_by_one_anywhere() -> None:
    patient, hour = np.repeat(np.arange(200), 30), np.tile(np.arange(30), 200)
    values = np.random.default_rng(1).normal(50, 9, (len(patient), len(VITALS)))
    given_hours = PatientHours(patient, hour, values, ["A"] * 200)
    found = freeze(np.random.default_rng(1), given_hours, Period("even"), sizes=(), draws=10)
    assert found.cohorts[EVERYBODY].window_hours == pytest.approx(30 * 24 / (30 + 23), rel=0.02)


def test_what_never_varies_is_no_feature(frozen: Baseline) -> None:
    known = frozen.cohorts[EVERYBODY].features
    assert {"EtCO2", "EtCO2.presence", "SBP.presence", "MAP.presence"}.isdisjoint(known)
    assert {"SBP", "MAP", "HR", "HR.presence"} <= set(known)


def test_few_distinct_values_are_categories(frozen: Baseline) -> None:
    found = frozen.cohorts[EVERYBODY].features["MAP"]
    assert found.edges == (80.0,)
    assert len(found.weights) == 2


def test_the_same_seed_freezes_the_same_bytes(given_hours: PatientHours, frozen: Baseline) -> None:
    again = freeze(np.random.default_rng(2), given_hours, Period("test", 0, HOUR), draws=200)
    assert encode(again) == encode(frozen)


def test_the_shipped_baseline_covers_the_family_and_fits_into_a_message(shipped: Baseline) -> None:
    assert (shipped.schema, shipped.kind, shipped.window_h) == (SCHEMA, "site", 24)
    assert len(WARD.read_bytes()) <= 300_000
    assert set(shipped.cohorts) == {
        EVERYBODY,
        *(f"unit={unit}" for unit in ("ICU-NORTH", "ICU-SOUTH", "WARD-EAST", "WARD-WEST")),
    }
    everybody = shipped.cohorts[EVERYBODY]
    assert everybody.patients == 2000
    assert set(everybody.features) == set(VITAL_FEATURES)
    for name in {*VITAL_FEATURES} - {"EtCO2"}:
        sizes = [null.patients for null in everybody.features[name].nulls]
        assert sizes == [20, 40, 60, 100, 200, 400]


def test_the_shipped_baseline_holds_no_cell_of_fewer_than_eleven(shipped: Baseline) -> None:
    for cohort in shipped.cohorts.values():
        for feature in cohort.features.values():
            # A bin that eleven patients were in weighs next to nothing only by chance.
            assert min(feature.weights) > 1


def test_the_shipped_baseline_is_still_that_of_the_ward(shipped: Baseline) -> None:
    """A physiology that was changed since would leave it behind."""
    fresh = freeze(
        np.random.default_rng(1),
        unchanged(np.random.default_rng(5), terminology(), stays=300),
        Period("fresh"),
        sizes=(20,),
        draws=100,
    )
    for name, feature in fresh.cohorts[EVERYBODY].features.items():
        known = shipped.cohorts[EVERYBODY].features[name]
        spread = feature.sd * (1 / feature.patients + 1 / known.patients) ** 0.5
        assert abs(feature.mean - known.mean) < 4.5 * spread, name


Hours = dict[bytes, dict[int, tuple[float | None, ...]]]


def scored(ward: Ward, hours: int) -> Iterator[dict[str, Any]]:
    """Every entry with values that scoring counts, in order, of what ingest makes."""
    ingest, shared = builders.ingest(), scorer()
    tasks = {partition: Scoring(partition, shared) for partition in range(builders.PARTITIONS)}
    for number, message in enumerate(ward.messages(hours)):
        record = builders.record(message.body, offset=number, received=instant(message.time))
        vitals = [
            Record(made.topic, made.partition or 0, number, 0, made.key, made.value)
            for made in ingest.handle([record])
            if made.topic == "vitals.v1"
        ]
        outputs = [made for each in vitals for made in tasks[each.partition].handle([each])]
        for made in outputs:
            if made.topic == "predictions.v1":
                for entry in entries_of(CODEC.decode(made.value or b"", PredictionBatch)):
                    if entry["disposition"] in ("SCORED", "ABSTAINED") and entry["measured"]:
                        yield entry


def through_the_services(ward: Ward, hours: int) -> Hours:
    """The last value of each patient-hour; of two at one moment the one that came later."""
    latest: dict[tuple[bytes, int, str], tuple[int, float]] = {}
    exist: dict[bytes, set[int]] = defaultdict(set)
    for entry in scored(ward, hours):
        who, at = entry["pseudonym"], entry["measured_at"]
        exist[who].add(at // HOUR)
        for name, value in entry["measured"].items():
            key = (who, at // HOUR, name)
            if key not in latest or latest[key][0] <= at:
                latest[key] = (at, value)
    return {
        who: {
            hour: tuple(latest.get((who, hour, name), (0, None))[1] for name in VITALS)
            for hour in of
        }
        for who, of in exist.items()
    }


def without_the_wire(ward: Ward, hours: int) -> Hours:
    stays = [(stay, planned) for stay, _, planned in ward.stays(hours)]
    given = joined(stays, terminology())
    names = [
        patient_pseudonym(builders.PSEUDONYM_KEY, "west", stay.place.person.identity)
        for stay, _ in stays
    ]
    found: Hours = defaultdict(dict)
    for patient, hour, values in zip(given.patient, given.hour, given.values, strict=True):
        row = tuple(None if np.isnan(value) else float(value) for value in values)
        found[names[int(patient)]][int(hour)] = row
    return found


def test_patient_hours_without_the_wire_are_those_of_ingest_and_scoring() -> None:
    hours = 100
    settled = int((START + timedelta(hours=hours - 24)).timestamp()) // 3600
    wards = [Ward(np.random.default_rng(8), START, beds=8) for _ in range(2)]
    one, other = through_the_services(wards[0], hours), without_the_wire(wards[1], hours)
    compared = 0
    for who, rows in other.items():
        for hour, values in rows.items():
            if hour < settled:
                assert one[who][hour] == values
                compared += 1
    assert compared > 400
    assert compared == sum(hour < settled for rows in one.values() for hour in rows)


def test_a_reference_that_does_not_fit_cannot_be_made() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(
            {"patients": 1, "hours": 1, "features": {"HR": {"edges": [1.0], "weights": [1.0]}}},
            CohortReference,
        )
