"""The flow of scoring: read, apply, compute, score, decide, write."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Final, NamedTuple

from services.core.errors import Refusal
from services.core.events import Kind, PredictionBatch, Vitals
from services.runtime.codec import Codec
from services.runtime.ports import Output, Record, Row
from services.scoring.course import KEY as CUT_OVERS
from services.scoring.course import Course
from services.scoring.crew import Crew, Helm
from services.scoring.entries import Note, batch_of
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
from services.scoring.shares import Run, Scored, Share, scored
from services.scoring.showing import Showing
from services.scoring.watermark import KEY as TICKS
from services.scoring.watermark import Watermark

BATCH: Final = 512
READ_AT_ONCE: Final = 4 * BATCH
"""So many records are read at once, at most: while one batch is scored, the next is applied."""
MANY: Final = 128
"""So many are scored beside the work; to wake a thread for fewer takes longer than it saves."""

# To look an enum's member up takes longer than most of what is done to an event.
TICK: Final = Kind.TICK

Told = Callable[[Share, PredictionBatch], None]


class Scorer(NamedTuple):
    """What every partition of a scoring process shares.

    Attributes:
        codec: for events.
        helm: says which models score.
        told: hears of each batch, for metrics.
        look: says how far event time is at the end of a log that had waited.
        beside: where models score while this thread changes the state by what comes next.
    """

    codec: Codec
    helm: Helm
    told: Told
    look: Look = nowhere
    beside: Executor = ThreadPoolExecutor(1, "scores")


class Begun(NamedTuple):
    """A run that the state includes, and whose scores are on their way.

    Attributes:
        run: the messages.
        crew: that scores them.
        before: the watermark before them, µs.
        now: the watermark after them, µs.
        conflicts: records that contradict what came before under the same name.
        score: gives what the models say, which may take a while; raises Stop, see `scored`.
    """

    run: Run
    crew: Crew
    before: int | None
    now: int | None
    conflicts: list[bytes]
    score: Callable[[], Scored]


class Scoring:
    """The task of one partition of vitals.v1."""

    def __init__(self, partition: int, scorer: Scorer) -> None:
        self._partition, self._scorer = partition, scorer
        self._wire, self._ward, self._watermark = Wire(scorer.codec), Ward(), Watermark()
        self._journal = Journal(self._ward, self._wire)
        self._hour_began = False
        self._course, self._horizon = Course(), Horizon(scorer.look)
        self._shadowing = Shadowing(partition, self._horizon)
        self._showing = Showing(partition, self._ward, self._horizon)

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
        """Score records in order; one batch message per model and 1 to 512 of them.

        The state of the patients is changed at once; what policies make of the scores follows as
        the outputs are asked for. Events wait for no score: only policies depend on one.
        """
        self.settle()
        if records:
            self._horizon.reach(records[0])
        outputs, begun, done = list[Output](), list[Begun](), 0
        while done < len(records):
            begun.append(self._begin(records[done : done + BATCH]))
            done += len(begun[-1].run.offsets)
            if self._hour_began:
                outputs += self._finish(begun)
                begun = []
                self._forget()
        return chain(outputs, self._finish(begun))

    def _begin(self, records: Sequence[Record]) -> Begun:
        crew = self._scorer.helm.crew_for(self._course, records[0].offset)
        before = self._watermark.now
        run = self._apply(records[: self._course.together(records)])
        conflicts = [records[place].value or b"" for place in self._ward.conflicts]
        score: Callable[[], Scored] = partial(scored, crew, run)
        if len(run.offsets) >= MANY:
            score = self._scorer.beside.submit(score).result
        return Begun(run, crew, before, self._watermark.now, conflicts, score)

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

    def _finish(self, begun: Iterable[Begun]) -> Iterable[Output]:
        """Decide on the scores of runs, in the order of the log, and write."""
        for run, crew, before, now, conflicts, score in begun:
            said = score()
            self._shadowing.judge(run, said.hidden, crew, self._course)
            alerts = self._showing.judge(run, said, crew)
            # The champion comes last, and with it the time: whoever reads how late it is must not
            # meet an entry of this batch behind it.
            *others, last = *said.hidden, *said.owners
            for share in others:
                yield from self._written(share, before)
            yield from self._written(last, now)
            yield from self._dead(run)
            for alert in alerts:
                yield alert_output(self._scorer.codec.encode(alert), alert, self._partition)
            yield from self._conflicts(conflicts)

    def _forget(self) -> None:
        """Forget patients of whom nothing can matter any more, as an hour began."""
        if self._watermark.now is not None:
            for pseudonym in self._ward.evict(self._watermark.now):
                self._journal.forgot(pseudonym)
            self._shadowing.forget(self._ward.patients)

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

    def _conflicts(self, values: Iterable[bytes]) -> Iterable[Output]:
        """Tell of records that contradict what came before under the same name."""
        codec = self._scorer.codec
        return conflict_notices(codec, (codec.decode(value, Vitals) for value in values))


def _new_hour(before: int | None, after: int | None) -> bool:
    return after is not None and (before is None or hour_of(before) != hour_of(after))
