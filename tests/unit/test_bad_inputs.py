"""The cases of bad_inputs.tsv that concern what a source sends, each among good messages."""

import csv
import json
import math
from struct import unpack

import msgspec
import pytest
from bad_inputs import (
    ACCEPTED,
    CONTRACT,
    COVERED,
    GOOD,
    PLACES,
    REFUSED,
    Accepted,
    Refused,
    among_good,
    at,
    events,
    letters,
    nested,
    receipts,
)
from builders import (
    Resource,
    blood_pressure,
    bundle,
    concept,
    ingest,
    observation,
    patient,
    quantity,
    record,
    vault,
)

from services.core.errors import Reason
from services.core.events import Fate, Flag, Kind, Receipt, Vitals
from services.core.vitals import VARIABLES


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case.case}-{case.reason}")
def test_a_bad_message_is_a_dead_letter_and_the_good_ones_go_on(case: Refused, place: int) -> None:
    outputs = list(ingest().handle(among_good(case.content, place)))
    (letter,) = letters(outputs)
    assert (letter.reason, letter.offset) == (case.reason, place)
    assert len(events(outputs)) == GOOD
    fates = [receipt.entries[0].fate for receipt in receipts(outputs)]
    assert [fate is Fate.DEAD for fate in fates] == [i == place for i in range(GOOD + 1)]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case.case}-{case.reason}")
def test_a_dead_letter_opens_to_what_was_received_unless_it_was_too_large(case: Refused) -> None:
    received = record(case.content)
    (letter,) = letters(list(ingest().handle([received])))
    payload = (
        vault().open(letter.key_epoch, letter.payload, letter.sha256) if letter.payload else b""
    )
    if case.reason is Reason.TOO_LARGE:
        assert letter.payload == b""
    elif letter.entry < 0 or case.case != "F01":
        assert payload == received.value
    else:
        assert payload in (received.value or b"")
    assert letter.length >= len(payload)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: f"{case.case}-{case.value}")
def test_an_odd_but_usable_message_is_one_reading_with_its_flags(
    case: Accepted, place: int
) -> None:
    outputs = list(ingest().handle(among_good(case.content, place)))
    event = events(outputs)[place]
    assert VARIABLES[event.variables[0]] == case.variable
    assert math.isclose(unpack("<d", event.values)[0], case.value, rel_tol=1e-9)
    assert unpack("<H", event.flags)[0] == case.flags
    assert len(events(outputs)) == GOOD + 1
    assert letters(outputs) == []


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize(
    "case",
    [c for c in REFUSED if isinstance(c.content, dict)],
    ids=lambda c: f"{c.case}-{c.reason}",
)
def test_a_bad_entry_of_a_bundle_leaves_the_others_alone(case: Refused, place: int) -> None:
    good = [observation(id=f"good-{i}") for i in range(GOOD)]
    assert isinstance(case.content, dict)
    good.insert(place, case.content)
    outputs = list(ingest().handle([record(bundle(*good))]))
    (letter,) = letters(outputs)
    assert (letter.reason, letter.entry) == (
        Reason.FHIR_TYPE if case.case == "F01" else case.reason,
        place,
    )
    (receipt,) = receipts(outputs)
    assert [e.index for e in receipt.entries if e.fate is Fate.DEAD] == [place]
    (event,) = events(outputs)
    assert len(event.variables) == GOOD


@pytest.mark.parametrize(
    "case",
    [c for c in REFUSED if c.case in ("J03", "J04", "J05", "J06", "J07")],
    ids=lambda c: f"{c.case}-{c.reason}",
)
def test_a_faulty_number_or_key_in_one_entry_leaves_the_others_alone(case: Refused) -> None:
    assert isinstance(case.content, bytes)
    whole = json.dumps(bundle(observation(id="a"), {"at": "here"}, observation(id="b"))).encode()
    outputs = list(ingest().handle([record(whole.replace(b'{"at": "here"}', case.content))]))
    (letter,) = letters(outputs)
    assert (letter.reason, letter.entry) == (case.reason, 1)
    assert vault().open(1, letter.payload, letter.sha256) == case.content
    (event,) = events(outputs)
    assert len(event.variables) == 2


def test_a_key_doubled_between_the_entries_refuses_the_whole_bundle() -> None:
    whole = json.dumps(bundle(observation())).replace('"type"', '"type": "batch", "type"')
    outputs = list(ingest().handle([record(whole.encode())]))
    (letter,) = letters(outputs)
    assert (letter.reason, letter.entry) == (Reason.JSON_DUP_KEY, -1)
    assert events(outputs) == []


