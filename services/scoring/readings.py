"""What an event's readings do to the history of its patient; columns as they are on the wire.

Loops over the rows of one patient, compiled.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.core.compiled import compiled
from services.core.events import MICROSECONDS_PER_HOUR, Flag
from services.scoring.folding import (
    ANY_VARIABLE,
    KEPT_OUT,
    RETRACTED,
    is_crowded,
    move_to,
    oldest_hour,
    settle,
)
from services.scoring.slots import (
    AT,
    FIRST,
    FLAGS,
    ID,
    NONE,
    ROOM,
    ROWS,
    VARIABLE,
    VERSION,
    Store,
)
from services.scoring.summary import LAST_AT, MANY

NEW, UNUSABLE, REVISED, DUPLICATE, CONFLICT, STALE, TOO_LATE, CROWDED = (
    1 << bit for bit in range(8)
)
"""What readings did to the history: NEW; UNUSABLE, new and nothing that the model may see;
REVISED, what was there changed or was taken back; DUPLICATE; CONFLICT, the same version with
another value; STALE, an older version, or a retraction stands in its way; TOO_LATE. CROWDED asks
for `fold_crowded`."""
FULL: Final = -1
"""Instead of what they did: there is no room, nothing was done."""
UNREVISED: Final = 1 << 62
"""A time after all others: nothing was revised."""
_ABSENT: Final = int(Flag.ABSENT)

Array = npt.NDArray[Any]


class Columns(NamedTuple):
    """The columns of one event.

    Attributes:
        variables: u1 per reading.
        values: <f8.
        flags: <u2.
        ids: <u8.
        versions: <i8.
    """

    variables: bytes
    values: bytes
    flags: bytes
    ids: bytes
    versions: bytes


class Reading(NamedTuple):
    """One of them."""

    at: int
    id: int
    version: int
    value: np.float32
    flag: int
    variable: int


@compiled
def put(store: Store, slot: int, at: int, columns: Columns) -> tuple[int, int]:
    """Take the readings of an observation, and say what they did.

    Returns:
        bits, and when the oldest value that was revised had been measured.
    """
    place, variables = store.place[slot], columns.variables
    if place[ROWS] + len(variables) > place[ROOM]:
        return FULL, UNREVISED
    known = 0
    for variable in variables:
        known += variable < MANY
    if not known:
        return 0, UNREVISED
    if at // MICROSECONDS_PER_HOUR < oldest_hour(place):
        return TOO_LATE, UNREVISED
    move_to(store, slot, at)
    done, revised_at = 0, UNREVISED
    bits = np.empty(1, np.int64)
    for i in range(len(variables)):
        if variables[i] < MANY:
            bits[0] = _int64(columns.values, i)
            value = np.float32(bits.view(np.float64)[0])
            reading = _reading(columns, i, at, value)
            effect, was_at = _put(store, slot, reading)
            done |= effect
            revised_at = min(revised_at, was_at)
    return (done | CROWDED if is_crowded(store, slot) else done), revised_at


@compiled
def retract(store: Store, slot: int, at: int, columns: Columns) -> tuple[int, int]:
    """Take back a resource's value of each variable, or of all where nobody knows the variable.

    A resource is found by its id, whenever it was measured. What never came leaves a tombstone,
    which stops the value when it comes. Returns as `put` does.
    """
    place = store.place[slot]
    if place[ROWS] + len(columns.variables) > place[ROOM]:
        return FULL, UNREVISED
    done, revised_at = 0, UNREVISED
    for i in range(len(columns.variables)):
        effect, was_at = _retract(store, slot, _reading(columns, i, at, np.float32(np.nan)))
        done |= effect
        revised_at = min(revised_at, was_at)
    return done, revised_at


@compiled
def _reading(columns: Columns, i: int, at: int, value: np.float32) -> Reading:
    flag = np.int64(columns.flags[2 * i]) + (np.int64(columns.flags[2 * i + 1]) << 8)
    if not np.isfinite(value):
        # Nothing in its column says so, and still: what is absent or beyond float32 is no value.
        flag |= _ABSENT
    variable = np.int64(columns.variables[i])
    if variable >= MANY:
        variable = np.int64(ANY_VARIABLE)
    return Reading(at, _int64(columns.ids, i), _int64(columns.versions, i), value, flag, variable)  # type: ignore[arg-type]  # the compiler knows but one integer


@compiled
def _int64(column: bytes, place: int) -> int:
    """Read a little-endian number of eight bytes."""
    number = np.int64(0)
    for byte in range(7, -1, -1):
        number = number << 8 | np.int64(column[8 * place + byte])
    return number  # type: ignore[return-value]  # as above


@compiled
def _put(store: Store, slot: int, new: Reading) -> tuple[int, int]:
    if store.known[slot, LAST_AT, new.variable] >= new.at:
        return TOO_LATE, UNREVISED
    numbers, marks = store.numbers, store.marks
    first, own = store.place[slot, FIRST], NONE
    for row in range(first, first + store.place[slot, ROWS]):
        if numbers[row, ID] == new.id:
            of = marks[row, VARIABLE]
            if of == ANY_VARIABLE and numbers[row, VERSION] >= new.version:
                return STALE, UNREVISED
            if of == new.variable:
                own = row
    if own != NONE:
        return _revise(store, slot, own, new)
    _append(store, slot, new, new.flag)
    return (UNUSABLE if new.flag & KEPT_OUT else NEW), UNREVISED


@compiled
def _revise(store: Store, slot: int, row: int, new: Reading) -> tuple[int, int]:
    old, was_at = store.values[row], store.numbers[row, AT]
    if new.version < store.numbers[row, VERSION]:
        return STALE, UNREVISED
    if new.version == store.numbers[row, VERSION]:
        if store.marks[row, FLAGS] & RETRACTED:
            return STALE, UNREVISED
        same = old == new.value or (np.isnan(old) and np.isnan(new.value))
        return (DUPLICATE if same and was_at == new.at else CONFLICT), UNREVISED
    _write(store, row, new, new.flag)
    settle(store, slot, row)
    return REVISED, was_at


@compiled
def _retract(store: Store, slot: int, gone: Reading) -> tuple[int, int]:
    numbers, marks = store.numbers, store.marks
    first = store.place[slot, FIRST]
    done, revised_at, covered = 0, UNREVISED, False
    for row in range(first, first + store.place[slot, ROWS]):
        if numbers[row, ID] == gone.id:
            of = np.int64(marks[row, VARIABLE])
            if gone.variable in (of, ANY_VARIABLE):
                effect, was_at = _take_back(store, row, gone.version)
                done |= effect
                revised_at = min(revised_at, was_at)
            if of in (gone.variable, ANY_VARIABLE):
                covered |= numbers[row, VERSION] >= gone.version
    if not covered and _is_past(store, slot, gone):
        return done or TOO_LATE, revised_at
    if not covered:
        _append(store, slot, gone, gone.flag & ~_ABSENT | RETRACTED)
    return done or STALE, revised_at


@compiled
def _is_past(store: Store, slot: int, gone: Reading) -> bool:
    """Tell whether a value of that time would be folded already."""
    if gone.at // MICROSECONDS_PER_HOUR < oldest_hour(store.place[slot]):
        return True
    return gone.variable != ANY_VARIABLE and store.known[slot, LAST_AT, gone.variable] >= gone.at


@compiled
def _take_back(store: Store, row: int, version: int) -> tuple[int, int]:
    if version < store.numbers[row, VERSION]:
        return STALE, UNREVISED
    before = store.marks[row, FLAGS] & RETRACTED
    same = version == store.numbers[row, VERSION]
    store.numbers[row, VERSION] = version
    store.marks[row, FLAGS] |= RETRACTED
    if before:
        return (DUPLICATE if same else STALE), UNREVISED
    return REVISED, store.numbers[row, AT]


@compiled
def _append(store: Store, slot: int, new: Reading, flag: int) -> None:
    row = store.place[slot, FIRST] + store.place[slot, ROWS]
    _write(store, row, new, flag)
    store.place[slot, ROWS] += 1
    settle(store, slot, row)


@compiled
def _write(store: Store, row: int, new: Reading, flag: int) -> None:
    numbers, marks = store.numbers, store.marks
    numbers[row, AT], numbers[row, ID], numbers[row, VERSION] = new.at, new.id, new.version
    store.values[row] = new.value
    marks[row, FLAGS], marks[row, VARIABLE] = flag, new.variable
