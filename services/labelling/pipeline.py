"""The flow of labelling: take one record, then say what is new or different of the hours."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from services.core.errors import Reason, Refusal
from services.core.events import (
    Alert,
    Feedback,
    Labelled,
    Outcome,
    PredictionBatch,
    Role,
    Step,
)
from services.core.labels import Rule, hour_of
from services.labelling.outputs import (
    ALERTS,
    FEEDBACK,
    OUTCOMES,
    PREDICTIONS,
    dead_output,
    labelled_of,
    labelled_output,
)
from services.labelling.progress import KEY as PROGRESS
from services.labelling.progress import Progress
from services.labelling.reading import (
    check_alert,
    check_feedback,
    check_outcome,
    entries_of,
)
from services.labelling.register import Register, Said, key_of
from services.labelling.stays import beyond_reach
from services.labelling.waiting import PREFIX as HELD
from services.labelling.waiting import Held, Mark, Waiting, mark_of
from services.labelling.wire import Wire
from services.runtime.codec import Codec
from services.runtime.ports import Output, Record, Row

Joined = Callable[[str, str], None]
"""Hears of a topic what became of a record or entry: `taken`, `held`, `repeated`, `conflict`,
`too_late`, `not_shown`, `not_raised`, or the reason of a dead letter."""

_UNKNOWN: Final = {
    FEEDBACK: Refusal(Reason.ALERT_UNKNOWN, "alert_id"),
    OUTCOMES: Refusal(Reason.ENCOUNTER_UNKNOWN, "encounter"),
}


class Labeller(NamedTuple):
    """What every partition of a labelling process shares.

    Attributes:
        codec: for events.
        rule: how labels are made.
        joined: hears what became of records, for metrics.
    """

    codec: Codec
    rule: Rule
    joined: Joined


class Labelling:
    """The task of one partition of predictions, alerts, answers and outcomes."""

    def __init__(self, partition: int, labeller: Labeller) -> None:
        self._partition, self._labeller = partition, labeller
        self._codec, self._joined = labeller.codec, labeller.joined
        self._wire = Wire(labeller.codec)
        self._progress, self._waiting = Progress(), Waiting()
        self._register = Register(labeller.rule, self._progress)

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one row of the changelog."""
        if key == PROGRESS:
            self._progress.load(value)
        elif key.startswith(HELD):
            self._load_held(key, value)
        else:
            self._register.load(key, value)

    def _load_held(self, key: bytes, value: bytes | None) -> None:
        held = self._waiting.load(key, value)
        if held is not None and value is not None:
            self._register.heard[held.mark.name] = held.mark.content

    def changes(self) -> Iterable[Row]:
        """Give the rows of the stays, of what is held, and of the partition, that changed."""
        yield from self._register.changes()
        yield from self._waiting.changes()
        yield from self._progress.changes()

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        """Join records in order; what follows from one is said before the next is looked at."""
        yield from self._by_todays_rule()
        for record in records:
            yield from self._handle(record)

    def _by_todays_rule(self) -> Iterator[Output]:
        """Restate what a life with another lag said: state does not hold what was said."""
        rule, lag = self._labeller.rule, self._progress.lag
        if lag == rule.lag:
            return
        if lag is not None:
            self._register.rule = rule._replace(lag=lag)
            self._register.follow(rule)
            yield from self._say(self._register.restated(), self._progress.watermark)
        self._progress.follow(rule.lag)

    def _handle(self, record: Record) -> Iterator[Output]:
        try:
            watermark = self._take(record)
        except Refusal as refusal:
            yield self._dead(record, refusal)
            return
        yield from self._say(self._register.restated(), self._progress.watermark)
        yield from self._advance(watermark)

    def _take(self, record: Record) -> int | None:
        """Change the state by a record, and give the watermark that it brings, if any.

        Raises:
            Refusal: the record cannot be used; nothing was changed.
        """
        value = record.value or b""
        if record.topic == PREDICTIONS:
            return self._predictions(self._codec.decode(value, PredictionBatch))
        if record.topic == ALERTS:
            self._alert(self._codec.decode(value, Alert))
        elif record.topic == FEEDBACK:
            self._feedback(record, self._codec.decode(value, Feedback))
        else:
            self._outcome(record, self._codec.decode(value, Outcome))
        return None

    def _predictions(self, batch: PredictionBatch) -> int | None:
        entries = entries_of(batch)
        if batch.role is not Role.SHOWN:
            self._joined(PREDICTIONS, "not_shown")
            return None
        model = (batch.model_digest, batch.policy_version)
        for entry in entries:
            if self._late(PREDICTIONS, entry.measured_at):
                continue
            fresh = entry.key not in self._register.stays
            self._register.measure(entry, model)
            if fresh:
                self._release(entry.key)
        self._joined(PREDICTIONS, "taken")
        return batch.watermark

    def _alert(self, alert: Alert) -> None:
        check_alert(alert)
        if alert.step is not Step.RAISED:
            self._joined(ALERTS, "not_raised")
            return
        if self._late(ALERTS, alert.measured_at):
            return
        self._register.raise_alert(alert)
        self._joined(ALERTS, "taken")
        self._release(key_of(alert))
        self._release(alert.alert_id.encode())

    def _late(self, topic: str, at: int) -> bool:
        late = beyond_reach(hour_of(at), self._progress.watermark)
        if late:
            self._joined(topic, "too_late")
        return late

    def _feedback(self, record: Record, feedback: Feedback) -> None:
        check_feedback(feedback)
        self._hear(record, feedback, feedback.alert_id.encode())

    def _outcome(self, record: Record, outcome: Outcome) -> None:
        check_outcome(outcome)
        if outcome.pseudonym:
            self._hear(record, outcome, key_of(outcome))
        elif outcome.complete_through is not None:
            self._register.complete(outcome.source, outcome.complete_through)
            self._joined(OUTCOMES, "taken")

    def _hear(self, record: Record, event: Feedback | Outcome, wanted: bytes) -> None:
        """Take an answer or outcome, or hold it until what it is about is known."""
        mark = mark_of(event)
        content = self._register.heard.get(mark.name)
        if content is not None:
            self._joined(record.topic, "repeated" if content == mark.content else "conflict")
            return
        if self._join(event, mark):
            self._joined(record.topic, "taken")
        else:
            self._hold(record, Held.of(record, wanted=wanted, mark=mark, at=event.received_at))
        self._register.heard[mark.name] = mark.content

    def _join(self, event: Feedback | Outcome, mark: Mark) -> bool:
        if isinstance(event, Feedback):
            return self._register.answer(event, mark)
        return self._register.settle(event, mark)

    def _hold(self, record: Record, held: Held) -> None:
        watermark = self._progress.watermark
        if watermark is not None and held.until <= watermark:
            raise _UNKNOWN[record.topic]
        self._waiting.keep(held)
        self._joined(record.topic, "held")

    def _release(self, wanted: bytes) -> None:
        for held in self._waiting.release(wanted):
            kind: type[Feedback | Outcome] = Feedback if held.topic == FEEDBACK else Outcome
            self._join(self._codec.decode(held.value, kind), held.mark)
            self._joined(held.topic, "taken")

    def _advance(self, watermark: int | None) -> Iterator[Output]:
        """Move event time on, and say what is due by it.

        Hours that are over come before the new time, so that no reader closes a window without
        them; only the first time of all comes first, because windows begin with it.
        """
        before = self._progress.watermark
        turned = self._progress.advance(watermark)
        now = self._progress.watermark
        if now is None:
            return
        if before is None:
            yield self._time(now)
        yield from self._say(self._register.due(now), now if before is None else before)
        if turned and before is not None:
            yield self._time(now)
        if turned:
            yield from self._give_up(now)
            self._register.evict(now)

    def _give_up(self, watermark: int) -> Iterator[Output]:
        for held in self._waiting.given_up(watermark):
            self._register.heard.pop(held.mark.name, None)
            yield self._dead(held.record, _UNKNOWN[held.topic])

    def _say(self, said: Iterable[Said], watermark: int | None) -> Iterator[Output]:
        for each in said:
            yield self._output(labelled_of(each, watermark))

    def _time(self, watermark: int) -> Output:
        told = Labelled(hour=hour_of(watermark), revision=0, watermark=watermark)
        return self._output(told)

    def _output(self, labelled: Labelled) -> Output:
        return labelled_output(self._wire, labelled, self._partition)

    def _dead(self, record: Record, refusal: Refusal) -> Output:
        self._joined(record.topic, refusal.reason)
        return dead_output(self._codec, record, refusal)
