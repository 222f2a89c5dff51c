"""FHIR's REST: which resource a request names, and what the sender of a Bundle is told of each."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from services.core.errors import Reason
from services.gateway.reception.answers import Rejected

TYPES: Final = ("Observation", "Bundle", "Patient", "Encounter", "Device", "Coverage")
"""Types that have an address of their own."""
ID: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9.-]{1,64}")
ANSWERED: Final = {"transaction": "transaction-response", "batch": "batch-response"}
"""Types of Bundles whose entries are answered one by one, and the type of the answer."""
_STATED: Final = frozenset(f'"{kind}"'.encode() for kind in ANSWERED)
HELD: Final = "202 Accepted"
NOT_TAKEN: Final = "405 Method Not Allowed"
_TAKEN: Final = ("POST", "PUT")


class _Meta(msgspec.Struct):
    versionId: Any = None  # noqa: N815 - FHIR's own name


class _Resource(msgspec.Struct):
    resourceType: Any = None  # noqa: N815 - FHIR's own name
    id: Any = None
    meta: _Meta | None = None


class _Request(msgspec.Struct):
    method: str = ""
    url: str = ""


class _Entry(msgspec.Struct):
    resource: _Resource | None = None
    request: _Request | None = None


class _Bundle(msgspec.Struct):
    resourceType: Any = None  # noqa: N815 - FHIR's own name
    type: Any = None
    entry: list[msgspec.Raw] = []


class Address(msgspec.Struct, frozen=True):
    """What the path of a request names: a type or none, and with PUT an id."""

    kind: str = ""
    id: str = ""


_RESOURCE: Final = msgspec.json.Decoder(_Resource)
_BUNDLE: Final = msgspec.json.Decoder(_Bundle)
_ENTRY: Final = msgspec.json.Decoder(_Entry)


def address_of(method: str, path: str) -> Address | None:
    """Read a path below `/fhir`; None where nothing is taken by this method."""
    parts = path.strip("/").split("/")[1:]
    if method == "POST" and not parts:
        return Address()
    if method == "POST" and len(parts) == 1 and parts[0] in TYPES:
        return Address(parts[0])
    if method == "PUT" and len(parts) == len(_TAKEN) and parts[0] in TYPES:
        return Address(*parts)
    return None


def agreed(address: Address, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
    """Require that a resource is the one that its address names; give headers of the answer.

    Args:
        address: with a type.
        headers: of the request, lower case.
        body: one JSON object.

    Raises:
        Rejected: it is another, or the request has a condition (400, 412).
    """
    if any(name in headers for name in ("if-match", "if-none-match", "if-none-exist")):
        raise Rejected(412, "header If-Match", Reason.HEADER)
    try:
        seen = _RESOURCE.decode(body)
    except msgspec.ValidationError:
        raise Rejected(400, "meta", Reason.FHIR_TYPE) from None
    if seen.resourceType != address.kind:
        raise Rejected(400, "resourceType", Reason.FHIR_TYPE)
    if not address.id:
        return {}
    if seen.id != address.id or not ID.fullmatch(address.id):
        raise Rejected(400, "id", Reason.FHIR_ID)
    place = f"/fhir/{address.kind}/{address.id}"
    version = seen.meta.versionId if seen.meta else None
    if isinstance(version, str) and ID.fullmatch(version):
        return {"Location": f"{place}/_history/{version}", "ETag": f'W/"{version}"'}
    return {"Location": place}


def answers_of(body: bytes, stated: bytes) -> tuple[str, list[str]] | None:
    """Say what is told of each entry of a batch or transaction; None for any other body.

    Args:
        body: one JSON object.
        stated: its type, as `check_object` gives it.

    Raises:
        Rejected: an entry cannot be taken as it asks (400), and so the whole is not: what is
            handed on is what was sent.
    """
    if stated not in _STATED:
        return None
    try:
        seen = _BUNDLE.decode(body)
    except msgspec.ValidationError:
        return None
    if seen.resourceType != "Bundle" or seen.type not in ANSWERED:
        return None
    return ANSWERED[seen.type], [
        _answer(bytes(entry), n, all_or_none=seen.type == "transaction")
        for n, entry in enumerate(seen.entry)
    ]


def _answer(entry: bytes, number: int, *, all_or_none: bool) -> str:
    place = f"Bundle.entry[{number}]"
    try:
        seen = _ENTRY.decode(entry)
    except msgspec.ValidationError:
        raise Rejected(400, place, Reason.FHIR_TYPE) from None
    if seen.request is None or not seen.request.url:
        raise Rejected(400, f"{place}.request", Reason.FHIR_TYPE)
    if seen.request.method not in _TAKEN:
        if all_or_none or seen.resource is not None:
            raise Rejected(400, f"{place}.request.method", Reason.FHIR_TYPE)
        return NOT_TAKEN
    _check_taken(seen.request, seen.resource, place)
    return HELD


def _check_taken(request: _Request, resource: _Resource | None, place: str) -> None:
    if resource is None:
        raise Rejected(400, f"{place}.resource", Reason.FHIR_TYPE)
    kind, _, name = request.url.partition("?")[0].strip("/").partition("/")
    if kind != resource.resourceType:
        raise Rejected(400, f"{place}.request.url", Reason.FHIR_TYPE)
    if request.method == "PUT" and name and name != resource.id:
        raise Rejected(400, f"{place}.request.url", Reason.FHIR_ID)


_OUTCOMES: Final = {
    HELD: b'{"response":{"status":"202 Accepted","outcome":{"resourceType":"OperationOutcome",'
    b'"issue":[{"severity":"information","code":"informational","details":{"text":"Durably held; '
    b'whether it can be used is told on receipts.v1 and dlq.v1."}}]}}}',
    NOT_TAKEN: b'{"response":{"status":"405 Method Not Allowed","outcome":{"resourceType":'
    b'"OperationOutcome","issue":[{"severity":"error","code":"not-supported","details":{"text":'
    b'"Only POST and PUT are taken; nothing was changed."}}]}}}',
}


def bundle_of(kind: str, answers: list[str], ingest_id: str) -> bytes:
    """Write the answer to a batch or transaction; its id is that of the record that holds it."""
    entries = b",".join(_OUTCOMES[answer] for answer in answers)
    return b'{"resourceType":"Bundle","id":"%s","type":"%s","entry":[%s]}' % (
        ingest_id.encode(),
        kind.encode(),
        entries,
    )
