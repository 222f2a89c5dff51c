"""The flow of scoring: read, apply, compute, score, decide, write."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.core.errors import Refusal
from services.core.events import (
    Alert,
    Contribution,
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
from services.scoring.entries import Entry, Note, batch_of
from services.scoring.horizon import KEY as HORIZON
from services.scoring.horizon import Horizon, Look, nowhere
from services.scoring.outputs import (
    alert_output,
    conflict_notices,
    dead_letter,
    dead_output,
    prediction_output,
)
from services.scoring.patients.journal import Journal
from services.scoring.patients.message import Messages
from services.scoring.patients.summary import hour_of
from services.scoring.patients.ward import Ward
from services.scoring.patients.wire import Wire
from services.scoring.shades import is_of_a_shadow
from services.scoring.shadowing import Shadowing
from services.scoring.shares import Run, Share, shown, unseen
from services.scoring.watermark import KEY as TICKS
from services.scoring.watermark import Watermark

BATCH: Final = 512

# To look an enum's member up takes longer than most of what is done to an event.
TICK: Final = Kind.TICK

Told = Callable[[Share, PredictionBatch], None]
Turns = Sequence[tuple[int, int]]


class Scorer(NamedTuple):
    """What every partition of a scoring process shares.

    Attributes:
        codec: for events.
        helm: says which models score.
        told: hears of each batch, for metrics.
        look: says how far event time is at the end of a log that had waited.
    """

    codec: Codec
    helm: Helm
    told: Told
    look: Look = nowhere


class Scoring:
    """The task of one partition of vitals.v1."""

    def __init__(self, partition: int, scorer: Scorer) -> None:
        self._partition, self._scorer = partition, scorer
        self._wire, self._ward, self._watermark = Wire(scorer.codec), Ward(), Watermark()
        self._journal = Journal(self._ward, self._wire)
        self._hour_began = False
        self._course, self._horizon = Course(), Horizon(scorer.look)
        self._shadowing = Shadowing(partition, self._horizon)
        self._crew: Crew | None = None
        self._alerting: dict[bool, Alerting] = {}
        self._shares: dict[bool, Share] = {}

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one row of the changelog."""
        if key == TICKS:
            self._watermark.load(value)
        elif key == CUT_OVERS:
            self._course.load(value)
        elif key == HORIZON:
            self._horizon.load(value)
        elif is_of_a_shadow(key):
            self._shadowing.load(key, value)
        else:
            self._journal.load(key, value)

    def settle(self) -> None:
        """Do again what no row includes that was loaded."""
        self._journal.settle()
        self._shadowing.settle(self._course)

    def changes(self) -> Iterable[Row]:
        """Give the rows of what happened to patients, of ticks and of cut-overs that changed."""
        self.settle()
        yield from self._journal.changes()
        yield from self._watermark.changes()
        yield from self._course.changes()
        yield from self._horizon.changes()
        yield from self._shadowing.changes()

    def dump(self) -> list[tuple[bytes, bytes]]:
        """Give all that is known of every patient; a restart changes no byte of it."""
        self.settle()
        return [*self._ward.pack(sorted(self._ward.patients)), *self._shadowing.dump()]

    def handle(self, records: Sequence[Record]) -> Iterable[Output]:
        """Score records in order; one batch message per model and 1 to 512 of them."""
        self.settle()
        if records:
            self._horizon.reach(records[0])
        done = 0
        while done < len(records):
            some = records[done : done + BATCH]
            crew = self._scorer.helm.crew_for(self._course, some[0].offset)
            before = self._watermark.now
            run = self._apply(some[: self._course.together(some)])
            done += len(run.offsets)
            yield from self._finish(run, crew, before)
            yield from self._conflicts(
                [some[place].value or b"" for place in self._ward.conflicts]
            )

    def _conflicts(self, values: Iterable[bytes]) -> Iterable[Output]:
        """Tell of records that contradict what came before under the same name."""
        codec = self._scorer.codec
        return conflict_notices(codec, (codec.decode(value, Vitals) for value in values))

    def _apply(self, records: Sequence[Record]) -> Run:
        """Change the state by each record, and keep each patient that is due for a score.

        Stops after a tick that begins an hour: whom it lets forget depends on the alerts that the
        entries so far will raise.
        """
        values = [record.value or b"" for record in records]
        read = self._wire.events(values)
        ticks = self._heard(read)
        messages = read.first(max(ticks) + 1) if self._hour_began else read
        run = Run([record.offset for record in records[: len(messages)]], messages)
        self._journal.happened(messages.names, values[: len(messages)])
        run.follow(self._ward.follow(messages, run.rows))
        for place, event in messages.odd.items():
            if place >= len(messages):
                continue
            if isinstance(event, Refusal):
                run.unread(place, dead_letter(records[place], event))
            elif place in ticks:
                run.notes[place] = Note(watermark=ticks[place])
        return run

    def _heard(self, messages: Messages) -> dict[int, int | None]:
        """Hear the ticks until one begins an hour, and give the watermark after each."""
        watermarks: dict[int, int | None] = {}
        self._hour_began = False
        for place, event in messages.odd.items():
            if isinstance(event, Refusal) or event.kind is not TICK:
                continue
            before = self._watermark.now
            self._watermark.tick(event.source, event.measured_at)
            now = watermarks[place] = self._watermark.now
            self._hour_began = now != before and _new_hour(before, now)
            if self._hour_began:
                break
        return watermarks

    def _finish(self, run: Run, crew: Crew, before: int | None) -> Iterable[Output]:
        columns = run.columns()
        hidden, (owners, turns) = unseen(crew, columns), shown(crew, run, columns)
        # The champion comes last, and with it the time: whoever reads how late it is must not
        # meet an entry of this batch behind it.
        shares = [*hidden, *owners]
        for share in shares:
            share.score(run)
        self._shadowing.judge(run, hidden, crew, self._course)
        alerts = self._alert(run, owners, turns, crew)
        now = self._watermark.now
        if self._hour_began and now is not None:
            for pseudonym in self._ward.evict(now):
                self._journal.forgot(pseudonym)
            self._shadowing.forget(self._ward.patients)
        for share in shares:
            yield from self._written(share, now if share is shares[-1] else before)
            if share is owners[-1]:
                yield from self._dead(run)
        for alert in alerts:
            yield alert_output(self._scorer.codec.encode(alert), alert, self._partition)

    def _alert(self, run: Run, owners: list[Share], turns: Turns, crew: Crew) -> list[Alert]:
        """Give the alerts of all that is shown, in the order of the log."""
        if crew is not self._crew:
            self._crew, self._alerting = crew, {}
        self._shares = {share.steady: share for share in owners}
        low = np.empty(len(turns), np.bool_)
        for share in owners:
            low[share.places] = share.low()
        asleep, roused, alerts = self._asleep(run, low), set[bytes](), list[Alert]()
        for place, (number, seat) in enumerate(turns):
            name = run.messages.names[place]
            if asleep[place] and name not in roused and place not in run.notes:
                continue
            if self._is_quiet(run, place, low=bool(low[place])):
                continue
            share = owners[number]
            roused.add(name)
            if name:
                self._ward.touched(name)
            entry = share.entry(run, seat)
            alerting = self._alerting.get(share.steady) or self._alerting_of(share)
            steps = list(alerting.step(entry))
            share.verdicts.decisions[seat] = entry.decision
            if steps and share.engine.model.role is Role.SHOWN:
                share.alerts += steps
                alerts += steps
        return alerts

    def _asleep(self, run: Run, low: npt.NDArray[np.bool_]) -> list[bool]:
        """Tell of each entry whether it is quiet as long as nothing rouses its patient."""
        (places,) = np.nonzero(low)
        asleep = np.zeros(len(low), np.bool_)
        asleep[places] = ~self._ward.slots.store.wakeful[run.slots[places]]
        found: list[bool] = asleep.tolist()
        return found

    def _is_quiet(self, run: Run, place: int, *, low: bool) -> bool:
        """Tell whether an entry says nothing to the policy, as most do.

        A score below the threshold, of a patient of whom the policy remembers nothing that it
        could change, changes nothing.
        """
        if not low or place in run.notes:
            return False
        state = self._ward.patients[run.messages.names[place]].policy
        return state.alert is None and state.streak == 0

    def _alerting_of(self, share: Share) -> Alerting:
        engine, steady = share.engine, share.steady
        found = self._alerting[steady] = Alerting(
            engine.policy,
            engine.model,
            self._ward,
            partition=self._partition,
            explain=lambda entry: self._explain(entry, self._shares[steady]),
            horizon=self._horizon,
        )
        return found

    def _written(self, share: Share, watermark: int | None) -> Iterable[Output]:
        codec, model = self._scorer.codec, share.engine.model
        batch = batch_of(
            share.columns,
            share.verdicts,
            share.inputs,
            model,
            partition=self._partition,
            watermark=watermark,
        )
        self._scorer.told(share, batch)
        yield prediction_output(codec.encode(batch), self._partition)

    def _dead(self, run: Run) -> Iterable[Output]:
        """Give a letter for each record that nobody can read, whoever is shown."""
        for dead in filter(None, (note.dead for note in run.notes.values())):
            yield dead_output(self._scorer.codec.encode(dead), dead)

    def _explain(self, entry: Entry, share: Share) -> list[Contribution]:
        found = share.engine.onnx.contributions(share.input_of(entry.seat), TOP_CONTRIBUTIONS)
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
