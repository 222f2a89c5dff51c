"""The form of a plain Observation, and of a Bundle of them: what is not plain has another.

Elements that are read, and those that often stand beside them, have a type each. What it is about
is left as it was written: a hospital says it in the same few hundred texts, and `plain` reads each
once. None can lead back to itself: collecting garbage need not look at them.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Generic, Literal, TypeVar

import msgspec
from msgspec.structs import replace

from services.ingest.normalise import resources, strict
from services.ingest.normalise.links import is_relative

Number = Annotated[float, msgspec.Meta(gt=-strict.TOO_GREAT, lt=strict.TOO_GREAT)]
Short = Annotated[str, msgspec.Meta(max_length=100)]
"""References are remembered: nothing that is sent fills the memory."""
NOTHING: Final = msgspec.Raw()
T = TypeVar("T")


class Coding(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A code; not read."""

    system: str | None = None
    code: str | None = None
    display: str | None = None


class Concept(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One thing, in codes; not read."""

    coding: tuple[Coding, ...] = ()
    text: str | None = None


class Reference(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A pointer to another resource."""

    reference: Short
    display: str | None = None
    type: str | None = None


class Identifier(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A number under which others know a resource; not read."""

    system: str | None = None
    value: str | None = None
    use: str | None = None


class Meta(resources.Meta, frozen=True, omit_defaults=True, gc=False):
    """Which version of a resource this is."""

    profile: tuple[str, ...] = ()
    source: str | None = None


class Narrative(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A text for people; not read."""

    status: str
    div: str


class Quantity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A number with its unit."""

    value: Number
    unit: str | None = None
    system: Short | None = None
    code: Short


class Range(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is usual; not read."""

    low: Quantity | None = None
    high: Quantity | None = None
    text: str | None = None


class Component(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One value of an Observation that has several."""

    code: msgspec.Raw
    valueQuantity: Quantity  # noqa: N815 - FHIR's own name
    interpretation: tuple[Concept, ...] = ()
    referenceRange: tuple[Range, ...] = ()  # noqa: N815 - FHIR's own name


class Plain(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An Observation; with other elements, or elements of another form, it is not plain.

    In FHIR's order, in which most are written: an element that is not the next one is looked for.
    """

    resourceType: Literal["Observation"]  # noqa: N815 - FHIR's own name
    id: str
    meta: Meta | None = None
    text: Narrative | None = None
    identifier: tuple[Identifier, ...] = ()
    basedOn: tuple[Reference, ...] = ()  # noqa: N815 - FHIR's own name
    status: Literal["final", "amended", "corrected"]
    category: msgspec.Raw = NOTHING
    code: msgspec.Raw
    subject: Reference
    encounter: Reference | None = None
    effectiveDateTime: str  # noqa: N815 - FHIR's own name
    issued: str | None = None
    performer: tuple[Reference, ...] = ()
    valueQuantity: Quantity | None = None  # noqa: N815 - FHIR's own name
    interpretation: tuple[Concept, ...] = ()
    method: Concept | None = None
    specimen: Reference | None = None
    device: Reference | None = None
    referenceRange: tuple[Range, ...] = ()  # noqa: N815 - FHIR's own name
    component: tuple[Component, ...] = ()


class Request(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a server should do with an entry; not read."""

    method: str
    url: str


class Entry(msgspec.Struct, Generic[T], frozen=True, omit_defaults=True, gc=False):
    """An entry of a Bundle."""

    resource: T
    fullUrl: str | None = None  # noqa: N815 - FHIR's own name
    request: Request | None = None


class Bundle(msgspec.Struct, Generic[T], frozen=True, omit_defaults=True, gc=False):
    """A Bundle of plain Observations, or of resources that are left as they were written."""

    resourceType: Literal["Bundle"]  # noqa: N815 - FHIR's own name
    type: str
    entry: list[Entry[T]]
    id: str | None = None
    meta: Meta | None = None
    timestamp: str | None = None


class Stub(msgspec.Struct, frozen=True, gc=False):
    """As much of an Observation as another entry may point to."""

    id: str
    resourceType: str = "Observation"  # noqa: N815 - FHIR's own name


_encode: Final = msgspec.json.Encoder().encode
_observation: Final = msgspec.json.Decoder(Plain).decode
_bundle: Final = msgspec.json.Decoder(Bundle[Plain]).decode
_mixed: Final = msgspec.json.Decoder(Bundle[msgspec.Raw]).decode


def alone(body: bytes, buffer: bytearray) -> Plain | None:
    """Take a plain Observation apart that is all of a message; None where it is anything else.

    Of what is given every element is here; the texts of codes are as they were written.

    Args:
        body: the message.
        buffer: to write in; what it held is lost.
    """
    return strict.faithful(body, _observation, buffer) if len(body) <= strict.MAX_BYTES else None


def several(body: bytes, buffer: bytearray) -> list[Plain | None] | None:
    """Take the plain Observations of a Bundle apart, as `alone` does one.

    Whatever else is an entry of the Bundle is None; all is None where the body is no Bundle.
    """
    if len(body) > strict.MAX_BYTES:
        return None
    bundle = strict.faithful(body, _bundle, buffer)
    return [entry.resource for entry in bundle.entry] if bundle else _apart(body, buffer)


def _apart(body: bytes, buffer: bytearray) -> list[Plain | None] | None:
    """Take a Bundle apart in which people and stays stand among Observations."""
    bundle = strict.faithful(body, _mixed, buffer)
    if bundle is None:
        return None
    found = [strict.faithful(bytes(e.resource), _observation, buffer) for e in bundle.entry]
    return [seen if seen and _points_out(seen) else None for seen in found]


def without(body: bytes, seen: Sequence[Plain | None]) -> bytes:
    """Write a Bundle again with no more of its plain Observations than type and id.

    Args:
        body: the Bundle.
        seen: what `several` gave of it.
    """
    bundle = _mixed(body)
    entries = [
        replace(entry, resource=msgspec.Raw(_encode(Stub(found.id)))) if found else entry
        for entry, found in zip(bundle.entry, seen, strict=True)
    ]
    return _encode(replace(bundle, entry=entries))


def _points_out(seen: Plain) -> bool:
    """Whether its Encounter is none that stands in the same message."""
    return seen.encounter is None or is_relative(seen.encounter.reference)
