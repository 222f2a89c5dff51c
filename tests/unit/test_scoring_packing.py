"""A patient's row holds every bit of what was laid away, whoever lays it open again."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from wards import HOUR, START, Run, log, measured, retracted

from services.scoring.patients.packing import COUNTS, KNOWN, READINGS, SHORT, pack, unpack
from services.scoring.patients.patient import FRONT_BYTES
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
from services.scoring.patients.slots import FIRST_ROWS, Slots
from services.scoring.patients.summary import HOURS, MANY, absorb, empty_cells

whole = st.integers(-(1 << 63), (1 << 63) - 1)
few = st.one_of(st.integers(-2, 2), whole)
"""Numbers that readings share now and then."""
values = st.one_of(
    st.floats(width=32),
    st.integers(-40_000, 40_000).map(lambda tenths: float(np.float32(tenths / 10))),
    st.integers(-40_000, 40_000).map(lambda hundredths: float(np.float32(hundredths / 100))),
)
readings = st.tuples(few, few, few, values, st.integers(0, 65_535), st.integers(0, 255))
past = st.tuples(st.integers(0, MANY - 1), st.integers(START, START + 60 * HOUR), values)


def filled(rows: list[tuple[int, int, int, float, int, int]]) -> Sheet:
    sheet = Slots().sheet
    wipe(sheet)
    for row, (at, identity, version, value, flags, variable) in enumerate(rows):
        sheet.numbers[[AT, ID, VERSION], row] = at, identity, version
        sheet.values[row] = value
        sheet.marks[row, [FLAGS, VARIABLE]] = flags, variable
    sheet.state[ROWS] = len(rows)
    return sheet


def content(sheet: Sheet) -> list[bytes]:
    many = sheet.state[ROWS]
    cells = sheet.cells if sheet.state[HOURLY] else sheet.cells[:0]
    rows = (sheet.numbers[:, :many], sheet.values[:many], sheet.marks[:many])
    seen = sheet.known[HOURS] > 0
    known = (seen, sheet.known[:, seen], sheet.last[seen])
    return [np.ascontiguousarray(part).tobytes() for part in (*rows, *known, cells)]


def counts(packed: NDArray[np.uint8]) -> NDArray[np.int32]:
    return packed.view(np.int32)[:COUNTS]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    rows=st.lists(readings, max_size=30),
    folded=st.lists(past, max_size=20),
    hourly=st.booleans(),
)
def test_what_is_laid_open_has_every_bit_of_what_was_packed(
    *,
    rows: list[tuple[int, int, int, float, int, int]],
    folded: list[tuple[int, int, float]],
    hourly: bool,
) -> None:
    sheet, other = filled(rows), Slots().sheet
    sheet.state[HOURLY] = hourly
    empty_cells(sheet.cells[0])
    for variable, at, value in folded:
        absorb(sheet.last, sheet.known, sheet.cells, variable, at, np.float32(value))
    before, size = content(sheet), pack(sheet)
    other.packed[:size] = sheet.packed[:size]
    unpack(other)
    assert content(other) == before
    assert pack(other) == size
    assert other.packed[:size].tobytes() == sheet.packed[:size].tobytes()
    found = counts(sheet.packed)
    assert (found[READINGS], found[KNOWN]) == (len(rows), len({name for name, *_ in folded}))


def test_a_value_is_told_in_short_only_where_no_bit_is_lost() -> None:
    def short(value: float) -> bool:
        sheet = filled([(0, 0, 0, value, 0, 0)])
        pack(sheet)
        return bool(counts(sheet.packed)[SHORT])

    assert [short(float(np.float32(v))) for v in (36.6, 7.38, 0.0, -1.5, 3276.7)] == [True] * 5
    assert [short(v) for v in (-0.0, np.pi, 3276.8, np.nan, np.inf)] == [False] * 5


def test_a_patient_may_have_more_readings_than_a_sheet_has_room_for() -> None:
    names = [f"unknown {number}" for number in range(2 * FIRST_ROWS // 3)]
    events = [measured("p", START, {"HR": 80})]
    events += [retracted("p", START + hour * HOUR, names) for hour in (1, 2, 3)]
    run = Run().hand(log(events))
    (patient,) = run.task._ward.patients.values()
    (kept,) = run.task._ward.slots.kept(np.array([patient.history.slot]))
    assert counts(np.frombuffer(kept[FRONT_BYTES:], np.uint8))[READINGS] == 1 + 3 * len(names)
    assert Run(rows=run.rows).patients == run.patients
