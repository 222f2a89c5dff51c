"""Reads measurements off the wire: most records are of one shape, and only a part of them counts.

A record of today's schema that tells an observation or a retraction, and has nothing odd about
it, is read here, by a compiled loop; every other one by the codec, which says what is wrong.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.core.compiled import compiled
from services.core.errors import Reason, Refusal
from services.core.events import PSEUDONYM_BYTES, Kind, Vitals
from services.runtime.codec import HEADER_BYTES, MAX_BYTES, Codec
from services.scoring.patients.message import (
    FIELDS,
    HEARD,
    KIND,
    MARKS,
    MEASURED,
    NAMED,
    OBSERVATION,
    ODD,
    READINGS,
    RETRACTION,
    VALUES,
    VARIABLES,
    WHERE,
    WHO,
    Messages,
)

FARTHEST: Final = 62_135_596_800_000_000
"""The year 1, and as far the other way, µs: no calendar of ours begins before it."""
_NOWHERE: Final = -1
_LONGEST: Final = 56  # bits of a number that can be read without a thought of overflow

Array = npt.NDArray[Any]


class Wire:
    """Reads the records of one partition."""

    def __init__(self, codec: Codec) -> None:
        self._codec, self._header = codec, codec.header_of(Vitals)

    def event(self, record: bytes) -> Vitals:
        """Give what a record tells, see `events`.

        Raises:
            Refusal: it is no event, or not a sound one.
            Stop: its schema is not known here.
        """
        event = self.events([record]).event(0)
        if isinstance(event, Refusal):
            raise event
        return event

    def events(self, records: Sequence[bytes]) -> Messages:
        """Give what records tell; of a measurement only what scoring asks of it.

        Of a measurement source, ingest id, place among the raw records, entries, codes, units,
        devices and terminology are left empty.

        Raises:
            Stop: a schema is not known here.
        """
        told, fields = b"".join(records), np.empty((len(records), FIELDS), np.int64)
        ends = np.array([0, *accumulate(map(len, records))])
        _read(np.frombuffer(told, np.uint8), ends, self._header, fields)
        odd = {
            place: self._by_codec(records[place])
            for place in np.flatnonzero(fields[:, KIND] == ODD).tolist()
        }
        names = [told[who : who + PSEUDONYM_BYTES] for who in fields[:, WHO].tolist()]
        for place, event in odd.items():
            names[place] = b"" if isinstance(event, Refusal) else event.pseudonym
        return Messages(told, fields, odd, names)

    def _by_codec(self, record: bytes) -> Vitals | Refusal:
        try:
            return _sound(self._codec.decode(record, Vitals))
        except Refusal as refusal:
            return refusal


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
def _read(told: Array, ends: Array, header: bytes, fields: Array) -> None:
    """Find the fields of each record of today's schema that is a sound measurement."""
    for i in range(len(fields)):
        record = told[ends[i] : ends[i + 1]]
        ours = len(header) <= len(record) <= MAX_BYTES
        for place in range(len(header) if ours else 0):
            ours &= record[place] == header[place]
        if ours and _places_in(record, fields[i]):
            fields[i, WHO : WHERE + 1] += ends[i]
            fields[i, VARIABLES:] += ends[i]
        else:
            fields[i] = 0
            fields[i, KIND] = ODD


@compiled
def _places_in(record: Array, fields: Array) -> bool:  # noqa: C901, PLR0911 - field by field
    """Find the fields of a sound measurement (see `message`); False of anything else.

    Avro's binary encoding, in the order of schemas/events/Vitals.avsc.
    """
    kind, at = _number(record, HEADER_BYTES)
    if kind not in (OBSERVATION, RETRACTION):
        return False
    fields[KIND] = kind
    at = _past_text(record, at)  # source
    length, at = _number(record, at)
    if length != PSEUDONYM_BYTES:
        return False
    fields[WHO], at = at, _forward(record, at, length)
    length, at = _number(record, at)
    if length not in (0, PSEUDONYM_BYTES):
        return False
    fields[WHERE], fields[NAMED], at = at, length, _forward(record, at, length)
    for place in range(MEASURED, READINGS):
        fields[place], at = _number(record, at)
    if max(abs(fields[MEASURED]), abs(fields[HEARD])) > FARTHEST:
        return False
    at = _past_text(record, at)  # ingest_id
    _, at = _number(record, at)  # raw_partition
    _, at = _number(record, at)  # raw_offset
    length, at = _number(record, at)  # entries
    at = _forward(record, at, length)
    fields[READINGS], at = _number(record, at)
    fields[VARIABLES], at = at, _forward(record, at, fields[READINGS])
    for column in range(VALUES, FIELDS):
        length, at = _number(record, at)
        if length != fields[READINGS] * (2 if column == MARKS else 8):
            return False
        fields[column], at = at, _forward(record, at, length)
    for _ in range(3):  # codes, units, devices
        at = _past_texts(record, at)
    for _ in range(2):  # demographics, stay: null
        branch, at = _number(record, at)
        if branch != 0:
            return False
    return _past_text(record, at) == len(record)  # terminology


@compiled
def _number(record: Array, at: int) -> tuple[int, int]:
    """Give a zigzag number and where it ends; the place _NOWHERE is passed on."""
    found, shift = np.int64(0), 0
    while 0 <= at < len(record) and shift <= _LONGEST:
        byte = np.int64(record[at])
        found |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a number
            return (found >> 1) ^ -(found & 1), at  # type: ignore[return-value]  # the compiler knows but one integer
    return 0, _NOWHERE


@compiled
def _forward(record: Array, at: int, length: int) -> int:
    return at + length if at >= 0 and 0 <= length <= len(record) - at else _NOWHERE


@compiled
def _past_text(record: Array, at: int) -> int:
    """Give the end of a text that is ASCII, and so good UTF-8."""
    length, at = _number(record, at)
    end = _forward(record, at, length)
    for place in range(at, end):
        if record[place] >= 0x80:  # noqa: PLR2004 - above ASCII
            return _NOWHERE
    return end


@compiled
def _past_texts(record: Array, at: int) -> int:
    """Give the end of a list of texts."""
    while True:
        many, at = _number(record, at)
        if at < 0 or many < 0:
            return _NOWHERE
        if many == 0:
            return at
        for _ in range(many):
            at = _past_text(record, at)
            if at < 0:
                return _NOWHERE
