"""A patient's readings and past as a row of bytes: in memory, and in the changelog.

What readings that follow each other share stands there once, and a value with one or two decimals
is a whole number of tenths or hundredths, where that gives its every bit. The bytes are a function
of what is known and of nothing else. A header of COUNTS numbers, then columns, those of longer
numbers first, so that each stands where its numbers may.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.core.compiled import compiled
from services.core.features import CELLS
from services.core.vitals import VITALS
from services.scoring.patients.sheet import (
    AT,
    FLAGS,
    HOURLY,
    ID,
    ROWS,
    VARIABLE,
    VERSION,
    Sheet,
    wipe,
)
from services.scoring.patients.summary import HOURS, LAST_AT, MANY, RUN

READINGS, IDS, TIMES, VERSIONS, MARKS, SHORT, KNOWN, RINGS, SIZE, RUNS = range(10)
"""The header: how many readings, resources, times, versions, flags, short values, variables of the
past and rings of hours there are, how many bytes, and how many vital signs of the past."""
COUNTS: Final = 10  # an even number: what follows begins at a multiple of eight
HEADER_BYTES: Final = 4 * COUNTS
MOST_BYTES: Final = HEADER_BYTES + 17 * MANY + 2 * len(VITALS) + 4 * int(np.prod(CELLS))
"""Of a row without readings."""
READING_BYTES: Final = 3 * 8 + 4 + 2 + 1 + 1
"""The most that a reading adds."""
_NEW_ID, _NEW_TIME, _NEW_VERSION, _NEW_FLAGS, _TENTHS, _HUNDREDTHS = (1 << bit for bit in range(6))
_LARGEST_SHORT: Final = (1 << 15) - 1
_CELLS: Final = int(np.prod(CELLS))
_VITALS: Final = len(VITALS)

Array = npt.NDArray[Any]


class _Parts(NamedTuple):
    ids: Array
    times: Array
    versions: Array
    last_at: Array
    values: Array
    last: Array
    hours: Array
    cells: Array
    flags: Array
    short: Array  # values
    bits: Array  # what of a reading is not that of the one before, and how its value is told
    variables: Array
    known: Array  # variables of the past
    runs: Array  # of its vital signs, the lower byte of each, then the upper one of each


@compiled
def pack(sheet: Sheet) -> int:
    """Write the row into `sheet.packed`, and give its length."""
    counts = sheet.packed[:HEADER_BYTES].view(np.int32)
    size = _count(sheet, counts)
    parts = _parts(sheet.packed, counts)
    numbers, marks = sheet.numbers, sheet.marks
    identity = time = version = flag = short = long = 0
    for row in range(sheet.state[ROWS]):
        bits = sheet.bits[row]
        if bits & _NEW_ID:
            parts.ids[identity] = numbers[ID, row]
            identity += 1
        if bits & _NEW_TIME:
            parts.times[time] = numbers[AT, row]
            time += 1
        if bits & _NEW_VERSION:
            parts.versions[version] = numbers[VERSION, row]
            version += 1
        if bits & _NEW_FLAGS:
            parts.flags[flag] = marks[row, FLAGS]
            flag += 1
        if bits & (_TENTHS | _HUNDREDTHS):
            parts.short[short] = sheet.short[row]
            short += 1
        else:
            parts.values[long] = sheet.values[row]
            long += 1
        parts.bits[row], parts.variables[row] = bits, marks[row, VARIABLE]
    _pack_past(sheet, parts)
    return size


@compiled
def unpack(sheet: Sheet) -> None:
    """Lay the row in `sheet.packed` open; the time of the newest reading is not in it."""
    counts = sheet.packed[:HEADER_BYTES].view(np.int32)
    parts = _parts(sheet.packed, counts)
    numbers, marks = sheet.numbers, sheet.marks
    identity = time = version = flag = -1
    short = long = 0
    for row in range(counts[READINGS]):
        bits = parts.bits[row]
        identity += (bits & _NEW_ID) > 0
        time += (bits & _NEW_TIME) > 0
        version += (bits & _NEW_VERSION) > 0
        flag += (bits & _NEW_FLAGS) > 0
        numbers[AT, row], numbers[ID, row] = parts.times[time], parts.ids[identity]
        numbers[VERSION, row] = parts.versions[version]
        marks[row, FLAGS], marks[row, VARIABLE] = parts.flags[flag], parts.variables[row]
        if bits & (_TENTHS | _HUNDREDTHS):
            sheet.values[row] = _told(parts.short[short], bits)
            short += 1
        else:
            sheet.values[row] = parts.values[long]
            long += 1
    wipe(sheet)
    sheet.state[ROWS] = counts[READINGS]
    for place in range(counts[KNOWN]):
        variable = parts.known[place]
        sheet.last[variable] = parts.last[place]
        sheet.known[LAST_AT, variable] = parts.last_at[place]
        sheet.known[HOURS, variable] = parts.hours[place]
    for place in range(counts[RUNS]):
        run = np.int64(parts.runs[place]) + (np.int64(parts.runs[counts[RUNS] + place]) << 8)
        sheet.known[RUN, parts.known[place]] = run
    if counts[RINGS]:
        sheet.state[HOURLY] = 1
        sheet.cells.reshape(_CELLS)[:] = parts.cells


@compiled
def _news(sheet: Sheet, row: int) -> int:
    """Say what of a reading is not that of the one before."""
    if row == 0:
        return _NEW_ID | _NEW_TIME | _NEW_VERSION | _NEW_FLAGS
    numbers, marks = sheet.numbers, sheet.marks
    return int(
        _NEW_ID * (numbers[ID, row] != numbers[ID, row - 1])
        + _NEW_TIME * (numbers[AT, row] != numbers[AT, row - 1])
        + _NEW_VERSION * (numbers[VERSION, row] != numbers[VERSION, row - 1])
        + _NEW_FLAGS * (marks[row, FLAGS] != marks[row - 1, FLAGS])
    )


@compiled
def _told(short: float, bits: int) -> np.float32:
    """Give the value that is told in short."""
    return np.float32(short / (10.0 if bits & _TENTHS else 100.0))


@compiled
def _in_short(sheet: Sheet, row: int) -> int:
    """Tell a value in short, where that gives its every bit, and say how it is told."""
    value = sheet.values[row]
    for bits in (_TENTHS, _HUNDREDTHS):
        short = np.round(np.float64(value) * (10.0 if bits == _TENTHS else 100.0))
        if abs(short) <= _LARGEST_SHORT and _told(short, bits) == value:
            sheet.short[row] = np.int16(short)
            # Of a negative zero the sign would be lost.
            return bits if short != 0 or not np.signbit(value) else 0
    return 0


@compiled
def _count(sheet: Sheet, counts: Array) -> int:
    """Fill header and bits in, and give the length of the row."""
    counts[:] = 0
    counts[READINGS], counts[RINGS] = sheet.state[ROWS], sheet.state[HOURLY]
    for row in range(sheet.state[ROWS]):
        bits = _news(sheet, row) | _in_short(sheet, row)
        sheet.bits[row] = bits
        counts[SHORT] += (bits & (_TENTHS | _HUNDREDTHS)) > 0
        counts[IDS] += (bits & _NEW_ID) > 0
        counts[TIMES] += (bits & _NEW_TIME) > 0
        counts[VERSIONS] += (bits & _NEW_VERSION) > 0
        counts[MARKS] += (bits & _NEW_FLAGS) > 0
    for variable in range(MANY):
        counts[KNOWN] += sheet.known[HOURS, variable] > 0
        counts[RUNS] += variable < _VITALS and sheet.known[HOURS, variable] > 0
    longest = counts[IDS] + counts[TIMES] + counts[VERSIONS] + counts[KNOWN]
    long = counts[READINGS] - counts[SHORT] + 2 * counts[KNOWN] + _CELLS * counts[RINGS]
    short = 2 * counts[MARKS] + 2 * counts[SHORT] + 2 * counts[READINGS] + counts[KNOWN]
    size = int(HEADER_BYTES + 8 * longest + 4 * long + short + 2 * counts[RUNS])
    counts[SIZE] = size
    return size


@compiled
def _pack_past(sheet: Sheet, parts: _Parts) -> None:
    place = 0
    for variable in range(MANY):
        if sheet.known[HOURS, variable] > 0:
            parts.known[place], parts.last[place] = variable, sheet.last[variable]
            parts.last_at[place] = sheet.known[LAST_AT, variable]
            parts.hours[place] = sheet.known[HOURS, variable]
            if variable < _VITALS:  # they come first, so that both have one place
                parts.runs[place] = sheet.known[RUN, variable] & 0xFF
                parts.runs[len(parts.runs) // 2 + place] = sheet.known[RUN, variable] >> 8
            place += 1
    if sheet.state[HOURLY]:
        parts.cells[:] = sheet.cells.reshape(_CELLS)


@compiled
def _parts(packed: Array, counts: Array) -> _Parts:
    """Give the columns of a row, seen and not copied."""
    many, known = np.int64(counts[READINGS]), np.int64(counts[KNOWN])
    ids = HEADER_BYTES
    times = ids + 8 * counts[IDS]
    versions = times + 8 * counts[TIMES]
    last_at = versions + 8 * counts[VERSIONS]
    values = last_at + 8 * known
    last = values + 4 * (many - counts[SHORT])
    hours = last + 4 * known
    cells = hours + 4 * known
    flags = cells + 4 * _CELLS * counts[RINGS]
    short = flags + 2 * counts[MARKS]
    bits = short + 2 * counts[SHORT]
    variables = bits + many
    of_past = variables + many
    runs = of_past + known
    return _Parts(
        packed[ids:times].view(np.int64),
        packed[times:versions].view(np.int64),
        packed[versions:last_at].view(np.int64),
        packed[last_at:values].view(np.int64),
        packed[values:last].view(np.float32),
        packed[last:hours].view(np.float32),
        packed[hours:cells].view(np.int32),
        packed[cells:flags].view(np.float32),
        packed[flags:short].view(np.uint16),
        packed[short:bits].view(np.int16),
        packed[bits:variables],
        packed[variables:of_past],
        packed[of_past:runs],
        packed[runs : runs + 2 * np.int64(counts[RUNS])],
    )
