"""HL7 v2 becomes FHIR at the door: nothing lost, nothing guessed, nothing told to strangers."""

import asyncio
import json
import math
from typing import Any
from zoneinfo import ZoneInfo

import hl7  # type: ignore[import-untyped]  # it has no types
import pytest
from builders import terminology
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import Retry
from services.core.events import Kind
from services.gateway.hl7v2 import acknowledgment, coded
from services.gateway.hl7v2.refusal import Answer, NotTaken
from services.gateway.hl7v2.results import STATUSES
from services.gateway.hl7v2.segments import CHARSETS, parted
from services.gateway.hl7v2.translation import MERGES, bundle, check, header_of
from services.gateway.mllp import Mllp
from services.gateway.reception.credentials import Source
from services.gateway.reception.desk import Desk
from services.gateway.reception.sources import Sources
from services.ingest.normalise.findings import Measured, Message
from services.ingest.normalise.message import Reader
from services.ingest.normalise.moments import instant
from services.runtime.ports import Output
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics

PID = "PID|1||4711^^^WEST^MR~99^^^NAT^NI||Mxyzptlk^Jane||19600229|F|||||||||"
PV1 = "PV1|1|I|MICU^2^1||||||||||||||||V100"
OBR = "OBR|1|P1|F1|24323-8^CMP^LN|||20260101085500"
SECRET = "Mxyzptlk"  # noqa: S105 - a name that must never be repeated
ALLOWED = st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="|^~\\&\x7f\x85")


def msh(kind: str = "ORU^R01^ORU_R01", charset: str = "UNICODE UTF-8", **fields: str) -> str:
    given = {"security": "", "at": "20260101090000+0100", "id": "MSG1", "mode": "P", **fields}
    return (
        f"MSH|^~\\&|LAB|WEST|VIGIL|HOSP|{given['at']}|{given['security']}|{kind}|{given['id']}"
        f"|{given['mode']}|2.5.1||||||{charset}"
    )


def obx(
    code: str = "8867-4^Heart rate^LN",
    value: str = "80",
    unit: str = "/min^^UCUM",
    *,
    kind: str = "NM",
    status: str = "F",
    at: str = "20260101085500",
) -> str:
    return f"OBX|1|{kind}|{code}||{value}|{unit}|||||{status}|||{at}"


def oru(*segments: str, **header: str) -> bytes:
    return "\r".join((msh(**header), PID, PV1, OBR, *segments)).encode()


def resources(body: bytes, zone: ZoneInfo | None = None) -> list[dict[str, Any]]:
    segments = parted(body)
    header = header_of(segments[0])
    check(header)
    made = json.loads(bundle(header, segments, zone))
    for entry in made["entry"]:
        resource = entry["resource"]
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)
    return [entry["resource"] for entry in made["entry"]]


def refusal(body: bytes) -> NotTaken:
    with pytest.raises(NotTaken) as found:
        resources(body)
    return found.value


def test_a_result_is_an_observation_in_the_senders_codes() -> None:
    (made,) = resources(oru(obx()))
    assert made["code"]["coding"] == [{"system": "http://loinc.org", "code": "8867-4"}]
    assert made["valueQuantity"] == {
        "value": 80,
        "system": "http://unitsofmeasure.org",
        "code": "/min",
    }
    assert made["effectiveDateTime"] == "2026-01-01T08:55:00+01:00"
    assert made["meta"] == {"lastUpdated": "2026-01-01T09:00:00+01:00"}
    assert made["subject"] == {"reference": "Patient/WEST.4711"}
    assert made["encounter"] == {"reference": "Encounter/V100"}
    assert SECRET not in json.dumps(made)


@pytest.mark.parametrize("kind", ["ORU^R01", "ORU^R30^ORU_R30", "ORU^R31", "ORU^R32"])
def test_every_kind_of_result_is_taken(kind: str) -> None:
    assert len(resources(oru(obx(), obx("8310-5^^LN", "37.0", "Cel"), kind=kind))) == 2


@pytest.mark.parametrize(("given_status", "told"), STATUSES.items())
def test_a_status_of_v2_is_one_of_fhir_under_the_same_id(given_status: str, told: str) -> None:
    (first,) = resources(oru(obx()))
    (later,) = resources(oru(obx(value="81", status=given_status), at="20260101100000+0100"))
    assert later["status"] == told
    assert later["id"] == first["id"]
    assert later["meta"]["lastUpdated"] > first["meta"]["lastUpdated"]


def test_another_order_code_or_time_is_another_observation() -> None:
    bodies = [
        oru(obx()),
        oru(obx("8310-5^^LN")),
        oru(obx(at="20260101085600")),
        oru(obx()).replace(b"|F1|", b"|F2|"),
    ]
    assert len({resources(body)[0]["id"] for body in bodies}) == 4


