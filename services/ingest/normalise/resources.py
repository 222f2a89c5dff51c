"""The parts of FHIR resources that are read; what is not named here is not looked at."""

import re
from typing import Any, Final, TypeVar

import msgspec

from services.core.errors import Reason, Refusal


class Coding(msgspec.Struct, frozen=True):
    """A code and the system that it is from."""

    system: str | None = None
    code: str | None = None


class Concept(msgspec.Struct, frozen=True):
    """A CodeableConcept: one thing, in the codes of one or more systems; can be a key."""

    coding: tuple[Coding, ...] = ()


class Quantity(msgspec.Struct, frozen=True):
    """A number with its unit."""

    value: float | None = None
    comparator: str | None = None
    unit: Any = None
    """Text for people; read only where a site says what it means."""
    system: str | None = None
    code: str | None = None


class Reference(msgspec.Struct, frozen=True):
    """A pointer to another resource."""

    reference: str | None = None
    display: str | None = None


def target(reference: Reference | None) -> str | None:
    """Give what a reference points to, as text."""
    return reference.reference if reference else None


class Period(msgspec.Struct, frozen=True):
    """A span of time, as text."""

    start: str | None = None
    end: str | None = None


class Meta(msgspec.Struct, frozen=True):
    """Which version of a resource this is."""

    versionId: str | None = None  # noqa: N815 - FHIR's own name
    lastUpdated: str | None = None  # noqa: N815 - FHIR's own name


class Component(msgspec.Struct, frozen=True):
    """One value of an Observation that has several."""

    code: Concept | None = None
    valueQuantity: Quantity | None = None  # noqa: N815 - FHIR's own name
    dataAbsentReason: Concept | None = None  # noqa: N815 - FHIR's own name


class Observation(msgspec.Struct, frozen=True):
    """A measurement of a patient."""

    id: str | None = None
    meta: Meta | None = None
    status: str | None = None
    category: tuple[Concept, ...] = ()
    code: Concept | None = None
    subject: Reference | None = None
    encounter: Reference | None = None
    device: Reference | None = None
    effectiveDateTime: str | None = None  # noqa: N815 - FHIR's own name
    effectiveInstant: str | None = None  # noqa: N815 - FHIR's own name
    effectivePeriod: Period | None = None  # noqa: N815 - FHIR's own name
    issued: Any = None
    valueQuantity: Quantity | None = None  # noqa: N815 - FHIR's own name
    dataAbsentReason: Concept | None = None  # noqa: N815 - FHIR's own name
    component: list[dict[str, Any]] = []
    modifierExtension: list[Any] = []  # noqa: N815 - FHIR's own name


class Extension(msgspec.Struct, frozen=True):
    """A fact that FHIR has no element for."""

    url: str = ""
    extension: list["Extension"] = []
    valueCoding: Coding | None = None  # noqa: N815 - FHIR's own name
    valueCode: str | None = None  # noqa: N815 - FHIR's own name


class Communication(msgspec.Struct, frozen=True):
    """A language that a patient speaks."""

    language: Concept | None = None
    preferred: bool = False


class Link(msgspec.Struct, frozen=True):
    """Another resource about the same person."""

    type: str | None = None


class Patient(msgspec.Struct, frozen=True):
    """A person."""

    id: str | None = None
    gender: str | None = None
    birthDate: str | None = None  # noqa: N815 - FHIR's own name
    extension: list[Extension] = []
    communication: list[Communication] = []
    link: list[Link] = []
    modifierExtension: list[Any] = []  # noqa: N815 - FHIR's own name


class Coverage(msgspec.Struct, frozen=True):
    """Who pays for a patient."""

    type: Concept | None = None
    beneficiary: Reference | None = None


class Placement(msgspec.Struct, frozen=True):
    """A place where a patient was, is or will be during an encounter."""

    location: Reference | None = None
    status: str | None = None


class Encounter(msgspec.Struct, frozen=True):
    """A stay."""

    id: str | None = None
    status: str | None = None
    subject: Reference | None = None
    period: Period | None = None
    location: list[Placement] = []
    modifierExtension: list[Any] = []  # noqa: N815 - FHIR's own name


T = TypeVar("T", bound=msgspec.Struct)
_PATH: Final = re.compile(r"`\$\.?([^`]*)`")
_REASONS: Final = (
    ("valueQuantity", Reason.VALUE_TYPE),
    ("dataAbsentReason", Reason.VALUE_TYPE),
    ("status", Reason.FHIR_STATUS),
    ("subject", Reason.SUBJECT),
    ("effective", Reason.TIME_FORMAT),
    ("period", Reason.TIME_FORMAT),
    ("birthDate", Reason.DEMOG),
    ("gender", Reason.DEMOG),
    ("modifierExtension", Reason.MODIFIER_EXT),
    ("link", Reason.PATIENT_MERGE),
    ("code", Reason.FHIR_CODE),
    ("id", Reason.FHIR_ID),
)
"""By the first element that stands in the path of a fault."""


def read(content: Any, kind: type[T]) -> T:
    """Take the parts that are read out of a parsed resource.

    Raises:
        Refusal: a part has another JSON type than FHIR gives it; the reason is by its name.
    """
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        # The path holds names of the classes above and places in lists, no value.
        found = _PATH.search(str(error))
        path = found[1] if found else ""
        reason = next((reason for name, reason in _REASONS if name in path), Reason.FHIR_TYPE)
        raise Refusal(reason, path or "resource") from None
