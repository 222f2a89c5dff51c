"""What features are made of: per variable the last value and a count, per hour the extremes.

Times are µs since the epoch; V variables.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.core.compiled import compiled
from services.core.events import MICROSECONDS_PER_HOUR
from services.core.features import CELLS, HISTORY_HOURS
from services.core.features.rows import COUNT, HIGHEST, LAST, LOWEST, TOTAL
from services.core.vitals import VARIABLES

NEVER: Final = -(1 << 62)
"""A time before all others."""
MANY: Final = len(VARIABLES)
LAST_AT, HOURS, RUN = range(3)
"""The columns of whole numbers: when the last value was measured, hours with a value, and of a
vital sign how many values in a row were equal to the last one, at most LONGEST_RUN."""
LONGEST_RUN: Final = (1 << 16) - 1
_TRENDS: Final = CELLS[2]
_NAN: Final = np.float32(np.nan)

Array = npt.NDArray[Any]


def hour_of(at: int) -> int:
    """Give the UTC hour, counted from the epoch, of a time in µs."""
    return at // MICROSECONDS_PER_HOUR


@compiled
def empty_cells(cells: Array) -> None:
    """Say of (hours, 5, trend variables) cells that nothing was measured."""
    cells[:, : TOTAL + 1] = 0
    cells[:, LOWEST:] = _NAN


@compiled
def absorb(
    last: Array, known: Array, cells: Array, variable: int, at: int, value: np.float32
) -> None:
    """Take in a usable reading, newer than all of its variable.

    Additions happen one by one in the order of (measured_at, id), so whether readings come from
    the past or from the history, the sums have the same bits.

    Args:
        last: (V,) last values.
        known: (3, V) LAST_AT, HOURS and RUN.
        cells: (1, *CELLS), the place of an hour is the hour modulo 24; or (0, *CELLS) for none.
        variable: below V.
        at: when it was measured.
        value: finite.
    """
    hour = at // MICROSECONDS_PER_HOUR
    if known[LAST_AT, variable] // MICROSECONDS_PER_HOUR != hour:
        known[HOURS, variable] += 1
    if variable < _TRENDS:
        run = known[RUN, variable] if last[variable] == value else 0
        known[RUN, variable] = min(run + 1, LONGEST_RUN)
    last[variable] = value
    known[LAST_AT, variable] = at
    if variable < _TRENDS and len(cells):
        cell = cells[0, hour % HISTORY_HOURS, :, variable]
        cell[COUNT] += np.float32(1)
        cell[TOTAL] += value
        cell[LOWEST] = np.fmin(cell[LOWEST], value)
        cell[HIGHEST] = np.fmax(cell[HIGHEST], value)
        cell[LAST] = value