@given(st.from_regex(r"[+-]?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})", fullmatch=True))
def test_a_number_keeps_its_value_and_its_digits(text: str) -> None:
    told = coded.number(text)
    assert told is not None
    assert json.loads(told) == float(text) or math.isclose(json.loads(told), float(text))
    assert told.lstrip("-").lstrip("0.") == text.rstrip(".").lstrip("+-").lstrip("0.") or (
        float(text) == 0
    )


@pytest.mark.parametrize("text", ["", "bananas", "1e9", "NaN", "--1", "1,5", "٣", "9" * 65, "."])
def test_what_is_no_number_is_never_made_one(text: str) -> None:
    assert coded.number(text) is None
    (made,) = resources(oru(obx(value=text)))
    assert "valueQuantity" not in made


def test_a_comparator_goes_along_and_a_range_does_not_become_a_number() -> None:
    (made,) = resources(oru(obx(value="<^5", kind="SN")))
    assert (made["valueQuantity"]["comparator"], made["valueQuantity"]["value"]) == ("<", 5)
    (ratio,) = resources(oru(obx(value="^1^:^2", kind="SN")))
    assert "valueQuantity" not in ratio


@pytest.mark.parametrize("value", ["", '""'])
def test_no_value_is_told_as_absent_and_not_as_zero(value: str) -> None:
    (made,) = resources(oru(obx(value=value)))
    assert made["dataAbsentReason"]["coding"][0]["code"] == "unknown"


def test_several_values_in_one_field_are_no_number() -> None:
    (made,) = resources(oru(obx(value="80~90")))
    assert "valueQuantity" not in made


def test_local_codes_and_units_keep_the_name_of_their_system() -> None:
    (made,) = resources(oru(obx("HR^Puls^99WEST^8867-4^^LN", unit="bpm^^99 West")))
    assert made["code"]["coding"] == [
        {"system": "urn:hl7v2:99west", "code": "HR"},
        {"system": "http://loinc.org", "code": "8867-4"},
    ]
    assert made["valueQuantity"]["system"] == "urn:hl7v2:99-west"


@pytest.mark.parametrize(
    ("text", "zone", "told"),
    [
        ("20260101085500.1234-0500", None, "2026-01-01T08:55:00.1234-05:00"),
        ("202601010855", None, "2026-01-01T08:55:00"),
        ("20260101", None, "2026-01-01"),
        ("20260701085500", "Europe/Berlin", "2026-07-01T08:55:00+02:00"),
        ("20261025023000", "Europe/Berlin", "2026-10-25T02:30:00"),  # it comes twice
        ("2026010108", None, "?"),
    ],
)
def test_a_time_has_an_offset_only_where_one_is_known(
    text: str, zone: str | None, told: str
) -> None:
    assert coded.date_time(text, "", ZoneInfo(zone) if zone else None) == told


@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=9), st.text(max_size=9)), min_size=2, unique=True
    )
)
def test_no_two_identifiers_become_one(given_names: list[tuple[str, str]]) -> None:
    made = {coded.identifier(name, authority) for name, authority in given_names}
    assert len(made) == len(given_names)


@given(st.lists(st.lists(st.text(ALLOWED, max_size=8), min_size=1, max_size=4), max_size=5))
def test_every_component_is_what_the_other_reader_reads(fields: list[list[str]]) -> None:
    escape = str.maketrans({"|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\\": "\\E\\"})
    text = "|".join("^".join(part.translate(escape) for part in parts) for parts in fields)
    body = f"{msh()}\rZZZ|{text}"
    ours = parted(body.encode())[1]
    theirs = hl7.parse(body)
    for number, parts in enumerate(fields, 1):
        assert ours.components(number)[: len(parts)] == parts
        for place, part in enumerate(parts, 1):
            if part.strip() == part:  # the other strips the end of a message
                assert theirs.extract_field("ZZZ", 1, number, 1, place, 1) == part


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_an_escape_sequence_is_read_as_the_other_reader_does_or_left_out(text: str) -> None:
    said = text.replace("\r", "").replace("\n", "").replace("|", "").replace("\x00", "")
    body = f"{msh()}\rZZZ|{said}"
    assert isinstance(parted(body.encode())[-1].whole(1), str)


@pytest.mark.parametrize("name", CHARSETS)
def test_a_declared_character_set_is_the_one_that_is_read(name: str) -> None:
    text = "8867-4^Puls^LN"
    body = oru(obx(text), charset=name).decode().encode(CHARSETS[name])
    assert len(resources(body)) == 1


