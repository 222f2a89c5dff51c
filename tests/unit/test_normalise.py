import json
from datetime import UTC, datetime, timedelta
from struct import unpack
from typing import Any

import pytest
from builders import (
    MEASURED,
    PARTITIONS,
    RECEIVED,
    Resource,
    blood_pressure,
    body,
    bundle,
    category,
    codec,
    concept,
    encounter,
    ingest,
    observation,
    patient,
    quantity,
    read,
    record,
    tick,
    vault,
)
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import Reason, Refusal
from services.core.events import (
    Demographics,
    Fate,
    Flag,
    Identity,
    Kind,
    Patient,
    Receipt,
    Vitals,
    partition_of,
)
from services.core.vitals import VARIABLES
from services.ingest.normalise import strict
from services.ingest.normalise.moments import instant
from services.ingest.normalise.observation import version_of
from services.ingest.normalise.resources import Meta
from services.runtime.ports import Output

US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"
CDC = "urn:oid:2.16.840.1.113883.6.238"
LATER = "2026-01-05T08:00:10Z"


def events(content: Resource | bytes) -> list[Vitals]:
    return read(content)[0]


def names(event: Vitals) -> list[str]:
    return [VARIABLES[variable] for variable in event.variables]


def values(event: Vitals) -> list[float]:
    return list(unpack(f"<{len(event.variables)}d", event.values))


def flags(event: Vitals) -> list[int]:
    return list(unpack(f"<{len(event.variables)}H", event.flags))


def entries(event: Vitals) -> list[int]:
    return list(unpack(f"<{len(event.entries) // 2}H", event.entries))


def refusal(content: Resource) -> tuple[Reason, str]:
    _, _, (refused,) = read(content)
    return refused.reason, refused.place


def test_one_observation_is_one_event_of_its_patient_encounter_and_time() -> None:
    (event,) = events(observation(device={"reference": "Device/d-1"}))
    assert (event.kind, names(event), values(event)) == (Kind.OBSERVATION, ["HR"], [80.0])
    assert (event.measured_at, event.received_at) == (instant(MEASURED), instant(RECEIVED))
    assert (event.codes, event.units, entries(event)) == (["8867-4"], ["/min"], [0])
    assert (len(event.pseudonym), len(event.encounter), len(event.ids)) == (16, 16, 8)
    assert len(event.devices[0]) == 16
    assert len(event.terminology) == 12


def test_entries_of_one_patient_encounter_and_time_are_one_event_in_their_order() -> None:
    (event,) = events(
        bundle(
            observation("8310-5", id="t", valueQuantity=quantity(37, "Cel")),
            blood_pressure(120, 80, id="bp"),
            observation(id="hr"),
        )
    )
    assert names(event) == ["Temp", "SBP", "DBP", "HR"]
    assert entries(event) == [0, 1, 1, 2]
    assert event.ids[8:16] == event.ids[16:24]


@pytest.mark.parametrize(
    "other",
    [
        {"subject": {"reference": "Patient/p-2"}},
        {"encounter": {"reference": "Encounter/e-2"}},
        {"encounter": None},
        {"effectiveDateTime": LATER},
        {"status": "entered-in-error"},
    ],
    ids=["patient", "encounter", "no encounter", "time", "retraction"],
)
def test_another_patient_encounter_time_or_kind_is_another_event(other: dict[str, Any]) -> None:
    mixed = bundle(observation(id="a"), observation(id="b", **other), observation(id="c"))
    first, second = events(mixed)
    assert (entries(first), entries(second)) == ([0, 2], [1])


def test_a_bundle_with_forty_patients_gives_at_least_forty_events() -> None:
    people = [observation(subject={"reference": f"Patient/p-{i}"}) for i in range(40)]
    found = events(bundle(*people))
    assert len({event.pseudonym for event in found}) == len(found) == 40


def test_times_that_are_equal_in_other_offsets_are_one_time() -> None:
    (event,) = events(
        bundle(
            observation(id="a"), observation(id="b", effectiveDateTime="2026-01-05T10:00:00+02:00")
        )
    )
    assert entries(event) == [0, 1]


