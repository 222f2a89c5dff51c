"""Recorded patients and FHIR files become messages without losing or adding a value."""

import json
import math
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given
from hypothesis import strategies as st

from services.cli.replay import _check, _replay_hl7
from services.core.errors import CommandError, ExitCode
from services.core.vitals import UNITS, VARIABLES
from services.simulator import fhir, physionet
from services.simulator.messages import START, Message
from services.simulator.recording import Recording, open_recording

DEMO = Path(__file__).parents[3] / "shared/data/physionet2019/demo200.parquet"
STATIC = {"Age": 61.41, "Gender": 1, "Unit1": None, "Unit2": None, "HospAdmTime": -2.5}


def row(patient: str, hour: int, **given_values: float | None) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(VARIABLES)
    return {"patient_id": patient, "ICULOS": hour, **values, **STATIC, **given_values}


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    floats = dict.fromkeys((*VARIABLES, *STATIC), pl.Float64)
    return pl.DataFrame(rows, schema_overrides=floats)


def messages(*rows: dict[str, Any]) -> list[Message]:
    prepared = table(*rows).with_columns(pl.exclude("patient_id").cast(pl.Float64))
    return list(physionet.messages(prepared, source="west", start=START))


def resources(message: Message) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in json.loads(message.body)["entry"]]


def of_type(sent: list[Message], kind: str) -> list[dict[str, Any]]:
    found = [resource for message in sent for resource in resources(message)]
    return [resource for resource in found if resource["resourceType"] == kind]


def opened(path: Path, **options: Any) -> Recording:
    return open_recording(path, "west", now=lambda: datetime.now(UTC), **options)


def values_sent(message: Message) -> dict[str, float]:
    """Read the values back by code, category and unit, as a receiver would."""
    names = {code: name for name, code in fhir.PRIMARY.items()}
    quantities: dict[str, dict[str, Any]] = {}
    for resource in resources(message):
        if resource["resourceType"] != "Observation":
            continue
        for part in resource.get("component", [resource]):
            quantities[names[part["code"]["coding"][0]["code"]]] = part["valueQuantity"]
    assert all(quantity["code"] == UNITS[name] for name, quantity in quantities.items())
    return {name: quantity["value"] for name, quantity in quantities.items()}


def test_a_patient_and_an_hour_make_one_bundle_and_a_discharge_follows_an_hour_later() -> None:
    sent = messages(row("p1", 1, HR=80), row("p1", 2, HR=81), row("p1", 3, HR=82))
    assert [(m.lane, m.entries, m.observations) for m in sent] == [
        ("p1", 3, 1),
        ("p1", 1, 1),
        ("p1", 1, 1),
        ("p1", 1, 0),
    ]
    steps = {later.time - former.time for former, later in pairwise(sent)}
    assert steps == {timedelta(hours=1)}
    assert resources(sent[-1])[0]["status"] == "finished"


def test_a_missing_value_sends_no_observation_and_an_empty_hour_sends_nothing() -> None:
    sent = messages(row("p1", 1), row("p1", 2, HR=math.nan), row("p1", 3, Temp=37.5))
    assert [m.observations for m in sent] == [0, 1, 0]
    assert values_sent(sent[1]) == {"Temp": 37.5}


def test_every_variable_is_sent_in_the_models_unit_and_checks_out_as_fhir() -> None:
    values = {name: index + 0.25 for index, name in enumerate(VARIABLES)}
    sent = messages(row("p1", 1, **values))
    assert values_sent(sent[0]) == values
    for message in sent:
        get_fhir_model_class("Bundle").model_validate(json.loads(message.body))
        for resource in resources(message):
            get_fhir_model_class(resource["resourceType"]).model_validate(resource)


def test_pressures_travel_as_one_panel_and_the_mean_by_itself() -> None:
    sent = messages(row("p1", 1, SBP=120, DBP=70, MAP=87), row("p1", 2, SBP=118))
    panel, mean, partial = of_type(sent, "Observation")
    assert panel["code"]["coding"][0]["code"] == "85354-9"
    assert [part["valueQuantity"]["value"] for part in panel["component"]] == [120, 70]
    assert mean["valueQuantity"]["value"] == 87
    assert [part["valueQuantity"]["value"] for part in partial["component"]] == [118]


