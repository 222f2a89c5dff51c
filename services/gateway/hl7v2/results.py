"""ORU: every OBX becomes an Observation; whether it can be used is judged where all are."""

import hashlib
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from services.gateway.hl7v2 import coded
from services.gateway.hl7v2.segments import Segment, component

# HL7 table 0085, in FHIR's statuses. What corrects or takes back says so by the same id.
STATUSES: Final = {
    "F": "final",
    "U": "final",
    "C": "corrected",
    "A": "amended",
    "P": "preliminary",
    "R": "preliminary",
    "S": "preliminary",
    "D": "entered-in-error",
    "W": "entered-in-error",
    "X": "cancelled",
    "I": "registered",
    "O": "registered",
    "N": "registered",
}
COMPARATORS: Final = frozenset({"<", "<=", ">", ">="})
# HL7 table 0074: sections of a laboratory.
LABORATORY: Final = frozenset(
    {"BG", "BLB", "CG", "CH", "CP", "GE", "HM", "IMM", "LAB", "MB", "MCB", "MYC", "OTH", "SR"}
    | {"TX", "VR"}
)
_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
_ABSENT: Final = "http://terminology.hl7.org/CodeSystem/data-absent-reason"


class Spoken(NamedTuple):
    """What a message says of itself: its time, the offset of its times, and its source's zone."""

    version: str
    offset: str
    zone: ZoneInfo | None

    def time(self, text: str) -> str:
        """Write a time of the message in FHIR's way."""
        return coded.date_time(text.strip(), self.offset, self.zone)


class Order(NamedTuple):
    """What stands above an OBX: whose it is, and the OBR that it answers."""

    patient: str
    encounter: str
    request: Segment | None

    def name(self) -> str:
        """Name the order: filler's number, else placer's, else the patient's."""
        if self.request is not None:
            for field in (3, 2):
                if number := self.request.whole(field):
                    return f"{field} {number}"
        return f"0 {self.patient}"

    def at(self) -> str:
        """Give OBR-7, when the observation or its specimen was taken."""
        return self.request.first(7) if self.request is not None else ""

    def category(self) -> list[dict[str, Any]]:
        """Say whether it is of a laboratory."""
        if self.request is None or self.request.first(24) not in LABORATORY:
            return []
        return [{"coding": [{"system": _CATEGORY, "code": "laboratory"}]}]


def observation(segment: Segment, order: Order, spoken: Spoken) -> dict[str, Any]:
    """Make an Observation of an OBX.

    Its id is of the order, OBX-3, OBX-4 and its time: what a later message says under the same
    ones corrects it or takes it back, and MSH-7 tells which is the later.
    """
    concept = segment.components(3)
    time = spoken.time(segment.first(14) or order.at())
    name = "\x1f".join((order.name(), *concept[:1], segment.whole(4), time))
    made: dict[str, Any] = {
        "resourceType": "Observation",
        "id": hashlib.sha256(name.encode()).hexdigest(),
        "status": STATUSES.get(segment.first(11).strip(), "unknown"),
        "code": {"coding": coded.codings(concept)},
        "subject": {"reference": f"Patient/{order.patient}"},
    }
    if spoken.version:
        made["meta"] = {"lastUpdated": spoken.version}
    if order.encounter:
        made["encounter"] = {"reference": f"Encounter/{order.encounter}"}
    if category := order.category():
        made["category"] = category
    if time:
        made["effectiveDateTime"] = time
    if device := segment.first(18):
        made["device"] = {"reference": f"Device/{coded.identifier(device)}"}
    made.update(_value(segment))
    return made


def _value(segment: Segment) -> dict[str, Any]:
    text, kind = segment.whole(5).strip(), segment.first(2).strip()
    if text in ("", '""'):
        return {"dataAbsentReason": {"coding": [{"system": _ABSENT, "code": "unknown"}]}}
    if not segment.repeats(5):
        if kind == "NM" and (told := coded.number(text)):
            return {"valueQuantity": {"value": msgspec.Raw(told.encode()), **_unit(segment)}}
        if kind == "SN" and (bounded := _bounded(segment.components(5))):
            return {"valueQuantity": {**bounded, **_unit(segment)}}
        if kind in ("CE", "CWE", "CNE"):
            return {"valueCodeableConcept": {"coding": coded.codings(segment.components(5))}}
    return {"valueString": text}


def _bounded(parts: list[str]) -> dict[str, Any] | None:
    """Read a structured number: a comparator or none, and one number."""
    sign, told = component(parts, 1), coded.number(component(parts, 2))
    if told is None or component(parts, 3) or sign not in COMPARATORS | {"", "="}:
        return None
    value = {"value": msgspec.Raw(told.encode())}
    return {**value, "comparator": sign} if sign in COMPARATORS else value


def _unit(segment: Segment) -> dict[str, str]:
    parts = segment.components(6)
    code = component(parts, 1)
    return (
        {"system": coded.system_of(component(parts, 3), coded.UCUM), "code": code} if code else {}
    )
