"""What is known of one encounter: readings of the last 24 hours, retractions, and what was before.

The content is a function of the set of messages, not of their order: of each (resource, variable)
the highest version stands, a retraction is a version like any other, and whatever is derived is
taken from the readings in the order of (measured_at, id). That holds within the history limit:
24 hours behind the newest reading, and of a variable the newest FEWEST_RAW readings at least.
Two contents of one version are a conflict; the first to come stands.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.core.compiled import compiled
from services.core.events import MICROSECONDS_PER_HOUR, Vitals
from services.core.features import CELLS, HISTORY_HOURS
from services.core.features.rows import write_row
from services.scoring.patients.folding import KEPT_OUT
from services.scoring.patients.message import (
    HEARD,
    KIND,
    MEASURED,
    NAMED,
    OBSERVATION,
    ODD,
    READINGS,
    RETRACTION,
    WHERE,
    WHO,
    spelled,
)
from services.scoring.patients.readings import BEHIND, NEW, REVISED, put, retract
from services.scoring.patients.sheet import (
    AT,
    FLAGS,
    HEAD,
    HOURLY,
    NONE,
    ROWS,
    VARIABLE,
    Sheet,
)
from services.scoring.patients.slots import Slots
from services.scoring.patients.store import (
    GONE,
    HERE,
    UNMET,
    UNTOLD,
    Store,
    find,
    lay_away,
    lay_open,
)
from services.scoring.patients.summary import HOURS, LAST_AT, MANY, NEVER, absorb, empty_cells
from services.scoring.patients.suspicion import suspects

SILENCE: Final = 24 * MICROSECONDS_PER_HOUR
"""An encounter that nobody named ends after so long without a measurement."""
DONE: Final = 7
DID, REVISED_AT, NEWEST, ROW, SUSPECT, GROUP, OVER = range(DONE)
"""Of a measurement: what it did (see `readings`), when the oldest value that was revised had been
measured, the newest measured_at after it, its place among the rows of features or NONE, which
of its values are suspect (see `suspicion`), and of its patient the number of the cohorts, and
whether the stay is over."""
FINISHED, STRANGE, FULL = range(3)
"""Why a run stopped: it is done; the measurement may begin an encounter, or belong to none; there
is no room for it (`Slots.make_room`), and nothing was done."""

Array = npt.NDArray[Any]


class Measurements(NamedTuple):
    """N measurements in the order of the log.

    Attributes:
        told: (B,) uint8: the bytes that tell them.
        fields: (N, FIELDS) int64: places in them, see `message`.
        slots: (N,) int64: of the patients, NONE of whom nobody heard; filled in.
        done: (N, DONE) int64: DID and what follows it; filled in.
    """

    told: Array
    fields: Array
    slots: Array
    done: Array


class History:
    """The place of one patient: readings of the encounter, and the past into which old ones go."""

    __slots__ = ("_slots", "slot")

    def __init__(self, slots: Slots, name: bytes) -> None:
        """Begin a history in a slot of its own, of a patient who has none."""
        self._slots, self.slot = slots, slots.take(name)

    @property
    def head(self) -> int:
        """The newest measured_at, µs; NEVER before the first."""
        return int(self._slots.store.head[self.slot])

    def fill(self, head: int, row: bytes) -> None:
        """Take what another history held; this one is empty."""
        self._slots.fill(self.slot, head, row)

    def identify(self, *, age: float, sex: float) -> None:
        """Set age (years) and sex (0 female, 1 male); NaN is unknown."""
        self._slots.store.person[self.slot] = age, sex

    def measure(self, event: Vitals) -> tuple[int, int]:
        """Take the readings of an observation, or what a retraction takes back, as they come.

        Returns:
            what they did, and when the oldest value that was revised had been measured.
        """
        told, fields = spelled(event)
        done = np.empty(DONE, np.int64)
        while not measure(self._slots.store, self.slot, self._slots.sheet, told, fields, done):
            self._slots.make_room(self.slot, len(event.variables))
        return int(done[DID]), int(done[REVISED_AT])

    def write_features(self, row: Array, event: Vitals) -> int:
        """Write the features as of the newest reading, and say what is suspect of an event."""
        while not lay_open(self._slots.store, self.slot, self._slots.sheet, 0):
            self._slots.make_room(self.slot, 0)
        write_features(self._slots.sheet, self._slots.store.person[self.slot], row)
        return int(suspects(self._slots.sheet, *spelled(event)))

    @property
    def heard_at(self) -> int:
        """The latest received_at, µs; NEVER before the first."""
        return int(self._slots.store.heard_at[self.slot])

    def hear(self, received_at: int) -> None:
        """Note when a message about the patient was received."""
        heard_at = self._slots.store.heard_at
        heard_at[self.slot] = max(int(heard_at[self.slot]), received_at)

    @property
    def encounter(self) -> bytes:
        """The pseudonym of the encounter; empty before the first."""
        store = self._slots.store
        return b"" if store.stays[self.slot] == UNMET else store.encounter[self.slot].tobytes()

    def begin(self, encounter: bytes) -> None:
        """Begin an encounter anew; nobody told of its stay."""
        store = self._slots.store
        self._slots.clear(self.slot)
        store.stays[self.slot] = UNTOLD if encounter else UNMET
        if encounter:
            store.encounter[self.slot] = np.frombuffer(encounter, np.uint8)

    def stay(self, *, over: bool) -> None:
        """Learn that the stay goes on, or is over."""
        stays = self._slots.store.stays
        if stays[self.slot] != UNMET:
            stays[self.slot] = GONE if over else HERE

    @property
    def cohorts(self) -> tuple[str, ...]:
        """The cohorts the patient is in, in the order of DIMENSIONS."""
        names = self._slots.groups.names
        return names[int(self._slots.store.group[self.slot])]

    def join(self, cohorts: tuple[str, ...]) -> None:
        """Learn which cohorts the patient is in."""
        self._slots.store.group[self.slot] = self._slots.groups.number(cohorts)

    def wake(self, *, wakeful: bool) -> None:
        """Learn whether a policy remembers what a low score could change."""
        self._slots.store.wakeful[self.slot] = wakeful

    @property
    def stamp(self) -> int:
        """The number of the last leaf of the journal that the patient's row includes."""
        return int(self._slots.store.stamp[self.slot])

    @stamp.setter
    def stamp(self, number: int) -> None:
        self._slots.store.stamp[self.slot] = number

    def end(self) -> None:
        """Give the slot back; the history is over."""
        self._slots.give_back(self.slot)


