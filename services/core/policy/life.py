"""The life of an alert: what one encounter's scores and moves make of the policy's state."""

from typing import Final, NamedTuple

import msgspec

from services.core.events import Decision
from services.core.policy.rules import Policy, microseconds

NEVER: Final = -(1 << 62)
"""A time before all others."""
CALLING: Final = frozenset({Decision.RAISED, Decision.ESCALATED})
"""What calls somebody to a patient."""


class ActiveAlert(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """An alert that was raised and has not ended; score to encounter are those of its raising."""

    alert_id: str
    raised_at: int  # µs, event time
    valid_until: int  # µs
    score: float
    threshold: float
    unit: str
    encounter: bytes
    severity: int = 0  # as it was told last; rises with every escalation


class PolicyState(msgspec.Struct, frozen=True, array_like=True):
    """What the policy remembers of one encounter; new fields come last and have a default."""

    streak: int = 0  # consecutive scores at or above the threshold
    refractory_until: int = NEVER
    alert: ActiveAlert | None = None
    step: float = 0.0  # the highest severity step told since the last raising; 0 none
    unit: str = ""  # the last that was known
    silent_until: int = NEVER  # after a transfer


FRESH: Final = PolicyState()
"""The state in which an encounter begins."""


class Verdict(NamedTuple):
    """What was decided, what to remember, and why an alert was raised or told again."""

    decision: Decision
    state: PolicyState
    cause: str = ""


def decide(
    policy: Policy,
    state: PolicyState,
    *,
    score: float,
    at: int,
    unit: str,
    horizon: int = NEVER,
) -> Verdict:
    """Decide on one score.

    A RAISED verdict leaves the alert out of the state: the caller makes it and calls `raised`.
    A score below the unit's threshold changes nothing where there is neither alert nor streak.

    Args:
        policy: the rules.
        state: of the encounter.
        score: probability, finite, of float32 precision.
        at: event time of the score, µs.
        unit: the patient's unit.
        horizon: the event time that has come, µs, where it is known to be past `at`: what would
            be over by then is held. It holds neither a later score nor the end of an alert.
    """
    high = score >= policy.threshold_in(unit)
    after = msgspec.structs.replace(state, streak=state.streak + 1 if high else 0)
    if state.alert is not None:
        verdict = _go_on(policy, after, state.alert, score=score, at=at, unit=unit)
    elif high:
        verdict = _begin(policy, after, score=score, at=at)
    else:
        return Verdict(Decision.NONE, after)
    over = _is_over(policy, verdict, at, horizon)
    return Verdict(Decision.HELD_EXPIRED, after) if over else verdict


def _is_over(policy: Policy, verdict: Verdict, at: int, horizon: int) -> bool:
    """Tell whether a verdict calls somebody for an alert that ends before the horizon."""
    alert = verdict.state.alert
    until = policy.valid_until(at) if alert is None else alert.valid_until
    return verdict.decision in CALLING and until < horizon


def _begin(policy: Policy, state: PolicyState, *, score: float, at: int) -> Verdict:
    """Say whether a score at or above the threshold raises an alert, or what holds it."""
    if state.streak < policy.persistence:
        return Verdict(Decision.HELD_PERSISTENCE, state)
    if at < state.silent_until:
        return Verdict(Decision.HELD_TRANSFER, state)
    if at >= state.refractory_until:
        return Verdict(Decision.RAISED, state, "threshold")
    if _rises(policy, state, score):
        return Verdict(Decision.RAISED, state, "severity")
    return Verdict(Decision.HELD_REFRACTORY, state)


def _go_on(
    policy: Policy, state: PolicyState, alert: ActiveAlert, *, score: float, at: int, unit: str
) -> Verdict:
    """Say whether a score ends an alert, makes it worse, or lets it be."""
    if policy.clears(score, unit):
        return Verdict(Decision.CLEARED, ended(state), "score")
    if not _rises(policy, state, score):
        return Verdict(Decision.ONGOING, state)
    steps = policy.steps_reached(score)
    worse = msgspec.structs.replace(
        alert,
        # A policy that came since may number its steps otherwise: the number rises even then.
        severity=max(len(steps), alert.severity + 1),
        valid_until=max(alert.valid_until, policy.valid_until(at)),
    )
    told = msgspec.structs.replace(state, alert=worse, step=steps[-1])
    return Verdict(Decision.ESCALATED, told, "severity")


def _rises(policy: Policy, state: PolicyState, score: float) -> bool:
    """Tell whether a score reaches a severity step above all that were told."""
    return max(policy.steps_reached(score), default=0.0) > state.step


def raised(policy: Policy, state: PolicyState, alert: ActiveAlert) -> PolicyState:
    """Remember that an alert was raised."""
    return msgspec.structs.replace(
        state,
        refractory_until=alert.raised_at + microseconds(policy.refractory_h),
        alert=alert,
        step=max(policy.steps_reached(alert.score), default=0.0),
    )


def ended(state: PolicyState) -> PolicyState:
    """Remember that the alert is over; the refractory time goes on, and what it has told."""
    return msgspec.structs.replace(state, alert=None)


def withdrawn(state: PolicyState) -> PolicyState:
    """Remember that the alert rested on a value that was taken back: as if it had never been."""
    return msgspec.structs.replace(
        state, alert=None, streak=0, refractory_until=NEVER, step=FRESH.step
    )


def moved(policy: Policy, state: PolicyState, *, unit: str, at: int) -> PolicyState:
    """Remember in which unit a patient is; a transfer that silences ends the alert.

    The first unit of an encounter is where it began, not a transfer.

    Args:
        policy: the rules.
        state: of the encounter.
        unit: the patient is in now.
        at: event time of the message that tells it, µs.
    """
    if unit == state.unit:
        return state
    after = msgspec.structs.replace(state, unit=unit)
    if not state.unit or not policy.transfer.silences(unit):
        return after
    until = at + microseconds(policy.transfer.silent_h)
    return msgspec.structs.replace(ended(after), silent_until=max(until, state.silent_until))


def expired(state: PolicyState, watermark: int) -> bool:
    """Tell whether the alert's validity ended before the watermark."""
    return state.alert is not None and state.alert.valid_until < watermark
