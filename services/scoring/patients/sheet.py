"""One patient's readings laid open, in arrays that loops can walk; a partition has one sheet."""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.core.compiled import compiled
from services.core.features import CELLS
from services.scoring.patients.summary import MANY, NEVER

AT, ID, VERSION = range(3)
"""Rows of the readings' numbers; the id is read as a signed number."""
FLAGS, VARIABLE = range(2)
"""Columns of a reading's marks."""
ROWS, HEAD, HOURLY = range(3)
"""Of the state: how many readings there are, the newest measured_at, whether the past has
hours."""
NONE: Final = -1

Array = npt.NDArray[Any]


class Sheet(NamedTuple):
    """Room for N readings, and the past; V variables.

    Readings stand in the order of (measured_at, id, variable), unusable and retracted ones too.

    Attributes:
        numbers: (3, N) int64: AT, ID, VERSION.
        values: (N,) float32.
        marks: (N, 2) uint16: FLAGS, VARIABLE.
        state: (3,) int64: ROWS, HEAD, HOURLY.
        last: (V,) float32: last values of the past.
        known: (3, V) int64: what else the past knows of a variable.
        cells: (1, *CELLS) float32: the past by hours, where it has any.
        bits: (N,) uint8: how the patient's row has each reading (see `packing`).
        short: (N,) int16: of values that it has in short.
        packed: (P,) uint8: the row.
    """

    numbers: Array
    values: Array
    marks: Array
    state: Array
    last: Array
    known: Array
    cells: Array
    bits: Array
    short: Array
    packed: Array


def sheet_for(rows: int, size: int) -> Sheet:
    """Make a sheet with room for so many readings and so many bytes."""
    return Sheet(
        numbers=np.empty((3, rows), np.int64),
        values=np.empty(rows, np.float32),
        marks=np.empty((rows, 2), np.uint16),
        state=np.zeros(3, np.int64),
        last=np.empty(MANY, np.float32),
        known=np.empty((3, MANY), np.int64),
        cells=np.empty((1, *CELLS), np.float32),
        bits=np.empty(rows, np.uint8),
        short=np.empty(rows, np.int16),
        packed=np.empty(size // 8, np.int64).view(np.uint8),
    )


@compiled
def wipe(sheet: Sheet) -> None:
    """Say that nothing was measured."""
    sheet.state[ROWS], sheet.state[HOURLY] = 0, 0
    sheet.last[:] = np.nan
    sheet.known[0] = NEVER
    sheet.known[1:] = 0
