"""When a score becomes an alert and when the alert ends; a policy is frozen, its state a value.

Time is event time, microseconds; the policy never sees a clock.
"""

from typing import Final, NamedTuple

import msgspec

from services.core.events import MICROSECONDS_PER_HOUR, Decision

NEVER: Final = -(1 << 62)
"""A time before all others."""


class Abstain(msgspec.Struct, frozen=True, kw_only=True):
    """When there is too little to score: no score is better than a stale one."""

    min_vitals: int = 3  # different vital signs that must be recent
    max_age_h: float = 6.0  # what recent means


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of the rules between score and alert.

    Scores and thresholds are probabilities, 0 to 1.
    """

    version: str
    threshold: float
    units: dict[str, float] = {}  # a threshold of its own for a unit
    persistence: int = 1  # consecutive scores at or above the threshold
    clear_below: float  # an alert ends when the score falls below; at most the threshold
    refractory_h: float = 6.0  # after an alert was raised, no other for so long
    valid_for_h: float = 6.0  # after this an alert means nothing
    abstain: Abstain = Abstain()

    def threshold_in(self, unit: str) -> float:
        """Give the threshold that holds in a unit."""
        return self.units.get(unit, self.threshold)


class ActiveAlert(msgspec.Struct, frozen=True, array_like=True):
    """An alert that was raised and has not ended."""

    alert_id: str
    raised_at: int  # µs, event time
    valid_until: int  # µs


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

    A RAISED verdict leaves the alert out of the state: the caller names it and calls `raised`.

    Args:
        policy: the rules.
        state: of the encounter.
        score: probability, finite.
        at: event time of the score, µs.
        unit: the patient's unit.
    """
    high = score >= policy.threshold_in(unit)
    streak = state.streak + 1 if high else 0
    after = msgspec.structs.replace(state, streak=streak)
    if state.alert is not None:
        if score < min(policy.clear_below, policy.threshold_in(unit)):
            return Verdict(Decision.CLEARED, ended(after))
        return Verdict(Decision.ONGOING, after)
    if not high:
        return Verdict(Decision.NONE, after)
    if streak < policy.persistence:
        return Verdict(Decision.HELD_PERSISTENCE, after)
    if at < state.refractory_until:
        return Verdict(Decision.HELD_REFRACTORY, after)
    return Verdict(Decision.RAISED, after)


def raised(policy: Policy, state: PolicyState, *, alert_id: str, at: int) -> PolicyState:
    """Remember that an alert was raised at an event time."""
    return msgspec.structs.replace(
        state,
        refractory_until=at + _hours(policy.refractory_h),
        alert=ActiveAlert(alert_id, at, at + _hours(policy.valid_for_h)),
    )


def ended(state: PolicyState) -> PolicyState:
    """Remember that the alert is over; the refractory time goes on."""
    return msgspec.structs.replace(state, alert=None)


def withdrawn(state: PolicyState) -> PolicyState:
    """Remember that the alert rested on a value that was taken back: as if it had never been."""
    return msgspec.structs.replace(state, alert=None, streak=0, refractory_until=NEVER)


def expired(state: PolicyState, watermark: int) -> bool:
    """Tell whether the alert's validity ended before the watermark."""
    return state.alert is not None and state.alert.valid_until < watermark


def _hours(hours: float) -> int:
    return round(hours * MICROSECONDS_PER_HOUR)
