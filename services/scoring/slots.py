"""The arrays that features are computed from: one slot per patient, derived from the histories.

They hold nothing that the histories do not say; a slot can be made anew from them at any time,
and is, to the same bits, after a restart.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.core.events import MICROSECONDS_PER_HOUR
from services.core.features import HISTORY_HOURS, HourGrid, Standing
from services.core.vitals import VARIABLES
from services.scoring.history import History
from services.scoring.summary import CELLS, EMPTY_CELL, NEVER, Readings, Summary

FIRST_SLOTS: Final = 64
_ALL: Final = np.arange(len(VARIABLES))
_ARRAYS: Final = ("_cells", "_last", "_last_at", "_count", "_person")

Array = npt.NDArray[Any]


class Slots:
    """Hour cells and standing values of every patient of a partition."""

    def __init__(self) -> None:
        many = len(VARIABLES)
        self._cells = np.empty((0, *CELLS), np.float32)
        self._last = np.empty((0, many), np.float32)
        self._last_at = np.empty((0, many), np.int64)
        self._count = np.empty((0, many), np.int32)
        self._person = np.empty((0, 2), np.float32)
        self._free: list[int] = []

    def take(self) -> int:
        """Give a slot that holds anything: `identify` and `derive` it before it is used."""
        if not self._free:
            self._grow()
        return self._free.pop()

    def give_back(self, slot: int) -> None:
        """Let another patient have the slot."""
        self._free.append(slot)

    def clear(self, slot: int) -> None:
        """Forget all that was measured."""
        self._cells[slot] = EMPTY_CELL
        self._last[slot] = np.nan
        self._last_at[slot] = NEVER
        self._count[slot] = 0

    def identify(self, slot: int, *, age: float, sex: float) -> None:
        """Set age (years) and sex (0 female, 1 male); NaN is unknown."""
        self._person[slot] = age, sex

    def advance(self, slot: int, before: int, after: int) -> None:
        """Empty the cells of the hours that came new, when the newest hour moves on."""
        self._summary(slot).advance(before, after)

    def is_newer(self, slot: int, readings: Readings) -> bool:
        """Tell whether each reading is newer than all of its variable."""
        return bool(np.all(readings["at"] > self._last_at[slot, readings["variable"]]))

    def append(self, slot: int, readings: Readings) -> None:
        """Add usable readings of different variables, newer than all of theirs."""
        self._summary(slot).absorb(readings)

    def derive(self, slot: int, history: History, variables: set[int] | None = None) -> None:
        """Make some variables, or all, anew from the history."""
        summary = self._summary(slot)
        summary.begin_with(history.past, _ALL if variables is None else np.array(list(variables)))
        summary.absorb(history.usable(variables))

    def copy_to(self, snapshots: "Snapshots", slot: int, hour: int) -> int:
        """Keep a patient as of an hour, and give the row of the snapshot."""
        row, oldest = snapshots.rows, (hour + 1) % HISTORY_HOURS
        cells, ring = snapshots.cells[row], self._cells[slot]
        cells[: HISTORY_HOURS - oldest] = ring[oldest:]
        cells[HISTORY_HOURS - oldest :] = ring[:oldest]
        snapshots.last[row] = self._last[slot]
        snapshots.age_h[row] = hour - self._last_at[slot] // MICROSECONDS_PER_HOUR
        snapshots.count[row] = self._count[slot]
        snapshots.person[row] = self._person[slot]
        snapshots.rows += 1
        return row

    def _summary(self, slot: int) -> Summary:
        """See the slot as a summary that can be changed in place."""
        return Summary(self._last[slot], self._last_at[slot], self._count[slot], self._cells[slot])

    def _grow(self) -> None:
        size = len(self._last)
        more = max(FIRST_SLOTS, size)
        for name in _ARRAYS:
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
        many = len(VARIABLES)
        self.rows = 0
        self.cells = np.empty((size, *CELLS), np.float32)
        self.last = np.empty((size, many), np.float32)
        self.age_h = np.empty((size, many), np.float32)
        self.count = np.empty((size, many), np.float32)
        self.person = np.empty((size, 2), np.float32)

    def inputs(self) -> tuple[HourGrid, Standing]:
        """Give what `core.features.compute` takes, one row per snapshot."""
        end = self.rows
        cells = self.cells[:end]
        last = self.last[:end]
        return (
            HourGrid(*(cells[:, :, part] for part in range(cells.shape[2]))),
            Standing(
                last=last,
                last_age_h=np.where(np.isnan(last), np.float32(np.nan), self.age_h[:end]),
                count=self.count[:end],
                age=self.person[:end, 0],
                sex=self.person[:end, 1],
            ),
        )