@pytest.mark.parametrize(
    "kind", ["collection", "message", "transaction", "batch", "history", "searchset", "document",
             "subscription-notification"],
)  # fmt: skip
def test_every_type_of_bundle_is_read(kind: str) -> None:
    (event,) = events(bundle(observation(), kind=kind))
    assert names(event) == ["HR"]


def test_an_effective_period_counts_by_its_end_and_an_instant_as_it_is() -> None:
    period = {"start": "2026-01-05T07:00:00Z", "end": MEASURED}
    for other in ({"effectivePeriod": period}, {"effectiveInstant": MEASURED}):
        (event,) = events(observation(effectiveDateTime=None, **other))
        assert event.measured_at == instant(MEASURED)


@pytest.mark.parametrize(
    "times",
    [
        {"effectivePeriod": {"start": MEASURED}},
        {"effectivePeriod": {"end": "2026-01-05"}},
        {"effectiveTiming": {"event": [MEASURED]}},
        {"effectiveDateTime": MEASURED, "effectiveInstant": MEASURED},
    ],
)
def test_a_time_that_is_open_or_said_twice_is_refused(times: dict[str, Any]) -> None:
    reason, _ = refusal(observation(**{"effectiveDateTime": None, **times}))
    assert reason is Reason.TIME_FORMAT


@given(st.datetimes(timezones=st.timezones()))
def test_an_instant_is_the_same_in_every_offset(moment: Any) -> None:
    offset = moment.utcoffset()
    if offset.total_seconds() % 60 or abs(offset) > timedelta(hours=14):
        return
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert instant(moment.isoformat()) == expected


def test_a_leap_second_is_the_last_millisecond_before_it() -> None:
    assert instant("2016-12-31T23:59:60Z") == instant("2016-12-31T23:59:59.999Z")


def test_a_preliminary_value_is_read_and_flagged() -> None:
    (event,) = events(observation(status="preliminary"))
    assert flags(event) == [Flag.PRELIMINARY]


@pytest.mark.parametrize("status", ["registered", "unknown"])
def test_a_status_that_does_not_score_is_out_of_scope(status: str) -> None:
    found, (entry,), refused = read(observation(status=status))
    assert (found, refused) == ([], [])
    assert (entry.fate, entry.detail) == (Fate.OUT_OF_SCOPE, f"status {status}")


def test_without_an_id_the_entry_itself_is_the_id_and_that_is_flagged() -> None:
    first, second = observation(id=None), observation(id=None, valueQuantity=quantity(81, "/min"))
    (one,), (again,), (other,) = (
        events(first),
        events(bundle(observation(), first))[:1],
        events(second),
    )
    assert flags(one) == [Flag.NO_ID]
    assert one.ids == again.ids[8:]
    assert one.ids != other.ids


def test_an_error_without_an_id_takes_nothing_back() -> None:
    reason, place = refusal(observation(id=None, status="entered-in-error"))
    assert (reason, place) == (Reason.FHIR_ID, "Observation.id")


def test_a_panel_in_error_takes_back_each_variable_that_it_names() -> None:
    (event,) = events(blood_pressure(120, 80, status="entered-in-error"))
    assert (event.kind, names(event)) == (Kind.RETRACTION, ["SBP", "DBP"])
    (bare,) = events(observation("85354-9", status="cancelled", valueQuantity=None))
    assert bare.variables == b"\xff"


def test_an_error_about_something_that_is_not_ours_is_out_of_scope() -> None:
    found, (entry,), _ = read(observation("2089-1", status="entered-in-error"))
    assert (found, entry.fate, entry.detail) == ([], Fate.OUT_OF_SCOPE, "2089-1")


def test_a_component_at_fault_is_named_and_refuses_its_entry() -> None:
    panel = blood_pressure(120, 80)
    panel["component"][1]["valueQuantity"]["code"] = "bananas"
    assert refusal(panel) == (Reason.UNIT_UNKNOWN, "Observation.component[1].valueQuantity.code")


