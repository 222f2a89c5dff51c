"""The flow of scoring: read, apply, compute, score, decide, write."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from services.core.errors import Refusal
from services.core.events import (
    Alert,
    Cause,
    Contribution,
    Disposition,
    Kind,
    PredictionBatch,
    Role,
    Vitals,
)
from services.runtime.codec import Codec
from services.runtime.ports import Output, Record, Row
from services.scoring.alerting import TOP_CONTRIBUTIONS, Alerting
from services.scoring.course import KEY as CUT_OVERS
from services.scoring.course import Course
from services.scoring.crew import Crew, Helm
from services.scoring.entries import ABSENT_PERSON, Entry, batch_of
from services.scoring.journal import Journal
from services.scoring.outputs import (
    alert_output,
    dead_letter,
    dead_output,
    prediction_output,
)
from services.scoring.shares import Share, Snapshots, score, shown, unseen
from services.scoring.summary import NEVER, hour_of
from services.scoring.ward import Ward
from services.scoring.watermark import KEY as TICKS
from services.scoring.watermark import Watermark
from services.scoring.wire import Wire

BATCH: Final = 512

Told = Callable[[Sequence[Entry], Sequence[Alert], PredictionBatch], None]


class Scorer(NamedTuple):
    """What every partition of a scoring process shares.

    Attributes:
        codec: for events.
        helm: says which models score.
        told: hears of each batch, for metrics.
    """

    codec: Codec
    helm: Helm
    told: Told


class Scoring:
    """The task of one partition of vitals.v1."""

    def __init__(self, partition: int, scorer: Scorer) -> None:
        self._partition, self._scorer = partition, scorer
        self._wire, self._ward, self._watermark = Wire(scorer.codec), Ward(), Watermark()
        self._journal = Journal(self._ward, self._wire)
        self._snapshots, self._hour_began = Snapshots(0), False
        self._course = Course()
        self._crew: Crew | None = None
        self._alerting: dict[bool, Alerting] = {}
        self._shares: dict[bool, Share] = {}

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one row of the changelog."""
        if key == TICKS:
            self._watermark.load(value)
        elif key == CUT_OVERS:
            self._course.load(value)
        else:
            self._journal.load(key, value)

    def changes(self) -> Iterable[Row]:
        """Give the rows of what happened to patients, of ticks and of cut-overs that changed."""
        self._journal.settle()
        yield from self._journal.changes()
        yield from self._watermark.changes()
        yield from self._course.changes()

    def dump(self) -> list[tuple[bytes, bytes]]:
        """Give all that is known of every patient; a restart changes no byte of it."""
        self._journal.settle()
        return sorted((name, patient.pack()) for name, patient in self._ward.patients.items())

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        """Score records in order; one batch message per model and 1 to 512 of them."""
        self._journal.settle()
        done = 0
        while done < len(records):
            some = records[done : done + BATCH]
            crew = self._scorer.helm.crew_for(self._course, some[0].offset)
            before = self._watermark.now
            entries = self._apply(some[: self._course.together(some)])
            done += len(entries)
            yield from self._finish(entries, crew, before)

    def _apply(self, records: Sequence[Record]) -> list[Entry]:
        """Change the state by each record, and keep each patient that is due for a score.

        Stops after a tick that begins an hour: whom it lets forget depends on the alerts that the
        entries so far will raise.
        """
        self._snapshots = Snapshots(len(records))
        entries: list[Entry] = []
        for record in records:
            before = self._watermark.now
            entries.append(self._entry(record))
            now = self._watermark.now
            self._hour_began = now != before and _new_hour(before, now)
            if self._hour_began:
                break
        return entries

    def _entry(self, record: Record) -> Entry:
        try:
            event = self._wire.event(record.value or b"")
        except Refusal as refusal:
            return Entry(
                offset=record.offset,
                disposition=Disposition.ABSTAINED,
                cause=Cause.UNREADABLE,
                dead=dead_letter(record, refusal),
            )
        if event.kind is Kind.TICK:
            self._watermark.tick(event.source, event.measured_at)
            return Entry(
                offset=record.offset,
                event=event,
                as_of=event.measured_at,
                watermark=self._watermark.now,
            )
        self._journal.happened(event.pseudonym, record.value or b"")
        return self._patient_entry(record.offset, event)

    def _patient_entry(self, offset: int, event: Vitals) -> Entry:
        applied = self._ward.apply(event)
        patient = self._ward.patients[event.pseudonym]
        head = patient.history.head
        as_of = event.measured_at if head == NEVER else head
        entry = Entry(
            offset=offset,
            event=event,
            disposition=applied.disposition,
            cause=applied.cause,
            encounter=event.encounter or patient.encounter or ABSENT_PERSON,
            unit=patient.unit,
            cohorts=patient.cohorts,
            as_of=as_of,
            revised_at=applied.revised_at,
            ended=applied.ended,
            discharged=patient.discharged,
        )
        if applied.disposition is Disposition.SCORED:
            entry.snapshot = self._snapshots.take(patient.history)
        return entry

    def _finish(self, entries: list[Entry], crew: Crew, before: int | None) -> Iterable[Output]:
        hidden, owners = unseen(crew, entries), shown(crew, entries)
        # The champion comes last, and with it the time: whoever reads how late it is must not
        # meet an entry of this batch behind it.
        shares = [*hidden, *sorted(set(owners), key=lambda share: share.steady)]
        for share in shares:
            score(share, self._snapshots)
        alerts = self._alert(entries, owners, crew)
        now = self._watermark.now
        if self._hour_began and now is not None:
            for pseudonym in self._ward.evict(now):
                self._journal.forgot(pseudonym)
        for share in shares:
            yield from self._written(share, now if share is shares[-1] else before)
        for alert in alerts:
            yield alert_output(self._scorer.codec.encode(alert), alert, self._partition)

    def _alert(self, entries: list[Entry], owners: list[Share], crew: Crew) -> list[Alert]:
        """Give the alerts of all that is shown, in the order of the log."""
        if crew is not self._crew:
            self._crew, self._alerting = crew, {}
        self._shares = {share.steady: share for share in owners}
        alerts: list[Alert] = []
        for entry, share in zip(entries, owners, strict=True):
            if self._is_quiet(entry, share):
                continue
            alerting = self._alerting.get(share.steady) or self._alerting_of(share)
            steps = list(alerting.step(entry))
            if steps and share.engine.model.role is Role.SHOWN:
                share.alerts += steps
                alerts += steps
        return alerts

    def _is_quiet(self, entry: Entry, share: Share) -> bool:
        """Tell whether the policy has nothing to say of an entry, as of most.

        A score below the threshold, of a patient of whom the policy remembers nothing that it
        could change, changes nothing.
        """
        event = entry.event
        if event is None or entry.disposition is not Disposition.SCORED:
            return False
        entry.threshold = threshold = share.threshold_in(entry.unit)
        state = self._ward.patients[event.pseudonym].policy
        dormant = state.alert is None and state.streak == 0
        return dormant and entry.score < threshold and not (entry.ended or entry.discharged)

    def _alerting_of(self, share: Share) -> Alerting:
        engine, steady = share.engine, share.steady
        found = self._alerting[steady] = Alerting(
            engine.policy,
            engine.model,
            self._ward,
            partition=self._partition,
            explain=lambda entry: self._explain(entry, self._shares[steady]),
        )
        return found

    def _written(self, share: Share, watermark: int | None) -> Iterable[Output]:
        codec, model = self._scorer.codec, share.engine.model
        batch = batch_of(
            share.entries, share.inputs, model, partition=self._partition, watermark=watermark
        )
        self._scorer.told(share.entries, share.alerts, batch)
        yield prediction_output(codec.encode(batch), self._partition)
        for dead in filter(None, (entry.dead for entry in share.entries)):
            yield dead_output(codec.encode(dead), dead)

    def _explain(self, entry: Entry, share: Share) -> list[Contribution]:
        row = share.inputs[entry.snapshot]
        found = share.engine.onnx.contributions(row, TOP_CONTRIBUTIONS)
        return [
            Contribution(
                feature=name,
                value=None if np.isnan(value) else value,
                contribution=contribution,
            )
            for name, value, contribution in found
        ]


def _new_hour(before: int | None, after: int | None) -> bool:
    return after is not None and (before is None or hour_of(before) != hour_of(after))