def test_a_saturation_is_told_from_the_laboratorys_by_its_category() -> None:
    sent = messages(row("p1", 1, O2Sat=97, SaO2=95))
    pulse, blood = of_type(sent, "Observation")
    coded = [coding["code"] for coding in pulse["code"]["coding"]]
    assert coded == ["59408-5", "2708-6"]
    assert blood["code"]["coding"][0]["code"] == "2708-6"
    categories = [part["category"][0]["coding"][0]["code"] for part in (pulse, blood)]
    assert categories == ["vital-signs", "laboratory"]


@given(age=st.floats(18, 90).map(lambda years: round(years, 2)), patient=st.text(min_size=1))
def test_the_birth_date_gives_back_the_age_within_a_day(age: float, patient: str) -> None:
    first = messages(row(patient, 1, Age=age))[0]
    born = date.fromisoformat(resources(first)[0]["birthDate"])
    days = (first.time - datetime.combine(born, datetime.min.time(), UTC)) / timedelta(days=1)
    assert abs(days - age * 365.25) <= 1.5


def test_gender_and_unit_are_those_of_the_record() -> None:
    sent = messages(
        row("p1", 1, Gender=0, Unit1=1, Unit2=0), row("p2", 1, Gender=1, Unit1=0, Unit2=1)
    )
    sent += messages(row("p3", 1))
    genders = {p["id"]: p["gender"] for p in of_type(sent, "Patient")}
    assert genders == {"p1": "female", "p2": "male", "p3": "male"}
    units = {
        e["id"]: e.get("location", [{}])[0].get("location", {}).get("display")
        for e in of_type(sent, "Encounter")
    }
    assert units == {"p1-1": "MICU", "p2-1": "SICU", "p3-1": None}


def test_the_encounter_began_before_the_unit_took_over() -> None:
    encounter = of_type(messages(row("p1", 4, HospAdmTime=-2.5, Unit1=1)), "Encounter")[0]
    began = datetime.fromisoformat(encounter["period"]["start"])
    in_unit = datetime.fromisoformat(encounter["location"][0]["period"]["start"])
    first = physionet.admission("p1", START)
    assert (first - in_unit, in_unit - began) == (timedelta(hours=3), timedelta(hours=2.5))


def test_patients_start_within_a_day_and_every_replay_is_the_same() -> None:
    rows = [row(f"p{n}", hour, HR=70 + hour) for n in range(60) for hour in (1, 2, 3)]
    sent = messages(*rows)
    starts = {m.lane: m.time for m in reversed(sent)}
    assert all(timedelta() <= start - START < timedelta(days=1) for start in starts.values())
    assert len({start.hour for start in starts.values()}) > 12
    assert sent == messages(*reversed(rows))


def test_messages_come_in_order_of_time() -> None:
    sent = messages(*(row(f"p{n}", h, HR=80) for n in range(40) for h in range(1, n + 2)))
    assert [m.time for m in sent] == sorted(m.time for m in sent)
    assert len([m for m in sent if m.observations == 0]) == 40


def test_ids_are_legal_and_never_twice() -> None:
    values = dict.fromkeys(VARIABLES, 1.0)
    sent = messages(*(row(f"p{n}", hour, **values) for n in (1, 2) for hour in (1, 2)))
    ids = [resource["id"] for resource in of_type(sent, "Observation")]
    assert len(set(ids)) == len(ids)
    assert all(
        len(i) <= 64 and set(i) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for i in ids
    )


def test_psv_files_give_what_the_parquet_gives(tmp_path: Path) -> None:
    rows = [row(f"p{n}", hour, HR=80 + n, Lactate=1.5) for n in (1, 2) for hour in (1, 2)]
    whole = tmp_path / "all.parquet"
    table(*rows).write_parquet(whole)
    folder = tmp_path / "psv"
    folder.mkdir()
    for (patient,), part in table(*rows).group_by("patient_id"):
        part.drop("patient_id").write_csv(
            folder / f"{patient}.psv", separator="|", null_value="NaN"
        )
    assert list(opened(folder).stream) == list(opened(whole).stream)
    one = [m for m in opened(whole).stream if m.lane == "p1"]
    assert list(opened(folder / "p1.psv").stream) == one


