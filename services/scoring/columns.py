"""What a run of vitals offsets told and did, as arrays, from which batches are cut."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.core.compiled import compiled
from services.core.events import PSEUDONYM_BYTES, Cause, Kind, Vitals
from services.core.vitals import VARIABLES
from services.scoring.patients.history import DID, GROUP, NEWEST, ROW, SUSPECT, Measurements
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
from services.scoring.patients.readings import EVERYTHING
from services.scoring.patients.summary import NEVER
from services.scoring.patients.suspicion import JUMPED
from services.scoring.patients.ward import Followed, judge

STARTS: Final = [WHO, WHERE, *range(VARIABLES_AT, FIELDS)]
"""The fields that are places."""
TICK: Final = KINDS.index(Kind.TICK)
UNREADABLE: Final = 255
"""Kind of a record that nobody could read."""
NUMBERS: Final = 5
AS_OF, GROUPS, MANY, BITMAPS, DISTINCT = range(NUMBERS)
"""Rows of what is gathered: the last has the number of each group."""
WORDS: Final = 3
DISPOSITION, CAUSE = range(1, WORDS)
"""Rows of its bytes; the first is KIND."""
JUDGED: Final = np.array([judge(did) for did in range(EVERYTHING)], np.uint8)
NO_CAUSE, DELTA, FLAT = (*(int(Cause.NONE), int(Cause.SUSPECT_DELTA), int(Cause.SUSPECT_FLAT)),)
_MANY: Final = len(VARIABLES)

Array = npt.NDArray[Any]


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


def columns_of(offsets: Sequence[int], messages: Messages, did: Followed) -> Columns:
    """Gather what messages told and did, in the order of the log, into columns."""
    told, fields = _spelled_out(messages)
    size = len(fields)
    people = np.zeros((2, size, PSEUDONYM_BYTES), np.uint8)
    numbers, words = np.zeros((NUMBERS, size), np.int64), np.empty((WORDS, size), np.uint8)
    values = np.empty(len(told) // 8)
    these = Measurements(np.frombuffer(told, np.uint8), fields, did.slots, did.done)
    end, groups = gather(these, people, numbers, words, values)
    for place, name in did.stays.items():
        people[1, place] = np.frombuffer(name, np.uint8)
    for place, (disposition, cause, *_) in did.met.items():
        words[DISPOSITION, place], words[CAUSE, place] = disposition, cause
    return Columns(
        offsets=np.array(offsets, np.int64),
        kinds=words[KIND],
        dispositions=words[DISPOSITION],
        causes=words[CAUSE],
        pseudonyms=people[0],
        encounters=people[1],
        times=fields[:, MEASURED : ACCEPTED + 1].T,
        as_of=numbers[AS_OF],
        rows=did.done[:, ROW],
        suspects=did.done[:, SUSPECT].astype(np.uint16),
        groups=numbers[GROUPS],
        many=numbers[MANY],
        bitmaps=numbers[BITMAPS].view(np.uint64),
        values=values[:end],
        cohorts=[did.groups[group] for group in numbers[DISTINCT, :groups].tolist()],
    )


def _spelled_out(messages: Messages) -> tuple[bytes, Array]:
    """Give bytes and fields of all messages, also of those that were odd."""
    if not messages.odd:
        return messages.told, messages.fields
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
    these: Measurements, people: Array, numbers: Array, words: Array, values: Array
) -> tuple[int, int]:
    """Fill in who each message was about, what it measured, ordered by variable, and what it did.

    Of two values of one variable in a message it is the later.

    Args:
        these: all messages, spelled out.
        people: (2, N, 16) pseudonyms and encounters, zeros.
        numbers: (NUMBERS, N) AS_OF and what follows it, zeros.
        words: (WORDS, N) KIND, DISPOSITION and CAUSE.
        values: at least as many as there are readings.

    Returns:
        how many values there are, and how many groups.
    """
    told, fields, done = these.told, these.fields, these.done
    row, end, groups = np.empty(_MANY), 0, 0
    for i in range(len(fields)):
        kind = fields[i, KIND]
        words[KIND, i] = kind
        words[DISPOSITION, i], words[CAUSE, i] = _judged(done[i])
        numbers[AS_OF, i] = fields[i, MEASURED] if done[i, NEWEST] == NEVER else done[i, NEWEST]
        groups = _grouped(numbers, i, done[i, GROUP], groups)
        if kind not in (TICK, UNREADABLE):
            who, where = fields[i, WHO], fields[i, WHERE]
            people[0, i] = told[who : who + PSEUDONYM_BYTES]
            if fields[i, NAMED]:
                people[1, i] = told[where : where + PSEUDONYM_BYTES]
        if kind == OBSERVATION:
            _place(told, fields[i], row)
            for variable in range(_MANY):
                if not np.isnan(row[variable]):
                    numbers[BITMAPS, i] |= np.int64(1) << variable
                    numbers[MANY, i] += 1
                    values[end] = row[variable]
                    end += 1
    return end, groups


@compiled
def _judged(did: Array) -> tuple[int, int]:
    """Say what became of a measurement, see `judge`; its cause goes before a suspicion."""
    disposition, cause = JUDGED[did[DID], 0], JUDGED[did[DID], 1]
    if did[SUSPECT] and cause == NO_CAUSE:
        cause = DELTA if did[SUSPECT] & JUMPED else FLAT
    return disposition, cause


@compiled
def _grouped(numbers: Array, place: int, group: int, groups: int) -> int:
    """Number the groups of a batch in the order in which they come; gives how many there are."""
    number = 0
    while number < groups and numbers[DISTINCT, number] != group:
        number += 1
    numbers[DISTINCT, number], numbers[GROUPS, place] = group, number
    return max(groups, number + 1)


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
