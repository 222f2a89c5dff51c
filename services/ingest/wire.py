"""Writes measurements and receipts to the wire: nearly every output of ingest is one of the two.

The bytes are those of `runtime.codec` for the same event; every other event is left to it.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from services.core.events import Fate, Kind, Receipt, ReceiptEntry, Vitals
from services.runtime.avro import NONE, blob, long, number, text, texts
from services.runtime.codec import Codec

_REMEMBERED: Final = 8192
_END: Final = b"\x00"
_KINDS: Final = {kind: bytes([2 * place]) for place, kind in enumerate(Kind)}
_FATES: Final = {fate: bytes([2 * place]) for place, fate in enumerate(Fate)}
_WRITTEN: Final = frozenset({Kind.OBSERVATION, Kind.RETRACTION})
moment: Final = lru_cache(_REMEMBERED)(long)  # a ward is measured at the same minutes


class Wire:
    """Writes events."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._vitals, self._receipt = codec.header_of(Vitals), codec.header_of(Receipt)

    def begin(self, kind: Kind) -> bytes:
        """Give the bytes with which every event of a kind begins."""
        return self._vitals + _KINDS[kind]

    def vitals(self, event: Vitals) -> bytes:
        """Encode an event by today's schema."""
        if event.kind not in _WRITTEN or event.demographics or event.stay:
            return self._codec.encode(event)
        readings = event.entries, event.variables, event.values, event.flags, event.ids
        columns = *readings, event.versions
        return b"".join(
            (
                self._vitals,
                _KINDS[event.kind],
                text(event.source),
                blob(event.pseudonym),
                blob(event.encounter),
                moment(event.measured_at),
                arrival(event.received_at, event.accepted_at),
                blob(event.ingest_id.encode()),
                number(event.raw_partition),
                number(event.raw_offset),
                *map(blob, columns),
                texts(event.codes),
                texts(event.units),
                texts(event.devices),
                NONE,
                NONE,
                text(event.terminology),
            )
        )

    def receipt(self, receipt: Receipt, head: Sequence[bytes] = ()) -> bytes:
        """Encode a receipt by today's schema; its head is perhaps written already."""
        fate = number(receipt.length), blob(receipt.sha256), _listed(receipt.entries)
        return b"".join((self._receipt, *(head or _head(receipt)), *fate))


def _head(receipt: Receipt) -> Sequence[bytes]:
    """Write name, source, place and times of a message."""
    return (
        blob(receipt.ingest_id.encode()),
        text(receipt.source),
        number(receipt.raw_partition),
        number(receipt.raw_offset),
        arrival(receipt.received_at, receipt.accepted_at),
    )


def arrival(received_at: int, accepted_at: int) -> bytes:
    """Write when a message came, and when it was taken in."""
    received = long(received_at)
    return received + (received if accepted_at == received_at else long(accepted_at))


def _listed(entries: list[ReceiptEntry]) -> bytes:
    if not entries:
        return _END
    if len(entries) == 1:
        (entry,) = entries
        return _only(entry.index, entry.fate, entry.detail)
    written = [_entry(entry.index, entry.fate, entry.detail) for entry in entries]
    return b"".join((number(len(written)), *written, _END))


@lru_cache(_REMEMBERED)
def _entry(index: int, fate: Fate, detail: str) -> bytes:
    return number(index) + _FATES[fate] + text(detail)


@lru_cache(_REMEMBERED)  # most messages have one entry
def _only(index: int, fate: Fate, detail: str) -> bytes:
    return number(1) + _entry(index, fate, detail) + _END
