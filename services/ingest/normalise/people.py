"""Patient, Coverage and Encounter: who is watched, and where."""

import re
from collections.abc import Sequence
from typing import Any, Final

from services.core.cohorts import OLDEST
from services.core.errors import Reason, Refusal
from services.core.events import Demographics, Stay
from services.core.terminology.people import PeopleCodes
from services.core.terminology.places import Places
from services.ingest.normalise import moments, resources
from services.ingest.normalise.findings import Moved, Person
from services.ingest.normalise.links import Links, check_id
from services.ingest.normalise.resources import Coverage, Encounter, Extension, Patient

IMPOSSIBLE_AGE: Final = 130
MORE_THAN_ONE: Final = "More than one"
_US_CORE: Final = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"
_ADMINISTRATIVE_GENDER: Final = "http://terminology.hl7.org/CodeSystem/v3-AdministrativeGender"
_GENDERS: Final = frozenset({"female", "male", "other", "unknown"})
_MERGES: Final = frozenset({"replaced-by", "replaces"})
"""One person was two: their histories would have to be joined, or taken apart again."""
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(?:-[A-Z]{2})?")
_UNIT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}")
_STATUSES: Final = frozenset(
    {
        *("planned", "arrived", "triaged", "in-progress", "onleave", "finished", "cancelled"),
        *("entered-in-error", "unknown", "on-hold", "discharged", "completed", "discontinued"),
    }
)


def read_patient(
    content: dict[str, Any], payer: str | None, codes: PeopleCodes, received_at: int
) -> Person:
    """Read a parsed Patient.

    Args:
        content: the resource.
        payer: what the Coverage of the same message says.
        codes: words for coded facts.
        received_at: the day on which the age is taken.

    Raises:
        Refusal: FHIR_ID, MODIFIER_EXT, PATIENT_MERGE, or DEMOG: a birth date in the future or 130
            years ago, or a gender that FHIR does not know.
    """
    seen = resources.read(content, Patient)
    if seen.modifierExtension:
        raise Refusal(Reason.MODIFIER_EXT, "modifierExtension")
    if any(link.type in _MERGES for link in seen.link):
        raise Refusal(Reason.PATIENT_MERGE, "link.type")
    demographics = Demographics(
        age=_age(seen.birthDate, received_at),
        sex=_sex(seen.gender),
        race=_omb(seen, "race", codes),
        ethnicity=_omb(seen, "ethnicity", codes),
        language=_language(seen),
        payer=payer,
        birth_sex=_birth_sex(seen, codes),
    )
    return Person(patient=check_id(seen.id or "", "id"), demographics=demographics)


def _age(birth_date: str | None, received_at: int) -> float | None:
    if birth_date is None:
        return None
    try:
        years = moments.completed_years(birth_date, received_at)
    except ValueError:
        raise Refusal(Reason.DEMOG, "birthDate") from None
    if not 0 <= years < IMPOSSIBLE_AGE:
        raise Refusal(Reason.DEMOG, "birthDate")
    return min(float(years), OLDEST)


def _sex(gender: str | None) -> str | None:
    if gender is None or gender == "unknown":
        return None
    if gender not in _GENDERS:
        raise Refusal(Reason.DEMOG, "gender")
    return gender


def _omb(seen: Patient, kind: str, codes: PeopleCodes) -> str | None:
    """Read US Core's race or ethnicity: its OMB categories in words."""
    inner = [part for e in seen.extension if e.url == _US_CORE + kind for part in e.extension]
    words = {word for part in inner if (word := _category(part, kind, codes))}
    return MORE_THAN_ONE if len(words) > 1 else next(iter(words), None)


def _birth_sex(seen: Patient, codes: PeopleCodes) -> str | None:
    """Read US Core's sex at birth; what is not told, or not known, is None."""
    told = [e.valueCode or "" for e in seen.extension if e.url == f"{_US_CORE}birthsex"]
    return codes.get(("birth_sex", _ADMINISTRATIVE_GENDER, told[0])) if len(told) == 1 else None


def _category(part: Extension, kind: str, codes: PeopleCodes) -> str | None:
    if part.url != "ombCategory" or part.valueCoding is None:
        return None
    return codes.get((kind, part.valueCoding.system or "", part.valueCoding.code or ""))


def _language(seen: Patient) -> str | None:
    """Give the preferred language, or the only one."""
    spoken = [c for c in seen.communication if c.preferred] or seen.communication
    if len(spoken) != 1 or spoken[0].language is None:
        return None
    tags = [coding.code or "" for coding in spoken[0].language.coding]
    return next((tag for tag in tags if _LANGUAGE.fullmatch(tag)), None)


def read_coverage(content: dict[str, Any], links: Links, codes: PeopleCodes) -> Person | None:
    """Read a Coverage that came without its patient; None where it tells no payer of anybody."""
    try:
        seen = resources.read(content, Coverage)
        patient = links.patient(resources.target(seen.beneficiary), "beneficiary")
    except Refusal:
        return None
    payer = payer_of(patient, [content], links, codes)
    return Person(patient=patient, demographics=Demographics(payer=payer)) if payer else None


def payer_of(
    patient: str, coverages: Sequence[Any], links: Links, codes: PeopleCodes
) -> str | None:
    """Say who pays for a patient by the Coverages of the same message, if they do."""
    for content in coverages:
        try:
            seen = resources.read(content, Coverage)
            whose = links.patient(resources.target(seen.beneficiary), "beneficiary")
        except Refusal:
            continue
        codings = seen.type.coding if seen.type else []
        words = [codes.get(("payer", c.system or "", c.code or "")) for c in codings]
        if whose == patient and any(words):
            return next(word for word in words if word)
    return None


def read_encounter(content: dict[str, Any], links: Links, places: Places) -> Moved:
    """Read a parsed Encounter.

    Args:
        content: the resource.
        links: of its message.
        places: tells names of units from what else may stand there.

    Raises:
        Refusal: FHIR_ID, FHIR_STATUS, SUBJECT, TIME_FORMAT or MODIFIER_EXT.
    """
    seen = resources.read(content, Encounter)
    if seen.modifierExtension:
        raise Refusal(Reason.MODIFIER_EXT, "modifierExtension")
    if seen.status not in _STATUSES:
        raise Refusal(Reason.FHIR_STATUS, "status")
    period, place = seen.period or resources.Period(), _place(seen)
    told = places.is_unit(place)
    stay = Stay(
        status=seen.status,
        unit=place if told else None,
        admitted_at=moments.bound(period.start, "period.start"),
        ended_at=moments.bound(period.end, "period.end"),
    )
    patient = links.patient(resources.target(seen.subject), "subject.reference")
    encounter = check_id(seen.id or "", "id")
    return Moved(patient=patient, encounter=encounter, stay=stay, place="" if told else place)


def _place(seen: Encounter) -> str:
    """Name the unit: the active location, else the last one that has no status.

    Only short plain names are one; without one it is empty.
    """
    active = [place for place in seen.location if place.status == "active"]
    placed = active or [place for place in seen.location if place.status is None]
    where = placed[-1].location if placed else None
    if where is None:
        return ""
    identifier = (where.reference or "").removeprefix("Location/")
    return next((n for n in (where.display or "", identifier) if _UNIT.fullmatch(n)), "")
