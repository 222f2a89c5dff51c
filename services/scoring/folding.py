"""Rows of readings, patient by patient: put in their place, moved, and folded into the past.

Rows stand in the order of (measured_at, id, variable), unusable and retracted ones too. These are
loops, compiled; they bind the arrays they walk to names of their own, as that is twice as fast.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.core.compiled import compiled
from services.core.events import MICROSECONDS_PER_HOUR, Flag
from services.core.features import HISTORY_HOURS
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
    Store,
)
from services.scoring.summary import absorb, empty_cells

RETRACTED: Final = 1 << 15
"""Flag of a reading that was entered in error; a tombstone when no value came before it."""
ANY_VARIABLE: Final = 255
KEPT_OUT: Final = int(Flag.UNUSABLE) | RETRACTED
MOST_RAW: Final = 64
"""More readings of one variable are folded, down to FEWEST_RAW."""
FEWEST_RAW: Final = 32

Array = npt.NDArray[Any]


@compiled
def oldest_hour(place: Array) -> int:
    """Give the first hour that is still kept."""
    return int(place[HEAD] // MICROSECONDS_PER_HOUR - HISTORY_HOURS + 1)


@compiled
def settle(store: Store, slot: int, row: int) -> None:
    """Move a row to where its time and id belong."""
    numbers, marks = store.numbers, store.marks
    first = store.place[slot, FIRST]
    last = first + store.place[slot, ROWS] - 1
    while row > first and _is_before(numbers, marks, row, row - 1):
        _swap(store, row, row - 1)
        row -= 1
    while row < last and _is_before(numbers, marks, row + 1, row):
        _swap(store, row, row + 1)
        row += 1


@compiled
def move_to(store: Store, slot: int, at: int) -> None:
    """Let the newest hour move on: fold what is too old now, empty the hours that come new."""
    place = store.place[slot]
    before = place[HEAD] // MICROSECONDS_PER_HOUR
    place[HEAD] = max(place[HEAD], at)
    after = place[HEAD] // MICROSECONDS_PER_HOUR
    if after <= before:
        return
    _fold(store, slot, NONE, oldest_hour(place) * MICROSECONDS_PER_HOUR - 1)
    if place[HOURLY] != NONE:
        for hour in range(max(before + 1, after - HISTORY_HOURS + 1), after + 1):
            ring = hour % HISTORY_HOURS
            empty_cells(store.cells[place[HOURLY], ring : ring + 1])


@compiled
def is_crowded(store: Store, slot: int) -> bool:
    """Tell whether a variable has more than MOST_RAW readings."""
    return bool(store.place[slot, ROWS] > MOST_RAW and _counts(store, slot).max() > MOST_RAW)


@compiled
def fold_crowded(store: Store, slot: int) -> None:
    """Fold the older readings of variables that have more than MOST_RAW; the past has hours."""
    place = store.place[slot]
    many = _counts(store, slot)
    for variable in range(len(many)):
        if many[variable] <= MOST_RAW:
            continue
        seen, until = 0, 0
        for row in range(place[FIRST], place[FIRST] + place[ROWS]):
            if store.marks[row, VARIABLE] == variable:
                seen += 1
                if seen == many[variable] - FEWEST_RAW:
                    until = store.numbers[row, AT]
        _fold(store, slot, variable, until)


@compiled
def _counts(store: Store, slot: int) -> Array:
    """Say how many readings of each variable there are."""
    many, marks = np.zeros(ANY_VARIABLE + 1, np.int64), store.marks
    first = store.place[slot, FIRST]
    for row in range(first, first + store.place[slot, ROWS]):
        many[marks[row, VARIABLE]] += 1
    return many


@compiled
def _fold(store: Store, slot: int, variable: int, until: int) -> None:
    """Move readings of a variable, or of all (NONE), up to a time into the past.

    What is neither usable nor known to it is forgotten.
    """
    place, marks, numbers = store.place[slot], store.marks, store.numbers
    last, known, cells = store.last[slot], store.known[slot], store.cells[0:0]
    if place[HOURLY] != NONE:
        cells = store.cells[place[HOURLY] : place[HOURLY] + 1]
    end = place[FIRST]
    for row in range(place[FIRST], place[FIRST] + place[ROWS]):
        of = marks[row, VARIABLE]
        of_it = variable == NONE or variable == of  # noqa: PLR1714 - their types differ
        if not of_it or numbers[row, AT] > until:
            if row != end:
                _swap(store, row, end)
            end += 1
        elif marks[row, FLAGS] & KEPT_OUT == 0:
            absorb(last, known, cells, of, numbers[row, AT], store.values[row])
    place[ROWS] = end - place[FIRST]


@compiled
def _is_before(numbers: Array, marks: Array, row: int, other: int) -> bool:
    if numbers[row, AT] != numbers[other, AT]:
        return bool(numbers[row, AT] < numbers[other, AT])
    if numbers[row, ID] != numbers[other, ID]:
        return bool(np.uint64(numbers[row, ID]) < np.uint64(numbers[other, ID]))
    return bool(marks[row, VARIABLE] < marks[other, VARIABLE])


@compiled
def _swap(store: Store, row: int, other: int) -> None:
    numbers, values, marks = store.numbers, store.values, store.marks
    for column in range(VERSION + 1):
        number = numbers[row, column]
        numbers[row, column] = numbers[other, column]
        numbers[other, column] = number
    value = values[row]
    values[row] = values[other]
    values[other] = value
    for column in range(VARIABLE + 1):
        mark = marks[row, column]
        marks[row, column] = marks[other, column]
        marks[other, column] = mark