def test_one_variable_twice_in_an_observation_is_a_conflict() -> None:
    panel = blood_pressure(120, 80)
    panel["component"].append(panel["component"][0])
    assert refusal(panel)[0] is Reason.CODE_CONFLICT


def test_components_that_are_not_ours_are_left_and_absent_ones_kept_as_absent() -> None:
    panel = blood_pressure(120, 80)
    panel["component"].append({"code": concept("8884-9"), "valueString": "regular"})
    del panel["component"][0]["valueQuantity"]
    panel["component"][0]["dataAbsentReason"] = concept("error")
    (event,) = events(panel)
    assert (names(event), flags(event)) == (["SBP", "DBP"], [Flag.ABSENT, Flag.NONE])


def test_members_are_left_to_their_own_messages() -> None:
    members = [{"reference": "Observation/o-2"}]
    found, (entry,), _ = read(observation("85353-1", valueQuantity=None, hasMember=members))
    assert (found, entry.fate, entry.detail) == ([], Fate.OUT_OF_SCOPE, "85353-1")


def test_a_value_that_is_neither_there_nor_absent_is_refused() -> None:
    assert refusal(observation(valueQuantity=None)) == (
        Reason.VALUE_CHOICE,
        "Observation.value[x]",
    )


def test_the_category_decides_what_2708_6_is() -> None:
    saturation = quantity(95, "%")
    (bedside,) = events(observation("2708-6", valueQuantity=saturation))
    (lab,) = events(
        observation("2708-6", valueQuantity=saturation, category=category("laboratory"))
    )
    assert (names(bedside), names(lab)) == (["O2Sat"], ["SaO2"])
    assert refusal(observation("2708-6", valueQuantity=saturation, category=None)) == (
        Reason.FHIR_CODE,
        "Observation.category",
    )


@pytest.mark.parametrize(
    ("meta", "version"),
    [
        (None, 0),
        (Meta(), 0),
        (Meta(versionId="7", lastUpdated=MEASURED), 7),
        (Meta(versionId="W/7", lastUpdated=MEASURED), instant(MEASURED)),
        (Meta(lastUpdated=MEASURED), instant(MEASURED)),
        (Meta(lastUpdated="1969-01-01T00:00:00Z"), 0),
        (Meta(versionId="9" * 30), 0),
        (Meta(versionId="٣"), 0),
        (Meta(versionId="-1", lastUpdated="soon"), 0),
    ],
)
def test_a_version_is_a_number_that_grows(meta: Meta | None, version: int) -> None:
    assert version_of(meta) == version


def test_references_by_full_url_are_resolved_inside_their_bundle() -> None:
    whole = bundle(patient(), encounter(subject={"reference": "urn:uuid:p"}),
                   observation(subject={"reference": "urn:uuid:p"},
                               encounter={"reference": "urn:uuid:e"}))  # fmt: skip
    whole["entry"][0]["fullUrl"], whole["entry"][1]["fullUrl"] = "urn:uuid:p", "urn:uuid:e"
    _, stay, measured = events(whole)
    (plain,) = events(observation())
    assert (measured.pseudonym, measured.encounter) == (plain.pseudonym, plain.encounter)
    assert (stay.pseudonym, stay.encounter) == (plain.pseudonym, plain.encounter)


def test_a_reference_to_an_entry_that_is_no_patient_is_refused() -> None:
    whole = bundle(encounter(), observation(subject={"reference": "urn:uuid:e"}))
    whole["entry"][0]["fullUrl"] = "urn:uuid:e"
    _, entries_, _ = read(whole)
    assert [(entry.fate, entry.detail) for entry in entries_] == [
        (Fate.VITALS, ""),
        (Fate.DEAD, Reason.SUBJECT),
    ]


