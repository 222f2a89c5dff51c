"""Reads measurements off the wire: most records are of one shape, and only a part of them counts.

A record of today's schema that tells an observation or a retraction, and has nothing odd about
it, is read here, by a compiled loop; every other one by the codec, which says what is wrong.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from services.core.compiled import compiled
from services.core.errors import Reason, Refusal
from services.core.events import PSEUDONYM_BYTES, Kind, Vitals
from services.runtime.codec import HEADER_BYTES, MAX_BYTES, Codec

FARTHEST: Final = 62_135_596_800_000_000
"""The year 1, and as far the other way, µs: no calendar of ours begins before it."""
_KINDS: Final = tuple(Kind)
_OBSERVATION, _RETRACTION = _KINDS.index(Kind.OBSERVATION), _KINDS.index(Kind.RETRACTION)
_ODD: Final = -1
_LONGEST: Final = 56  # bits of a number that can be read without a thought of overflow
_PLACES: Final = 13

Places = npt.NDArray[np.int64]


class Wire:
    """Reads the records of one partition."""

    def __init__(self, codec: Codec) -> None:
        self._codec, self._header = codec, codec.header_of(Vitals)
        self._places: Places = np.zeros(_PLACES, np.int64)

    def event(self, record: bytes) -> Vitals:
        """Give what a record tells; of a measurement only what scoring asks of it.

        Of a measurement source, ingest id, place among the raw records, entries, codes, units,
        devices and terminology are left empty.

        Raises:
            Refusal: it is no event, or not a sound one.
            Stop: its schema is not known here.
        """
        if record[:HEADER_BYTES] != self._header or len(record) > MAX_BYTES:
            return _sound(self._codec.decode(record, Vitals))
        if not _places_in(record, self._places):
            return _sound(self._codec.decode(record, Vitals))
        kind, who, stay, named, at, heard, accepted, many, *columns = self._places.tolist()
        variables, values, flags, ids, versions = columns
        return Vitals(
            kind=_KINDS[kind],
            source="",
            pseudonym=record[who : who + PSEUDONYM_BYTES],
            encounter=record[stay : stay + named],
            measured_at=at,
            received_at=heard,
            accepted_at=accepted,
            ingest_id="",
            raw_partition=0,
            raw_offset=0,
            variables=record[variables : variables + many],
            values=record[values : values + 8 * many],
            flags=record[flags : flags + 2 * many],
            ids=record[ids : ids + 8 * many],
            versions=record[versions : versions + 8 * many],
        )


def _sound(event: Vitals) -> Vitals:
    """Hold the names, columns and times of an event to what the rest takes for granted.

    Raises:
        Refusal: a name or a column is too short or too long (AVRO_SYNTAX), or a time lies beyond
            every calendar (NUM_RANGE).
    """
    if max(abs(event.measured_at), abs(event.received_at)) > FARTHEST:
        raise Refusal(Reason.NUM_RANGE, "measured_at")
    many = len(event.variables)
    lengths = (len(event.values), len(event.flags), len(event.ids), len(event.versions))
    if lengths != (8 * many, 2 * many, 8 * many, 8 * many):
        raise Refusal(Reason.AVRO_SYNTAX, "columns")
    names = (0,) if event.kind is Kind.TICK else (PSEUDONYM_BYTES,)
    if len(event.pseudonym) not in names or len(event.encounter) not in (0, PSEUDONYM_BYTES):
        raise Refusal(Reason.AVRO_SYNTAX, "pseudonym")
    return event


@compiled
def _places_in(record: bytes, places: Places) -> bool:  # noqa: C901, PLR0911 - field by field
    """Find the fields of a sound measurement; False of anything else.

    Avro's binary encoding, in the order of schemas/events/Vitals.avsc.

    Args:
        record: of today's schema.
        places: (13,) is filled in: kind, where the pseudonym and the encounter begin, length of
            the encounter, measured_at, received_at, accepted_at, number of readings, and where
            variables, values, flags, ids and versions begin.
    """
    kind, at = _number(record, HEADER_BYTES)
    if kind not in (_OBSERVATION, _RETRACTION):
        return False
    places[0] = kind
    at = _past_text(record, at)  # source
    length, at = _number(record, at)
    if length != PSEUDONYM_BYTES:
        return False
    places[1], at = at, _forward(record, at, length)
    length, at = _number(record, at)
    if length not in (0, PSEUDONYM_BYTES):
        return False
    places[2], places[3], at = at, length, _forward(record, at, length)
    for place in range(4, 7):
        places[place], at = _number(record, at)
    if max(abs(places[4]), abs(places[5])) > FARTHEST:
        return False
    at = _past_text(record, at)  # ingest_id
    _, at = _number(record, at)  # raw_partition
    _, at = _number(record, at)  # raw_offset
    length, at = _number(record, at)  # entries
    at = _forward(record, at, length)
    places[7], at = _number(record, at)
    places[8], at = at, _forward(record, at, places[7])
    for column in range(4):
        length, at = _number(record, at)
        if length != places[7] * (2 if column == 1 else 8):
            return False
        places[9 + column], at = at, _forward(record, at, length)
    for _ in range(3):  # codes, units, devices
        at = _past_texts(record, at)
    for _ in range(2):  # demographics, stay: null
        branch, at = _number(record, at)
        if branch != 0:
            return False
    return _past_text(record, at) == len(record)  # terminology


@compiled
def _number(record: bytes, at: int) -> tuple[int, int]:
    """Give a zigzag number and where it ends; the place _ODD is passed on."""
    found, shift = np.int64(0), 0
    while 0 <= at < len(record) and shift <= _LONGEST:
        byte = np.int64(record[at])
        found |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a number
            return (found >> 1) ^ -(found & 1), at  # type: ignore[return-value]  # the compiler knows but one integer
    return 0, _ODD


@compiled
def _forward(record: bytes, at: int, length: int) -> int:
    return at + length if at >= 0 and 0 <= length <= len(record) - at else _ODD


@compiled
def _past_text(record: bytes, at: int) -> int:
    """Give the end of a text that is ASCII, and so good UTF-8."""
    length, at = _number(record, at)
    end = _forward(record, at, length)
    for place in range(at, end):
        if record[place] >= 0x80:  # noqa: PLR2004 - above ASCII
            return _ODD
    return end


@compiled
def _past_texts(record: bytes, at: int) -> int:
    """Give the end of a list of texts."""
    while True:
        many, at = _number(record, at)
        if at < 0 or many < 0:
            return _ODD
        if many == 0:
            return at
        for _ in range(many):
            at = _past_text(record, at)
            if at < 0:
                return _ODD
