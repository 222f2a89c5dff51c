"""Scores to decisions and decisions to alerts, entry by entry, in the order of the log."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

import msgspec

from services.core.cohorts import UNKNOWN
from services.core.events import (
    Alert,
    Contribution,
    Decision,
    Disposition,
    Kind,
    Step,
    Vitals,
    prediction_id,
)
from services.core.policy import (
    FRESH,
    ActiveAlert,
    Policy,
    PolicyState,
    decide,
    ended,
    expired,
    moved,
    raised,
    withdrawn,
)
from services.scoring.entries import Entry, Model
from services.scoring.horizon import Horizon

TOP_CONTRIBUTIONS: Final = 5
STEPS: Final = {
    Decision.RAISED: Step.RAISED,
    Decision.ESCALATED: Step.ESCALATED,
    Decision.CLEARED: Step.CLEARED,
}
"""What the hospital is told of a decision; of the others it is told nothing."""
EXPLAINED: Final = frozenset({Step.RAISED, Step.ESCALATED})
"""The steps that ask for somebody's eye, and so say what moved the score."""
Explain = Callable[[Entry], list[Contribution]]
"""Says what moved the score of an entry, TOP_CONTRIBUTIONS of it; asked only for a step of
EXPLAINED."""


class Remembered(Protocol):
    """One of whom a policy remembers something."""

    policy: PolicyState


class Memory(Protocol):
    """What a policy remembers of whom: the patients themselves, or a shadow's memory of them."""

    @property
    def patients(self) -> Mapping[bytes, Remembered]:
        """Everybody, by pseudonym."""

    def touched(self, pseudonym: bytes) -> None:
        """Note that one changes who is not the one whose turn it is."""


class Alerting:
    """Holds the policy against the scores of one partition's patients."""

    def __init__(
        self,
        policy: Policy,
        model: Model,
        memory: Memory,
        *,
        partition: int,
        explain: Explain,
        horizon: Horizon,
    ) -> None:
        self._policy, self._model, self._memory = policy, model, memory
        self._partition, self._explain, self._horizon = partition, explain, horizon

    def step(self, entry: Entry) -> Iterable[Alert]:
        """Decide on one entry, remember it, and give the alert steps that follow.

        Args:
            entry: with its disposition and, if scored, score and threshold; its decision is set.
        """
        event = entry.event
        if entry.note.watermark is not None:
            yield from self._expire(entry, event, entry.note.watermark)
        if not event.pseudonym:
            return
        patient = self._memory.patients[event.pseudonym]
        if entry.note.ended:
            yield from self._end(entry, event, patient, cause="encounter_ended")
            patient.policy = FRESH
        if event.kind is Kind.ENCOUNTER and entry.unit != UNKNOWN:
            yield from self._move(entry, event, patient)
        if entry.disposition is Disposition.SCORED:
            yield from self._decide(entry, event, patient)
        elif entry.disposition is Disposition.ABSTAINED and _shaken(entry, patient):
            yield from self._withdraw(entry, event, patient)

    def _decide(self, entry: Entry, event: Vitals, patient: Remembered) -> Iterable[Alert]:
        unit, at = entry.unit, entry.as_of
        if entry.note.discharged:
            return
        if entry.score < entry.threshold and _shaken(entry, patient):
            yield from self._withdraw(entry, event, patient)
            return
        alert = patient.policy.alert
        verdict = decide(
            self._policy,
            patient.policy,
            score=entry.score,
            at=at,
            unit=unit,
            horizon=self._horizon.at(entry.offset),
        )
        entry.decision, patient.policy = verdict.decision, verdict.state
        if verdict.decision is Decision.RAISED:
            alert = self._alert(entry, unit)
            patient.policy = raised(self._policy, verdict.state, alert)
        elif verdict.decision is Decision.ESCALATED:
            alert = verdict.state.alert
        step = STEPS.get(verdict.decision)
        if step is not None and alert is not None:
            yield self._tell(entry, event, alert, step, cause=verdict.cause)

    def _alert(self, entry: Entry, unit: str) -> ActiveAlert:
        return ActiveAlert(
            alert_id=self._id(entry),
            raised_at=entry.as_of,
            valid_until=self._policy.valid_until(entry.as_of),
            score=entry.score,
            threshold=entry.threshold,
            unit=unit,
            encounter=entry.encounter,
            severity=len(self._policy.steps_reached(entry.score)),
        )

    def _move(self, entry: Entry, event: Vitals, patient: Remembered) -> Iterable[Alert]:
        """Follow a patient to another unit; some transfers end an alert and begin silence."""
        at = event.measured_at
        after = moved(self._policy, patient.policy, unit=entry.unit, at=at)
        if after.alert is None:
            yield from self._end(entry, event, patient, cause="transferred")
        patient.policy = after

    def _withdraw(self, entry: Entry, event: Vitals, patient: Remembered) -> Iterable[Alert]:
        """Take back an alert that a corrected or retracted value no longer bears."""
        alert = patient.policy.alert
        if alert is not None:
            patient.policy = withdrawn(patient.policy)
            entry.decision = Decision.WITHDRAWN
            yield self._tell(entry, event, alert, Step.WITHDRAWN, cause="value_revised")

    def _expire(self, entry: Entry, event: Vitals, watermark: int) -> Iterable[Alert]:
        over = [
            p
            for p, of in self._memory.patients.items()
            if of.policy.alert is not None and expired(of.policy, watermark)
        ]
        # In an order that does not tell who was heard first: a restart does not know.
        for pseudonym in sorted(over):
            self._memory.touched(pseudonym)
            patient = self._memory.patients[pseudonym]
            for alert in self._end(entry, event, patient, cause="expired"):
                yield msgspec.structs.replace(alert, pseudonym=pseudonym)

    def _end(
        self, entry: Entry, event: Vitals, patient: Remembered, *, cause: str
    ) -> Iterable[Alert]:
        """End an alert without a score of its own: the step repeats the one that raised it."""
        alert = patient.policy.alert
        if alert is not None:
            patient.policy = ended(patient.policy)
            told = self._tell(entry, event, alert, Step.CLEARED, cause=cause)
            yield msgspec.structs.replace(told, score=alert.score, threshold=alert.threshold)

    def _tell(
        self, entry: Entry, event: Vitals, alert: ActiveAlert, step: Step, *, cause: str
    ) -> Alert:
        """Tell a step; unit and encounter stay those in which the alert was raised."""
        scored = not math.isnan(entry.score)
        return Alert(
            alert_id=alert.alert_id,
            step=step,
            prediction_id=self._id(entry),
            pseudonym=event.pseudonym,
            encounter=alert.encounter,
            unit=alert.unit,
            measured_at=event.measured_at,
            received_at=event.received_at,
            accepted_at=event.accepted_at,
            valid_until=alert.valid_until,
            score=entry.score if scored else alert.score,
            threshold=entry.threshold if scored else alert.threshold,
            cause=cause,
            contributions=self._explain(entry) if step in EXPLAINED else [],
            policy_version=self._policy.version,
            model_digest=self._model.digest,
            severity=alert.severity,
        )

    def _id(self, entry: Entry) -> str:
        model = self._model
        return prediction_id(
            model.vitals_topic_id, self._partition, entry.offset, digest=model.digest
        )


def _shaken(entry: Entry, patient: Remembered) -> bool:
    """Tell whether a value that was known when the alert was raised is another now, or gone."""
    alert, revised_at = patient.policy.alert, entry.note.revised_at
    return alert is not None and revised_at is not None and revised_at <= alert.raised_at
