"""A received body as its entries: one resource, or those of a Bundle."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from services.core.errors import Reason, Refusal
from services.ingest.normalise import strict

MAX_ENTRIES: Final = 65_535
"""No Bundle has more: an entry's number has two bytes."""
_BUNDLE: Final = "Bundle"
_MENDED: Final = frozenset(
    {Reason.JSON_DUP_KEY, Reason.NUM_OVERFLOW, Reason.NUM_UNDERFLOW, Reason.NUM_RANGE}
)
"""Faults of one entry that leave the others readable."""


class _Entry(msgspec.Struct):
    resource: msgspec.Raw = msgspec.Raw()


class _Bundle(msgspec.Struct):
    resourceType: str = ""  # noqa: N815 - FHIR's own name
    entry: list[msgspec.Raw] = []


class Document:
    """A message taken apart."""

    def __init__(self, body: bytes) -> None:
        """Parse a body.

        Raises:
            Refusal: the whole of it cannot be used: what `strict.parse` raises, or FHIR_TYPE.
        """
        self._body = body
        self._originals: Sequence[bytes] | None = None
        self._faults: Mapping[int, Refusal] = {}
        try:
            content = strict.parse(body)
        except Refusal as refusal:
            content, self._faults = _mended(body, refusal)
        if not isinstance(content, dict):
            raise Refusal(Reason.FHIR_TYPE, "document")
        self.is_bundle = content.get("resourceType") == _BUNDLE
        self.entries: Sequence[Any] = _entries(content) if self.is_bundle else ()
        self.resources: Sequence[Any] = (
            [e.get("resource") if isinstance(e, dict) else e for e in self.entries]
            if self.is_bundle
            else [content]
        )

    def check(self, index: int) -> None:
        """Refuse an entry whose JSON is at fault.

        Raises:
            Refusal: why.
        """
        if index in self._faults:
            raise self._faults[index]

    def original(self, index: int) -> bytes:
        """Give an entry's resource byte for byte as it was received."""
        if not self.is_bundle:
            return self._body
        if self._originals is None:
            self._originals = originals(self._body)
        return self._originals[index]


def _entries(content: dict[str, Any]) -> Sequence[Any]:
    entries = content.get("entry", [])
    if not isinstance(entries, list) or not isinstance(content.get("type"), str):
        raise Refusal(Reason.FHIR_TYPE, "Bundle")
    if len(entries) > MAX_ENTRIES:
        raise Refusal(Reason.TOO_LARGE, "Bundle.entry")
    return entries


def originals(body: bytes) -> list[bytes]:
    """Cut each entry's resource out of a Bundle; where there is none, the whole entry."""
    return [_resource(bytes(raw)) for raw in msgspec.json.decode(body, type=_Bundle).entry]


def _resource(entry: bytes) -> bytes:
    try:
        return bytes(msgspec.json.decode(entry, type=_Entry).resource) or entry
    except msgspec.ValidationError:
        return entry


def _mended(body: bytes, fault: Refusal) -> tuple[Any, Mapping[int, Refusal]]:
    """Parse the entries of a Bundle one by one, so that one that is at fault stands alone.

    Raises:
        Refusal: `fault` itself where it is not in an entry.
    """
    if fault.reason not in _MENDED:
        raise fault
    try:
        whole = msgspec.json.decode(body, type=_Bundle)
    except msgspec.MsgspecError:
        raise fault from None
    if whole.resourceType != _BUNDLE:
        raise fault
    parsed: list[Any] = []
    faults: dict[int, Refusal] = {}
    envelope, at = b"", 0
    for index, original in enumerate(_resource(bytes(raw)) for raw in whole.entry):
        start = body.index(original, at)
        envelope, at = envelope + body[at:start] + b"{}", start + len(original)
        try:
            parsed.append(strict.parse(original))
        except Refusal as refusal:
            parsed.append(None)
            faults[index] = refusal
    content = strict.parse(envelope + body[at:])
    for entry, resource in zip(content["entry"], parsed, strict=True):
        if "resource" in entry:
            entry["resource"] = resource
    return content, faults
