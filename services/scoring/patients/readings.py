"""What a measurement's readings do to the sheet of its patient; columns as they are on the wire.

Loops over the rows of one patient, compiled.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.core.compiled import compiled
from services.core.events import MICROSECONDS_PER_HOUR, Flag
from services.scoring.patients.folding import (
    ANY_VARIABLE,
    KEPT_OUT,
    RETRACTED,
    fold_crowded,
    move_to,
    oldest_hour,
    settle,
)
from services.scoring.patients.message import (
    IDS,
    MARKS,
    MEASURED,
    READINGS,
    VALUES,
    VARIABLES,
    VERSIONS,
)
from services.scoring.patients.sheet import (
    AT,
    FLAGS,
    ID,
    NONE,
    ROWS,
    VARIABLE,
    VERSION,
    Sheet,
)
from services.scoring.patients.summary import LAST_AT, MANY

NEW, UNUSABLE, REVISED, DUPLICATE, CONFLICT, STALE, TOO_LATE, UNHEARD_OF, BEHIND = (
    1 << bit for bit in range(9)
)
"""What readings did to the history: NEW; UNUSABLE, new and nothing that the model may see;
REVISED, what was there changed or was taken back; DUPLICATE; CONFLICT, the same version with
another value; STALE, an older version, or a retraction stands in its way; TOO_LATE; UNHEARD_OF,
nobody knows the variable of any. BEHIND is added where something newer was measured before."""
EVERYTHING: Final = 1 << 9
"""More than all of them together."""
UNREVISED: Final = 1 << 62
"""A time after all others: nothing was revised."""
_ABSENT: Final = int(Flag.ABSENT)

Array = npt.NDArray[Any]


class Reading(NamedTuple):
    """One of them."""

    at: int
    id: int
    version: int
    value: np.float32
    flag: int
    variable: int


@compiled
def put(sheet: Sheet, told: Array, fields: Array) -> tuple[int, int]:
    """Take the readings of an observation, and say what they did; the sheet has room for them.

    Args:
        sheet: of the patient.
        told: Array that tell the observation.
        fields: (FIELDS,) places in them.

    Returns:
        bits, and when the oldest value that was revised had been measured.
    """
    at, first = fields[MEASURED], fields[VARIABLES]
    known = 0
    for i in range(fields[READINGS]):
        known += told[first + i] < MANY
    if not known:
        return UNHEARD_OF if fields[READINGS] else 0, UNREVISED
    if at // MICROSECONDS_PER_HOUR < oldest_hour(sheet):
        return TOO_LATE, UNREVISED
    move_to(sheet, at)
    done, revised_at = 0, UNREVISED
    bits = np.empty(1, np.int64)
    for i in range(fields[READINGS]):
        if told[first + i] < MANY:
            bits[0] = _int64(told, fields[VALUES] + 8 * i)
            value = np.float32(bits.view(np.float64)[0])
            effect, was_at = _put(sheet, _reading(told, fields, i, value))
            done |= effect
            revised_at = min(revised_at, was_at)
    fold_crowded(sheet)
    return done, revised_at


@compiled
def retract(sheet: Sheet, told: Array, fields: Array) -> tuple[int, int]:
    """Take back a resource's value of each variable, or of all where nobody knows the variable.

    A resource is found by its id, whenever it was measured. What never came leaves a tombstone,
    which stops the value when it comes. Takes and returns what `put` does.
    """
    done, revised_at = 0, UNREVISED
    for i in range(fields[READINGS]):
        effect, was_at = _retract(sheet, _reading(told, fields, i, np.float32(np.nan)))
        done |= effect
        revised_at = min(revised_at, was_at)
    return done, revised_at


@compiled
def _reading(told: Array, fields: Array, i: int, value: np.float32) -> Reading:
    mark = fields[MARKS] + 2 * i
    flag = np.int64(told[mark]) + (np.int64(told[mark + 1]) << 8)
    if not np.isfinite(value):
        # Nothing in its column says so, and still: what is absent or beyond float32 is no value.
        flag |= _ABSENT
    variable = np.int64(told[fields[VARIABLES] + i])
    if variable >= MANY:
        variable = np.int64(ANY_VARIABLE)
    identity, version = _int64(told, fields[IDS] + 8 * i), _int64(told, fields[VERSIONS] + 8 * i)
    return Reading(fields[MEASURED], identity, version, value, flag, variable)  # type: ignore[arg-type]  # the compiler knows but one integer


@compiled
def _int64(told: Array, place: int) -> int:
    """Read a little-endian number of eight bytes."""
    number = np.int64(0)
    for byte in range(7, -1, -1):
        number = number << 8 | np.int64(told[place + byte])
    return number  # type: ignore[return-value]  # as above


@compiled
def _put(sheet: Sheet, new: Reading) -> tuple[int, int]:
    if sheet.known[LAST_AT, new.variable] >= new.at:
        return TOO_LATE, UNREVISED
    numbers, marks = sheet.numbers, sheet.marks
    own = NONE
    for row in range(sheet.state[ROWS]):
        if numbers[ID, row] == new.id:
            of = marks[row, VARIABLE]
            if of == ANY_VARIABLE and numbers[VERSION, row] >= new.version:
                return STALE, UNREVISED
            if of == new.variable:
                own = row
    if own != NONE:
        return _revise(sheet, own, new)
    _append(sheet, new, new.flag)
    return (UNUSABLE if new.flag & KEPT_OUT else NEW), UNREVISED


@compiled
def _revise(sheet: Sheet, row: int, new: Reading) -> tuple[int, int]:
    old, was_at = sheet.values[row], sheet.numbers[AT, row]
    if new.version < sheet.numbers[VERSION, row]:
        return STALE, UNREVISED
    if new.version == sheet.numbers[VERSION, row]:
        if sheet.marks[row, FLAGS] & RETRACTED:
            return STALE, UNREVISED
        same = old == new.value or (np.isnan(old) and np.isnan(new.value))
        return (DUPLICATE if same and was_at == new.at else CONFLICT), UNREVISED
    _write(sheet, row, new, new.flag)
    settle(sheet, row)
    return REVISED, was_at


@compiled
def _retract(sheet: Sheet, gone: Reading) -> tuple[int, int]:
    numbers, marks = sheet.numbers, sheet.marks
    done, revised_at, covered = 0, UNREVISED, False
    for row in range(sheet.state[ROWS]):
        if numbers[ID, row] == gone.id:
            of = np.int64(marks[row, VARIABLE])
            if gone.variable in (of, ANY_VARIABLE):
                effect, was_at = _take_back(sheet, row, gone.version)
                done |= effect
                revised_at = min(revised_at, was_at)
            if of in (gone.variable, ANY_VARIABLE):
                covered |= numbers[VERSION, row] >= gone.version
    if not covered and _is_past(sheet, gone):
        return done or TOO_LATE, revised_at
    if not covered:
        _append(sheet, gone, gone.flag & ~_ABSENT | RETRACTED)
    return done or STALE, revised_at


@compiled
def _is_past(sheet: Sheet, gone: Reading) -> bool:
    """Tell whether a value of that time would be folded already."""
    if gone.at // MICROSECONDS_PER_HOUR < oldest_hour(sheet):
        return True
    return gone.variable != ANY_VARIABLE and sheet.known[LAST_AT, gone.variable] >= gone.at


@compiled
def _take_back(sheet: Sheet, row: int, version: int) -> tuple[int, int]:
    if version < sheet.numbers[VERSION, row]:
        return STALE, UNREVISED
    before = sheet.marks[row, FLAGS] & RETRACTED
    same = version == sheet.numbers[VERSION, row]
    sheet.numbers[VERSION, row] = version
    sheet.marks[row, FLAGS] |= RETRACTED
    if before:
        return (DUPLICATE if same else STALE), UNREVISED
    return REVISED, sheet.numbers[AT, row]


@compiled
def _append(sheet: Sheet, new: Reading, flag: int) -> None:
    row = sheet.state[ROWS]
    _write(sheet, row, new, flag)
    sheet.state[ROWS] += 1
    settle(sheet, row)


@compiled
def _write(sheet: Sheet, row: int, new: Reading, flag: int) -> None:
    numbers, marks = sheet.numbers, sheet.marks
    numbers[AT, row], numbers[ID, row], numbers[VERSION, row] = new.at, new.id, new.version
    sheet.values[row] = new.value
    marks[row, FLAGS], marks[row, VARIABLE] = flag, new.variable
