"""The arrays in which all patients of a partition are kept: a slot and a run of rows for each."""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.core.features import CELLS
from services.scoring.summary import MANY, NEVER, empty_cells

AT, ID, VERSION = range(3)
"""Columns of a reading's numbers; the id is read as a signed number."""
FLAGS, VARIABLE = range(2)
"""Columns of a reading's marks."""
FIRST, ROOM, ROWS, HEAD, HOURLY = range(5)
"""Of a slot: its first row, how many it has room for, how many it has; the newest measured_at;
its place among the cells, NONE without."""
NONE: Final = -1
FIRST_SLOTS: Final = 64
FIRST_ROWS: Final = 1024
ROOMS: Final = tuple(int(16 * 1.5**step) for step in range(16))
"""So many rows a patient can have room for: a third of it is empty at most."""

Array = npt.NDArray[Any]


class Store(NamedTuple):
    """Arrays of S slots, N rows of readings, C patients' hours, V variables.

    Attributes:
        numbers: (N, 3) int64: AT, ID, VERSION.
        values: (N,) float32.
        marks: (N, 2) uint16: FLAGS, VARIABLE.
        place: (S, 5) int64: FIRST, ROOM, ROWS, HEAD, HOURLY.
        last: (S, V) float32: last values of the past.
        known: (S, 2, V) int64: what else the past knows of a variable.
        cells: (C, *CELLS) float32: the past by hours, of those who have any.
        person: (S, 2) float32: age in years and sex (0 female, 1 male), NaN is unknown.
    """

    numbers: Array
    values: Array
    marks: Array
    place: Array
    last: Array
    known: Array
    cells: Array
    person: Array


class Slots:
    """Gives slots and rows away, and takes them back."""

    def __init__(self) -> None:
        self.store = Store(
            numbers=np.empty((FIRST_ROWS, 3), np.int64),
            values=np.empty(FIRST_ROWS, np.float32),
            marks=np.empty((FIRST_ROWS, 2), np.uint16),
            place=np.empty((0, 5), np.int64),
            last=np.empty((0, MANY), np.float32),
            known=np.empty((0, 2, MANY), np.int64),
            cells=np.empty((0, *CELLS), np.float32),
            person=np.empty((0, 2), np.float32),
        )
        self._free: list[int] = []
        self._free_cells: list[int] = []
        self._free_rows: dict[int, list[int]] = {}
        self._end = 0  # of the rows that were ever given away

    def take(self) -> int:
        """Give a slot of which nothing is known."""
        if not self._free:
            before = len(self.store.place)
            self._more("place", "last", "known", "person", least=FIRST_SLOTS)
            self._free = list(range(len(self.store.place) - 1, before - 1, -1))
        slot = self._free.pop()
        self.store.place[slot] = 0, 0, 0, NEVER, NONE
        self.store.person[slot] = np.nan
        self.clear(slot)
        return slot

    def give_back(self, slot: int) -> None:
        """Let another patient have the slot and its rows."""
        self.clear(slot)
        self._let_go(slot)
        self._free.append(slot)

    def clear(self, slot: int) -> None:
        """Forget all that was measured."""
        place = self.store.place[slot]
        if place[HOURLY] != NONE:
            self._free_cells.append(int(place[HOURLY]))
        place[ROWS:] = 0, NEVER, NONE
        self.store.last[slot] = np.nan
        self.store.known[slot] = [[NEVER], [0]]

    def identify(self, slot: int, *, age: float, sex: float) -> None:
        """Set age (years) and sex (0 female, 1 male); NaN is unknown."""
        self.store.person[slot] = age, sex

    def make_room(self, slot: int, more: int) -> None:
        """Let the slot have so many rows more; those it has move."""
        wanted = int(self.store.place[slot, ROWS]) + more
        room = next((room for room in ROOMS if room >= wanted), wanted)
        first = self._rows_for(room)
        place = self.store.place[slot]
        old, many = int(place[FIRST]), int(place[ROWS])
        for column in self.store[:3]:
            column[first : first + many] = column[old : old + many]
        self._let_go(slot)
        place[FIRST], place[ROOM] = first, room

    def make_hours(self, slot: int) -> None:
        """Let the slot's past have hours, all empty."""
        if not self._free_cells:
            before = len(self.store.cells)
            self._more("cells", least=4)
            self._free_cells = list(range(len(self.store.cells) - 1, before - 1, -1))
        place = self._free_cells.pop()
        empty_cells(self.store.cells[place])
        self.store.place[slot, HOURLY] = place

    def _rows_for(self, room: int) -> int:
        free = self._free_rows.get(room)
        if free:
            return free.pop()
        first, self._end = self._end, self._end + room
        while self._end > len(self.store.values):
            self._more("numbers", "values", "marks", least=self._end - len(self.store.values))
        return first

    def _let_go(self, slot: int) -> None:
        place = self.store.place[slot]
        if place[ROOM]:
            self._free_rows.setdefault(int(place[ROOM]), []).append(int(place[FIRST]))
            place[ROOM] = 0

    def _more(self, *names: str, least: int) -> None:
        """Make arrays half as long again, at least."""
        grown = {}
        for name in names:
            old = getattr(self.store, name)
            room = np.empty((max(least, len(old) // 2), *old.shape[1:]), old.dtype)
            grown[name] = np.concatenate([old, room])
        self.store = self.store._replace(**grown)
