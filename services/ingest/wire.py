"""Writes measurements and receipts to the wire: nearly every output of ingest is one of the two.

The bytes are those of `runtime.codec` for the same event; every other event is left to it.
"""

from collections.abc import Iterable
from typing import Final

from services.core.events import Fate, Kind, Receipt, ReceiptEntry, Vitals
from services.runtime.avro import NONE, blob, long, number, text, texts
from services.runtime.codec import Codec

_END: Final = b"\x00"
_KINDS: Final = {kind: bytes([2 * place]) for place, kind in enumerate(Kind)}
_FATES: Final = {fate: bytes([2 * place]) for place, fate in enumerate(Fate)}
_WRITTEN: Final = frozenset({Kind.OBSERVATION, Kind.RETRACTION})


class Wire:
    """Writes events."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._vitals, self._receipt = codec.header_of(Vitals), codec.header_of(Receipt)

    def vitals(self, event: Vitals) -> bytes:
        """Encode an event by today's schema."""
        if event.kind not in _WRITTEN or event.demographics or event.stay:
            return self._codec.encode(event)
        return b"".join(
            (
                self._vitals,
                _KINDS[event.kind],
                text(event.source),
                blob(event.pseudonym),
                blob(event.encounter),
                long(event.measured_at),
                long(event.received_at),
                long(event.accepted_at),
                blob(event.ingest_id.encode()),
                number(event.raw_partition),
                number(event.raw_offset),
                blob(event.entries),
                blob(event.variables),
                blob(event.values),
                blob(event.flags),
                blob(event.ids),
                blob(event.versions),
                texts(event.codes),
                texts(event.units),
                texts(event.devices),
                NONE,
                NONE,
                text(event.terminology),
            )
        )

    def receipt(self, receipt: Receipt) -> bytes:
        """Encode a receipt by today's schema."""
        entries = receipt.entries
        return b"".join(
            (
                self._receipt,
                blob(receipt.ingest_id.encode()),
                text(receipt.source),
                number(receipt.raw_partition),
                number(receipt.raw_offset),
                long(receipt.received_at),
                long(receipt.accepted_at),
                number(receipt.length),
                blob(receipt.sha256),
                *(_listed(entries) if entries else ()),
                _END,
            )
        )


def _listed(entries: list[ReceiptEntry]) -> Iterable[bytes]:
    yield number(len(entries))
    for entry in entries:
        yield number(entry.index) + _FATES[entry.fate] + text(entry.detail)
