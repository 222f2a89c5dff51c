"""What is known of one patient within the last 24 hours: readings, their versions, retractions.

The content is a function of the set of messages, not of their order: of each (resource, variable)
the highest version stands, a retraction is a version like any other, and whatever is derived is
taken from the readings in the order of (measured_at, id).
"""

from enum import Enum, auto
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.core.events import MICROSECONDS_PER_HOUR, Flag
from services.core.features import HISTORY_HOURS

READING: Final = np.dtype(
    [
        ("at", "<i8"),
        ("id", "<u8"),
        ("version", "<i8"),
        ("value", "<f4"),
        ("flags", "<u2"),
        ("variable", "u1"),
    ]
)
"""One value of one resource; packed, 31 bytes."""

RETRACTED: Final = 1 << 15
"""Flag of a reading that was entered in error; a tombstone when no value came before it."""
ANY_VARIABLE: Final = 255
KEPT_OUT: Final = int(Flag.UNUSABLE) | RETRACTED
FIRST_ROWS: Final = 16

Readings = npt.NDArray[Any]


class Effect(Enum):
    """What a reading did to the history."""

    APPENDED = auto()  # a new value, the newest of its variable
    INSERTED = auto()  # a new value, older than another of its variable
    REVISED = auto()  # what was there changed, or was taken back
    DUPLICATE = auto()
    CONFLICT = auto()  # the same version with another value
    STALE = auto()  # an older version, or a retraction stands in its way
    TOO_LATE = auto()


def hour_of(at: int) -> int:
    """Give the UTC hour, counted from the epoch, of a time in µs."""
    return at // MICROSECONDS_PER_HOUR


class History:
    """Readings of one encounter of one patient, at most HISTORY_HOURS behind the newest."""

    __slots__ = ("_count", "_rows", "head")

    def __init__(self, head: int, rows: Readings | None = None) -> None:
        """Begin a history.

        Args:
            head: the newest measured_at, µs.
            rows: readings of an earlier life, dtype READING.
        """
        self.head = head
        self._rows = np.empty(FIRST_ROWS, READING) if rows is None else rows.copy()
        self._count = 0 if rows is None else len(rows)

    @property
    def rows(self) -> Readings:
        """All readings, in the order in which they came, unusable and retracted ones too."""
        return self._rows[: self._count]

    def oldest_hour(self) -> int:
        """Give the first hour that is still kept."""
        return hour_of(self.head) - HISTORY_HOURS + 1

    def put(self, reading: Readings) -> Effect:
        """Take one reading, a scalar of dtype READING."""
        return self._take(reading, self._find(reading))

    def retract(self, reading: Readings) -> Effect:
        """Take back a resource's value of one variable, or of each if it is ANY_VARIABLE.

        A resource that never came leaves a tombstone, which stops the value when it comes.
        """
        rows = self.rows
        same = rows["id"] == reading["id"]
        if reading["variable"] != ANY_VARIABLE:
            same &= (rows["variable"] == reading["variable"]) | (rows["variable"] == ANY_VARIABLE)
        effects = {self._take(reading, int(index)) for index in np.flatnonzero(same)}
        if not effects:
            effect = self._take(reading, None)
            return effect if effect is Effect.TOO_LATE else Effect.STALE
        return Effect.REVISED if Effect.REVISED in effects else effects.pop()

    def usable(self, variable: int) -> Readings:
        """Give the readings of a variable that the model may see, by (measured_at, id)."""
        rows = self.rows
        kept = rows[(rows["variable"] == variable) & (rows["flags"] & KEPT_OUT == 0)]
        order = np.lexsort((kept["id"], kept["at"]))
        return np.take(kept, order)

    def evict(self) -> Readings:
        """Drop and give the readings that fell out of the history."""
        rows = self.rows
        kept = rows["at"] >= self.oldest_hour() * MICROSECONDS_PER_HOUR
        if kept.all():
            return rows[:0]
        gone: Readings = rows[~kept]
        rest = rows[kept]
        self._rows[: len(rest)] = rest
        self._count = len(rest)
        return gone

    def _take(self, reading: Readings, found: int | None) -> Effect:
        at = int(reading["at"])
        if hour_of(at) < self.oldest_hour():
            return Effect.TOO_LATE
        self.head = max(self.head, at)
        if found is not None:
            return self._revise(found, reading)
        newest = self._newest_at(int(reading["variable"]))
        self._append(reading)
        return Effect.APPENDED if at > newest else Effect.INSERTED

    def _newest_at(self, variable: int) -> int:
        """When the newest reading of a variable was measured, whatever became of it."""
        rows = self.rows
        times = rows["at"][rows["variable"] == variable]
        return int(times.max()) if len(times) else -1

    def _find(self, reading: Readings) -> int | None:
        rows = self.rows
        for index in np.flatnonzero(rows["id"] == reading["id"]):
            if rows["variable"][index] in (reading["variable"], ANY_VARIABLE):
                return int(index)
        return None

    def _revise(self, index: int, reading: Readings) -> Effect:
        old = self._rows[index].copy()
        if reading["version"] < old["version"]:
            return Effect.STALE
        # A sender without versions still means it when it says that a value was an error.
        going = reading["flags"] & RETRACTED and not old["flags"] & RETRACTED
        if reading["version"] == old["version"] and not going:
            return _same_version(old, reading)
        self._rows[index] = reading
        if reading["variable"] == ANY_VARIABLE:
            self._rows[index]["variable"] = old["variable"]
        return Effect.REVISED

    def _append(self, reading: Readings) -> None:
        if self._count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty(len(self._rows), READING)])
        self._rows[self._count] = reading
        self._count += 1


def _same_version(old: Readings, new: Readings) -> Effect:
    if old["flags"] & RETRACTED:
        return Effect.DUPLICATE if new["flags"] & RETRACTED else Effect.STALE
    both_missing = np.isnan(old["value"]) and np.isnan(new["value"])
    same_value = old["value"] == new["value"] or both_missing
    return Effect.DUPLICATE if same_value and old["at"] == new["at"] else Effect.CONFLICT
