"""The hearing: what clinicians answer and registries tell becomes records outside the PHI zone.

Nothing but what the events carry leaves here: no text, no identifier but the message's own.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from services.core.errors import Reason, Retry
from services.core.events import Action, Authority, Feedback, Outcome, partition_of
from services.core.feedback import ACTIONS, DEFINITIONS, REASONS, ROLES, partition_named
from services.core.pseudonyms import encounter_pseudonym, patient_pseudonym, statement_name
from services.gateway.reception import forms
from services.gateway.reception.answers import Rejected
from services.gateway.reception.forms import Fault, check_word
from services.gateway.reception.times import microseconds
from services.runtime.ports import Output

FEEDBACK: Final = "feedback.v1"
OUTCOMES: Final = "outcomes.v1"
SKEW_US: Final = 300_000_000
"""A time may lie this far after the message's: clocks differ by minutes, not more."""
_DAY_US: Final = 86_400_000_000
ANSWERED_WITHIN_US: Final = 30 * _DAY_US
"""How old an answer may be when it comes; feedback.v1 keeps as much."""
TOLD_WITHIN_US: Final = 2 * 365 * _DAY_US
"""How old an onset may be when it is told."""
VERSION: Final = "1"

Encode = Callable[[msgspec.Struct], bytes]


class Arrival(NamedTuple):
    """Who sent, and when it came: event-world time and the real clock, µs since the epoch."""

    source: str
    received_at: int
    accepted_at: int


class Heard(NamedTuple):
    """The sender's own id of what was said, and the records that hold it."""

    name: str
    records: list[Output]


class Hearing:
    """Turns what is said into records; keeps nothing."""

    def __init__(self, key: bytes, encode: Encode, partitions: Mapping[str, int]) -> None:
        """Begin to hear.

        Args:
            key: the pseudonym key.
            encode: makes a record's value of an event.
            partitions: of FEEDBACK and OUTCOMES; may be filled later.
        """
        self._key, self._encode, self._partitions = key, encode, partitions

    def feedback(self, arrival: Arrival, body: bytes) -> Heard:
        """Hear the answer to an alert, of whatever age the alert is.

        Raises:
            Rejected: the body is no answer, or its times cannot be (400).
            Retry: it is not known yet how many partitions the topic has.
        """
        said = forms.read(body, forms.Answer)
        shown_at = _perhaps(said.shown_at, "shown_at", arrival, ANSWERED_WITHIN_US)
        event = Feedback(
            feedback_id=statement_name(self._key, arrival.source, said.id),
            source=arrival.source,
            alert_id=said.alert_id,
            verdict=said.verdict,
            reason=check_word(said.reason, {"", *REASONS}, "reason"),
            role=check_word(said.role, {"", *ROLES}, "role"),
            shown_at=shown_at,
            answered_at=_when(said.answered_at, "answered_at", arrival, ANSWERED_WITHIN_US),
            actions=[
                _action(done, f"actions[{n}]", arrival) for n, done in enumerate(said.actions)
            ],
            received_at=arrival.received_at,
            accepted_at=arrival.accepted_at,
        )
        if shown_at is not None and shown_at > event.answered_at + SKEW_US:
            raise Rejected(400, "answered_at", Fault.TIME_ORDER)
        partition = self._named(said.alert_id)
        value = self._encode(event)
        return Heard(said.id, [Output(FEEDBACK, said.alert_id.encode(), value, partition)])

    def outcome(self, arrival: Arrival, body: bytes) -> Heard:
        """Hear what became of an encounter, or how far a source has told.

        Raises:
            Rejected: the body is neither, or its times cannot be (400).
            Retry: it is not known yet how many partitions the topic has.
        """
        if forms.tells_progress(body):
            return self._progress(arrival, forms.read(body, forms.Progress))
        return self._outcome(arrival, forms.read(body, forms.Told))

    def _outcome(self, arrival: Arrival, said: forms.Told) -> Heard:
        event = Outcome(
            outcome_id=statement_name(self._key, arrival.source, said.id),
            source=arrival.source,
            pseudonym=patient_pseudonym(self._key, arrival.source, said.patient),
            encounter=encounter_pseudonym(self._key, arrival.source, said.encounter),
            authority=said.authority,
            revision=said.revision,
            onset_at=_told(said.onset_at, "onset_at", arrival),
            recognized_at=_told(said.recognized_at, "recognized_at", arrival),
            treated_at=_told(said.treated_at, "treated_at", arrival),
            definition=check_word(said.definition, DEFINITIONS, "definition"),
            definition_version=said.definition_version,
            received_at=arrival.received_at,
            accepted_at=arrival.accepted_at,
        )
        partition = partition_of(event.pseudonym, self._count(OUTCOMES))
        return Heard(said.id, [Output(OUTCOMES, event.pseudonym, self._encode(event), partition)])

    def _progress(self, arrival: Arrival, said: forms.Progress) -> Heard:
        event = Outcome(
            outcome_id=statement_name(self._key, arrival.source, said.id),
            source=arrival.source,
            authority=Authority.FINAL,
            revision=0,
            definition=DEFINITIONS[0],
            definition_version=VERSION,
            complete_through=_told(said.complete_through, "complete_through", arrival),
            received_at=arrival.received_at,
            accepted_at=arrival.accepted_at,
        )
        key, value = arrival.source.encode(), self._encode(event)
        everywhere = range(self._count(OUTCOMES))
        return Heard(
            said.id, [Output(OUTCOMES, key, value, partition) for partition in everywhere]
        )

    def _named(self, alert_id: str) -> int:
        try:
            partition = partition_named(alert_id)
        except ValueError:
            raise Rejected(400, "alert_id", Fault.ALERT_ID) from None
        if partition >= self._count(FEEDBACK):
            raise Rejected(400, "alert_id", Fault.ALERT_ID)
        return partition

    def _count(self, topic: str) -> int:
        if topic not in self._partitions:
            raise Retry(f"Kafka: it is not known yet how many partitions {topic} has")
        return self._partitions[topic]


def _action(done: forms.Done, place: str, arrival: Arrival) -> Action:
    kind = check_word(done.kind, ACTIONS, f"{place}.kind")
    return Action(kind=kind, at=_when(done.at, f"{place}.at", arrival, ANSWERED_WITHIN_US))


def _told(at: datetime | None, place: str, arrival: Arrival) -> int | None:
    return _perhaps(at, place, arrival, TOLD_WITHIN_US)


def _perhaps(at: datetime | None, place: str, arrival: Arrival, within_us: int) -> int | None:
    return None if at is None else _when(at, place, arrival, within_us)


def _when(at: datetime, place: str, arrival: Arrival, within_us: int) -> int:
    moment = microseconds(at)
    if moment > arrival.received_at + SKEW_US:
        raise Rejected(400, place, Reason.TIME_FUTURE)
    if moment < arrival.received_at - within_us:
        raise Rejected(400, place, Fault.TIME_PAST)
    return moment
