"""Scores to decisions and decisions to alerts, entry by entry, in the order of the log."""

from collections.abc import Callable, Iterable
from typing import Final

from services.core.events import (
    Alert,
    Contribution,
    Decision,
    Disposition,
    Step,
    Vitals,
    prediction_id,
)
from services.core.policy import (
    FRESH,
    ActiveAlert,
    Policy,
    decide,
    ended,
    expired,
    raised,
    withdrawn,
)
from services.scoring.entries import Entry, Model
from services.scoring.patients import Patient
from services.scoring.ward import Ward

TOP_CONTRIBUTIONS: Final = 5
Explain = Callable[[Entry], list[Contribution]]
"""Says what moved the score of an entry, largest first; asked only when an alert is raised."""


class Alerting:
    """Holds the policy against the scores of one partition's patients."""

    def __init__(
        self, policy: Policy, model: Model, ward: Ward, *, partition: int, explain: Explain
    ) -> None:
        self._policy, self._model, self._ward = policy, model, ward
        self._partition, self._explain = partition, explain

    def step(self, entry: Entry) -> Iterable[Alert]:
        """Decide on one entry, remember it, and give the alert steps that follow.

        Args:
            entry: with its disposition and, if scored, its score; decision and threshold are set.
        """
        event = entry.event
        if event is None:
            return
        if not event.pseudonym:
            yield from self._expire(entry, event)
            return
        patient = self._ward.patients[event.pseudonym]
        if entry.ended is not None:
            yield from self._leave(entry, event, patient)
        if entry.disposition is Disposition.SCORED:
            yield from self._decide(entry, event, patient)
        elif entry.revised and entry.disposition is Disposition.ABSTAINED:
            yield from self._withdraw(entry, event, patient)

    def _decide(self, entry: Entry, event: Vitals, patient: Patient) -> Iterable[Alert]:
        unit = entry.unit
        entry.threshold = self._policy.threshold_in(unit)
        if entry.revised and entry.score < entry.threshold and patient.policy.alert:
            yield from self._withdraw(entry, event, patient)
            return
        alert, at = patient.policy.alert, entry.as_of
        verdict = decide(self._policy, patient.policy, score=entry.score, at=at, unit=unit)
        entry.decision, patient.policy = verdict.decision, verdict.state
        if verdict.decision is Decision.RAISED:
            patient.policy = raised(self._policy, verdict.state, alert_id=self._id(entry), at=at)
            alert = patient.policy.alert
            yield from self._tell(entry, event, alert, Step.RAISED, "threshold")
        elif verdict.decision is Decision.CLEARED:
            yield from self._tell(entry, event, alert, Step.CLEARED, "score")

    def _withdraw(self, entry: Entry, event: Vitals, patient: Patient) -> Iterable[Alert]:
        """Take back an alert that a corrected or retracted value no longer bears."""
        alert = patient.policy.alert
        if alert is None:
            return
        patient.policy = withdrawn(patient.policy)
        entry.decision = Decision.WITHDRAWN
        yield from self._tell(entry, event, alert, Step.WITHDRAWN, "value_revised")

    def _leave(self, entry: Entry, event: Vitals, patient: Patient) -> Iterable[Alert]:
        alert = patient.policy.alert
        patient.policy = FRESH
        yield from self._tell(entry, event, alert, Step.CLEARED, "encounter_ended")

    def _expire(self, entry: Entry, event: Vitals) -> Iterable[Alert]:
        watermark = entry.watermark
        if watermark is None:
            return
        for pseudonym, patient in self._ward.patients.items():
            if expired(patient.policy, watermark):
                alert = patient.policy.alert
                patient.policy = ended(patient.policy)
                self._ward.touched(pseudonym)
                of_whom = Entry(
                    offset=entry.offset, encounter=patient.encounter, unit=patient.unit
                )
                yield from self._tell(
                    of_whom, event, alert, Step.CLEARED, "expired", pseudonym=pseudonym
                )

    def _tell(
        self,
        entry: Entry,
        event: Vitals,
        alert: ActiveAlert | None,
        step: Step,
        cause: str,
        *,
        pseudonym: bytes | None = None,
    ) -> Iterable[Alert]:
        if alert is None:
            return
        unit, encounter = (entry.unit, entry.encounter)
        if cause == "encounter_ended" and entry.ended is not None:
            unit, encounter = entry.ended
        is_raised = step is Step.RAISED
        yield Alert(
            alert_id=alert.alert_id,
            step=step,
            prediction_id=self._id(entry),
            pseudonym=event.pseudonym if pseudonym is None else pseudonym,
            encounter=encounter,
            unit=unit,
            measured_at=event.measured_at,
            received_at=event.received_at,
            accepted_at=event.accepted_at,
            valid_until=alert.valid_until,
            score=entry.score,
            threshold=entry.threshold,
            cause=cause,
            contributions=self._explain(entry)[:TOP_CONTRIBUTIONS] if is_raised else [],
            policy_version=self._policy.version,
            model_digest=self._model.digest,
        )

    def _id(self, entry: Entry) -> str:
        model = self._model
        return prediction_id(
            model.vitals_topic_id, self._partition, entry.offset, digest=model.digest
        )
