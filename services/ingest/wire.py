"""Writes measurements and receipts to the wire: nearly every output of ingest is one of the two.

The bytes are those of `runtime.codec` for the same event; every other event is left to it.
"""

from collections.abc import Iterable
from functools import lru_cache
from struct import Struct
from typing import Final

from services.core.events import Fate, Kind, Receipt, ReceiptEntry, Vitals
from services.runtime.codec import Codec

_REMEMBERED: Final = 8192
_NONE: Final = b"\x00"
_END: Final = b"\x00"
_KINDS: Final = {kind: bytes([2 * place]) for place, kind in enumerate(Kind)}
_FATES: Final = {fate: bytes([2 * place]) for place, fate in enumerate(Fate)}
_WRITTEN: Final = frozenset({Kind.OBSERVATION, Kind.RETRACTION})
_EIGHT_BYTES: Final = range(1 << 49, 1 << 56)
_GROUPS: Final = [(n & 0x7F | 0x80) | (n >> 7 | 0x80) << 8 for n in range(1 << 14)]
"""Two groups of seven bits, more of them to come, as a little-endian 16-bit number."""
_pack4: Final = Struct("<4H").pack


def _long(number: int) -> bytes:
    """Write a number as Avro does: zigzag, then seven bits a byte, the lowest first."""
    zigzag = number << 1 if number >= 0 else ~(number << 1)
    if zigzag in _EIGHT_BYTES:  # every time of this century
        last = zigzag >> 42
        return _pack4(
            _GROUPS[zigzag & 0x3FFF],
            _GROUPS[zigzag >> 14 & 0x3FFF],
            _GROUPS[zigzag >> 28 & 0x3FFF],
            last & 0x7F | 0x80 | last >> 7 << 8,
        )
    written = bytearray()
    while zigzag > 0x7F:  # noqa: PLR2004 - seven bits
        written.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    written.append(zigzag)
    return bytes(written)


_KNOWN: Final = 4096
_LENGTHS: Final = [_long(n) for n in range(_KNOWN)]


def _number(number: int) -> bytes:
    return _LENGTHS[number] if 0 <= number < _KNOWN else _long(number)


def _blob(data: bytes) -> bytes:
    length = len(data)
    return (_LENGTHS[length] if length < _KNOWN else _long(length)) + data


@lru_cache(_REMEMBERED)  # sources, codes, units, devices: a ward has a few hundred of them
def _text(text: str) -> bytes:
    return _blob(text.encode())


@lru_cache(_REMEMBERED)  # most events have one reading
def _alone(text: str) -> bytes:
    return _number(1) + _text(text) + _END


def _texts(texts: list[str]) -> bytes:
    if len(texts) == 1:
        return _alone(texts[0])
    if not texts:
        return _END
    return b"".join([_number(len(texts)), *[_text(text) for text in texts], _END])


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
                _text(event.source),
                _blob(event.pseudonym),
                _blob(event.encounter),
                _long(event.measured_at),
                _long(event.received_at),
                _long(event.accepted_at),
                _blob(event.ingest_id.encode()),
                _number(event.raw_partition),
                _number(event.raw_offset),
                _blob(event.entries),
                _blob(event.variables),
                _blob(event.values),
                _blob(event.flags),
                _blob(event.ids),
                _blob(event.versions),
                _texts(event.codes),
                _texts(event.units),
                _texts(event.devices),
                _NONE,
                _NONE,
                _text(event.terminology),
            )
        )

    def receipt(self, receipt: Receipt) -> bytes:
        """Encode a receipt by today's schema."""
        entries = receipt.entries
        return b"".join(
            (
                self._receipt,
                _blob(receipt.ingest_id.encode()),
                _text(receipt.source),
                _number(receipt.raw_partition),
                _number(receipt.raw_offset),
                _long(receipt.received_at),
                _long(receipt.accepted_at),
                _number(receipt.length),
                _blob(receipt.sha256),
                *(_listed(entries) if entries else ()),
                _END,
            )
        )


def _listed(entries: list[ReceiptEntry]) -> Iterable[bytes]:
    yield _number(len(entries))
    for entry in entries:
        yield _number(entry.index) + _FATES[entry.fate] + _text(entry.detail)
