"""FHIR R4 resources as plain dicts: quick to build; the tests hold them against fhir.resources."""

import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any, Final

import msgspec

from services.core.vitals import UNITS, VARIABLES

Resource = dict[str, Any]

LOINC: Final = "http://loinc.org"
UCUM: Final = "http://unitsofmeasure.org"
IDENTIFIERS: Final = "urn:vigil:simulator:mrn"
_TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem"
_US_CORE: Final = "http://hl7.org/fhir/us/core/StructureDefinition"
_CDC_RACE: Final = "urn:oid:2.16.840.1.113883.6.238"

OMB: Final = {
    "2106-3": "White",
    "2054-5": "Black or African American",
    "2028-9": "Asian",
    "1002-5": "American Indian or Alaska Native",
    "2076-8": "Native Hawaiian or Other Pacific Islander",
    "2135-2": "Hispanic or Latino",
    "2186-5": "Not Hispanic or Latino",
}
"""OMB categories of race and ethnicity, from code to display."""

_VOCABULARY: Final[dict[str, Any]] = tomllib.loads(
    (files("services.simulator") / "vocabulary.toml").read_text(encoding="utf-8")
)
PRIMARY: Final = {name: _VOCABULARY[name]["loinc"][0] for name in VARIABLES}
"""From a variable's name to the LOINC code under which it is sent."""


def _concept(codes: Iterable[str], display: str) -> Resource:
    return {"coding": [{"system": LOINC, "code": code} for code in codes], "text": display}


def _category(code: str) -> list[Resource]:
    return [{"coding": [{"system": f"{_TERMINOLOGY}/observation-category", "code": code}]}]


# Shared between Observations: built once, never changed.
_CONCEPTS: Final = {
    name: _concept(_VOCABULARY[name]["loinc"], _VOCABULARY[name]["display"]) for name in VARIABLES
}
_CATEGORIES: Final = {name: _category(_VOCABULARY[name]["category"]) for name in VARIABLES}
_PANEL: Final = _concept(["85354-9"], "Blood pressure panel")
_OF_UNIT: Final = {
    (name, unit): _concept([row["loinc"]], _VOCABULARY[name]["display"])
    for name, rows in _VOCABULARY["alternates"].items()
    for unit, row in rows.items()
    if "loinc" in row
}
"""Concepts of those variables whose code depends on the unit."""


def converted(name: str, value: float, unit: str) -> float:
    """Say a value of the model's unit in one of the alternate units, rounded as usual there."""
    row = _VOCABULARY["alternates"][name][unit]
    return float(round(value * row["multiply"] + row.get("add", 0.0), row["decimals"]))


class Charted(msgspec.Struct, frozen=True, kw_only=True):
    """What all Observations of one patient at one moment have in common.

    Attributes:
        patient: the patient's logical id.
        encounter: the encounter's logical id.
        effective: when it was measured, RFC 3339 with offset.
        device: the device's logical id; none when empty.
        version: `meta.versionId`.
        status: FHIR's observation status.
    """

    patient: str
    encounter: str
    effective: str
    device: str = ""
    version: int = 1
    status: str = "final"


def quantity(value: float, unit: str) -> Resource:
    """Build a Quantity with its UCUM code."""
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


def _observation(charted: Charted, identity: str, code: Resource, category: Any) -> Resource:
    resource: Resource = {
        "resourceType": "Observation",
        "id": identity,
        "meta": {"versionId": str(charted.version)},
        "status": charted.status,
        "category": category,
        "code": code,
        "subject": {"reference": f"Patient/{charted.patient}"},
        "encounter": {"reference": f"Encounter/{charted.encounter}"},
        "effectiveDateTime": charted.effective,
    }
    if charted.device:
        resource["device"] = {"reference": f"Device/{charted.device}"}
    return resource


def observation(
    charted: Charted, identity: str, *, name: str, value: float, unit: str = ""
) -> Resource:
    """Build the Observation of one variable; the unit is the model's unless one is given."""
    concept = _OF_UNIT.get((name, unit), _CONCEPTS[name])
    resource = _observation(charted, identity, concept, _CATEGORIES[name])
    resource["valueQuantity"] = quantity(value, unit or UNITS[name])
    return resource


def blood_pressure(charted: Charted, identity: str, values: Mapping[str, Resource]) -> Resource:
    """Build the panel of those of SBP and DBP that were measured, as Quantities by name."""
    resource = _observation(charted, identity, _PANEL, _CATEGORIES["SBP"])
    resource["component"] = [
        {"code": _CONCEPTS[name], "valueQuantity": value} for name, value in values.items()
    ]
    return resource


def encounter(
    identity: str, patient: str, *, status: str, period: Mapping[str, str], unit: str, since: str
) -> Resource:
    """Build an inpatient Encounter; `unit` may be empty, `since` is when the unit took over."""
    resource: Resource = {
        "resourceType": "Encounter",
        "id": identity,
        "status": status,
        "class": {"system": f"{_TERMINOLOGY}/v3-ActCode", "code": "IMP"},
        "subject": {"reference": f"Patient/{patient}"},
        "period": dict(period),
    }
    if unit:
        place = {"reference": f"Location/{unit}", "display": unit}
        resource["location"] = [{"location": place, "period": {"start": since}}]
    return resource


def patient(identity: str, *, birth_date: str, gender: str) -> Resource:
    """Build a Patient of whom nothing but identifier, birth date and gender is known."""
    return {
        "resourceType": "Patient",
        "id": identity,
        "identifier": [{"use": "usual", "system": IDENTIFIERS, "value": identity}],
        "gender": gender,
        "birthDate": birth_date,
    }


def omb_extension(kind: str, code: str) -> Resource:
    """Build the US Core extension for `race` or `ethnicity`."""
    coding = {"system": _CDC_RACE, "code": code, "display": OMB[code]}
    category = {"url": "ombCategory", "valueCoding": coding}
    text = {"url": "text", "valueString": OMB[code]}
    return {"url": f"{_US_CORE}/us-core-{kind}", "extension": [category, text]}


def coverage(identity: str, patient: str, payer: str) -> Resource:
    """Say who pays for a patient, by a code of the Source of Payment Typology."""
    return {
        "resourceType": "Coverage",
        "id": identity,
        "status": "active",
        "type": {"coding": [{"system": "https://nahdo.org/sopt", "code": payer}]},
        "beneficiary": {"reference": f"Patient/{patient}"},
        "payor": [{"display": "an invented payer"}],
    }


def communication(language: str) -> Resource:
    """Say which language a patient prefers, by its BCP 47 code."""
    coding = {"system": "urn:ietf:bcp:47", "code": language}
    return {"language": {"coding": [coding]}, "preferred": True}


def weight(charted: Charted, identity: str, kilograms: float) -> Resource:
    """Build an Observation of body weight: real, and none of the model's variables."""
    concept = _concept(["29463-7"], "Body weight")
    resource = _observation(charted, identity, concept, _CATEGORIES["HR"])
    resource["valueQuantity"] = quantity(kilograms, "kg")
    return resource


def bundle(resources: Iterable[Resource]) -> Resource:
    """Collect resources in a Bundle, in their order."""
    entries = [{"resource": resource} for resource in resources]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}
