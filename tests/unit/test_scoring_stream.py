"""However a log is ordered, cut or interrupted, the same readings give the same features."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import wards
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from wards import (
    HOUR,
    MINUTE,
    START,
    Run,
    cut,
    first_difference,
    log,
    measured,
    replay,
    retracted,
    scorer,
    tick,
    ward_log,
)

from services.core.events import Demographics, Kind, Vitals
from services.core.features import FEATURES
from services.core.policy import Abstain, Policy
from services.core.vitals import VARIABLES
from services.local.home import REPO
from services.runtime.bundle import load
from services.runtime.model import OnnxModel
from services.runtime.ports import Output
from services.scoring.course import Course
from services.scoring.outputs import ALERTS
from services.scoring.patients.packing import COUNTS, KNOWN, READINGS, RUNS, SIZE
from services.scoring.patients.patient import FRONT_BYTES, Patient
from services.scoring.pipeline import Scorer, Scoring
from services.training.matrix import matrix
from services.training.source import Stays, read

quick = settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)

SCORE_ALL = Policy(
    version="1", threshold=1, clear_below=0, abstain=Abstain(min_vitals=1, max_age_h=8760)
)


def hourly_stays(seed: int, patients: int, hours: int) -> Stays:
    """Random stays with gaps, rare labs, and runs of hours in which nothing was measured."""
    random = np.random.default_rng(seed)
    rate = np.where(np.arange(len(VARIABLES)) < 8, 0.8, 0.06)
    values = random.normal(80, 20, (patients * hours, len(VARIABLES))).astype(np.float32)
    values[random.random(values.shape) > rate] = np.nan
    values[random.random(len(values)) < 0.2] = np.nan
    rows = np.arange(patients * hours)
    return Stays(
        ids=tuple(f"p{i}" for i in range(patients)),
        starts=np.arange(patients + 1) * hours,
        hour=rows % hours,
        values=values,
        age=np.repeat(np.float32(random.integers(20, 90, patients)), hours),
        sex=np.repeat(np.float32(random.integers(0, 2, patients)), hours),
        label=np.zeros(len(rows), np.int8),
        context=np.full((len(rows), 4), np.nan, np.float32),
        digest="",
    )


def streamed(stays: Stays) -> tuple[list[Vitals], NDArray[np.int64]]:
    """Every hour that has a value as an event, hour by hour through all patients, and its row."""
    events = []
    for patient, row in enumerate(stays.starts[:-1]):
        age, sex = float(stays.age[row]), "male" if stays.sex[row] else "female"
        demographics = Demographics(age=age, sex=sex)
        name = stays.ids[patient]
        events.append(wards.event(Kind.PATIENT, name, START, demographics=demographics))
    measurements = ~np.isnan(stays.values)
    rows = np.lexsort((stays.patient, stays.hour))
    rows = rows[np.any(measurements[rows], axis=1)]
    for row in rows:
        known = {
            VARIABLES[v]: float(stays.values[row, v]) for v in np.flatnonzero(measurements[row])
        }
        name, at = stays.ids[stays.patient[row]], START + int(stays.hour[row]) * HOUR
        events.append(measured(name, at + 17, known, encounter=wards.person(name)))
    return events, rows


def features_by_offset(run: Run) -> list[bytes]:
    return [entry["features"] for entry in run.entries if entry["kind"] is Kind.OBSERVATION]


def assert_stream_is_batch(stays: Stays, shared: Scorer) -> None:
    events, rows = streamed(stays)
    run = Run(shared)
    records = log(events)
    for start in range(0, len(records), 97):
        run.hand(records[start : start + 97])
    batch = shared.helm.crew_for(Course(), 0).champion.select(matrix(stays)[rows])
    abstained = [not row for row in features_by_offset(run)]
    assert run.features.tobytes() == batch[~np.array(abstained)].tobytes()
    assert sum(abstained) < len(rows) / 2


def test_the_stream_gives_the_features_of_training_bit_for_bit() -> None:
    assert_stream_is_batch(hourly_stays(seed=5, patients=25, hours=60), scorer(SCORE_ALL))


@pytest.mark.data
def test_recorded_patients_stream_to_the_features_of_training_bit_for_bit(
    shared_data: Path,
) -> None:
    stays = read(shared_data / "physionet2019" / "demo200.parquet")
    end = int(stays.starts[20])
    some = stays._replace(
        ids=stays.ids[:20],
        starts=stays.starts[:21],
        **{
            name: getattr(stays, name)[:end]
            for name in ("hour", "values", "age", "sex", "label", "context")
        },
    )
    assert_stream_is_batch(some, scorer(SCORE_ALL))


def test_the_shipped_model_is_fed_the_features_it_was_trained_on() -> None:
    path = REPO / "models" / "sepsis" / "1.0.0"
    if not path.is_dir():
        pytest.skip(reason="there is no bundle at models/sepsis/1.0.0")
    bundle = load(path)
    model = OnnxModel(bundle)
    shared = scorer(SCORE_ALL, onnx=model, select=bundle.select)
    stays = hourly_stays(seed=6, patients=6, hours=30)
    assert_stream_is_batch(stays, shared)
    events, _ = streamed(stays)
    run = Run(shared).hand(log(events))
    scores = [e["score"] for e in run.entries if e["disposition"] == "SCORED"]
    assert scores == model.score(run.features).tolist()


@st.composite
def messages(draw: st.DrawFn) -> list[Vitals]:
    """Messages about one patient within 20 hours, with corrections, retractions, duplicates."""
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    events = []
    for number in range(draw(st.integers(1, 14))):
        at = START + int(random.integers(0, 20 * 4)) * HOUR // 4
        names = random.choice(
            ["HR", "SBP", "Temp", "Lactate"], random.integers(1, 4), replace=False
        )
        resource = f"r{number}"
        ids = dict.fromkeys(names, resource)
        for version in range(1, 1 + int(random.choice([1, 1, 2, 3]))):
            some = names[: random.integers(1, len(names) + 1)]
            values = {name: random.integers(600, 1400) / 10 for name in some}
            flags = int(random.choice([0, 0, 0, 8]))
            events.append(measured("p", at, values, ids=ids, version=version, flags=flags))
        if random.random() < 0.5:
            gone = ["any"] if random.random() < 0.5 else names[:1]
            version = int(random.integers(0, 5))
            at = at if random.random() < 0.5 else START + 21 * HOUR
            taken_back = dict.fromkeys(gone, resource)
            events.append(retracted("p", at, gone, ids=taken_back, version=version))
    repeated = [each for each in events if random.random() < 0.2]
    last = measured("p", START + 22 * HOUR, {"HR": 80})
    return [measured("p", START, {"HR": 81}), *events, *repeated, last]


def final_features(events: Sequence[Vitals], shift: int = 23) -> list[bytes]:
    """What two later measurements are scored on: after the last message, and after a day's end."""
    probes = [
        measured("p", START + hours * HOUR + 1, {"Resp": 20}) for hours in (shift, shift + 18)
    ]
    run = replay([*events, *probes], SCORE_ALL)
    return [entry["features"] for entry in run.entries[-2:]]


