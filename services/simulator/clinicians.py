"""Invented clinicians: whether, when and how they answer an alert, given what is true.

Everything they do hangs on the seed, the stay and the time of the alert alone: neither on the key
of a stack, nor on what else is asked.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from services.core.events import Alert, Verdict
from services.simulator.hospital import load
from services.simulator.messages import instant
from services.simulator.ward import Course

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SEEN_AFTER: Final = timedelta(seconds=20)
"""From the alert's arrival until somebody sees it."""


class Role(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one role answers; `clinicians.toml` explains each number."""

    share: float
    responds: float
    accuracy: float
    delay_min: float
    spread: float


class Followed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often something is done after an answer, and how long after it."""

    confirmed: float
    unsure: float
    delay_min: float


class Habits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How clinicians answer."""

    confirm_within_h: float
    unsure: float
    roles: Mapping[str, Role]
    reasons: Mapping[str, float]
    doubts: Mapping[str, float]
    actions: Mapping[str, Followed]

    @property
    def response_rate(self) -> float:
        """The share of alerts that is answered, of patients who stay long enough."""
        return self._over_roles([role.responds for role in self.roles.values()])

    @property
    def accuracy(self) -> float:
        """The share of right answers among those that are not unsure."""
        answering = [role.responds for role in self.roles.values()]
        right = [role.responds * role.accuracy for role in self.roles.values()]
        return self._over_roles(right) / self._over_roles(answering)

    def _over_roles(self, numbers: list[float]) -> float:
        return float(np.average(numbers, weights=[role.share for role in self.roles.values()]))


class _File(msgspec.Struct, frozen=True):
    clinicians: Habits


HABITS: Final = load("clinicians.toml", _File).clinicians


class Answer(NamedTuple):
    """What somebody answers; times are event-world times.

    Attributes:
        alert_id: of the alert that is answered.
        verdict: what is said.
        reason: a word of `core.feedback.REASONS`, "" for none.
        role: a word of `core.feedback.ROLES`.
        shown_at: when it was seen.
        answered_at: when it was answered.
        actions: what was done, and when.
    """

    alert_id: str
    verdict: Verdict
    reason: str
    role: str
    shown_at: datetime
    answered_at: datetime
    actions: list[tuple[str, datetime]]

    @property
    def told_at(self) -> datetime:
        """When it can be told: after the last of the actions."""
        return max([self.answered_at, *(at for _, at in self.actions)])

    def body(self) -> bytes:
        """Write it as the gateway takes it."""
        said: dict[str, Any] = self._asdict() | {
            "id": f"fb-{hashlib.sha256(self.alert_id.encode()).hexdigest()[:16]}",
            "shown_at": instant(self.shown_at),
            "answered_at": instant(self.answered_at),
            "actions": [{"kind": kind, "at": instant(at)} for kind, at in self.actions],
        }
        return msgspec.json.encode(said)


class Clinicians:
    """Everybody who may answer an alert.

    Args:
        seed: the same seed answers the same alerts in the same way.
        habits: how they answer.
    """

    def __init__(self, seed: int, habits: Habits = HABITS) -> None:
        self.habits = habits
        self._seed = seed

    def answer(self, alert: Alert, course: Course | None) -> Answer | None:
        """Answer an alert that was raised; None when nobody does.

        Args:
            alert: the step at which it was raised.
            course: what is true of the stay; None where nothing is known, as of no illness.
        """
        rng = self._chance(alert, course)
        role_name = _drawn(rng, {name: role.share for name, role in self.habits.roles.items()})
        role = self.habits.roles[role_name]
        responds = rng.random() < role.responds
        shown_at = _moment(alert.received_at) + _SEEN_AFTER
        answered_at = shown_at + _delay(rng, role.delay_min, role.spread)
        verdict = self._verdict(rng, role, septic=self._septic(alert, course))
        reason = self._reason(rng, verdict)
        actions = self._actions(rng, verdict, answered_at)
        left = course.ended_at if course else datetime.max.replace(tzinfo=UTC)
        if answered_at > left or not responds:
            return None
        done = [(kind, at) for kind, at in actions if at <= left]
        return Answer(alert.alert_id, verdict, reason, role_name, shown_at, answered_at, done)

    def _chance(self, alert: Alert, course: Course | None) -> np.random.Generator:
        stay = course.encounter if course else alert.encounter.hex()
        named = f"{self._seed}/{stay}/{alert.measured_at}".encode()
        return np.random.default_rng(list(hashlib.sha256(named).digest()))

    def _septic(self, alert: Alert, course: Course | None) -> bool:
        if course is None or course.onset_at is None:
            return False
        within = timedelta(hours=self.habits.confirm_within_h)
        return course.onset_at - _moment(alert.measured_at) <= within

    def _verdict(self, rng: np.random.Generator, role: Role, *, septic: bool) -> Verdict:
        unsure, wrong = rng.random(2)
        if unsure < self.habits.unsure:
            return Verdict.UNSURE
        right = wrong < role.accuracy
        return Verdict.CONFIRMED if septic == right else Verdict.DISMISSED

    def _reason(self, rng: np.random.Generator, verdict: Verdict) -> str:
        # Both are drawn, so that a verdict does not move the chance of what follows.
        reason, doubt = _drawn(rng, self.habits.reasons), _drawn(rng, self.habits.doubts)
        return {Verdict.DISMISSED: reason, Verdict.UNSURE: doubt}.get(verdict, "")

    def _actions(
        self, rng: np.random.Generator, verdict: Verdict, answered_at: datetime
    ) -> list[tuple[str, datetime]]:
        done = []
        for kind, followed in self.habits.actions.items():
            at = answered_at + _delay(rng, followed.delay_min, 0.5)
            often = {Verdict.CONFIRMED: followed.confirmed, Verdict.UNSURE: followed.unsure}
            if rng.random() < often.get(verdict, 0.0):
                done.append((kind, at))
        return sorted(done, key=lambda action: action[1])


def _drawn(rng: np.random.Generator, shares: Mapping[str, float]) -> str:
    bounds = np.cumsum(list(shares.values()))
    return list(shares)[int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))]


def _delay(rng: np.random.Generator, median_min: float, spread: float) -> timedelta:
    return timedelta(seconds=round(60 * rng.lognormal(np.log(median_min), spread)))


def _moment(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)
