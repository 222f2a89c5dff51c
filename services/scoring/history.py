"""What is known of one encounter: readings of the last 24 hours, retractions, and what was before.

The content is a function of the set of messages, not of their order: of each (resource, variable)
the highest version stands, a retraction is a version like any other, and whatever is derived is
taken from the readings in the order of (measured_at, id). That holds within the history limit:
24 hours behind the newest reading, and of a variable the newest FEWEST_RAW readings at least.
Two contents of one version are a conflict; the first to come stands.
"""

from enum import Enum, auto
from typing import Final, NamedTuple

import numpy as np

from services.core.events import MICROSECONDS_PER_HOUR, Flag
from services.core.features import HISTORY_HOURS
from services.scoring.summary import (
    CELLS,
    EMPTY_CELL,
    NEVER,
    READING,
    Readings,
    Summary,
    hour_of,
    ordered,
)

RETRACTED: Final = 1 << 15
"""Flag of a reading that was entered in error; a tombstone when no value came before it."""
ANY_VARIABLE: Final = 255
KEPT_OUT: Final = int(Flag.UNUSABLE) | RETRACTED
MOST_RAW: Final = 64
"""More readings of one variable are folded, down to FEWEST_RAW."""
FEWEST_RAW: Final = 32
FIRST_ROWS: Final = 16


class Effect(Enum):
    """What a reading did to the history."""

    NEW = auto()
    UNUSABLE = auto()  # new, and nothing that the model may see
    REVISED = auto()  # what was there changed, or was taken back
    DUPLICATE = auto()
    CONFLICT = auto()  # the same version with another value
    STALE = auto()  # an older version, or a retraction stands in its way
    TOO_LATE = auto()


class Change(NamedTuple):
    """The effect of one reading; `was_at` is when a revised one was measured before."""

    effect: Effect
    variable: int
    was_at: int = NEVER