def test_j09_thirty_two_levels_are_read() -> None:
    (receipt,) = receipts(list(ingest().handle([record(nested(31))])))
    assert receipt.entries[0].detail == Reason.FHIR_STATUS


def test_f03_an_unknown_code_is_counted_and_not_scored() -> None:
    outputs = list(ingest().handle([record(observation("2089-1"))]))
    (receipt,) = receipts(outputs)
    assert [(e.fate, e.detail) for e in receipt.entries] == [(Fate.OUT_OF_SCOPE, "2089-1")]
    assert (events(outputs), letters(outputs)) == ([], [])


def test_f07_an_absent_value_is_missing_and_not_zero() -> None:
    absent = observation(valueQuantity=None, dataAbsentReason=concept("unknown"))
    (event,) = events(list(ingest().handle([record(absent)])))
    assert math.isnan(unpack("<d", event.values)[0])
    assert unpack("<H", event.flags)[0] == Flag.ABSENT


def test_f10_half_a_panel_is_read_and_swapped_pressures_are_flagged() -> None:
    half = blood_pressure(120, 80)
    del half["component"][0]
    (event,) = events(list(ingest().handle([record(half)])))
    assert [VARIABLES[v] for v in event.variables] == ["DBP"]
    (event,) = events(list(ingest().handle([record(blood_pressure(80, 120))])))
    assert unpack("<2H", event.flags) == (Flag.INCONSISTENT, Flag.INCONSISTENT)


def test_f12_sampled_data_are_out_of_scope() -> None:
    wave = observation(
        valueQuantity=None, valueSampledData={"data": "1 " * 10_000, "period": 1, "dimensions": 1}
    )
    (receipt,) = receipts(list(ingest().handle([record(wave)])))
    assert (receipt.entries[0].fate, receipt.entries[0].detail) == (Fate.OUT_OF_SCOPE, "8867-4")


def test_u08_weight_and_height_are_not_the_models() -> None:
    for code in ("29463-7", "8302-2"):
        (receipt,) = receipts(list(ingest().handle([record(observation(code))])))
        assert (receipt.entries[0].fate, receipt.entries[0].detail) == (Fate.OUT_OF_SCOPE, code)


def test_p04_ages_above_89_are_told_as_90() -> None:
    (event,) = events(list(ingest().handle([record(patient(birthDate="1920-01-01"))])))
    assert event.demographics is not None
    assert event.demographics.age == 90


def test_t05_an_old_measurement_keeps_its_own_time() -> None:
    times = ["2026-01-05T08:00:00Z", "2026-01-05T07:59:59Z", "2026-01-05T02:00:00Z"]
    outputs = list(ingest().handle([record(at(time)) for time in times]))
    found = [event.measured_at for event in events(outputs)]
    assert found == sorted(found, reverse=True)


def key_of(event: Vitals) -> tuple[bytes, bytes, int]:
    return event.pseudonym, event.ids, unpack("<q", event.versions)[0]


def test_d01_the_same_message_in_other_bytes_has_the_same_id_and_version() -> None:
    plain, spaced = observation(), json.dumps(observation(), indent=4).encode()
    first, second, third = events(
        list(ingest().handle([record(plain), record(plain), record(spaced)]))
    )
    assert key_of(first) == key_of(second) == key_of(third)
    assert first.values == second.values == third.values


def test_d02_another_value_under_the_same_id_and_version_is_passed_on_to_be_seen() -> None:
    other = observation(valueQuantity=quantity(90, "/min"))
    first, second = events(list(ingest().handle([record(observation()), record(other)])))
    assert key_of(first) == key_of(second)
    assert first.values != second.values


@pytest.mark.parametrize("status", ["amended", "corrected"])
def test_d03_a_correction_is_an_observation_of_a_later_version(status: str) -> None:
    later = observation(status=status, meta={"versionId": "2"})
    first, second = events(
        list(ingest().handle([record(observation(meta={"versionId": "1"})), record(later)]))
    )
    assert first.ids == second.ids
    assert key_of(first)[2] < key_of(second)[2]
    assert second.kind is Kind.OBSERVATION


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled"])
def test_d04_an_error_is_a_retraction_of_what_the_resource_names(status: str) -> None:
    wrong = observation(status=status, meta={"versionId": "2"})
    first, second = events(list(ingest().handle([record(observation()), record(wrong)])))
    assert second.kind is Kind.RETRACTION
    assert (second.ids, second.variables) == (first.ids, first.variables)
    assert math.isnan(unpack("<d", second.values)[0])


