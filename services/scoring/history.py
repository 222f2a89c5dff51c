"""What is known of one encounter: readings of the last 24 hours, retractions, and what was before.

The content is a function of the set of messages, not of their order: of each (resource, variable)
the highest version stands, a retraction is a version like any other, and whatever is derived is
taken from the readings in the order of (measured_at, id). That holds within the history limit:
24 hours behind the newest reading, and of a variable the newest FEWEST_RAW readings at least.
Two contents of one version are a conflict; the first to come stands.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from services.core.compiled import compiled
from services.core.events import MICROSECONDS_PER_HOUR, Vitals
from services.core.features import CELLS, HISTORY_HOURS
from services.core.features.rows import write_row
from services.scoring.folding import KEPT_OUT, fold_crowded
from services.scoring.readings import CROWDED, FULL, Columns, put, retract
from services.scoring.slots import (
    AT,
    FIRST,
    FLAGS,
    HEAD,
    HOURLY,
    ID,
    NONE,
    ROWS,
    VARIABLE,
    VERSION,
    Slots,
    Store,
)
from services.scoring.summary import HOURS, LAST_AT, MANY, READING, Readings, absorb, empty_cells

Array = npt.NDArray[Any]


class Past(NamedTuple):
    """What is left of readings that were folded; K variables are known to it.

    Attributes:
        variables: (K,) numbers.
        last_at: (K,) when the last value was measured, µs.
        last: (K,) that value.
        hours: (K,) hours with a value.
        cells: (24, 5, trend variables) by hour modulo 24; None where no hour is kept.
    """

    variables: Array
    last_at: Array
    last: Array
    hours: Array
    cells: Array | None


class History:
    """Readings of one encounter of one patient, and the past into which old ones are folded."""

    __slots__ = ("_slot", "_slots")

    def __init__(self, slots: Slots) -> None:
        """Begin a history in a slot of its own."""
        self._slots, self._slot = slots, slots.take()

    @property
    def head(self) -> int:
        """The newest measured_at, µs; NEVER before the first."""
        return int(self._slots.store.place[self._slot, HEAD])

    @property
    def rows(self) -> Readings:
        """A copy of all readings, unusable and retracted ones too, as they stand."""
        store = self._slots.store
        first, _, many, *_ = store.place[self._slot].tolist()
        run = slice(first, first + many)
        rows = np.zeros(many, READING)
        rows["at"], rows["version"] = store.numbers[run, AT], store.numbers[run, VERSION]
        rows["id"] = store.numbers[run, ID].view(np.uint64)
        rows["value"], rows["flags"] = store.values[run], store.marks[run, FLAGS]
        rows["variable"] = store.marks[run, VARIABLE]
        return rows

    @property
    def past(self) -> Past:
        """What was folded."""
        store, slot = self._slots.store, self._slot
        last_at, hours = store.known[slot]
        variables = np.flatnonzero(hours).astype(np.uint8)
        place = store.place[slot, HOURLY]
        return Past(
            variables,
            last_at[variables],
            store.last[slot, variables],
            hours[variables].astype(np.int32),
            None if place == NONE else store.cells[place],
        )

    def fill(self, head: int, rows: Readings, past: Past) -> None:
        """Take what another history held; this one is empty."""
        self._slots.make_room(self._slot, len(rows))
        store, slot = self._slots.store, self._slot
        run = slice(store.place[slot, FIRST], store.place[slot, FIRST] + len(rows))
        store.numbers[run, AT], store.numbers[run, VERSION] = rows["at"], rows["version"]
        store.numbers[run, ID] = rows["id"].view(np.int64)
        store.values[run], store.marks[run, FLAGS] = rows["value"], rows["flags"]
        store.marks[run, VARIABLE] = rows["variable"]
        store.place[slot, ROWS], store.place[slot, HEAD] = len(rows), head
        store.known[slot, LAST_AT, past.variables] = past.last_at
        store.known[slot, HOURS, past.variables] = past.hours
        store.last[slot, past.variables] = past.last
        if past.cells is not None:
            self._slots.make_hours(slot)
            self._slots.store.cells[self._slots.store.place[slot, HOURLY]] = past.cells

    def identify(self, *, age: float, sex: float) -> None:
        """Set age (years) and sex (0 female, 1 male); NaN is unknown."""
        self._slots.identify(self._slot, age=age, sex=sex)

    def put(self, event: Vitals) -> tuple[int, int]:
        """Take the readings of an observation; gives what `put` gives."""
        columns, at = _columns(event), event.measured_at
        done, revised_at = put(self._slots.store, self._slot, at, columns)
        if done == FULL:
            self._slots.make_room(self._slot, len(event.variables))
            done, revised_at = put(self._slots.store, self._slot, at, columns)
        if done & CROWDED:
            if self._slots.store.place[self._slot, HOURLY] == NONE:
                self._slots.make_hours(self._slot)
            fold_crowded(self._slots.store, self._slot)
        return done & ~CROWDED, revised_at

    def retract(self, event: Vitals) -> tuple[int, int]:
        """Take back what a retraction names; gives what `retract` gives."""
        columns, at = _columns(event), event.measured_at
        done, revised_at = retract(self._slots.store, self._slot, at, columns)
        if done == FULL:
            self._slots.make_room(self._slot, len(event.variables))
            done, revised_at = retract(self._slots.store, self._slot, at, columns)
        return done, revised_at

    def write_features(self, row: Array) -> None:
        """Write the features as of the newest reading."""
        write_features(self._slots.store, self._slot, row)

    def clear(self) -> None:
        """Begin anew, as an encounter does."""
        self._slots.clear(self._slot)

    def end(self) -> None:
        """Give the slot back; the history is over."""
        self._slots.give_back(self._slot)


def _columns(event: Vitals) -> Columns:
    return Columns(event.variables, event.values, event.flags, event.ids, event.versions)


@compiled
def write_features(store: Store, slot: int, row: Array) -> None:
    """Write the features of the patient as of the newest reading.

    Args:
        store: of the partition.
        slot: of a patient of whom something was measured.
        row: (len(FEATURES),) float32.
    """
    place = store.place[slot]
    hour = place[HEAD] // MICROSECONDS_PER_HOUR
    last, known = store.last[slot].copy(), store.known[slot].copy()
    ring, cells = np.empty((1, *CELLS), np.float32), np.empty(CELLS, np.float32)
    if place[HOURLY] == NONE:
        empty_cells(ring[0])
    else:
        ring[0] = store.cells[place[HOURLY]]
    numbers, values, marks = store.numbers, store.values, store.marks
    for i in range(place[FIRST], place[FIRST] + place[ROWS]):
        if marks[i, FLAGS] & KEPT_OUT == 0:
            absorb(last, known, ring, marks[i, VARIABLE], numbers[i, AT], values[i])
    oldest = (hour + 1) % HISTORY_HOURS
    cells[: HISTORY_HOURS - oldest] = ring[0, oldest:]
    cells[HISTORY_HOURS - oldest :] = ring[0, :oldest]
    for variable in range(MANY):
        row[variable] = last[variable]
        row[MANY + variable] = hour - known[LAST_AT, variable] // MICROSECONDS_PER_HOUR
        if np.isnan(last[variable]):
            row[MANY + variable] = np.nan
        row[2 * MANY + variable] = known[HOURS, variable]
    write_row(cells, store.person[slot], row)