class History:
    """Readings of one encounter of one patient, and the `past` into which old ones are folded."""

    __slots__ = ("_count", "_room", "_rows", "head", "past")

    def __init__(self, head: int = NEVER, rows: Readings | None = None) -> None:
        """Begin a history.

        Args:
            head: the newest measured_at, µs; NEVER before the first.
            rows: readings of an earlier life, dtype READING.
        """
        self.head = head
        self.past = Summary.empty()
        self._rows = np.empty(FIRST_ROWS, READING) if rows is None else rows
        self._count = 0 if rows is None else len(rows)
        self._room = 0  # so many readings fit before a variable can have more than MOST_RAW

    @property
    def rows(self) -> Readings:
        """All readings, in the order in which they came, unusable and retracted ones too."""
        return self._rows[: self._count]

    def oldest_hour(self) -> int:
        """Give the first hour that is still kept."""
        return hour_of(self.head) - HISTORY_HOURS + 1

    def put(self, readings: Readings) -> list[Change]:
        """Take readings of one time and of known variables, and say of each what it did."""
        if not len(readings):
            return []
        variables, at = readings["variable"].tolist(), int(readings["at"][0])
        if hour_of(at) < self.oldest_hour():
            return [Change(Effect.TOO_LATE, variable) for variable in variables]
        self._move_to(at)
        if self._all_new(readings, variables):
            self._append(readings)
            effects = [_effect_of_new(flags) for flags in readings["flags"].tolist()]
            changes = [Change(e, v) for e, v in zip(effects, variables, strict=True)]
        else:
            changes = [self._put(readings[i : i + 1]) for i in range(len(readings))]
        self._fold_crowded()
        return changes

    def retract(self, readings: Readings) -> list[Change]:
        """Take back a resource's value of each variable, or of all where it is ANY_VARIABLE.

        A resource is found by its id, whenever it was measured. What never came leaves a
        tombstone, which stops the value when it comes.
        """
        found = [self._retract(readings[i : i + 1]) for i in range(len(readings))]
        return [change for changes in found for change in changes]

    def usable(self, variables: set[int] | None = None) -> Readings:
        """Give the readings that the model may see, by (variable, measured_at, id)."""
        rows = self.rows
        kept = rows["flags"] & KEPT_OUT == 0
        if variables is not None:
            wanted = np.zeros(256, bool)
            wanted[list(variables)] = True
            kept &= wanted[rows["variable"]]
        return ordered(rows[kept])

    def _move_to(self, at: int) -> None:
        before, self.head = hour_of(self.head), max(self.head, at)
        after = hour_of(self.head)
        if after > before:
            self._fold(self.rows["at"] < self.oldest_hour() * MICROSECONDS_PER_HOUR)
            self.past.advance(before, after)

    def _fold_crowded(self) -> None:
        """Fold the older readings of variables that have more than MOST_RAW."""
        if self._room >= 0:
            return
        many = np.bincount(self.rows["variable"], minlength=1)
        self._room = MOST_RAW - min(int(many.max()), MOST_RAW)
        for variable in np.flatnonzero(many > MOST_RAW):
            if self.past.cells is None:
                self.past.cells = np.tile(EMPTY_CELL, (CELLS[0], 1, CELLS[2]))
            of_it = self.rows["variable"] == variable
            newest_folded = np.sort(self.rows["at"][of_it])[-FEWEST_RAW - 1]
            self._fold(of_it & (self.rows["at"] <= newest_folded))

    def _fold(self, gone: Readings) -> None:
        """Move readings to the past; what is neither usable nor known to it is forgotten."""
        if not gone.any():
            return
        rows = self.rows
        leaving = rows[gone & (rows["flags"] & KEPT_OUT == 0)]
        if len(leaving):
            self.past.absorb(ordered(leaving))
        rest = rows[~gone]
        self._count = len(rest)
        self._rows[: self._count] = rest

    def _all_new(self, readings: Readings, variables: list[int]) -> bool:
        """Tell whether nothing is known of these resources, and each variable comes once."""
        if len(set(variables)) < len(variables):
            return False
        if (self.past.last_at[variables] >= readings["at"][0]).any():
            return False
        known = self.rows["id"][:, None] == readings["id"]
        return not known.any()

    def _put(self, reading: Readings) -> Change:
        variable, version = int(reading["variable"][0]), int(reading["version"][0])
        if self.past.last_at[variable] >= reading["at"][0]:
            return Change(Effect.TOO_LATE, variable)
        own = None
        for index in self._of(reading):
            row = self._rows[index]
            if row["variable"] == ANY_VARIABLE and row["version"] >= version:
                return Change(Effect.STALE, variable)
            if row["variable"] == variable:
                own = index
        if own is not None:
            return self._revise(own, reading[0])
        self._append(reading)
        return Change(_effect_of_new(int(reading["flags"][0])), variable)

    def _revise(self, index: int, new: Readings) -> Change:
        old = self._rows[index].copy()
        variable = int(old["variable"])
        if new["version"] < old["version"]:
            return Change(Effect.STALE, variable)
        if new["version"] == old["version"]:
            return Change(_same_version(old, new), variable)
        self._rows[index] = new
        return Change(Effect.REVISED, variable, int(old["at"]))

    def _retract(self, reading: Readings) -> list[Change]:
        variable, version = int(reading["variable"][0]), int(reading["version"][0])
        known = [(i, int(self._rows["variable"][i])) for i in self._of(reading)]
        hit = [i for i, of in known if variable in (of, ANY_VARIABLE)]
        changes = [self._take_back(i, version) for i in hit]
        covered = (variable, ANY_VARIABLE)
        if any(of in covered and self._rows["version"][i] >= version for i, of in known):
            return changes or [Change(Effect.STALE, variable)]
        if self._is_past(variable, int(reading["at"][0])):
            return changes or [Change(Effect.TOO_LATE, variable)]
        self._append(reading)
        return changes or [Change(Effect.STALE, variable)]

    def _is_past(self, variable: int, at: int) -> bool:
        """Tell whether a value of that time would be folded already."""
        folded = variable != ANY_VARIABLE and self.past.last_at[variable] >= at
        return bool(folded) or hour_of(at) < self.oldest_hour()

    def _take_back(self, index: int, version: int) -> Change:
        row = self._rows[index]
        variable, was_at = int(row["variable"]), int(row["at"])
        if version < row["version"]:
            return Change(Effect.STALE, variable)
        before = int(row["flags"])
        same = bool(before & RETRACTED) and version == row["version"]
        row["version"], row["flags"] = version, before | RETRACTED
        if before & RETRACTED:
            return Change(Effect.DUPLICATE if same else Effect.STALE, variable)
        return Change(Effect.REVISED, variable, was_at)

    def _of(self, reading: Readings) -> list[int]:
        """Where the readings of the same resource are."""
        found: list[int] = np.flatnonzero(self.rows["id"] == reading["id"][0]).tolist()
        return found

    def _append(self, readings: Readings) -> None:
        end = self._count + len(readings)
        if end > len(self._rows):
            more = np.empty(max(len(self._rows), len(readings)), READING)
            self._rows = np.concatenate([self._rows, more])
        self._rows[self._count : end] = readings
        self._count = end
        self._room -= 1  # whoever appends has each variable at most once


def _effect_of_new(flags: int) -> Effect:
    return Effect.UNUSABLE if flags & KEPT_OUT else Effect.NEW


def _same_version(old: Readings, new: Readings) -> Effect:
    if old["flags"] & RETRACTED:
        return Effect.STALE
    both_missing = np.isnan(old["value"]) and np.isnan(new["value"])
    same_value = old["value"] == new["value"] or both_missing
    return Effect.DUPLICATE if same_value and old["at"] == new["at"] else Effect.CONFLICT