def test_a_limit_takes_the_first_patients_by_id(tmp_path: Path) -> None:
    path = tmp_path / "all.parquet"
    table(*(row(f"p{n}", 1, HR=80) for n in (3, 1, 2))).write_parquet(path)
    recording = opened(path, limit=2)
    assert (recording.patients, recording.messages) == (2, 4)
    assert {m.lane for m in recording.stream} == {"p1", "p2"}


def test_what_is_no_challenge_data_is_refused_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pl.DataFrame({"HR": [80.0]}).write_parquet(path)
    (tmp_path / "noise.parquet").write_bytes(b"noise")
    for wrong in (path, tmp_path / "noise.parquet"):
        with pytest.raises(CommandError, match="is not data of the PhysioNet") as refused:
            opened(wrong)
        assert refused.value.exit_code is ExitCode.REFUSED


def test_where_nothing_can_be_replayed_the_command_says_so(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="nothing to replay") as missing:
        opened(tmp_path / "nowhere")
    assert missing.value.exit_code is ExitCode.USAGE
    with pytest.raises(CommandError, match="nothing to replay") as empty:
        opened(tmp_path)
    assert empty.value.exit_code is ExitCode.REFUSED


def test_fhir_files_go_as_they_are(tmp_path: Path) -> None:
    bundle = json.dumps(fhir.bundle([{"resourceType": "Observation"}, {"resourceType": "X"}]))
    (tmp_path / "a.json").write_text(bundle)
    (tmp_path / "b.ndjson").write_text('{"resourceType":"Observation"}\n\n{broken\n')
    sent = list(opened(tmp_path).stream)
    assert [m.body for m in sent] == [
        bundle.encode(),
        b'{"resourceType":"Observation"}',
        b"{broken",
    ]
    assert [(m.entries, m.observations) for m in sent] == [(2, 1), (1, 1), (1, 0)]
    assert [m.time for m in sent] == sorted(m.time for m in sent)


@pytest.mark.parametrize(
    ("source", "gateway"),
    [
        ("West", "http://127.0.0.1:1"),
        ("west", "127.0.0.1:1"),
        ("w" * 33, ""),
        ("west", "http://127.0.0.1:65536"),
        ("west", "http://127.0.0.1:gateway"),
        ("west", "http://:8400"),
        ("west", "http://[::1:8400"),
        ("west", "http://127.0.0.1:8400/fhir"),
    ],
)
def test_a_source_or_address_that_cannot_be_is_a_usage_error(source: str, gateway: str) -> None:
    with pytest.raises(CommandError) as refused:
        _check(source, gateway)
    assert refused.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize("mllp", ["127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "a:door"])
def test_an_address_for_hl7_that_cannot_be_is_a_usage_error(mllp: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError) as refused:
        _replay_hl7(tmp_path / "never.hl7", mllp, as_json=False)
    assert refused.value.exit_code is ExitCode.USAGE


@pytest.mark.data
def test_the_recorded_patients_arrive_with_every_value_and_no_other() -> None:
    if not DEMO.exists():
        pytest.skip(reason="the recorded patients are not in ../shared/data")
    recorded = physionet.timed(physionet.read(DEMO), START)
    sent = {(m.lane, m.time): m for m in opened(DEMO).stream if m.observations}
    compared = 0
    for line in recorded.iter_rows(named=True):
        kept = {n: line[n] for n in VARIABLES if line[n] is not None and not math.isnan(line[n])}
        message = sent.pop((line["patient_id"], line["at"]), None)
        assert (values_sent(message) if message else {}) == kept
        compared += len(kept)
    assert not sent
    assert compared > 60_000


@pytest.mark.parametrize(
    "body",
    [
        b'{"resourceType":"Bundle","entry":[1]}',
        b'{"resourceType":"Bundle","entry":7}',
        b'{"resourceType":"Bundle","entry":[{"resource":[]}]}',
        b'{"resourceType":"Observation","entry":"x"}',
        b'{"resourceType":["Observation"]}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_file_that_cannot_be_read_is_sent_all_the_same(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "a.ndjson").write_bytes(body + b"\n")
    sent = list(opened(tmp_path).stream)
    assert [(m.body, m.entries, m.observations) for m in sent] == [(body, 1, 0)]
