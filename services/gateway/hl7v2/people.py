"""PID and PV1: who it is about, and where he or she is."""

from typing import Any, Final

from services.gateway.hl7v2 import coded
from services.gateway.hl7v2.refusal import MISSING, Answer, NotTaken
from services.gateway.hl7v2.results import Spoken
from services.gateway.hl7v2.segments import Segment, component

GENDERS: Final = {"F": "female", "M": "male", "O": "other", "A": "other", "U": "unknown"}
# HL7 table 0004, in the codes of v3-ActCode that FHIR has for it.
CLASSES: Final = {"I": "IMP", "E": "EMER", "O": "AMB", "P": "PRENC", "R": "AMB", "B": "OBSENC"}
INPATIENT: Final = "IMP"
_ACT_CODE: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
KINDS: Final = ("MR", "PI")
"""Kinds of identifiers (HL7 table 0203) that name a patient, the best first."""
VISIT: Final = 19
ACCOUNT: Final = 18
_US_CORE: Final = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"
_BIRTH_DATE: Final = ((0, 4), (4, 6), (6, 8))


def patient_id(pid: Segment) -> str:
    """Name the patient: PID-3 with the authority that gave it.

    Raises:
        NotTaken: there is none.
    """
    given = [parts for parts in pid.repetitions(3) if component(parts, 1)]
    if not given:
        raise NotTaken(Answer.ERROR, MISSING, "PID^1^3", "SUBJECT")
    best = min(given, key=_rank)  # of equals the first
    return coded.identifier(component(best, 1), component(best, 4))


def _rank(parts: list[str]) -> int:
    kind = component(parts, 5)
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def encounter_id(pid: Segment, visit: Segment | None) -> str:
    """Name the encounter: the visit's number, else the patient's account; empty for neither."""
    fields = ([visit.components(VISIT)] if visit else []) + [pid.components(ACCOUNT)]
    named = next((parts for parts in fields if component(parts, 1)), None)
    return coded.identifier(component(named, 1), component(named, 4)) if named else ""


def patient(pid: Segment, name: str) -> dict[str, Any]:
    """Make a Patient of a PID: what cohorts are made of, and no name or address."""
    made: dict[str, Any] = {"resourceType": "Patient", "id": name}
    if gender := pid.first(8).strip():
        # What FHIR does not know goes on as it is, to be refused by name.
        made["gender"] = GENDERS.get(gender, gender)
    if born := pid.first(7).strip():
        made["birthDate"] = "-".join(born[a:b] for a, b in _BIRTH_DATE if born[a:b])
    if language := pid.first(15).strip():
        tag = {"language": {"coding": [{"code": language.lower()}]}}
        made["communication"] = [tag]
    if extensions := [
        *_omb("race", pid.repetitions(10)),
        *_omb("ethnicity", pid.repetitions(22)),
    ]:
        made["extension"] = extensions
    return made


def _omb(kind: str, said: list[list[str]]) -> list[dict[str, Any]]:
    inner = [
        {"url": "ombCategory", "valueCoding": coding}
        for parts in said
        for coding in coded.codings(parts)
    ]
    return [{"url": _US_CORE + kind, "extension": inner}] if inner else []


def encounter(event: str, visit: Segment, whose: str, name: str, spoken: Spoken) -> dict[str, Any]:
    """Make an Encounter of a PV1."""
    ended = spoken.time(visit.first(45))
    bounds = {"start": spoken.time(visit.first(44)), "end": ended}
    made: dict[str, Any] = {
        "resourceType": "Encounter",
        "id": name,
        "status": "finished" if event == "A03" or ended else "in-progress",
        "class": {
            "system": _ACT_CODE,
            "code": CLASSES.get(visit.first(2).strip(), INPATIENT),
        },
        "subject": {"reference": f"Patient/{whose}"},
        "period": {bound: time for bound, time in bounds.items() if time},
    }
    if unit := visit.first(3).strip():
        made["location"] = [{"location": {"display": unit}, "status": "active"}]
    return made
