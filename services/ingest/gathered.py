"""Readings of one message are gathered by patient, encounter and time, and written as events.

The bytes are those that `normalise.assemble` and `wire` give of the same readings.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from struct import Struct
from typing import Final

from services.core.events import Flag
from services.core.vitals import VARIABLE_INDEX
from services.ingest.habits import Source, Whose
from services.ingest.normalise.findings import Message
from services.ingest.wire import arrival, moment
from services.runtime.avro import blob, number

_SYSTOLIC: Final = VARIABLE_INDEX["SBP"]
_DIASTOLIC: Final = VARIABLE_INDEX["DBP"]
_INCONSISTENT: Final = int(Flag.INCONSISTENT)
_END: Final = b"\x00"

Row = tuple[int, int, float, int, bytes, int, bytes, bytes, bytes]
"""A reading: entry, variable, value, flags, id, version, and its code, unit and device written."""
Written = tuple[bytes, bytes]
"""The pseudonym of a patient, and an event as vitals.v1 takes it."""


class Gathered:
    """The events of one message."""

    def __init__(self, message: Message, source: Source) -> None:
        """Begin with none."""
        self.head = head(message, source)
        """Name, source, place and times of the message, as a receipt takes them."""
        self._end = source.end
        self._events: dict[tuple[bytes, int], tuple[Whose, list[Row]]] = {}

    def rows(self, whose: Whose, at: int) -> list[Row]:
        """Give the readings of a patient in an encounter at a time; never left without any."""
        return self._events.setdefault((whose.begin, at), (whose, []))[1]

    def written(self) -> Iterable[tuple[int, tuple[str, bytes], Written]]:
        """Give each event after its first entry's number, and id and pseudonym of the patient."""
        name, _, place, came = self.head
        for (begin, at), (whose, rows) in self._events.items():
            parts = begin, moment(at), came, name, place, *_columns(rows), self._end
            pseudonym = whose.pseudonym
            yield rows[0][0], (whose.identifier, pseudonym), (pseudonym, b"".join(parts))


def head(message: Message, source: Source) -> tuple[bytes, bytes, bytes, bytes]:
    """Write name, source, place and times of a message."""
    place = number(message.partition) + number(message.offset)
    came = arrival(message.received_at, message.accepted_at)
    return blob(message.ingest_id.encode()), source.text, place, came


def _columns(rows: Sequence[Row]) -> Iterable[bytes]:
    """Write readings as the columns of their event."""
    entries, variables, values, flags, ids, versions, codes, units, devices = zip(
        *rows, strict=True
    )
    if _SYSTOLIC in variables and _DIASTOLIC in variables:
        flags = _flagged(variables, values, flags)
    many, one, two, eight, pack = _layout(len(rows))
    first = two, *entries, one, *variables, eight, *values
    packed = pack(*first, two, *flags, eight, b"".join(ids), eight, *versions)
    return packed, many, *codes, _END, many, *units, _END, many, *devices, _END


@lru_cache(256)  # a message may have thousands of readings; most events have few
def _layout(many: int) -> tuple[bytes, bytes, bytes, bytes, Callable[..., bytes]]:
    """Give a count, the lengths of columns of one, two and eight bytes, and what packs all."""
    one, two, eight = (number(width * many) for width in (1, 2, 8))
    short, long = f"{len(two)}s{many}H", f"{len(eight)}s"
    form = f"<{short}{len(one)}s{many}B{long}{many}d{short}{long}{8 * many}s{long}{many}q"
    return number(many), one, two, eight, Struct(form).pack


def _flagged(
    variables: Sequence[int], values: Sequence[float], flags: Sequence[int]
) -> tuple[int, ...]:
    """Flag systolic pressures below the diastolic of the same order, and both."""
    high, low = (
        [i for i, each in enumerate(variables) if each == which and not math.isnan(values[i])]
        for which in (_SYSTOLIC, _DIASTOLIC)
    )
    wrong = {
        i
        for pair in zip(high, low, strict=False)
        if values[pair[0]] < values[pair[1]]
        for i in pair
    }
    return tuple([each | _INCONSISTENT if i in wrong else each for i, each in enumerate(flags)])
