"""The form of a plain Observation, and of a Bundle of them: what is not plain has another.

Elements that are read, and those that often stand beside them, have a type each. What it is about
is left as it was written: a hospital says it in the same few hundred texts, and `plain` reads each
once.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Generic, Literal, TypeVar

import msgspec

from services.ingest.normalise import resources, strict
from services.ingest.normalise.links import is_relative

Number = Annotated[float, msgspec.Meta(gt=-strict.TOO_GREAT, lt=strict.TOO_GREAT)]
Short = Annotated[str, msgspec.Meta(max_length=100)]
"""References are remembered: nothing that is sent fills the memory."""
NOTHING: Final = msgspec.Raw()
T = TypeVar("T")


class Coding(msgspec.Struct, frozen=True, omit_defaults=True):
    """A code; not read."""

    system: str | None = None
    code: str | None = None
    display: str | None = None


class Concept(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing, in codes; not read."""

    coding: tuple[Coding, ...] = ()
    text: str | None = None


class Reference(msgspec.Struct, frozen=True, omit_defaults=True):
    """A pointer to another resource."""

    reference: Short
    display: str | None = None
    type: str | None = None


class Identifier(msgspec.Struct, frozen=True, omit_defaults=True):
    """A number under which others know a resource; not read."""

    system: str | None = None
    value: str | None = None
    use: str | None = None


class Meta(resources.Meta, frozen=True, omit_defaults=True):
    """Which version of a resource this is."""

    profile: tuple[str, ...] = ()
    source: str | None = None


class Narrative(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text for people; not read."""

    status: str
    div: str


class Quantity(msgspec.Struct, frozen=True, omit_defaults=True):
    """A number with its unit."""

    value: Number
    code: Short
    system: Short | None = None
    unit: str | None = None


class Range(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is usual; not read."""

    low: Quantity | None = None
    high: Quantity | None = None
    text: str | None = None


class Component(msgspec.Struct, frozen=True, omit_defaults=True):
    """One value of an Observation that has several."""

    code: msgspec.Raw
    valueQuantity: Quantity  # noqa: N815 - FHIR's own name
    interpretation: tuple[Concept, ...] = ()
    referenceRange: tuple[Range, ...] = ()  # noqa: N815 - FHIR's own name


class Plain(msgspec.Struct, frozen=True, omit_defaults=True):
    """An Observation; with other elements, or elements of another form, it is not plain."""

    resourceType: Literal["Observation"]  # noqa: N815 - FHIR's own name
    id: str
    status: Literal["final", "amended", "corrected"]
    code: msgspec.Raw
    subject: Reference
    effectiveDateTime: str  # noqa: N815 - FHIR's own name
    category: msgspec.Raw = NOTHING
    valueQuantity: Quantity | None = None  # noqa: N815 - FHIR's own name
    component: tuple[Component, ...] = ()
    encounter: Reference | None = None
    device: Reference | None = None
    meta: Meta | None = None
    issued: str | None = None
    basedOn: tuple[Reference, ...] = ()  # noqa: N815 - FHIR's own name
    identifier: tuple[Identifier, ...] = ()
    interpretation: tuple[Concept, ...] = ()
    method: Concept | None = None
    performer: tuple[Reference, ...] = ()
    referenceRange: tuple[Range, ...] = ()  # noqa: N815 - FHIR's own name
    specimen: Reference | None = None
    text: Narrative | None = None


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a server should do with an entry; not read."""

    method: str
    url: str


class Entry(msgspec.Struct, Generic[T], frozen=True, omit_defaults=True):
    """An entry of a Bundle."""

    resource: T
    fullUrl: str | None = None  # noqa: N815 - FHIR's own name
    request: Request | None = None


class Bundle(msgspec.Struct, Generic[T], frozen=True, omit_defaults=True):
    """A Bundle of plain Observations, or of resources that are left as they were written."""

    resourceType: Literal["Bundle"]  # noqa: N815 - FHIR's own name
    type: str
    entry: list[Entry[T]]
    id: str | None = None
    meta: Meta | None = None
    timestamp: str | None = None


_observation: Final = msgspec.json.Decoder(Plain).decode
_bundle: Final = msgspec.json.Decoder(Bundle[Plain]).decode
_mixed: Final = msgspec.json.Decoder(Bundle[msgspec.Raw]).decode


def plain(body: bytes) -> Sequence[Plain | None] | None:
    """Take a plain Observation, or the plain Observations of a Bundle, apart.

    Of what is given every element is here; the texts of codes are as they were written. Whatever
    else is an entry of the Bundle is None; all is None where the body is neither.
    """
    if len(body) > strict.MAX_BYTES:
        return None
    if body.find(b'"Bundle"') >= 0:
        bundle = strict.faithful(body, _bundle)
        return [entry.resource for entry in bundle.entry] if bundle else _apart(body)
    if body.find(b'"effectiveDateTime"') < 0:  # a decoder would find out later
        return None
    alone = strict.faithful(body, _observation)
    return [alone] if alone else None


def _apart(body: bytes) -> list[Plain | None] | None:
    """Take a Bundle apart in which people and stays stand among Observations."""
    bundle = strict.faithful(body, _mixed)
    if bundle is None:
        return None
    found = [strict.faithful(bytes(entry.resource), _observation) for entry in bundle.entry]
    return [seen if seen and _points_out(seen) else None for seen in found]


def _points_out(seen: Plain) -> bool:
    """Whether its Encounter is none that stands in the same message."""
    return seen.encounter is None or is_relative(seen.encounter.reference)
