"""The arrays that features are computed from: one slot per patient, derived from the histories.

They hold nothing that the histories and the folded past do not say; a slot can be made anew from
them at any time, and is, to the same bits, after a restart.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.core.features import (
    HISTORY_HOURS,
    TREND_VARIABLES,
    HourGrid,
    Standing,
)
from services.core.vitals import VARIABLE_INDEX, VARIABLES
from services.scoring.history import History, Readings, hour_of

FIRST_SLOTS: Final = 64
NO_HOUR: Final = -(1 << 40)
COUNT, TOTAL, LOWEST, HIGHEST, LAST = range(5)
EMPTY_CELL: Final = np.array([0, 0, np.nan, np.nan, np.nan], np.float32)[:, None]
TREND_PLACE: Final = {VARIABLE_INDEX[name]: place for place, name in enumerate(TREND_VARIABLES)}
_HOURS: Final = np.arange(1 - HISTORY_HOURS, 1)

Array = npt.NDArray[Any]


class Past:
    """What a patient's readings were before the history that is kept, per variable."""

    __slots__ = ("hours", "last", "last_at")

    def __init__(self) -> None:
        self.last = np.full(len(VARIABLES), np.nan, np.float32)
        self.last_at = np.full(len(VARIABLES), -1, np.int64)
        self.hours = np.zeros(len(VARIABLES), np.int32)

    def fold(self, gone: Readings, variable: int) -> None:
        """Take in usable readings of one variable, ordered by time, that left the history."""
        self.hours[variable] += len(np.unique(gone["at"] // 3_600_000_000))
        if gone["at"][-1] >= self.last_at[variable]:
            self.last[variable] = gone["value"][-1]
            self.last_at[variable] = gone["at"][-1]


class Slots:
    """Hour cells and standing values of every patient of a partition."""

    def __init__(self) -> None:
        self._cells = np.empty((0, HISTORY_HOURS, 5, len(TREND_VARIABLES)), np.float32)
        self._last = np.empty((0, len(VARIABLES)), np.float32)
        self._last_hour = np.empty((0, len(VARIABLES)), np.int64)
        self._count = np.empty((0, len(VARIABLES)), np.float32)
        self._person = np.empty((0, 2), np.float32)
        self._free: list[int] = []

    def take(self) -> int:
        """Give an empty slot."""
        if not self._free:
            self._grow()
        slot = self._free.pop()
        self.clear(slot)
        self.identify(slot, age=np.nan, sex=np.nan)
        return slot

    def give_back(self, slot: int) -> None:
        """Let another patient have the slot."""
        self._free.append(slot)

    def clear(self, slot: int) -> None:
        """Forget all that was measured."""
        self._cells[slot] = EMPTY_CELL
        self._last[slot] = np.nan
        self._last_hour[slot] = NO_HOUR
        self._count[slot] = 0

    def identify(self, slot: int, *, age: float, sex: float) -> None:
        """Set age (years) and sex (0 female, 1 male); NaN is unknown."""
        self._person[slot] = age, sex

    def advance(self, slot: int, before: int, after: int) -> None:
        """Empty the cells of the hours that came new, when the newest hour moves on."""
        fresh = np.arange(max(before + 1, after - HISTORY_HOURS + 1), after + 1) % HISTORY_HOURS
        self._cells[slot, fresh] = EMPTY_CELL

    def append(self, slot: int, variable: int, at: int, value: Any) -> None:
        """Add a value newer than all of its variable."""
        hour = hour_of(at)
        if self._last_hour[slot, variable] != hour:
            self._count[slot, variable] += 1
        self._last[slot, variable] = value
        self._last_hour[slot, variable] = hour
        place = TREND_PLACE.get(variable)
        if place is not None:
            cell = self._cells[slot, hour % HISTORY_HOURS, :, place]
            cell[COUNT] += 1
            cell[TOTAL] += value
            cell[LOWEST] = np.fmin(cell[LOWEST], value)
            cell[HIGHEST] = np.fmax(cell[HIGHEST], value)
            cell[LAST] = value

    def rebuild(self, slot: int, variable: int, history: History, past: Past) -> None:
        """Derive everything of one variable anew from its readings and its past."""
        self._last[slot, variable] = past.last[variable]
        self._last_hour[slot, variable] = (
            hour_of(int(past.last_at[variable])) if past.last_at[variable] >= 0 else NO_HOUR
        )
        self._count[slot, variable] = past.hours[variable]
        place = TREND_PLACE.get(variable)
        if place is not None:
            self._cells[slot, :, :, place] = EMPTY_CELL[:, 0]
        for reading in history.usable(variable):
            self.append(slot, variable, int(reading["at"]), reading["value"])

    def copy_to(self, snapshots: "Snapshots", slot: int, hour: int) -> int:
        """Keep a patient as of an hour, and give the row of the snapshot."""
        row = snapshots.rows
        snapshots.cells[row] = self._cells[slot, (hour + _HOURS) % HISTORY_HOURS]
        snapshots.last[row] = self._last[slot]
        snapshots.age_h[row] = hour - self._last_hour[slot]
        snapshots.count[row] = self._count[slot]
        snapshots.person[row] = self._person[slot]
        snapshots.rows += 1
        return row

    def _grow(self) -> None:
        size = len(self._last)
        more = max(FIRST_SLOTS, size)
        for name in ("_cells", "_last", "_last_hour", "_count", "_person"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.empty((more, *old.shape[1:]), old.dtype)]))
        self._free = list(range(size + more - 1, size - 1, -1))


class Snapshots:
    """Patients as they stood after each event of a batch, to compute features at once."""

    def __init__(self, size: int) -> None:
        """Make room.

        Args:
            size: the most rows that a batch can have.
        """
        self.rows = 0
        self.cells = np.empty((size, HISTORY_HOURS, 5, len(TREND_VARIABLES)), np.float32)
        self.last = np.empty((size, len(VARIABLES)), np.float32)
        self.age_h = np.empty((size, len(VARIABLES)), np.float32)
        self.count = np.empty((size, len(VARIABLES)), np.float32)
        self.person = np.empty((size, 2), np.float32)

    def inputs(self) -> tuple[HourGrid, Standing]:
        """Give what `core.features.compute` takes, one row per snapshot."""
        end = self.rows
        cells = self.cells[:end]
        age_h = self.age_h[:end]
        never = np.isnan(self.last[:end])
        return (
            HourGrid(*(cells[:, :, part] for part in range(5))),
            Standing(
                last=self.last[:end],
                last_age_h=np.where(never, np.float32(np.nan), age_h),
                count=self.count[:end],
                age=self.person[:end, 0],
                sex=self.person[:end, 1],
            ),
        )