@pytest.mark.parametrize("reference", ["#e", "https://other.example/Encounter/e-1", "Group/e-1"])
def test_an_encounter_that_cannot_be_told_is_none(reference: str) -> None:
    (event,) = events(observation(encounter={"reference": reference}))
    assert event.encounter == b""


def test_a_version_of_a_reference_is_the_same_person() -> None:
    (plain,), (versioned,) = (
        events(observation()),
        events(observation(subject={"reference": "Patient/p-1/_history/3"})),
    )
    assert plain.pseudonym == versioned.pseudonym


def omb(kind: str, *codes: str) -> Resource:
    inner = [{"url": "ombCategory", "valueCoding": {"system": CDC, "code": c}} for c in codes]
    return {"url": US_CORE + kind, "extension": [*inner, {"url": "text", "valueString": "x"}]}


def test_a_patient_tells_age_sex_race_ethnicity_and_language() -> None:
    spoken = [{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "es"}]}}]
    told = [omb("race", "2054-5"), omb("ethnicity", "2186-5")]
    (event,) = events(patient(extension=told, communication=spoken))
    who = event.demographics
    assert who is not None
    assert (event.kind, who.age, who.sex) == (Kind.PATIENT, 65.0, "female")
    assert (who.race, who.ethnicity) == ("Black or African American", "Not Hispanic or Latino")
    assert (who.language, who.payer) == ("es", None)


def test_what_a_patient_does_not_tell_is_unknown() -> None:
    (event,) = events(patient(gender="unknown", birthDate=None, extension=[omb("race", "UNK")]))
    who = event.demographics
    assert who is not None
    assert {getattr(who, name) for name in who.__struct_fields__} == {None}


def test_two_races_are_more_than_one() -> None:
    (event,) = events(patient(extension=[omb("race", "2054-5", "2106-3")]))
    assert event.demographics is not None
    assert event.demographics.race == "More than one"


@pytest.mark.parametrize(
    ("birth_date", "age"),
    [("2026-01-05", 0), ("2026", 0), ("1936-01-05", 90), ("1936-01-07", 89), ("1936-02", 89)],
)
def test_age_is_completed_years_on_the_day_of_receipt(birth_date: str, age: float) -> None:
    (event,) = events(patient(birthDate=birth_date))
    assert event.demographics is not None
    assert event.demographics.age == age


def test_free_text_about_a_person_does_not_leave() -> None:
    spoken = [{"language": {"coding": [{"code": "Zebediah speaks"}], "text": "Zebediah"}}]
    place = [
        {"location": {"reference": "Zebediah's home, 12 Elm St", "display": "Zebediah's home"}}
    ]
    person, stay = events(bundle(patient(communication=spoken), encounter(location=place)))
    assert person.demographics is not None
    assert person.demographics.language is None
    assert stay.stay is not None
    assert stay.stay.unit is None


def coverage(code: str, **elements: object) -> Resource:
    kind = {"coding": [{"system": "https://nahdo.org/sopt", "code": code}]}
    beneficiary = {"reference": "Patient/p-1"}
    return {"resourceType": "Coverage", "type": kind, "beneficiary": beneficiary, **elements}


def test_a_coverage_beside_its_patient_tells_the_payer_with_it_and_alone_by_itself() -> None:
    (event,), fates, _ = read(bundle(patient(), coverage("2")))
    assert event.demographics is not None
    assert event.demographics.payer == "medicaid"
    assert [entry.fate for entry in fates] == [Fate.VITALS, Fate.VITALS]
    (alone,), (entry,), _ = read(coverage("2"))
    assert (entry.fate, alone.kind, alone.pseudonym) == (
        Fate.VITALS,
        Kind.PATIENT,
        event.pseudonym,
    )
    assert alone.demographics == Demographics(payer="medicaid")
    theirs = coverage("2", beneficiary={"reference": "Patient/x"})
    (ours, other), _, _ = read(bundle(patient(), theirs))
    assert ours.demographics is not None
    assert (ours.demographics.payer, other.demographics) == (None, alone.demographics)


