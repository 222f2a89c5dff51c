"""One version of the rules between score and alert."""

import struct
from fnmatch import fnmatchcase
from typing import Annotated

import msgspec

from services.core.events import MICROSECONDS_PER_HOUR
from services.core.vitals import VITALS

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Hours = Annotated[float, msgspec.Meta(ge=0, le=24 * 365)]


class Abstain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When there is too little to score: no score is better than a stale one."""

    min_vitals: Annotated[int, msgspec.Meta(ge=1, le=len(VITALS))] = 3  # that must be recent
    max_age_h: Hours = 6.0  # what recent means


class Transfer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Silence after a transfer: whoever has just taken a patient over looks without being told."""

    to: list[str] = []  # units; `*` stands for anything, so `*ICU` is every unit that ends so
    silent_h: Hours = 0.0

    def silences(self, unit: str) -> bool:
        """Tell whether silence follows a move into a unit.

        >>> icu = Transfer(to=["*ICU", "stepdown"], silent_h=4)
        >>> [icu.silences(unit) for unit in ("MICU", "stepdown", "ward")]
        [True, True, False]
        """
        return any(fnmatchcase(unit, each) for each in self.to)


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of the rules between score and alert; `docs/policy.md` says what each does.

    Scores, thresholds and severity steps are probabilities, 0 to 1.
    """

    version: str
    threshold: Probability
    units: dict[str, Probability] = {}  # a threshold of its own for a unit
    severity: list[Probability] = []  # rising steps above it; to reach one breaks the silence
    persistence: Annotated[int, msgspec.Meta(ge=1)] = 1  # consecutive scores at or above it
    clear_below: Probability  # an alert ends when the score falls below; at most the threshold
    refractory_h: Hours = 6.0  # after an alert was raised, no other for so long
    transfer: Transfer = Transfer()
    valid_for_h: Hours = 6.0  # after this an alert means nothing
    abstain: Abstain = Abstain()

    def threshold_in(self, unit: str) -> float:
        """Give the threshold that holds in a unit, with the precision of scores and records.

        >>> policy = Policy(version="1", threshold=0.5, units={"MICU": 0.7}, clear_below=0.4)
        >>> policy.threshold_in("MICU"), policy.threshold_in("SICU")
        (0.699999988079071, 0.5)
        """
        return float32(self.units.get(unit, self.threshold))

    def clears(self, score: float, unit: str) -> bool:
        """Tell whether a score ends an alert in a unit."""
        return score < min(float32(self.clear_below), self.threshold_in(unit))

    def steps_reached(self, score: float) -> list[float]:
        """Give the severity steps that a score has reached, lowest first.

        >>> policy = Policy(version="1", threshold=0.5, clear_below=0.4, severity=[0.75, 0.875])
        >>> policy.steps_reached(0.7), policy.steps_reached(0.875)
        ([], [0.75, 0.875])
        """
        return [step for step in map(float32, self.severity) if step <= score]

    def valid_until(self, told_at: int) -> int:
        """Give the end (µs) of the validity of an alert."""
        return told_at + microseconds(self.valid_for_h)


def microseconds(hours: float) -> int:
    """Convert a length of time."""
    return round(hours * MICROSECONDS_PER_HOUR)


def float32(number: float) -> float:
    """Round as records do, so that a decision can be repeated from its record."""
    rounded: float = struct.unpack("<f", struct.pack("<f", number))[0]
    return rounded