def test_umlauts_survive_and_a_wrong_or_unknown_set_is_refused() -> None:
    body = oru(obx("HR-ü^^99WEST"), charset="8859/1")
    (made,) = resources(body.decode().encode("latin-1"))
    assert made["code"]["coding"][0]["code"] == "HR-ü"
    assert refusal(body.decode().encode("latin-1").replace(b"8859/1", b"ASCII")).answer == "AE"
    assert refusal(oru(obx(), charset="EBCDIC")).place == "MSH^1^18"


@pytest.mark.parametrize(
    ("body", "answer", "error"),
    [
        (b"", "AR", "100"),
        (b"PID|1", "AR", "100"),
        (b"MSH|", "AR", "100"),
        (b"MSH|^~\\&", "AE", "101"),
        (b"MSH|^^\\&|a", "AR", "100"),
        (b"MSH|^~\\&|a\x00", "AR", "100"),
        (msh("ORM^O01").encode(), "AR", "200"),
        (msh("ADT^A11").encode(), "AR", "201"),
        (msh(mode="T").encode(), "AR", "202"),
        (msh().replace("2.5.1", "3").encode(), "AR", "203"),
        (msh(id="").encode(), "AE", "101"),
        (f"{msh()}\r{obx()}".encode(), "AE", "100"),
        (f"{msh()}\rPID|1||\r{obx()}".encode(), "AE", "101"),
        (f"{msh('ADT^A01')}\r{PID}".encode(), "AE", "101"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_number(body: bytes, answer: str, error: str) -> None:
    found = refusal(body)
    assert (found.answer, found.error[:3]) == (answer, error)


@pytest.mark.parametrize("event", sorted(MERGES))
def test_a_merge_of_patients_is_refused_by_name(event: str) -> None:
    found = refusal(f"{msh(f'ADT^{event}')}\r{PID}".encode())
    assert (found.answer, found.reason) == (Answer.REJECTED, "PATIENT_MERGE")


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 300))
def test_whatever_comes_is_a_bundle_or_a_refusal(noise: bytes, start: int, end: int) -> None:
    whole = oru(obx(), obx(value="<^5", kind="SN"))
    body = whole[: min(start, end)] + noise + whole[max(start, end) :]
    try:
        segments = parted(body)
        header = header_of(segments[0])
        check(header)
        assert json.loads(bundle(header, segments, None))["resourceType"] == "Bundle"
    except NotTaken:
        return


@pytest.mark.parametrize(
    ("event", "more", "status"),
    [("A01", "", "in-progress"), ("A02", "", "in-progress"), ("A03", "", "finished")],
)
def test_an_admission_is_a_patient_and_an_encounter(event: str, more: str, status: str) -> None:
    pid = PID.replace("||F|||||||||", "||F||2106-3^White^CDCREC|||||EN||||||2186-5^^CDCREC")
    visit = PV1 + "|" * 25 + "20260101070000" + more
    person, stay = resources("\r".join((msh(f"ADT^{event}"), pid, visit)).encode())
    assert (person["id"], person["gender"], person["birthDate"]) == (
        "WEST.4711",
        "female",
        "1960-02-29",
    )
    assert SECRET not in json.dumps(person)
    assert (stay["id"], stay["status"]) == ("V100", status)
    assert stay["location"][0]["location"]["display"] == "MICU"
    assert stay["period"] == {"start": "2026-01-01T07:00:00+01:00"}


def test_an_update_without_a_visit_tells_of_the_person_alone() -> None:
    (person,) = resources("\r".join((msh("ADT^A08"), PID)).encode())
    assert person["resourceType"] == "Patient"


def segments_of(answer: bytes) -> dict[str, Any]:
    parsed = hl7.parse(answer.decode())
    return {str(segment[0]): segment for segment in parsed}


class Door:
    """The door with a log in memory, which may be away."""

    def __init__(self, known: list[Source] | None = None, now: int = 1) -> None:
        self.log: list[Output] = []
        self.away = False
        self.metrics = Metrics(Build(service="gateway", version="1", revision="a", python="3"))
        desk = Desk(Sources(known), b"k" * 32, clock=lambda: now, randomness=bytes)
        self.happened: list[tuple[str, str, int]] = []
        self.mllp = Mllp(desk, self._deliver, self.metrics, self._happened)

    async def _happened(self, matter: str, source: str, at: int) -> None:
        if self.away:
            raise Retry("Kafka: away")
        self.happened.append((matter, source, at))

    async def _deliver(self, record: Output) -> None:
        if self.away:
            raise Retry("Kafka: away")
        self.log.append(record)

    def take(self, body: bytes, certificate: str = "") -> tuple[str, str, dict[str, Any]]:
        told = segments_of(asyncio.run(self.mllp.take(body, certificate)))
        return str(told["MSA"][1]), str(told["MSA"][2]), told


def test_a_message_is_accepted_when_it_is_held_and_not_before() -> None:
    door = Door()
    door.away = True
    answer, name, told = door.take(oru(obx()))
    assert (answer, name, str(told["ERR"][8])) == ("AE", "MSG1", "SEND_AGAIN")
    door.away = False
    assert door.take(oru(obx()))[:2] == ("AA", "MSG1")
    (record,) = door.log
    assert dict(record.headers)["source"] == b"west"
    assert dict(record.headers)["content-type"] == b"application/fhir+json"


def test_a_merge_is_noticed_durably_before_it_is_refused() -> None:
    door, merge = Door(), f"{msh('ADT^A40')}\r{PID}".encode()
    door.away = True
    assert door.take(merge)[0] == "AE", "it comes again"
    door.away = False
    assert door.take(merge)[0] == "AR"
    assert door.happened == [("patient_merge", "west", 1)]
    assert not door.log
    door.take(oru(obx(), kind="ORM^O01"))
    assert len(door.happened) == 1


def test_an_answer_repeats_nothing_of_a_patient() -> None:
    door = Door()
    for body in (oru(obx()), b"MSH|^~\\&|" + PID.encode(), oru(obx(), kind="ADT^A40")):
        answer = asyncio.run(door.mllp.take(body))
        assert SECRET.encode() not in answer
        assert b"4711" not in answer


def test_the_names_that_are_echoed_cannot_part_the_answer() -> None:
    header = header_of(parted(oru(id="a\\F\\b^c&d\x0be"))[0])
    told = segments_of(acknowledgment.acknowledged(header, at="20260101", name="1"))
    assert set(told) == {"MSH", "MSA"}
    assert str(told["MSA"][1]) == "AA"


def test_a_message_without_its_token_is_rejected_and_counted() -> None:
    digest = "a3c024f01cccb3b63457d848b0d2f89c1f744a3dbf9f2a5a6f6f0e8d2f0c7b11"
    door = Door([Source(id="west", token_sha256=digest)])
    answer, _, told = door.take(oru(obx(), security="wrong"))
    assert (answer, str(told["ERR"][8])) == ("AR", "CREDENTIAL_WRONG")
    assert not door.log
    counted = door.metrics.exposition().decode()
    assert (
        'vigil_security_events_total{reason="CREDENTIAL_WRONG",service="gateway"} 1.0' in counted
    )


def test_a_message_that_provokes_the_unexpected_is_answered_and_the_next_one_taken() -> None:
    door = Door()
    fail = [True]

    async def sometimes(_: Output) -> None:
        if fail:
            fail.clear()
            raise ValueError(SECRET)

    door.mllp._deliver = sometimes
    answer, _, told = door.take(oru(obx()))
    assert (answer, str(told["ERR"][8])) == ("AE", "UNEXPECTED")
    assert door.take(oru(obx()))[0] == "AA"


def test_a_source_that_declares_its_time_is_heard_at_the_time_of_its_message() -> None:
    door = Door([Source(id="west", clock="declared")])
    assert door.take(oru(obx()))[0] == "AA"
    assert dict(door.log[0].headers)["received_at"] == b"1767254400000000"


def read(body: bytes) -> list[Measured]:
    """Hand what a message became to the room that reads FHIR."""
    segments = parted(body)
    made = bundle(header_of(segments[0]), segments, None)
    message = Message(
        body=made,
        source="west",
        received_at=instant("2026-01-01T12:00:00Z"),
        accepted_at=1,
        ingest_id="0" * 32,
        partition=0,
        offset=0,
    )
    found = [entry.finding for entry in Reader(message, terminology()).entries()]
    assert all(isinstance(finding, Measured) for finding in found)
    return [finding for finding in found if isinstance(finding, Measured)]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("C", Kind.OBSERVATION),
        ("D", Kind.RETRACTION),
        ("X", Kind.RETRACTION),
        ("W", Kind.RETRACTION),
    ],
)
def test_a_correction_of_v2_is_a_later_version_of_the_same_reading(
    status: str, kind: Kind
) -> None:
    (first,) = read(oru(obx()))
    (later,) = read(oru(obx(value="81", status=status), at="20260101100000+0100"))
    assert (first.kind, later.kind) == (Kind.OBSERVATION, kind)
    assert (first.patient, first.encounter) == (later.patient, later.encounter)
    assert first.identifier == later.identifier
    assert later.version == first.version + 3_600_000_000


def test_a_value_of_v2_is_converted_as_one_of_fhir_is() -> None:
    (found,) = read(oru(obx("8310-5^^LN", "98.6", "[degF]^^UCUM")))
    assert found.readings[0].value == pytest.approx(37.0)
    assert found.measured_at == instant("2026-01-01T07:55:00Z")