def in_order(events: Sequence[Vitals]) -> list[Vitals]:
    return sorted(events, key=lambda each: (each.measured_at, each.versions, each.kind))


@quick
@given(st.data())
def test_any_order_of_arrival_ends_in_the_state_of_the_in_order_replay(
    data: st.DataObject,
) -> None:
    events = data.draw(messages())
    shuffled = data.draw(st.permutations(events))
    assert final_features(shuffled) == final_features(in_order(events))


@quick
@given(messages())
def test_a_log_handled_twice_changes_nothing(events: list[Vitals]) -> None:
    assert final_features([*events, *events]) == final_features(events)


def standing(events: Sequence[Vitals]) -> dict[tuple[bytes, int], tuple[int, float, int]]:
    """By definition: of each (resource, variable) the highest version, unless it was retracted."""
    values: dict[tuple[bytes, int], tuple[int, float, int, int]] = {}
    tombstones: dict[tuple[bytes, int], int] = {}
    for event in events:
        for i, variable in enumerate(event.variables):
            key = (event.ids[8 * i : 8 * i + 8], variable)
            version = int(np.frombuffer(event.versions, "<i8")[i])
            if event.kind is Kind.RETRACTION:
                tombstones[key] = max(version, tombstones.get(key, version))
                continue
            value = float(np.frombuffer(event.values, "<f8")[i])
            flags = int(np.frombuffer(event.flags, "<u2")[i])
            if key not in values or version > values[key][0]:
                values[key] = (version, value, flags, event.measured_at)
    return {
        key: (at, value, flags)
        for key, (version, value, flags, at) in values.items()
        if not flags and version > max(tombstones.get((key[0], v), -1) for v in (key[1], 255))
    }