@pytest.mark.parametrize(
    "elements", [{"beneficiary": None}, {"beneficiary": {"reference": "Group/g"}}, {"type": None}]
)
def test_a_coverage_that_tells_no_payer_of_anybody_is_out_of_scope(elements: Resource) -> None:
    made, (entry,), _ = read({**coverage("2"), **elements})
    assert (made, entry.fate, entry.detail) == ([], Fate.OUT_OF_SCOPE, "Coverage")


def test_an_encounter_tells_status_unit_and_period() -> None:
    period = {"start": "2026-01-05T06:00:00Z", "end": "2026-01-05T07:00:00Z"}
    (event,) = events(encounter(status="finished", period=period))
    assert event.stay is not None
    assert (event.kind, event.stay.status, event.stay.unit) == (
        Kind.ENCOUNTER,
        "finished",
        "ICU 2",
    )
    assert event.stay.admitted_at == instant(period["start"])
    assert event.stay.ended_at == instant(period["end"])
    assert event.encounter == events(observation())[0].encounter


def test_the_unit_is_the_active_location() -> None:
    places = [
        {"location": {"display": "Ward 1"}, "status": "completed"},
        {"location": {"display": "ICU"}, "status": "active"},
        {"location": {"display": "Ward 3"}, "status": "reserved"},
    ]
    (event,) = events(encounter(location=places))
    assert event.stay is not None
    assert event.stay.unit == "ICU"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "over"}, Reason.FHIR_STATUS),
        ({"subject": None}, Reason.SUBJECT),
        ({"id": None}, Reason.FHIR_ID),
        ({"period": {"start": "2026-01-05T06:00:00"}}, Reason.TIME_FORMAT),
        ({"period": "today"}, Reason.TIME_FORMAT),
        ({"modifierExtension": [{}]}, Reason.MODIFIER_EXT),
    ],
)
def test_an_encounter_that_cannot_be_placed_is_refused(
    change: dict[str, Any], reason: Reason
) -> None:
    assert refusal(encounter(**change))[0] is reason


def test_a_resource_that_is_not_read_is_told_by_its_type() -> None:
    _, fates, _ = read(bundle({"resourceType": "Device", "id": "d"}, {"resourceType": "Basic"}))
    assert [entry.detail for entry in fates] == ["Device", "Basic"]


def test_an_entry_without_a_resource_is_out_of_scope() -> None:
    whole = {"resourceType": "Bundle", "type": "transaction", "entry": [{"request": {}}]}
    _, (entry,), _ = read(whole)
    assert (entry.fate, entry.detail) == (Fate.OUT_OF_SCOPE, "no resource")


def test_an_empty_bundle_has_no_entries() -> None:
    assert read({"resourceType": "Bundle", "type": "batch"}) == ([], [], [])


def test_a_bundle_of_more_entries_than_two_bytes_count_is_refused() -> None:
    whole = body({"resourceType": "Bundle", "type": "batch", "entry": [{}] * 65_536})
    with pytest.raises(Refusal) as caught:
        read(whole)
    assert caught.value.reason is Reason.TOO_LARGE


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=30,
    )
)
def test_json_that_says_everything_once_is_parsed_as_it_is(content: Any) -> None:
    for text in (body({"a": content}), json.dumps({"a": content}, indent=1).encode()):
        assert strict.parse(text) == {"a": content}


@given(
    key=st.text(max_size=5), first=st.text(max_size=5), second=st.text(max_size=5),
    escaped=st.booleans(), inside=st.booleans(),
)  # fmt: skip
def test_a_key_that_comes_twice_is_found_however_it_is_written(
    key: str, first: str, second: str, *, escaped: bool, inside: bool
) -> None:
    plain = json.dumps(key, ensure_ascii=False)
    other = '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 65536 else c for c in key) + '"'
    pair = f"{plain} : {json.dumps(first)}, {other if escaped else plain}:{json.dumps(second)}"
    text = f'{{"x": [{{{pair}}}]}}' if inside else f"{{{pair}}}"
    with pytest.raises(Refusal) as caught:
        strict.parse(text.encode(errors="surrogatepass"))
    assert caught.value.reason is Reason.JSON_DUP_KEY


