"""What a run of vitals offsets told and did, as arrays, from which batches are cut."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.core.cohorts import DIMENSIONS
from services.core.compiled import compiled
from services.core.events import PSEUDONYM_BYTES, Cause, Disposition, Kind, Vitals
from services.core.vitals import VARIABLES
from services.scoring.patients.message import (
    ACCEPTED,
    FIELDS,
    KIND,
    KINDS,
    MEASURED,
    NAMED,
    OBSERVATION,
    READINGS,
    VALUES,
    WHERE,
    WHO,
    Messages,
    spelled,
)
from services.scoring.patients.message import VARIABLES as VARIABLES_AT
from services.scoring.patients.summary import NEVER

STARTS: Final = [WHO, WHERE, *range(VARIABLES_AT, FIELDS)]
"""The fields that are places."""
TICK: Final = KINDS.index(Kind.TICK)
UNREADABLE: Final = 255
"""Kind of a record that nobody could read."""
ABSENT_PERSON: Final = bytes(PSEUDONYM_BYTES)
NOBODY: Final = ("",) * len(DIMENSIONS)
_MANY: Final = len(VARIABLES)

Array = npt.NDArray[Any]


class Facts(NamedTuple):
    """What became of N messages when they were applied, and of whom they were.

    Attributes:
        dispositions: SCORED means that a score is due.
        causes: why not, or what was special.
        heads: newest measurement of the patient after each, µs; NEVER without.
        rows: of the features among the batch's; -1 without.
        suspects: which values are suspect.
        cohorts: the patient's, in the order of DIMENSIONS; the last is the unit.
        stays: encounter of those that name none.
    """

    dispositions: Sequence[Disposition]
    causes: Sequence[Cause]
    heads: Sequence[int]
    rows: Sequence[int]
    suspects: Sequence[int]
    cohorts: Sequence[tuple[str, ...]]
    stays: Mapping[int, bytes]


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
        suspects: (N,) uint16, see `suspicion`.
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
    suspects: Array
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


def columns_of(offsets: Sequence[int], messages: Messages, facts: Facts) -> Columns:
    """Gather what messages told and did, in the order of the log, into columns."""
    groups: dict[tuple[str, ...], int] = {}
    numbers = [groups.setdefault(names, len(groups)) for names in facts.cohorts]
    told, fields = _spelled_out(messages)
    size = len(fields)
    people = np.zeros((2, size, PSEUDONYM_BYTES), np.uint8)
    many, bitmaps = np.zeros(size, np.int64), np.zeros(size, np.uint64)
    values = np.empty(int(fields[:, READINGS].sum()))
    end = gather(np.frombuffer(told, np.uint8), fields, people, many, bitmaps, values)
    for place, name in facts.stays.items():
        people[1, place] = np.frombuffer(name, np.uint8)
    heads, measured_at = np.array(facts.heads, np.int64), fields[:, MEASURED]
    return Columns(
        offsets=np.array(offsets, np.int64),
        kinds=fields[:, KIND].astype(np.uint8),
        dispositions=np.frombuffer(bytes(facts.dispositions), np.uint8),
        causes=np.frombuffer(bytes(facts.causes), np.uint8),
        pseudonyms=people[0],
        encounters=people[1],
        times=fields[:, MEASURED : ACCEPTED + 1].T,
        as_of=np.where(heads == NEVER, measured_at, heads),
        rows=np.array(facts.rows, np.int64),
        suspects=np.array(facts.suspects, np.uint16),
        groups=np.array(numbers, np.int64),
        many=many,
        bitmaps=bitmaps,
        values=values[:end],
        cohorts=list(groups),
    )


def _spelled_out(messages: Messages) -> tuple[bytes, Array]:
    """Give bytes and fields of all messages, also of those that were odd."""
    fields, parts = messages.fields.copy(), [messages.told]
    start = len(messages.told)
    for place, event in messages.odd.items():
        if place < len(fields):
            fields[place] = 0
            fields[place, KIND] = UNREADABLE
            if isinstance(event, Vitals):
                told, fields[place] = spelled(event)
                fields[place, STARTS] += start
                parts.append(told.tobytes())
                start += len(told)
    return b"".join(parts), fields


@compiled
def gather(
    told: Array, fields: Array, people: Array, many: Array, bitmaps: Array, values: Array
) -> int:
    """Fill in who each message was about, and what it measured, ordered by variable.

    Of two values of one variable in a message it is the later.

    Args:
        told: (bytes,) of all messages.
        fields: (N, FIELDS) places in them.
        people: (2, N, 16) pseudonyms and encounters, zeros.
        many: (N,) variables that have a value.
        bitmaps: (N,) these variables.
        values: at least as many as there are readings.

    Returns:
        how many values there are.
    """
    row, end = np.empty(_MANY), 0
    for i in range(len(fields)):
        if fields[i, KIND] not in (TICK, UNREADABLE):
            who, where = fields[i, WHO], fields[i, WHERE]
            people[0, i] = told[who : who + PSEUDONYM_BYTES]
            if fields[i, NAMED]:
                people[1, i] = told[where : where + PSEUDONYM_BYTES]
        if fields[i, KIND] == OBSERVATION:
            _place(told, fields[i], row)
            for variable in range(_MANY):
                if not np.isnan(row[variable]):
                    bitmaps[i] |= np.uint64(1) << np.uint64(variable)
                    many[i] += 1
                    values[end] = row[variable]
                    end += 1
    return end


@compiled
def _place(told: Array, fields: Array, row: Array) -> None:
    """Put the values of an observation where their variables belong, NaN elsewhere."""
    row[:] = np.nan
    bits = np.empty(1, np.int64)
    for reading in range(fields[READINGS]):
        variable = told[fields[VARIABLES_AT] + reading]
        if variable < _MANY:
            at = fields[VALUES] + 8 * reading
            for byte in range(7, -1, -1):
                bits[0] = bits[0] << 8 | np.int64(told[at + byte])
            value = bits.view(np.float64)[0]
            if not np.isnan(value):
                row[variable] = value