@quick
@given(messages())
def test_what_stands_is_the_highest_version_that_was_not_taken_back(events: list[Vitals]) -> None:
    left = [
        measured("p", at, {VARIABLES[variable]: value}, ids={VARIABLES[variable]: f"{place}"})
        for place, ((_, variable), (at, value, _)) in enumerate(
            sorted(standing(events).items(), key=lambda item: (item[1][0], item[0][0]))
        )
    ]
    names = [feature.name for feature in FEATURES]
    kept = [i for i, name in enumerate(names) if not name.startswith(("O2Sat", "DBP"))]
    last, whole = (
        np.frombuffer(final_features(each)[0], np.float32)[kept] for each in (left, events)
    )
    assert np.allclose(last, whole, rtol=1e-4, atol=1e-3, equal_nan=True)


def alert_records(run: Run) -> list[Output]:
    return [output for output in run.outputs if output.topic == ALERTS]


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.integers(0, 99), st.data())
def test_however_the_log_is_cut_entries_alerts_and_state_are_the_same(
    seed: int, data: st.DataObject
) -> None:
    records = log(ward_log(seed))
    whole = Run().hand(records)
    parts = Run()
    for part in cut(records, data.draw(st.lists(st.integers(0, len(records)), max_size=40))):
        parts.hand(part)
    assert first_difference(parts.entries, whole.entries) is None
    assert first_difference(alert_records(parts), alert_records(whole)) is None
    assert first_difference(sorted(parts.patients.items()), sorted(whole.patients.items())) is None
    assert parts.rows[b"ticks"] == whole.rows[b"ticks"]
    assert len(whole.alerts) > 5
    assert len(whole.entries) == len(records)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.integers(0, 99), st.lists(st.integers(0, 600), min_size=1, max_size=6))
def test_a_task_restored_from_its_changelog_goes_on_as_if_it_had_never_stopped(
    seed: int, stops: list[int]
) -> None:
    records = log(ward_log(seed))
    undisturbed, living = Run(), Run()
    for part in cut(records, [min(stop, len(records)) for stop in stops]):
        before = len(undisturbed.outputs)
        undisturbed.hand(part)
        living = Run(rows=dict(sorted(living.rows.items()))).hand(part)
        assert first_difference(living.outputs, undisturbed.outputs[before:]) is None
        assert living.patients == undisturbed.patients


def test_the_changes_after_a_restart_are_those_of_a_task_that_never_stopped() -> None:
    records = log(ward_log(3))
    for stop in range(40, len(records), 60):
        first = Run().hand(records[:stop])
        second = Run(rows=dict(sorted(first.rows.items())))
        for task in (first.task, second.task):
            list(task.handle(records[stop : stop + 60]))
        assert list(second.task.changes()) == list(first.task.changes())


def test_expiries_and_evictions_come_in_an_order_that_survives_a_restart() -> None:
    rates = {f"p{i}": 190.0 if i % 2 else 60.0 for i in range(9)}
    first = Run().hand(log(measured(who, START, {"HR": rate}) for who, rate in rates.items()))
    second = Run(rows=dict(reversed(first.rows.items())))
    later = log([tick(START + 7 * HOUR), tick(START + 60 * HOUR)], first=100)
    outputs = [list(run.task.handle(later)) for run in (first, second)]
    assert outputs[0] == outputs[1]
    changes = [list(run.task.changes()) for run in (first, second)]
    assert changes[0] == changes[1]
    assert len(changes[0]) == 9 + len(["leaf", "ticks"])


