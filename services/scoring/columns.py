"""What a run of vitals offsets told and did, as arrays, from which batches are cut."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.core.cohorts import DIMENSIONS
from services.core.compiled import compiled
from services.core.events import Cause, Disposition, Kind, Vitals
from services.core.vitals import VARIABLES

UNREADABLE: Final = 255
"""Kind of a record that nobody could read."""
ABSENT_PERSON: Final = bytes(16)
NOBODY: Final = ("",) * len(DIMENSIONS)
OBSERVATION: Final = Kind.OBSERVATION
_NUMBERS: Final = {kind.value: number for number, kind in enumerate(Kind)}
_MANY: Final = len(VARIABLES)

Array = npt.NDArray[Any]


class Fact(NamedTuple):
    """What became of one offset when its event was applied.

    Attributes:
        event: that was read; of a record that nobody could read, UNREAD.
        disposition: SCORED means that a score is due.
        cause: why not, or what was special.
        encounter: that the event concerns.
        cohorts: the patient's, in the order of DIMENSIONS; the last is the unit.
        as_of: event time of the features, µs.
        row: of the features among the batch's; -1 without.
    """

    event: Vitals
    disposition: Disposition
    cause: Cause = Cause.NONE
    encounter: bytes = ABSENT_PERSON
    cohorts: tuple[str, ...] = NOBODY
    as_of: int = 0
    row: int = -1


UNREAD: Final = Vitals(
    kind=Kind.TICK,
    source="",
    pseudonym=b"",
    measured_at=0,
    received_at=0,
    accepted_at=0,
    ingest_id="",
    raw_partition=0,
    raw_offset=0,
)
"""Stands for a record that nobody could read."""


class Columns(NamedTuple):
    """N entries.

    Attributes:
        offsets: (N,) int64.
        kinds: (N,) uint8, place among Kind or UNREADABLE.
        dispositions: (N,) uint8.
        causes: (N,) uint8.
        pseudonyms: (N, 16) uint8.
        encounters: (N, 16) uint8.
        times: (3, N) int64: measured, received and accepted at, µs.
        as_of: (N,) int64, µs.
        rows: (N,) int64, of features; -1 without.
        groups: (N,) int64, place in `cohorts`.
        many: (N,) int64, variables that an event measured.
        bitmaps: (N,) uint64, these variables.
        values: (sum of many,) float64.
        cohorts: names, of each group of patients with the same.
    """

    offsets: Array
    kinds: Array
    dispositions: Array
    causes: Array
    pseudonyms: Array
    encounters: Array
    times: Array
    as_of: Array
    rows: Array
    groups: Array
    many: Array
    bitmaps: Array
    values: Array
    cohorts: list[tuple[str, ...]]

    @property
    def units(self) -> Array:
        """(N,) unit of each entry."""
        return np.array([names[-1] for names in self.cohorts], object)[self.groups]

    def only(self, places: Array) -> "Columns":
        """Give some of the entries; places rise."""
        if len(places) == len(self.offsets):
            return self
        chosen = np.zeros(len(self.offsets), np.bool_)
        chosen[places] = True
        values = self.values[np.repeat(chosen, self.many)]
        some = {name: getattr(self, name)[places] for name in _PER_ENTRY}
        return self._replace(**some, times=self.times[:, places], values=values)


_PER_ENTRY: Final = tuple(
    name for name in Columns._fields if name not in {"times", "values", "cohorts"}
)


def columns_of(offsets: Sequence[int], facts: Sequence[Fact]) -> Columns:
    """Gather facts, in the order of the log, into columns."""
    events, dispositions, causes, encounters, cohorts, as_of, rows = zip(*facts, strict=True)
    groups: dict[tuple[str, ...], int] = {}
    numbers = [groups.setdefault(names, len(groups)) for names in cohorts]
    many, bitmaps, values = _measured(events)
    return Columns(
        offsets=np.array(offsets, np.int64),
        kinds=np.array([_kind(event) for event in events], np.uint8),
        dispositions=_bytes(bytes(dispositions)),
        causes=_bytes(bytes(causes)),
        pseudonyms=_names([event.pseudonym or ABSENT_PERSON for event in events]),
        encounters=_names(encounters),
        times=np.array(
            [
                [event.measured_at for event in events],
                [event.received_at for event in events],
                [event.accepted_at for event in events],
            ],
            np.int64,
        ),
        as_of=np.array(as_of, np.int64),
        rows=np.array(rows, np.int64),
        groups=np.array(numbers, np.int64),
        many=many,
        bitmaps=bitmaps,
        values=values,
        cohorts=list(groups),
    )


def _kind(event: Vitals) -> int:
    if event.kind is OBSERVATION:
        return 0
    return UNREADABLE if event is UNREAD else _NUMBERS[event.kind.value]


def _bytes(content: bytes) -> Array:
    return np.frombuffer(content, np.uint8)


def _names(names: Sequence[bytes]) -> Array:
    return _bytes(b"".join(names)).reshape(len(names), -1)


def _measured(events: Sequence[Vitals]) -> tuple[Array, Array, Array]:
    """Give number and bitmap of the variables that each event measured, and their values."""
    told = [event if event.kind is OBSERVATION else UNREAD for event in events]
    readings = np.array([len(event.variables) for event in told], np.int64)
    variables = _bytes(b"".join([event.variables for event in told]))
    values = np.frombuffer(b"".join([event.values for event in told]), "<f8")
    many, bitmaps = np.zeros(len(told), np.int64), np.zeros(len(told), np.uint64)
    kept = np.empty(len(values))
    return many, bitmaps, kept[: pack_measured(readings, variables, values, many, bitmaps, kept)]


@compiled
def pack_measured(
    readings: Array, variables: Array, values: Array, many: Array, bitmaps: Array, kept: Array
) -> int:
    """Order the values of each event by variable; of two of one variable it is the later.

    Args:
        readings: (N,) of each event.
        variables: (sum of readings,) numbers.
        values: (sum of readings,), NaN is none.
        many: (N,) is filled in.
        bitmaps: (N,) is filled in.
        kept: (sum of readings,) is filled in as far as there are values.

    Returns:
        how many there are.
    """
    row = np.empty(_MANY)
    first = end = 0
    for entry in range(len(readings)):
        row[:] = np.nan
        for reading in range(first, first + readings[entry]):
            if variables[reading] < _MANY and not np.isnan(values[reading]):
                row[variables[reading]] = values[reading]
        first += readings[entry]
        for variable in range(_MANY):
            if not np.isnan(row[variable]):
                bitmaps[entry] |= np.uint64(1) << np.uint64(variable)
                many[entry] += 1
                kept[end] = row[variable]
                end += 1
    return end
