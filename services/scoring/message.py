"""Where the fields of a measurement stand in the bytes that tell it."""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.core.errors import Refusal
from services.core.events import Kind, Vitals

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


class Messages(NamedTuple):
    """N records of a partition as they were read, in order.

    Attributes:
        events: what they tell, or why they are refused.
        told: the bytes of all.
        fields: (N, FIELDS) int64: places in them; KIND is ODD where a record is no sound
            measurement of today's schema.
    """

    events: list[Vitals | Refusal]
    told: bytes
    fields: Array

    def first(self, many: int) -> "Messages":
        """Give the first of them."""
        return Messages(self.events[:many], self.told, self.fields[:many])

    def only(self, chosen: list[bool]) -> "Messages":
        """Give those that are chosen."""
        events = [event for event, is_one in zip(self.events, chosen, strict=True) if is_one]
        return Messages(events, self.told, self.fields[np.array(chosen, np.bool)])


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