@compiled
def follow(
    store: Store, sheet: Sheet, these: Measurements, rows: Array, start: int, taken: int
) -> tuple[int, int, int]:
    """Let measurements change their patients in order, and write the features of what is new.

    Args:
        store: of the partition.
        sheet: its sheet.
        these: the measurements.
        rows: (M, len(FEATURES)) float32 for features; none are written where M is 0.
        start: the first measurement to be done.
        taken: how many rows are.

    Returns:
        the first measurement that was not done, how many rows are taken, and why it stopped.
    """
    for i in range(start, len(these.slots)):
        fields = these.fields[i]
        slot = NONE if fields[KIND] == ODD else find(store, these.told, fields[WHO])
        these.slots[i] = slot
        if slot == NONE or not _goes_on(store, slot, these.told, fields):
            return i, taken, STRANGE
        if not measure(store, slot, sheet, these.told, fields, these.done[i]):
            return i, taken, FULL
        store.heard_at[slot] = max(store.heard_at[slot], fields[HEARD])
        these.done[i, GROUP], these.done[i, OVER] = store.group[slot], store.stays[slot] == GONE
        if len(rows) and these.done[i, DID] & (NEW | REVISED):
            write_features(sheet, store.person[slot], rows[taken])
            these.done[i, ROW] = taken
            these.done[i, SUSPECT] = suspects(sheet, these.told, fields)
            taken += 1
    return len(these.slots), taken, FINISHED


@compiled
def _goes_on(store: Store, slot: int, told: Array, fields: Array) -> bool:
    """Tell whether a measurement is surely one of the patient's present encounter.

    The rest is for `ward` to judge.
    """
    observed, stays = fields[KIND] == OBSERVATION, store.stays[slot]
    if stays == UNMET or not (observed or fields[KIND] == RETRACTION):
        return False
    if observed and fields[HEARD] - fields[MEASURED] > SILENCE:
        return False
    if fields[NAMED]:
        return _is_named(store.encounter[slot], told, fields[WHERE])
    if not observed or stays == HERE:
        return True
    head = store.head[slot]
    return bool(stays == UNTOLD and (head == NEVER or fields[MEASURED] - head <= SILENCE))


@compiled
def _is_named(name: Array, told: Array, where: int) -> bool:
    for place in range(len(name)):  # noqa: SIM110 - the compiler knows no generators
        if told[where + place] != name[place]:
            return False
    return True


@compiled
def measure(
    store: Store, slot: int, sheet: Sheet, told: Array, fields: Array, done: Array
) -> bool:
    """Let a measurement change its patient; False if there is no room, and nothing was done."""
    if not lay_open(store, slot, sheet, fields[READINGS]):
        return False
    behind = fields[MEASURED] < sheet.state[HEAD]
    if fields[KIND] == RETRACTION:
        did, revised_at = retract(sheet, told, fields)
    else:
        did, revised_at = put(sheet, told, fields)
    if behind:
        did |= BEHIND
    done[DID], done[REVISED_AT], done[NEWEST], done[ROW] = did, revised_at, sheet.state[HEAD], NONE
    done[SUSPECT] = 0
    return lay_away(store, slot, sheet)


@compiled
def write_features(sheet: Sheet, person: Array, row: Array) -> None:
    """Write the features of the patient on the sheet as of the newest reading; uses the sheet up.

    Args:
        sheet: of a patient of whom something was measured.
        person: (2,) age and sex.
        row: (len(FEATURES),) float32.
    """
    hour = sheet.state[HEAD] // MICROSECONDS_PER_HOUR
    last, known, ring = sheet.last, sheet.known, sheet.cells
    if not sheet.state[HOURLY]:
        empty_cells(ring[0])
    numbers, values, marks = sheet.numbers, sheet.values, sheet.marks
    for i in range(sheet.state[ROWS]):
        if marks[i, FLAGS] & KEPT_OUT == 0:
            absorb(last, known, ring, marks[i, VARIABLE], numbers[AT, i], values[i])
    cells = np.empty(CELLS, np.float32)
    oldest = (hour + 1) % HISTORY_HOURS
    cells[: HISTORY_HOURS - oldest] = ring[0, oldest:]
    cells[HISTORY_HOURS - oldest :] = ring[0, :oldest]
    for variable in range(MANY):
        row[variable] = last[variable]
        row[MANY + variable] = hour - known[LAST_AT, variable] // MICROSECONDS_PER_HOUR
        if np.isnan(last[variable]):
            row[MANY + variable] = np.nan
        row[2 * MANY + variable] = known[HOURS, variable]
    write_row(cells, person, row)