def test_brackets_in_a_text_are_no_depth() -> None:
    text = body({"a": "[" * 100, "b": [[1]] * 40})
    assert strict.parse(text) == {"a": "[" * 100, "b": [[1]] * 40}


def decoded(outputs: list[Output], topic: str, kind: Any) -> list[Any]:
    return [codec().decode(o.value or b"", kind) for o in outputs if o.topic == topic]


def test_vitals_and_views_go_to_the_partition_of_their_patient() -> None:
    outputs = list(ingest().handle([record(bundle(patient(), encounter(), observation()))]))
    placed = [o for o in outputs if o.topic in ("vitals.v1", "patients.v1", "identity.v1")]
    for output in placed:
        assert output.key is not None
        assert output.partition == partition_of(output.key[:16], PARTITIONS)
    halves = [o.key[16:] for o in placed if o.topic == "patients.v1" and o.key]
    assert halves == [b"/patient", b"/encounter"]
    person, stay = decoded(outputs, "patients.v1", Patient)
    assert (person.stay, stay.demographics) == (None, None)
    assert person.demographics.age == 65
    assert stay.stay.unit == "ICU 2"


def test_an_identity_opens_to_the_reference_and_only_with_the_key() -> None:
    outputs = list(ingest().handle([record(observation())]))
    (identity,) = decoded(outputs, "identity.v1", Identity)
    opened = vault().open(identity.key_epoch, identity.ciphertext, identity.pseudonym)
    assert opened == b'{"source":"west","reference":"Patient/p-1"}'
    assert b"p-1" not in identity.ciphertext


def test_a_tick_goes_to_every_partition_of_vitals() -> None:
    outputs = list(ingest().handle([tick("2026-01-05T08:00:20Z")]))
    found = decoded(outputs, "vitals.v1", Vitals)
    assert [o.partition for o in outputs if o.topic == "vitals.v1"] == list(range(PARTITIONS))
    assert {(e.kind, e.measured_at) for e in found} == {
        (Kind.TICK, instant("2026-01-05T08:00:20Z"))
    }
    assert found[0].received_at == instant(RECEIVED)
    (receipt,) = decoded(outputs, "receipts.v1", Receipt)
    assert [entry.fate for entry in receipt.entries] == [Fate.TICK]


def test_the_same_record_gives_the_same_bytes_in_another_life() -> None:
    received = [record(bundle(patient(), encounter(), observation(), observation(status="x")))]
    assert list(ingest().handle(received)) == list(ingest().handle(received))


@pytest.mark.parametrize("kind", ["replaced-by", "replaces"])
def test_a_merge_of_patients_is_refused_by_its_name(kind: str) -> None:
    link = [{"other": {"reference": "Patient/p-2"}, "type": kind}]
    events, _, (refused,) = read(patient(link=link))
    assert (events, refused.reason, refused.place) == ([], "PATIENT_MERGE", "Patient.link.type")


@pytest.mark.parametrize("kind", ["refer", "seealso"])
def test_a_link_that_only_points_is_no_merge(kind: str) -> None:
    events, _, refused = read(patient(link=[{"type": kind}]))
    assert (len(events), refused) == (1, [])


BIRTH_SEX = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-birthsex"


@pytest.mark.parametrize(
    ("codes", "expected"),
    [(["F"], "female"), (["M"], "male"), (["UNK"], None), (["F", "M"], None), ([], None)],
)
def test_sex_at_birth_is_told_apart_from_the_administrative_one(
    codes: list[str], expected: str | None
) -> None:
    extension = [{"url": BIRTH_SEX, "valueCode": code} for code in codes]
    ((event,), _, _) = read(patient(gender="male", extension=extension))
    assert event.demographics is not None
    assert (event.demographics.sex, event.demographics.birth_sex) == ("male", expected)
