"""One message of HL7 v2 becomes one Bundle, or is not taken."""

from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from services.gateway.hl7v2 import people
from services.gateway.hl7v2.coded import offset_of
from services.gateway.hl7v2.refusal import (
    EVENT,
    KIND,
    MISSING,
    PROCESSING,
    SEQUENCE,
    VERSION,
    Answer,
    NotTaken,
)
from services.gateway.hl7v2.results import Order, Spoken, observation
from services.gateway.hl7v2.segments import Segment, component, required

RESULTS: Final = frozenset({"R01", "R30", "R31", "R32"})
ADMISSIONS: Final = frozenset({"A01", "A02", "A03", "A08"})
MERGES: Final = frozenset(
    {"A18", "A24", "A30", "A34", "A35", "A36", "A37", "A39", "A40", "A41", "A42", "A43"}
    | {"A44", "A45", "A46", "A47", "A48", "A49", "A50", "A51"}
)
"""Events that join or part patients, visits or their identifiers."""
PATIENT_MERGE: Final = "PATIENT_MERGE"


class Header(NamedTuple):
    """What MSH says, as far as it is read."""

    kind: str
    event: str
    control_id: str
    security: str
    facility: str
    segment: Segment


def header_of(segment: Segment) -> Header:
    """Read MSH.

    Raises:
        NotTaken: its type or its control id is missing.
    """
    kind = segment.components(9)
    return Header(
        kind=component(kind, 1),
        event=component(kind, 2),
        control_id=required(segment, 10),
        security=segment.whole(8),
        facility=segment.first(4),
        segment=segment,
    )


def check(header: Header) -> None:
    """Require a message of a kind that is taken.

    Raises:
        NotTaken: AR; PATIENT_MERGE where it would join patients.
    """
    events = {"ORU": RESULTS, "ADT": ADMISSIONS}.get(header.kind)
    if events is None:
        raise NotTaken(Answer.REJECTED, KIND, "MSH^1^9")
    if header.event not in events:
        merges = header.kind == "ADT" and header.event in MERGES
        raise NotTaken(Answer.REJECTED, EVENT, "MSH^1^9", PATIENT_MERGE if merges else "")
    if header.segment.first(11).strip() != "P":
        raise NotTaken(Answer.REJECTED, PROCESSING, "MSH^1^11")
    if not header.segment.first(12).startswith("2."):
        raise NotTaken(Answer.REJECTED, VERSION, "MSH^1^12")


def bundle(header: Header, segments: list[Segment], zone: ZoneInfo | None) -> bytes:
    """Make the Bundle of a message that was checked.

    Args:
        header: of the message.
        segments: all of it.
        zone: of the source's clocks, for times without an offset.

    Raises:
        NotTaken: AE: a segment or an identifier is missing.
    """
    at = header.segment.first(7).strip()
    spoken = Spoken("", offset_of(at), zone)
    version = spoken.time(at)
    # Without an offset or an hour it is no instant, and could not order versions.
    whole = "T" in version and (version[-6] in "+-" or version.endswith("Z"))
    spoken = spoken._replace(version=version if whole else "")
    made = (
        _results(segments, spoken)
        if header.kind == "ORU"
        else _admission(header, segments, spoken)
    )
    return msgspec.json.encode(
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"resource": resource} for resource in made],
        }
    )


def _results(segments: list[Segment], spoken: Spoken) -> list[dict[str, Any]]:
    """Go through the segments: an OBX belongs to the OBR, and that to the PID, before it."""
    found: list[dict[str, Any]] = []
    pid: Segment | None = None
    order = Order("", "", None)
    for segment in segments:
        match segment.name:
            case "PID":
                pid = segment
                order = Order(people.patient_id(pid), people.encounter_id(pid, None), None)
            case "PV1" if pid:
                order = order._replace(encounter=people.encounter_id(pid, segment))
            case "OBR":
                order = order._replace(request=segment)
            case "OBX":
                if pid is None:
                    raise NotTaken(Answer.ERROR, SEQUENCE, "PID^1", "SUBJECT")
                found.append(observation(segment, order, spoken))
            case _:
                pass
    return found


def _admission(header: Header, segments: list[Segment], spoken: Spoken) -> list[dict[str, Any]]:
    pid = next((segment for segment in segments if segment.name == "PID"), None)
    visit = next((segment for segment in segments if segment.name == "PV1"), None)
    if pid is None:
        raise NotTaken(Answer.ERROR, SEQUENCE, "PID^1", "SUBJECT")
    whose, name = people.patient_id(pid), people.encounter_id(pid, visit)
    person = people.patient(pid, whose)
    if visit and name:
        return [person, people.encounter(header.event, visit, whose, name, spoken)]
    if header.event != "A08":  # it may tell of the person alone
        raise NotTaken(Answer.ERROR, MISSING, "PV1^1^19")
    return [person]
