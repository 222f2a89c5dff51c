"""The cases of bad_inputs.tsv that concern what a source sends, as messages."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from builders import (
    REPO,
    Resource,
    bundle,
    codec,
    concept,
    observation,
    patient,
    quantity,
    record,
)

from services.core.errors import Reason
from services.core.events import DeadLetter, Flag, Receipt, Vitals
from services.runtime.ports import Output, Record

CONTRACT = REPO.parent / "shared" / "spec" / "bad_inputs.tsv"
COVERED = (
    *("J01", "J02", "J03", "J04", "J05", "J06", "J07", "J08", "J09", "J10", "J11", "J12", "J13"),
    *("J14", "F01", "F02", "F03", "F04", "F05", "F06", "F07", "F08", "F09", "F10", "F11", "F12"),
    *("F13", "F15", "U01", "U02", "U03", "U04", "U05", "U06", "U07", "U08", "P01", "P02", "P04"),
    *("T01", "T02", "T03", "T04", "T05", "D01", "D02", "D03", "D04", "D05", "D07"),
)


class Refused(NamedTuple):
    case: str
    content: Resource | bytes
    reason: Reason


class Accepted(NamedTuple):
    case: str
    content: Resource | bytes
    variable: str
    value: float
    flags: Flag = Flag.NONE


def text(value: str, unit: str = "/min", code: str = "8867-4") -> bytes:
    """An Observation whose number is written exactly so."""
    return (
        json.dumps(observation(code, valueQuantity=quantity("@", unit)))
        .replace('"@"', value)
        .encode()
    )


def doubled(first: str, second: str) -> bytes:
    return json.dumps(observation()).replace('"status": "final"', f"{first}, {second}").encode()


def at(time: object) -> Resource:
    return observation(effectiveDateTime=time)


def about(reference: str) -> Resource:
    return observation(subject={"reference": reference})


def measured(code: str, value: object, unit: str, kind: str = "vital-signs") -> Resource:
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    filed = [{"coding": [{"system": system, "code": kind}]}]
    return observation(code, valueQuantity=quantity(value, unit), category=filed)


def nested(levels: int) -> bytes:
    return b'{"resourceType":"Observation","x":' + b"[" * levels + b"]" * levels + b"}"


def bundles(levels: int) -> Resource:
    return bundle(observation() if levels == 1 else bundles(levels - 1))


REFUSED = (
    Refused("J01", b'{"resourceType":"Observation","status":', Reason.JSON_SYNTAX),
    Refused("J01", b"", Reason.JSON_SYNTAX),
    Refused("J01", b" \n\t ", Reason.JSON_SYNTAX),
    Refused("J02", text("NaN"), Reason.JSON_NONFINITE),
    Refused("J02", text("Infinity"), Reason.JSON_NONFINITE),
    Refused("J02", text("-Infinity"), Reason.JSON_NONFINITE),
    Refused("J03", text("1e400"), Reason.NUM_OVERFLOW),
    Refused("J03", text("-1e9999"), Reason.NUM_OVERFLOW),
    Refused("J04", text("1e-999"), Reason.NUM_UNDERFLOW),
    Refused("J04", text("0." + "0" * 400 + "1"), Reason.NUM_UNDERFLOW),
    Refused("J05", text("9" * 5000), Reason.NUM_RANGE),
    Refused("J05", text("100000000000000000000"), Reason.NUM_RANGE),
    Refused("J05", text("1e20"), Reason.NUM_RANGE),
    Refused("J06", doubled('"status": "final"', '"status": "cancelled"'), Reason.JSON_DUP_KEY),
    Refused("J06", doubled('"status" : "final"', '"\\u0073tatus": 5'), Reason.JSON_DUP_KEY),
    Refused("J07", doubled('"status": "final"', '"status": "final"'), Reason.JSON_DUP_KEY),
    Refused("J08", b"[" * 100_000, Reason.JSON_DEPTH),
    Refused("J08", b'{"":[' * 50_000, Reason.JSON_DEPTH),
    Refused("J09", nested(500), Reason.JSON_DEPTH),
    Refused("J09", nested(32), Reason.JSON_DEPTH),
    Refused("J10", text('"' + "x" * (10 << 20) + '"'), Reason.TOO_LARGE),
    Refused("J11", b'{"id":"\xff"}', Reason.ENCODING),
    Refused("J11", b'{"id":"\xc0\xaf"}', Reason.ENCODING),
    Refused("J11", json.dumps(observation()).encode("utf-16"), Reason.ENCODING),
    Refused("J11", '{"id":"ü"}'.encode("latin-1"), Reason.ENCODING),
    Refused("J11", b'{"id":"\xed\xa0\xbd\xed\xb8\x80"}', Reason.ENCODING),
    Refused("J11", b"\xef\xbb\xbf" + json.dumps(observation()).encode(), Reason.ENCODING),
    Refused("J12", b'{"resourceType":"Observation","id":"\\ud800"}', Reason.ENCODING),
    Refused("J13", observation(id="a\x00b"), Reason.BAD_CHAR),
    Refused("J13", observation(id="a\u202eb"), Reason.BAD_CHAR),
    Refused("J13", observation(id="a\u200bb"), Reason.BAD_CHAR),
    Refused("J13", observation(id="a\x1b[31m"), Reason.BAD_CHAR),
    Refused("J13", about("Patient/a\r\nb"), Reason.BAD_CHAR),
    Refused("J14", b'{"resourceType":"Observation", /* no */ "id":"a"}', Reason.JSON_SYNTAX),
    Refused("J14", b'{"resourceType":"Observation",}', Reason.JSON_SYNTAX),
    Refused("J14", b"{'resourceType':'Observation'}", Reason.JSON_SYNTAX),
    Refused("J14", b'{resourceType:"Observation"}', Reason.JSON_SYNTAX),
    Refused("F01", {"status": "final"}, Reason.FHIR_TYPE),
    Refused("F01", {"resourceType": "Heart"}, Reason.FHIR_TYPE),
    Refused("F01", {"resourceType": ["Observation"]}, Reason.FHIR_TYPE),
    Refused("F01", b"[1, 2]", Reason.FHIR_TYPE),
    Refused("F01", bundles(10), Reason.FHIR_TYPE),
    Refused("F02", observation(status=None), Reason.FHIR_STATUS),
    Refused("F02", observation(status="xyz"), Reason.FHIR_STATUS),
    Refused("F02", observation(status=1), Reason.FHIR_STATUS),
    Refused("F03", observation(code=None), Reason.FHIR_CODE),
    Refused("F03", observation(code={"text": "pulse"}), Reason.FHIR_CODE),
    Refused("F04", observation("8867-4", "8310-5"), Reason.CODE_CONFLICT),
    Refused("F04", observation("17861-6", "1994-3"), Reason.CODE_CONFLICT),
    Refused("F05", observation(subject=None), Reason.SUBJECT),
    Refused("F05", about("Group/g-1"), Reason.SUBJECT),
    Refused("F05", about("#p"), Reason.SUBJECT),
    Refused("F05", about("Patient/../../etc"), Reason.SUBJECT),
    Refused("F05", about("Patient/.."), Reason.SUBJECT),
    Refused("F05", about("https://other.example/fhir/Patient/p-1"), Reason.SUBJECT),
    Refused("F05", about("urn:uuid:0d0c7f4e-0000-4000-8000-000000000000"), Reason.SUBJECT),
    Refused("F06", observation(valueString="80"), Reason.VALUE_CHOICE),
    Refused("F06", observation(dataAbsentReason=concept("unknown")), Reason.VALUE_CHOICE),
    Refused("F08", observation(valueQuantity=quantity("80", "/min")), Reason.VALUE_TYPE),
    Refused("F08", observation(valueQuantity=quantity("1e400", "/min")), Reason.VALUE_TYPE),
    Refused(
        "F08", observation(valueQuantity=quantity(value=True, unit="/min")), Reason.VALUE_TYPE
    ),
    Refused("F08", observation(valueQuantity=quantity([80], "/min")), Reason.VALUE_TYPE),
    Refused("F08", observation(valueQuantity=quantity({"a": 80}, "/min")), Reason.VALUE_TYPE),
    Refused("F08", observation(valueQuantity=None, valueString="80"), Reason.VALUE_TYPE),
    Refused("F08", observation(valueQuantity=None, valueInteger=80), Reason.UNIT_UNKNOWN),
    Refused("F13", observation(modifierExtension=[{"url": "urn:x"}]), Reason.MODIFIER_EXT),
    Refused("F15", observation(id="a" * 65), Reason.FHIR_ID),
    Refused("F15", observation(id="a/b"), Reason.FHIR_ID),
    Refused("U01", measured("8310-5", 98.6, "Cel"), Reason.UNIT_IMPLAUSIBLE),
    Refused("U01", measured("8310-5", 37.0, "[degF]"), Reason.UNIT_IMPLAUSIBLE),
    Refused("U05", measured("59408-5", 0.97, "%"), Reason.UNIT_IMPLAUSIBLE),
    Refused("U05", measured("59408-5", 97, "1"), Reason.UNIT_IMPLAUSIBLE),
    Refused("U06", measured("2524-7", 2, "mm[Hg]", "laboratory"), Reason.UNIT_DIMENSION),
    Refused("U06", measured("2160-0", 2, "10*3/uL", "laboratory"), Reason.UNIT_DIMENSION),
    Refused("U07", observation(valueQuantity={"value": 80, "unit": "/min"}), Reason.UNIT_UNKNOWN),
    Refused("U07", observation(valueQuantity={"value": 80, "code": "/min"}), Reason.UNIT_UNKNOWN),
    Refused("U07", observation(valueQuantity={"value": 80}), Reason.UNIT_UNKNOWN),
    Refused("U07", measured("8867-4", 80, "bananas"), Reason.UNIT_UNKNOWN),
    Refused("U07", measured("8867-4", 80, "Cel"), Reason.UNIT_DIMENSION),
    Refused("P01", measured("8867-4", -5, "/min"), Reason.RANGE),
    Refused("P01", measured("8867-4", 4000, "/min"), Reason.RANGE),
    Refused("P02", measured("8867-4", 301, "/min"), Reason.RANGE),
    Refused("P02", measured("59408-5", 101, "%"), Reason.RANGE),
    Refused("P02", measured("8310-5", 46.1, "Cel"), Reason.RANGE),
    Refused("P04", patient(birthDate="1896-01-01"), Reason.DEMOG),
    Refused("P04", patient(birthDate="2026-01-07"), Reason.DEMOG),
    Refused("T01", at("2026-01-05T08:05:31Z"), Reason.TIME_FUTURE),
    Refused("T01", at("2026-01-06T08:00:00Z"), Reason.TIME_FUTURE),
    Refused("T01", at("9999-12-31T23:59:59Z"), Reason.TIME_FUTURE),
    Refused("T03", at("2026-01-05T08:00:00"), Reason.TIME_FORMAT),
    Refused("T03", at("2026-01-05"), Reason.TIME_FORMAT),
    Refused("T03", at("2026-02-30T08:00:00Z"), Reason.TIME_FORMAT),
    Refused("T03", at("2026-01-04T24:00:00Z"), Reason.TIME_FORMAT),
    Refused("T03", at("20260105T080000Z"), Reason.TIME_FORMAT),
    Refused("T03", at(None), Reason.TIME_FORMAT),
)

ACCEPTED = (
    Accepted("F09", text("36." + "6" * 38, "Cel", "8310-5"), "Temp", float("36." + "6" * 38)),
    Accepted("F11", observation(valueQuantity={**quantity(80, "/min"), "comparator": "<"}),
             "HR", 80, Flag.COMPARATOR),
    Accepted("U02", measured("8310-5", 98.6, "[degF]"), "Temp", 37.0, Flag.CONVERTED),
    Accepted("U03", measured("8480-6", 16, "kPa"), "SBP", 120.00992, Flag.CONVERTED),
    Accepted("U04", measured("8480-6", 16, "mm[Hg]"), "SBP", 16, Flag.UNUSUAL),
    Accepted("U05", measured("59408-5", 0.97, "1"), "O2Sat", 97, Flag.CONVERTED),
    Accepted("U06", measured("2524-7", 18.02, "mg/dL"), "Lactate", 2.0, Flag.CONVERTED),
    Accepted("U06", measured("14682-9", 88.42, "umol/L"), "Creatinine", 1.0, Flag.CONVERTED),
    Accepted("U06", measured("6690-2", 8000, "/uL"), "WBC", 8.0, Flag.CONVERTED),
    Accepted("P01", measured("8867-4", 0, "/min"), "HR", 0, Flag.UNUSUAL),
    Accepted("P02", measured("8310-5", 32, "Cel"), "Temp", 32),
    Accepted("P02", measured("8310-5", 31.9, "Cel"), "Temp", 31.9, Flag.UNUSUAL),
    Accepted("P02", measured("8310-5", 44, "Cel"), "Temp", 44),
    Accepted("P02", measured("8310-5", 44.1, "Cel"), "Temp", 44.1, Flag.UNUSUAL),
    Accepted("P02", measured("8867-4", 300, "/min"), "HR", 300),
    Accepted("P02", measured("8480-6", 300, "mm[Hg]"), "SBP", 300),
    Accepted("P02", measured("8480-6", 301, "mm[Hg]"), "SBP", 301, Flag.UNUSUAL),
    Accepted("P02", measured("8462-4", 200, "mm[Hg]"), "DBP", 200),
    Accepted("P02", measured("8462-4", 201, "mm[Hg]"), "DBP", 201, Flag.UNUSUAL),
    Accepted("P02", measured("8478-0", 0, "mm[Hg]"), "MAP", 0),
    Accepted("P02", measured("8478-0", 250, "mm[Hg]"), "MAP", 250),
    Accepted("P02", measured("8478-0", -1, "mm[Hg]"), "MAP", -1, Flag.UNUSUAL),
    Accepted("P02", measured("8478-0", 251, "mm[Hg]"), "MAP", 251, Flag.UNUSUAL),
    Accepted("P02", measured("9279-1", 0, "/min"), "Resp", 0),
    Accepted("P02", measured("9279-1", 60, "/min"), "Resp", 60),
    Accepted("P02", measured("9279-1", 61, "/min"), "Resp", 61, Flag.UNUSUAL),
    Accepted("P02", measured("59408-5", 50, "%"), "O2Sat", 50),
    Accepted("P02", measured("59408-5", 49, "%"), "O2Sat", 49, Flag.UNUSUAL),
    Accepted("P02", measured("59408-5", 100, "%"), "O2Sat", 100),
    Accepted("T01", at("2026-01-05T08:05:30Z"), "HR", 80),
    Accepted("T02", at("1970-01-01T00:00:00Z"), "HR", 80),
    Accepted("T02", at("2025-01-05T08:00:00Z"), "HR", 80),
    Accepted("T03", at("2016-12-31T23:59:60Z"), "HR", 80),
    Accepted("T04", at("2026-01-05T22:00:00+14:00"), "HR", 80),
    Accepted("T04", at("2026-01-04T20:00:00-12:00"), "HR", 80),
    Accepted("T04", at("2026-01-05T08:00:00-00:00"), "HR", 80),
)  # fmt: skip

GOOD = 12
PLACES = {"start": 0, "middle": GOOD // 2, "end": GOOD}


def of_topic(outputs: Sequence[Output], topic: str) -> list[Output]:
    return [output for output in outputs if output.topic == topic]


def events(outputs: Sequence[Output]) -> list[Vitals]:
    found = of_topic(outputs, "vitals.v1")
    return [codec().decode(output.value or b"", Vitals) for output in found]


def receipts(outputs: Sequence[Output]) -> list[Receipt]:
    found = of_topic(outputs, "receipts.v1")
    return [codec().decode(output.value or b"", Receipt) for output in found]


def letters(outputs: Sequence[Output]) -> list[DeadLetter]:
    found = of_topic(outputs, "dlq.v1")
    return [codec().decode(output.value or b"", DeadLetter) for output in found]


def among_good(content: Resource | bytes, place: int) -> list[Record]:
    """Records of a batch: good ones, and this one in its place."""
    contents: list[Resource | bytes] = [observation(id=f"good-{i}") for i in range(GOOD)]
    contents.insert(place, content)
    return [record(content, offset=offset) for offset, content in enumerate(contents)]
