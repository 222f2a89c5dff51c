"""Readings of the patient on the sheet: put in their place, moved, and folded into the past.

These are loops, compiled; they bind the arrays they walk to names of their own, as that is twice
as fast.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.core.compiled import compiled
from services.core.events import MICROSECONDS_PER_HOUR, Flag
from services.core.features import HISTORY_HOURS
from services.scoring.patients.sheet import (
    AT,
    FLAGS,
    HEAD,
    HOURLY,
    ID,
    ROWS,
    VARIABLE,
    VERSION,
    Sheet,
)
from services.scoring.patients.summary import absorb, empty_cells

RETRACTED: Final = 1 << 15
"""Flag of a reading that was entered in error; a tombstone when no value came before it."""
ANY_VARIABLE: Final = 255
KEPT_OUT: Final = int(Flag.UNUSABLE) | RETRACTED
MOST_RAW: Final = 64
"""More readings of one variable are folded, down to FEWEST_RAW."""
FEWEST_RAW: Final = 32

Array = npt.NDArray[Any]


@compiled
def oldest_hour(sheet: Sheet) -> int:
    """Give the first hour that is still kept."""
    return int(sheet.state[HEAD] // MICROSECONDS_PER_HOUR - HISTORY_HOURS + 1)


@compiled
def settle(sheet: Sheet, row: int) -> None:
    """Move a row to where its time and id belong."""
    numbers, marks = sheet.numbers, sheet.marks
    last = sheet.state[ROWS] - 1
    while row > 0 and _is_before(numbers, marks, row, row - 1):
        _swap(sheet, row, row - 1)
        row -= 1
    while row < last and _is_before(numbers, marks, row + 1, row):
        _swap(sheet, row, row + 1)
        row += 1


@compiled
def move_to(sheet: Sheet, at: int) -> None:
    """Let the newest hour move on: fold what is too old now, empty the hours that come new."""
    state = sheet.state
    before = state[HEAD] // MICROSECONDS_PER_HOUR
    state[HEAD] = max(state[HEAD], at)
    after = state[HEAD] // MICROSECONDS_PER_HOUR
    if after <= before:
        return
    _fold_all(sheet, oldest_hour(sheet) * MICROSECONDS_PER_HOUR - 1)
    if state[HOURLY]:
        for hour in range(max(before + 1, after - HISTORY_HOURS + 1), after + 1):
            ring = hour % HISTORY_HOURS
            empty_cells(sheet.cells[0, ring : ring + 1])


@compiled
def fold_crowded(sheet: Sheet) -> None:
    """Fold the older readings of variables that have more than MOST_RAW; the past gets hours."""
    if sheet.state[ROWS] <= MOST_RAW:
        return
    many = _counts(sheet)
    for variable in range(len(many)):
        if many[variable] <= MOST_RAW:
            continue
        if not sheet.state[HOURLY]:
            empty_cells(sheet.cells[0])
            sheet.state[HOURLY] = 1
        seen, until = 0, 0
        for row in range(sheet.state[ROWS]):
            if sheet.marks[row, VARIABLE] == variable:
                seen += 1
                if seen == many[variable] - FEWEST_RAW:
                    until = sheet.numbers[AT, row]
        _fold(sheet, variable, until)


@compiled
def _counts(sheet: Sheet) -> Array:
    """Say how many readings of each variable there are."""
    many, marks = np.zeros(ANY_VARIABLE + 1, np.int64), sheet.marks
    for row in range(sheet.state[ROWS]):
        many[marks[row, VARIABLE]] += 1
    return many


@compiled
def _fold_all(sheet: Sheet, until: int) -> None:
    """Move readings up to a time into the past; what is not usable is forgotten."""
    marks, numbers, values = sheet.marks, sheet.numbers, sheet.values
    last, known, cells = sheet.last, sheet.known, sheet.cells[: sheet.state[HOURLY]]
    many, gone = sheet.state[ROWS], 0
    while gone < many and numbers[AT, gone] <= until:
        if marks[gone, FLAGS] & KEPT_OUT == 0:
            absorb(last, known, cells, marks[gone, VARIABLE], numbers[AT, gone], values[gone])
        gone += 1
    if gone == 0:
        return
    sheet.state[ROWS] = many - gone
    for column in range(VERSION + 1):
        for row in range(many - gone):
            numbers[column, row] = numbers[column, row + gone]
    for row in range(many - gone):
        values[row] = values[row + gone]
        marks[row, FLAGS], marks[row, VARIABLE] = (
            marks[row + gone, FLAGS],
            marks[row + gone, VARIABLE],
        )


@compiled
def _fold(sheet: Sheet, variable: int, until: int) -> None:
    """Move readings of a variable up to a time into the past; forget what is not usable."""
    marks, numbers = sheet.marks, sheet.numbers
    last, known, cells = sheet.last, sheet.known, sheet.cells[: sheet.state[HOURLY]]
    end = 0
    for row in range(sheet.state[ROWS]):
        of = marks[row, VARIABLE]
        if of != variable or numbers[AT, row] > until:
            if row != end:
                _swap(sheet, row, end)
            end += 1
        elif marks[row, FLAGS] & KEPT_OUT == 0:
            absorb(last, known, cells, of, numbers[AT, row], sheet.values[row])
    sheet.state[ROWS] = end


@compiled
def _is_before(numbers: Array, marks: Array, row: int, other: int) -> bool:
    if numbers[AT, row] != numbers[AT, other]:
        return bool(numbers[AT, row] < numbers[AT, other])
    if numbers[ID, row] != numbers[ID, other]:
        return bool(np.uint64(numbers[ID, row]) < np.uint64(numbers[ID, other]))
    return bool(marks[row, VARIABLE] < marks[other, VARIABLE])


@compiled
def _swap(sheet: Sheet, row: int, other: int) -> None:
    numbers, values, marks = sheet.numbers, sheet.values, sheet.marks
    for column in range(VERSION + 1):
        number = numbers[column, row]
        numbers[column, row] = numbers[column, other]
        numbers[column, other] = number
    value = values[row]
    values[row] = values[other]
    values[other] = value
    for column in range(VARIABLE + 1):
        mark = marks[row, column]
        marks[row, column] = marks[other, column]
        marks[other, column] = mark