def test_d05_an_error_of_an_id_never_seen_is_passed_on_as_a_tombstone() -> None:
    bare = observation(
        status="entered-in-error", code=None, valueQuantity=None, effectiveDateTime=None
    )
    (event,) = events(list(ingest().handle([record(bare)])))
    assert (event.kind, event.variables) == (Kind.RETRACTION, b"\xff")
    assert event.measured_at == event.received_at


def test_d07_one_identifier_at_two_hospitals_is_two_people() -> None:
    west = record(observation())
    told = tuple((name, b"east" if name == "source" else value) for name, value in west.headers)
    east = msgspec.structs.replace(west, headers=told)
    first, second = events(list(ingest().handle([west, east])))
    assert first.pseudonym != second.pseudonym
    assert first.ids != second.ids


SECRETS = ("p-1", "o-1", "e-1", "Zebediah", "1960-02-03", "77.7777", "device-secret")


def secret_messages() -> list[Resource | bytes]:
    named = {"name": [{"family": "Zebediah"}]}
    value = {"valueQuantity": quantity(77.7777, "/min")}
    whole: list[Resource] = [
        observation(**value, device={"reference": "Device/device-secret"}),
        observation(**value, note=[{"text": "Zebediah"}], status="Zebediah"),
        observation(**value, effectiveDateTime="Zebediah"),
        observation("Zebediah"),
        observation(valueQuantity=quantity(77.7777, "Zebediah")),
        observation(valueQuantity=quantity("77.7777", "/min")),
        observation(subject={"reference": "Patient/Zebediah/p-1"}),
        observation(code={"coding": [{"system": "http://loinc.org", "code": "Zebediah"}]}),
        observation(Zebediah=[{"Zebediah": 77.7777}], component=["Zebediah"]),
        observation(category=[{"coding": [{"code": ["Zebediah"]}]}]),
        patient(**named, gender="Zebediah"),
        patient(**named, extension=[{"url": "Zebediah", "extension": 77.7777}]),
        {"resourceType": "Zebediah"},
        {"resourceType": "Basic", "id": "Zebediah"},
    ]
    return [*whole, bundle(*whole), json.dumps({"Zebediah": 1}).encode() * 2, b'{"Zebediah": NaN}']


def test_no_identifier_and_no_value_stands_in_clear_in_what_a_refusal_leaves_behind() -> None:
    records = [record(content, offset=i) for i, content in enumerate(secret_messages())]
    outputs = list(ingest().handle(records))
    assert len(letters(outputs)) >= len(records)
    outside = [o for o in outputs if o.topic in ("receipts.v1", "dlq.v1", "identity.v1")]
    text = b"\n".join((o.value or b"") + (o.key or b"") for o in outside)
    assert [secret for secret in SECRETS if secret.encode() in text] == []
    leaving = [o for o in outputs if o.topic in ("vitals.v1", "patients.v1")]
    clear = b"\n".join((o.value or b"") + (o.key or b"") for o in leaving)
    assert [secret for secret in SECRETS if secret.encode() in clear] == []


def test_every_record_has_one_receipt_that_names_every_entry_once() -> None:
    heard: list[Receipt] = []
    contents = [case.content for case in REFUSED] + [case.content for case in ACCEPTED]
    records = [record(content, offset=offset) for offset, content in enumerate(contents)]
    outputs = list(ingest(heard.extend).handle(records))
    written = receipts(outputs)
    assert written == heard
    assert [receipt.raw_offset for receipt in written] == list(range(len(records)))
    for receipt in written:
        assert [entry.index for entry in receipt.entries] == list(range(len(receipt.entries)))


def test_the_outputs_do_not_depend_on_how_the_records_were_cut_into_batches() -> None:
    contents = [case.content for case in REFUSED] + [case.content for case in ACCEPTED]
    records = [record(content, offset=offset) for offset, content in enumerate(contents)]
    whole, single = ingest(), ingest()
    one_by_one = [output for r in records for output in single.handle([r])]
    assert list(whole.handle(records)) == one_by_one


@pytest.mark.data
def test_every_case_that_is_named_here_is_in_the_contract() -> None:
    if not CONTRACT.exists():
        pytest.skip(reason="needs ../shared/spec/bad_inputs.tsv")
    with CONTRACT.open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert set(COVERED) <= set(rows)
    odd = {(c.case, c.reason) for c in REFUSED if c.reason not in rows[c.case]["reason_code"]}
    # "A bare number is refused" (terminology.md): for its missing unit, not for its type.
    assert odd == {("F08", Reason.UNIT_UNKNOWN)}
