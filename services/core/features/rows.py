"""One patient's features, as loops over the hours: trends, shifts and what is derived of them."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.compiled import compiled
from services.core.features.grid import CHANGES_H, HISTORY_HOURS, TREND_VARIABLES, WINDOWS_H
from services.core.features.scores import DERIVED, derive
from services.core.vitals import VARIABLE_INDEX, VARIABLES

Floats = NDArray[np.float32]

COUNT, TOTAL, LOWEST, HIGHEST, LAST = range(5)
"""The parts of a cell: an hour of a variable."""
CELLS: Final = (HISTORY_HOURS, 5, len(TREND_VARIABLES))

_MANY: Final = len(VARIABLES)
_TRENDS: Final = len(TREND_VARIABLES)
_HOURS: Final = HISTORY_HOURS
_WINDOWS: Final = np.array(WINDOWS_H)
_CHANGES: Final = np.array(CHANGES_H)
_PLACES: Final = np.array([VARIABLE_INDEX[name] for name in TREND_VARIABLES])
_MAP: Final = TREND_VARIABLES.index("MAP")
_TREND: Final = 3 * _MANY
_DEVIATION: Final = _TREND + len(WINDOWS_H) * 5 * _TRENDS
_CHANGE: Final = _DEVIATION + _TRENDS
_SCORES: Final = _CHANGE + len(CHANGES_H) * _TRENDS
_PERSON: Final = _SCORES + DERIVED
_NAN: Final = np.float32(np.nan)


@compiled
def write_row(cells: Floats, person: Floats, row: Floats) -> None:
    """Complete a row of features whose standing columns are filled in.

    Args:
        cells: CELLS, hours from oldest to newest.
        person: age and sex.
        row: (len(FEATURES),) with last values, ages and counts in its first columns.
    """
    for place in range(_TRENDS):
        last = row[_PLACES[place]]
        _trends(cells, place, last, row)
        for number in range(len(_CHANGES)):
            stood = _stood(cells, place, _CHANGES[number])
            row[_CHANGE + number * _TRENDS + place] = last - stood
    lowest = row[_TREND + (len(_WINDOWS) - 1) * 5 * _TRENDS + _MAP]
    derive(row[:_MANY], row[_MANY : 2 * _MANY], lowest, row[_SCORES:_PERSON])
    row[_PERSON] = person[0]
    row[_PERSON + 1] = person[1]


@compiled
def write_rows(cells: Floats, person: Floats, rows: Floats) -> None:
    """Complete N rows; cells (N, *CELLS) and person (N, 2)."""
    for row in range(len(rows)):
        write_row(cells[row], person[row], rows[row])


@compiled
def _trends(cells: Floats, place: int, last: np.float32, row: Floats) -> None:
    """Lowest, highest, mean, slope and hours of every window, and the deviation of the longest.

    y is the distance of the hour's mean, rounded to float32, from the last value. As differences
    of float32 numbers of a vital sign's size, y and its sums are exact in float64: no order of
    adding changes them, and a flat course has slope 0.
    """
    base = 0.0 if np.isnan(last) else np.float64(last)
    hours = sum_t = sum_tt = sum_y = sum_ty = 0.0
    lowest = highest = _NAN
    hour = _HOURS
    for window in range(len(_WINDOWS)):
        while hour > _HOURS - _WINDOWS[window]:
            hour -= 1
            many = cells[hour, COUNT, place]
            if many > 0:
                t = hour - (_HOURS - 1.0)
                y = np.float64(np.float32(cells[hour, TOTAL, place] / many)) - base
                hours += 1.0
                sum_t += t
                sum_tt += t * t
                sum_y += y
                sum_ty += t * y
            lowest = np.fmin(lowest, cells[hour, LOWEST, place])
            highest = np.fmax(highest, cells[hour, HIGHEST, place])
        at = _TREND + window * 5 * _TRENDS + place
        row[at] = lowest
        row[at + _TRENDS] = highest
        distance = sum_y / hours if hours > 0 else np.nan
        row[at + 2 * _TRENDS] = base + distance
        lean = hours * sum_ty - sum_t * sum_y
        spread = hours * sum_tt - sum_t * sum_t
        # + 0.0: no negative zero
        row[at + 3 * _TRENDS] = lean / spread + 0.0 if hours > 1 else np.nan
        row[at + 4 * _TRENDS] = hours
        row[_DEVIATION + place] = 0.0 - distance


@compiled
def _stood(cells: Floats, place: int, back: int) -> np.float32:
    """The last value as it stood some hours earlier, NaN if the grid has none."""
    for hour in range(_HOURS - 1 - back, -1, -1):
        if cells[hour, COUNT, place] > 0:
            return np.float32(cells[hour, LAST, place])
    return _NAN
