"""When a score becomes an alert and when the alert ends; a policy is frozen, its state a value.

Time is event time, microseconds; the policy never sees a clock.
"""

import struct
from typing import Annotated, Final, NamedTuple

import msgspec

from services.core.events import MICROSECONDS_PER_HOUR, Decision
from services.core.vitals import VITALS

NEVER: Final = -(1 << 62)
"""A time before all others."""


Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Hours = Annotated[float, msgspec.Meta(ge=0, le=24 * 365)]


class Abstain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When there is too little to score: no score is better than a stale one."""

    min_vitals: Annotated[int, msgspec.Meta(ge=1, le=len(VITALS))] = 3  # that must be recent
    max_age_h: Hours = 6.0  # what recent means


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of the rules between score and alert.

    Scores and thresholds are probabilities, 0 to 1.
    """

    version: str
    threshold: Probability
    units: dict[str, Probability] = {}  # a threshold of its own for a unit
    persistence: Annotated[int, msgspec.Meta(ge=1)] = 1  # consecutive scores at or above it
    clear_below: Probability  # an alert ends when the score falls below; at most the threshold
    refractory_h: Hours = 6.0  # after an alert was raised, no other for so long
    valid_for_h: Hours = 6.0  # after this an alert means nothing
    abstain: Abstain = Abstain()

    def threshold_in(self, unit: str) -> float:
        """Give the threshold that holds in a unit, with the precision of scores and records.

        >>> policy = Policy(version="1", threshold=0.5, units={"MICU": 0.7}, clear_below=0.4)
        >>> policy.threshold_in("MICU"), policy.threshold_in("SICU")
        (0.699999988079071, 0.5)
        """
        return _float32(self.units.get(unit, self.threshold))

    def clears(self, score: float, unit: str) -> bool:
        """Tell whether a score ends an alert in a unit."""
        return score < min(_float32(self.clear_below), self.threshold_in(unit))

    def valid_until(self, raised_at: int) -> int:
        """Give the end (µs) of the validity of an alert."""
        return raised_at + _microseconds(self.valid_for_h)


class ActiveAlert(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """An alert that was raised and has not ended, as it was raised."""

    alert_id: str
    raised_at: int  # µs, event time
    valid_until: int  # µs
    score: float
    threshold: float
    unit: str
    encounter: bytes


class PolicyState(msgspec.Struct, frozen=True, array_like=True):
    """What the policy remembers of one encounter."""

    streak: int = 0
    refractory_until: int = NEVER
    alert: ActiveAlert | None = None


FRESH: Final = PolicyState()
"""The state in which an encounter begins."""


class Verdict(NamedTuple):
    """What was decided, and what to remember."""

    decision: Decision
    state: PolicyState


def decide(policy: Policy, state: PolicyState, *, score: float, at: int, unit: str) -> Verdict:
    """Decide on one score.

    A RAISED verdict leaves the alert out of the state: the caller makes it and calls `raised`.

    Args:
        policy: the rules.
        state: of the encounter.
        score: probability, finite, of float32 precision.
        at: event time of the score, µs.
        unit: the patient's unit.
    """
    high = score >= policy.threshold_in(unit)
    streak = state.streak + 1 if high else 0
    after = msgspec.structs.replace(state, streak=streak)
    if state.alert is not None:
        if policy.clears(score, unit):
            return Verdict(Decision.CLEARED, ended(after))
        return Verdict(Decision.ONGOING, after)
    if not high:
        return Verdict(Decision.NONE, after)
    if streak < policy.persistence:
        return Verdict(Decision.HELD_PERSISTENCE, after)
    if at < state.refractory_until:
        return Verdict(Decision.HELD_REFRACTORY, after)
    return Verdict(Decision.RAISED, after)


def raised(policy: Policy, state: PolicyState, alert: ActiveAlert) -> PolicyState:
    """Remember that an alert was raised."""
    silent_until = alert.raised_at + _microseconds(policy.refractory_h)
    return msgspec.structs.replace(state, refractory_until=silent_until, alert=alert)


def ended(state: PolicyState) -> PolicyState:
    """Remember that the alert is over; the refractory time goes on."""
    return msgspec.structs.replace(state, alert=None)


def withdrawn(state: PolicyState) -> PolicyState:
    """Remember that the alert rested on a value that was taken back: as if it had never been."""
    return msgspec.structs.replace(state, alert=None, streak=0, refractory_until=NEVER)


def expired(state: PolicyState, watermark: int) -> bool:
    """Tell whether the alert's validity ended before the watermark."""
    return state.alert is not None and state.alert.valid_until < watermark


def _microseconds(hours: float) -> int:
    return round(hours * MICROSECONDS_PER_HOUR)


def _float32(number: float) -> float:
    """Round as records do, so that a decision can be repeated from its record."""
    rounded: float = struct.unpack("<f", struct.pack("<f", number))[0]
    return rounded
