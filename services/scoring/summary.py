"""What features are made of: per variable the last value and a count, per hour the extremes."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.core.events import MICROSECONDS_PER_HOUR
from services.core.features import HISTORY_HOURS, TREND_VARIABLES
from services.core.vitals import VARIABLE_INDEX, VARIABLES

READING: Final = np.dtype(
    [
        ("at", "<i8"),
        ("id", "<u8"),
        ("version", "<i8"),
        ("value", "<f4"),
        ("flags", "<u2"),
        ("variable", "u1"),
    ],
    align=True,
)
"""One value of one resource, 32 bytes."""

NEVER: Final = -(1 << 62)
"""A time before all others, µs."""
COUNT, TOTAL, LOWEST, HIGHEST, LAST = range(5)
CELLS: Final = (HISTORY_HOURS, 5, len(TREND_VARIABLES))
EMPTY_CELL: Final = np.array([0, 0, np.nan, np.nan, np.nan], np.float32)[:, None]

_HOUR_STEP: Final = CELLS[1] * CELLS[2]
_PARTS: Final = np.arange(CELLS[1])[:, None] * CELLS[2]
_PLACE: Final = np.full(len(VARIABLES), -1)
_PLACE[[VARIABLE_INDEX[name] for name in TREND_VARIABLES]] = range(len(TREND_VARIABLES))

Array = npt.NDArray[Any]
Readings = npt.NDArray[Any]


def hour_of(at: int) -> int:
    """Give the UTC hour, counted from the epoch, of a time in µs."""
    return at // MICROSECONDS_PER_HOUR


class Summary:
    """Readings of one encounter, summed up; V variables, on a ring of hours the vital signs.

    Attributes:
        last: (V,) last value, NaN if never.
        last_at: (V,) when that was measured, µs, NEVER if never.
        count: (V,) hours with a value.
        cells: (24, 5, vital signs): count, total, lowest, highest and last of an hour, whose
            place on the ring is the hour modulo 24; None where no hour is kept.
    """

    __slots__ = ("cells", "count", "last", "last_at")

    def __init__(self, last: Array, last_at: Array, count: Array, cells: Array | None) -> None:
        self.last, self.last_at, self.count, self.cells = last, last_at, count, cells

    @classmethod
    def empty(cls) -> "Summary":
        """Make a summary of nothing, without hours."""
        many = len(VARIABLES)
        return cls(
            np.full(many, np.nan, np.float32),
            np.full(many, NEVER, np.int64),
            np.zeros(many, np.int32),
            None,
        )

    def advance(self, before: int, after: int) -> None:
        """Empty the places on the ring that come to stand for newer hours."""
        if self.cells is not None and after > before:
            fresh = np.arange(max(before + 1, after - HISTORY_HOURS + 1), after + 1)
            self.cells[fresh % HISTORY_HOURS] = EMPTY_CELL

    def begin_with(self, other: "Summary", variables: Array) -> None:
        """Take over what another summary says of some variables."""
        self.last[variables] = other.last[variables]
        self.last_at[variables] = other.last_at[variables]
        self.count[variables] = other.count[variables]
        if self.cells is not None:
            places = _PLACE[variables]
            places = places[places >= 0]
            known = EMPTY_CELL if other.cells is None else other.cells[:, :, places]
            self.cells[:, :, places] = known

    def absorb(self, rows: Readings) -> None:
        """Take in usable readings, newer than all of their variable, in `ordered` order.

        Additions happen one by one in that order, so however readings are split into calls, and
        whether they came from the stream or from the history, the sums have the same bits.
        """
        variable = rows["variable"].astype(np.intp)
        hour = rows["at"] // MICROSECONDS_PER_HOUR
        before = self.last_at[variable] // MICROSECONDS_PER_HOUR
        again = variable[1:] == variable[:-1]
        if again.any():
            before[1:][again] = hour[:-1][again]
            np.add.at(self.count, variable, (hour != before).astype(np.int32))
        else:
            self.count[variable] += hour != before
        self.last[variable] = rows["value"]
        self.last_at[variable] = rows["at"]
        if self.cells is not None:
            place = _PLACE[variable]
            charted = place >= 0
            at = (hour % HISTORY_HOURS * _HOUR_STEP + place)[charted] + _PARTS
            value, flat = rows["value"][charted], self.cells.reshape(-1)
            if np.any(again & (hour[1:] == hour[:-1])):
                _add_each(flat, at, value)
            else:
                flat[at] = _added(flat[at], value)


def _added(cells: Array, value: Array) -> Array:
    """Give (5, n) cells to which n values, each of a cell of its own, were added."""
    cells[COUNT] += 1
    cells[TOTAL] += value
    np.fmin(cells[LOWEST], value, out=cells[LOWEST])
    np.fmax(cells[HIGHEST], value, out=cells[HIGHEST])
    cells[LAST] = value
    return cells


def _add_each(flat: Array, at: Array, value: Array) -> None:
    """Add n values to cells at (5, n) places, one after the other where they share a cell."""
    np.add.at(flat, at[COUNT], np.float32(1))
    np.add.at(flat, at[TOTAL], value)
    np.fmin.at(flat, at[LOWEST], value)
    np.fmax.at(flat, at[HIGHEST], value)
    flat[at[LAST]] = value


def ordered(rows: Readings) -> Readings:
    """Group readings by variable, each group by (measured_at, id)."""
    return np.take(rows, np.lexsort((rows["id"], rows["at"], rows["variable"])))
