"""The flow of scoring: read, apply, compute, score, decide, write."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from services.core.errors import Reason, Refusal
from services.core.events import (
    PSEUDONYM_BYTES,
    Alert,
    Cause,
    Contribution,
    Disposition,
    Kind,
    PredictionBatch,
    Role,
    Vitals,
)
from services.core.features import FEATURES, compute
from services.core.policy import Policy
from services.runtime.codec import Codec
from services.runtime.ports import Output, Record, Row
from services.scoring.abstention import causes
from services.scoring.alerting import Alerting
from services.scoring.entries import ABSENT_PERSON, Entry, Model, batch_of
from services.scoring.outputs import (
    alert_output,
    dead_letter,
    dead_output,
    prediction_output,
)
from services.scoring.slots import Snapshots
from services.scoring.summary import NEVER, hour_of
from services.scoring.ward import Ward
from services.scoring.watermark import KEY, Watermark

BATCH: Final = 512
FARTHEST: Final = 62_135_596_800_000_000
"""The year 1, and as far the other way, µs: no calendar of ours begins before it."""

Told = Callable[[Sequence[Entry], Sequence[Alert], PredictionBatch], None]
Floats = npt.NDArray[np.float32]
Select = Callable[[Floats], Floats]


class Scores(Protocol):
    """A model, as `runtime.model.OnnxModel` is one."""

    def score(self, features: Floats) -> Floats:
        """Give the probability of each row; raises Stop when it is none."""

    def contributions(self, features: Floats) -> Sequence[tuple[str, float, float]]:
        """Give name, value and contribution of the features of one row, largest first."""


class Scorer(NamedTuple):
    """What every partition of a scoring process shares.

    Attributes:
        codec: for events.
        onnx: the model.
        select: picks the model's inputs from all features.
        model: what batches say of it.
        policy: when a score becomes an alert.
        told: hears of each batch, for metrics.
    """

    codec: Codec
    onnx: Scores
    select: Select
    model: Model
    policy: Policy
    told: Told


class Scoring:
    """The task of one partition of vitals.v1."""

    def __init__(self, partition: int, scorer: Scorer) -> None:
        self._partition, self._scorer = partition, scorer
        self._ward, self._watermark = Ward(), Watermark()
        self._snapshots, self._hour_began = Snapshots(0), False
        self._inputs: Floats = np.empty((0, 0), np.float32)
        self._alerting = Alerting(
            scorer.policy, scorer.model, self._ward, partition=partition, explain=self._explain
        )

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one row of the changelog."""
        if key == KEY:
            self._watermark.load(value)
        else:
            self._ward.load(key, value)

    def changes(self) -> Iterable[Row]:
        """Give the rows of the patients, and of the ticks, that changed."""
        yield from self._ward.changes()
        yield from self._watermark.changes()

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        """Score records in order; one batch message per 1 to 512 of them."""
        done = 0
        while done < len(records):
            entries = self._apply(records[done : done + BATCH])
            done += len(entries)
            yield from self._finish(entries)

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
            self._hour_began = _new_hour(before, self._watermark.now)
            if self._hour_began:
                break
        return entries

    def _entry(self, record: Record) -> Entry:
        try:
            event = _sound(self._scorer.codec.decode(record.value or b"", Vitals))
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
            cohorts=patient.cohorts(),
            as_of=as_of,
            revised_at=applied.revised_at,
            ended=applied.ended,
            discharged=patient.discharged,
        )
        if applied.disposition is Disposition.SCORED:
            slot = self._ward.slot_of(patient)
            entry.snapshot = self._ward.slots.copy_to(self._snapshots, slot, hour_of(as_of))
        return entry

    def _finish(self, entries: list[Entry]) -> Iterable[Output]:
        features = self._score(entries)
        alerts = [alert for entry in entries for alert in self._alerting.step(entry)]
        watermark = self._watermark.now
        if self._hour_began and watermark is not None:
            self._ward.evict(watermark)
        scorer = self._scorer
        batch = batch_of(
            entries, features, scorer.model, partition=self._partition, watermark=watermark
        )
        shown = alerts if scorer.model.role is Role.SHOWN else []
        scorer.told(entries, shown, batch)
        yield prediction_output(scorer.codec.encode(batch), self._partition)
        for dead in filter(None, (entry.dead for entry in entries)):
            yield dead_output(scorer.codec.encode(dead), dead)
        for alert in shown:
            yield alert_output(scorer.codec.encode(alert), alert, self._partition)

    def _score(self, entries: list[Entry]) -> Floats:
        """Score the entries that are due, or say why not; give the features of the scored ones."""
        due = [entry for entry in entries if entry.snapshot >= 0]
        if not due:
            return self._scorer.select(np.empty((0, len(FEATURES)), np.float32))
        grid, standing = self._snapshots.inputs()
        for entry, cause in zip(due, causes(self._scorer.policy.abstain, standing), strict=True):
            if cause != Cause.NONE:
                entry.disposition, entry.cause = Disposition.ABSTAINED, Cause(cause)
        scored = [entry for entry in due if entry.disposition is Disposition.SCORED]
        rows = [entry.snapshot for entry in scored]
        self._inputs = self._scorer.select(compute(grid, standing)[rows])
        if scored:
            scores = self._scorer.onnx.score(self._inputs).tolist()
            for place, (entry, score) in enumerate(zip(scored, scores, strict=True)):
                entry.score, entry.snapshot = score, place
        return self._inputs

    def _explain(self, entry: Entry) -> list[Contribution]:
        found = self._scorer.onnx.contributions(self._inputs[entry.snapshot])
        return [
            Contribution(
                feature=name,
                value=None if np.isnan(value) else value,
                contribution=contribution,
            )
            for name, value, contribution in found
        ]


def _sound(event: Vitals) -> Vitals:
    """Hold the names, columns and times of an event to what the rest takes for granted.

    Raises:
        Refusal: a name or a column is too short or too long (AVRO_SYNTAX), or a time lies beyond
            every calendar (NUM_RANGE).
    """
    if max(abs(event.measured_at), abs(event.received_at)) > FARTHEST:
        raise Refusal(Reason.NUM_RANGE, "measured_at")
    many = len(event.variables)
    lengths = (len(event.values), len(event.flags), len(event.ids), len(event.versions))
    if lengths != (8 * many, 2 * many, 8 * many, 8 * many):
        raise Refusal(Reason.AVRO_SYNTAX, "columns")
    names = (0,) if event.kind is Kind.TICK else (PSEUDONYM_BYTES,)
    if len(event.pseudonym) not in names or len(event.encounter) not in (0, PSEUDONYM_BYTES):
        raise Refusal(Reason.AVRO_SYNTAX, "pseudonym")
    return event


def _new_hour(before: int | None, after: int | None) -> bool:
    return after is not None and (before is None or hour_of(before) != hour_of(after))
