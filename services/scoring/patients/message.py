"""Where the fields of a measurement stand in the bytes that tell it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.core.errors import Refusal
from services.core.events import PSEUDONYM_BYTES, Kind, Vitals

FIELDS: Final = 13
KIND, WHO, WHERE, NAMED, MEASURED, HEARD, ACCEPTED = range(7)
"""The number of its kind; where the pseudonym and the encounter begin, and the encounter's length;
times, µs."""
READINGS, VARIABLES, VALUES, MARKS, IDS, VERSIONS = range(7, FIELDS)
"""How many readings there are, and where their columns begin: u1, <f8, <u2, <u8, <i8."""
KINDS: Final = tuple(Kind)
OBSERVATION: Final = KINDS.index(Kind.OBSERVATION)
RETRACTION: Final = KINDS.index(Kind.RETRACTION)

ODD: Final = -1
"""In place of the kind, of a record whose fields stand nowhere: the codec read it, or refused."""

Array = npt.NDArray[Any]


class Messages:
    """N records of a partition as they were read, in order.

    Attributes:
        told: the bytes of all.
        fields: (N, FIELDS) int64: places in them; KIND is ODD where a record is no sound
            measurement of today's schema.
        odd: what these tell, or why they are refused, by place.
        names: pseudonym of each; empty of nobody.
    """

    __slots__ = ("fields", "names", "odd", "told")

    def __init__(
        self, told: bytes, fields: Array, odd: Mapping[int, Vitals | Refusal], names: list[bytes]
    ) -> None:
        self.told, self.fields, self.odd, self.names = told, fields, odd, names

    def __len__(self) -> int:
        """Say how many there are."""
        return len(self.names)

    def event(self, place: int) -> Vitals | Refusal:
        """Give what one of them tells, or why it is refused."""
        if place in self.odd:
            return self.odd[place]
        return _measurement(self.told, self.fields[place].tolist())

    def first(self, many: int) -> "Messages":
        """Give the first of them."""
        return Messages(self.told, self.fields[:many], self.odd, self.names[:many])

    def only(self, chosen: Sequence[bool]) -> "Messages":
        """Give those that are chosen."""
        places = np.flatnonzero(chosen)
        odd = {new: self.odd[old] for new, old in enumerate(places.tolist()) if old in self.odd}
        names = [self.names[place] for place in places]
        return Messages(self.told, self.fields[places], odd, names)


def _measurement(told: bytes, fields: list[int]) -> Vitals:
    kind, who, where, named, at, heard, accepted, many, *columns = fields
    variables, values, flags, ids, versions = columns
    return Vitals(
        kind=KINDS[kind],
        source="",
        pseudonym=told[who : who + PSEUDONYM_BYTES],
        encounter=told[where : where + named],
        measured_at=at,
        received_at=heard,
        accepted_at=accepted,
        ingest_id="",
        raw_partition=0,
        raw_offset=0,
        variables=told[variables : variables + many],
        values=told[values : values + 8 * many],
        flags=told[flags : flags + 2 * many],
        ids=told[ids : ids + 8 * many],
        versions=told[versions : versions + 8 * many],
    )


def spelled(event: Vitals) -> tuple[Array, Array]:
    """Give the bytes of an event that scoring asks for, and the places of its fields in them."""
    columns = (event.variables, event.values, event.flags, event.ids, event.versions)
    parts = (event.pseudonym, event.encounter, *columns)
    lengths = [len(part) for part in parts]
    who, where, *starts = [sum(lengths[:place]) for place in range(len(parts))]
    times = (event.measured_at, event.received_at, event.accepted_at)
    kind, named, many = KINDS.index(event.kind), len(event.encounter), len(event.variables)
    told = np.frombuffer(b"".join(parts), np.uint8)
    return told, np.array([kind, who, where, named, *times, many, *starts])