def test_everybody_is_forgotten_in_the_end() -> None:
    run = Run().hand(log(ward_log(1)))
    assert not run.patients
    assert not run.task._ward.patients


def test_a_recycled_slot_knows_nothing_of_whoever_had_it_before() -> None:
    events: list[Vitals] = []
    for number in range(150):
        at = START + number * 60 * HOUR
        values = {"HR": 60.0 + number, "Lactate": 2.0} if number % 2 else {"Temp": 37.0}
        events += [
            wards.identified(f"p{number}", at, age=30.0) if number % 3 else tick(at),
            measured(f"p{number}", at, values),
            tick(at + 1),
        ]
    run = replay(events, SCORE_ALL)
    alone = replay(events[-3:], SCORE_ALL)
    assert run.features[-1].tobytes() == alone.features[-1].tobytes()
    assert len(run.task._ward.slots.store.first) == 64


def variables_of(patient: Patient) -> NDArray[np.uint8]:
    """Give the variable of each reading that is kept; two columns follow it in a row."""
    slots = patient.history._slots
    (kept,) = slots.kept(np.array([patient.history.slot]))
    row = kept[FRONT_BYTES:]
    counts = np.frombuffer(row, np.int32, COUNTS)
    readings, end = counts[READINGS], counts[SIZE] - 2 * counts[RUNS] - counts[KNOWN]
    return np.frombuffer(row, np.uint8)[end - readings : end]


def minutely(minutes: int) -> list[Vitals]:
    random = np.random.default_rng(4)
    return [
        measured(
            "p", START + m * MINUTE, {n: float(random.integers(60, 99)) for n in ("HR", "SBP")}
        )
        for m in range(minutes)
    ]


def test_a_monitor_is_folded_into_hours_without_a_trace_in_the_features() -> None:
    events = minutely(40 * 60)
    run = replay(events, SCORE_ALL)
    assert max(len(variables_of(p)) for p in run.task._ward.patients.values()) <= 2 * 64
    restored = Run(scorer(SCORE_ALL), rows=run.rows)
    probe = log([measured("p", START + 40 * HOUR, {"Temp": 37.0})], first=9000)
    assert restored.hand(probe).features.tobytes() == run.hand(probe).features[-1].tobytes()
    hourly = [feature.name for feature in FEATURES]
    row = dict(zip(hourly, run.features[-1].tolist(), strict=True))
    values = [np.frombuffer(event.values, "<f8")[0] for event in events]
    window = values[17 * 60 :]
    assert (row["HR_lowest_24h"], row["HR_highest_24h"]) == (min(window), max(window))
    assert (row["HR_hours_24h"], row["HR_count"]) == (23, 40)
    hours = np.array(window).reshape(23, 60).mean(axis=1)
    assert row["HR_mean_24h"] == pytest.approx(hours.mean(), rel=1e-5)


def test_of_each_variable_the_newest_32_readings_can_still_be_corrected() -> None:
    run, records = Run(), log(minutely(150))
    for number, record in enumerate(records, 1):
        run.hand([record])
        (patient,) = run.task._ward.patients.values()
        counts = np.bincount(variables_of(patient))[[0, 3]]
        assert min(number, 32) <= counts.min() <= counts.max() <= 64


def test_a_correction_of_a_folded_value_is_too_late() -> None:
    events = minutely(200)
    fixed = measured("p", START + 5 * MINUTE, {"HR": 1.0}, version=2)
    gone = retracted("p", START + 6 * MINUTE, ["HR"], version=2)
    run = replay(
        [*events, fixed, gone, measured("p", START + 190 * MINUTE, {"HR": 1.0}, version=2)]
    )
    assert [entry["cause"] for entry in run.entries[-3:]] == [3, 3, 8]


def test_a_task_is_loaded_with_the_latest_row_of_each_patient() -> None:
    run = Run().hand(log([measured("p", START, {"HR": 80}), measured("q", START, {"HR": 90})]))
    task = Scoring(3, scorer())
    for key, row in run.rows.items():
        task.load(key, row)
    assert dict(task.dump()) == run.patients
    assert set(run.patients) == {wards.person("p"), wards.person("q")}
