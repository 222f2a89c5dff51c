"""What a policy would have told, had it judged scores that are on record."""

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from services.core.events import MICROSECONDS_PER_HOUR, Decision
from services.core.policy.life import (
    FRESH,
    ActiveAlert,
    PolicyState,
    decide,
    ended,
    expired,
    moved,
    raised,
)
from services.core.policy.rules import Policy

HOURS_PER_100_DAYS: Final = 2400


class Scored(NamedTuple):
    """A score on record.

    Attributes:
        encounter: whose.
        at: event time of the score, µs.
        unit: the patient was in; empty: not known.
        score: probability, of float32 precision.
    """

    encounter: bytes
    at: int
    unit: str
    score: float


class Told(NamedTuple):
    """What would have been told and held.

    Attributes:
        decisions: how many scores had each.
        broke_silence: of the alerts raised, those within the refractory time of another.
        encounters: of which one alert or more was raised.
        hours: of an encounter with a score.
    """

    decisions: Counter[Decision]
    broke_silence: int
    encounters: int
    hours: int

    @property
    def per_100_days(self) -> float:
        """Alerts raised per 100 patient-days with a score in each hour; NaN without any."""
        many = self.decisions[Decision.RAISED] * HOURS_PER_100_DAYS
        return many / self.hours if self.hours else float("nan")


def tried(policy: Policy, scores: Iterable[Scored]) -> Told:
    """Let a policy judge scores in the order of their record.

    It knows what the scores tell and no more: nothing was corrected or discharged, a transfer
    shows with the first score after it, and an alert expires with the first score after its end.
    """
    states: dict[bytes, PolicyState] = {}
    decisions, alerted, broke, hours = Counter[Decision](), set[bytes](), 0, set[object]()
    for each in scores:
        before = _now(policy, states.get(each.encounter, FRESH), each)
        verdict = decide(policy, before, score=each.score, at=each.at, unit=each.unit)
        state = verdict.state
        if verdict.decision is Decision.RAISED:
            state = raised(policy, state, _alert(policy, each))
            alerted.add(each.encounter)
            broke += verdict.cause == "severity"
        states[each.encounter] = state
        decisions[verdict.decision] += 1
        hours.add((each.encounter, each.at // MICROSECONDS_PER_HOUR))
    return Told(decisions, broke, len(alerted), len(hours))


def _now(policy: Policy, state: PolicyState, each: Scored) -> PolicyState:
    if expired(state, each.at):
        state = ended(state)
    return moved(policy, state, unit=each.unit, at=each.at) if each.unit else state


def _alert(policy: Policy, each: Scored) -> ActiveAlert:
    return ActiveAlert(
        alert_id="",
        raised_at=each.at,
        valid_until=policy.valid_until(each.at),
        score=each.score,
        threshold=policy.threshold_in(each.unit),
        unit=each.unit,
        encounter=each.encounter,
        severity=len(policy.steps_reached(each.score)),
    )
