"""The door to the models: what changes.v1 asks for, as far as it can be loaded here."""

import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
import structlog

from services.core.errors import Reason, Refusal, Retry, Stop
from services.core.events import Change
from services.core.lineup import AS_CONFIGURED, KINDS, History, LineUp, Seat
from services.runtime.bundle import BundleRefused
from services.runtime.codec import Codec
from services.runtime.kafka.client import Options
from services.runtime.kafka.follower import Follower
from services.runtime.ports import Record
from services.runtime.telemetry.metrics import Metrics
from services.scoring.course import AS_STARTED, Course
from services.scoring.crew import Crew, Engine

CHANGES: Final = "changes.v1"
LOOK_S: Final = 0.25
KEPT: Final = 4
"""Models of so many line-ups that hold or held last stay loaded: a rollback need not wait."""

Open = Callable[[Seat], Engine]
"""Loads and rehearses a model; blocks for a second, raises BundleRefused."""

log = structlog.stdlib.get_logger()


class Present(NamedTuple):
    """The models that shall score, and the change in changes.v1 that they follow."""

    position: int
    crew: Crew


class Fleet:
    """Loads what people ask for beside the work, and hands it over when it is ready.

    One thread at a time may call `take` and `settle`; `present` may be asked from any.
    """

    def __init__(self, configured: Engine, open_: Open, codec: Codec, metrics: Metrics) -> None:
        """Begin with what the process was started with.

        Args:
            configured: scores where changes.v1 names no champion, or none that can be loaded.
            open_: loads the others.
            codec: for events.
            metrics: where changes are counted and models shown.
        """
        self._open, self._codec, self._metrics = open_, codec, metrics
        model = configured.model
        self._configured = Seat(name=model.name, version=model.version, digest=model.digest)
        self._engines = {model.digest: configured}
        self._history, self._news = History(), AS_STARTED
        self.present = Present(AS_STARTED, self.crew_of(AS_CONFIGURED))
        self._show(None)

    def take(self, record: Record) -> None:
        """Take a record of changes.v1; what cannot be used leaves all as it was."""
        try:
            change = self._codec.decode(record.value or b"", Change)
            if change.kind not in KINDS:
                return
            self._history.take(change, record.offset)
        except (Refusal, Stop) as error:
            # A schema of tomorrow must not end today's scoring: what it says is not done.
            reason = error.reason if isinstance(error, Refusal) else Reason.SCHEMA_UNKNOWN
            self._count("refused", reason.lower())
            log.warning("change refused", offset=record.offset, because=str(error))
            return
        self._news = record.offset

    def settle(self) -> None:
        """Load what the changes so far ask for; of what cannot be loaded, what held before."""
        if self._news == self.present.position:
            return
        standing = [step.line_up for step in reversed(self._history.standing)]
        for line_up in [*standing, AS_CONFIGURED]:
            try:
                crew = self.crew_of(line_up)
            except BundleRefused as refused:
                self._count("refused", refused.unfit)
                log.error("model refused", reason=refused.unfit, because=refused.told)  # noqa: TRY400 - our logs tell no values
            else:
                self._put(crew)
                return

    def crew_of(self, line_up: LineUp) -> Crew:
        """Give the models of a line-up; loads those that are not, and raises as `Open` does."""
        champion = self._engine(line_up.champion or self._configured)
        canary = self._engine(line_up.canary) if line_up.canary else None
        named = msgspec.structs.replace(line_up, champion=line_up.champion or self._configured)
        # What is shown already needs no shadow: its predictions would have the same names.
        shadows = [self._engine(seat).unseen() for seat in named.unseen()]
        return Crew(named, champion, canary, tuple(shadows))

    def _engine(self, seat: Seat) -> Engine:
        found = self._engines.get(seat.digest)
        if found is None:
            found = self._engines[seat.digest] = self._open(seat)
        return found.under(seat.policy)

    def _put(self, crew: Crew) -> None:
        before = self.present.crew
        self.present = Present(self._news, crew)
        if crew.line_up != before.line_up:
            self._count("taken", "")
        self._show(before)
        log.info(
            "models in use",
            position=self._news,
            models=[f"{part} {e.model.name} {e.model.version}" for part, e in crew.parts()],
        )
        held = [step.line_up for step in self._history.standing[-KEPT:]]
        kept = {seat.digest for line_up in held for _, seat in line_up.seats()}
        kept |= {engine.model.digest for _, engine in (*before.parts(), *crew.parts())}
        kept.add(self._configured.digest)
        self._engines = {d: engine for d, engine in self._engines.items() if d in kept}

    def failed(self) -> None:
        """Count that changes could not be followed, whatever the cause; what held stays."""
        self._count("failed", "")

    def _count(self, outcome: str, reason: str) -> None:
        self._metrics.counter("model_changes_total", outcome=outcome, reason=reason).inc()

    def _show(self, before: Crew | None) -> None:
        for part, engine in before.parts() if before else []:
            self._metrics.forget("model_info", **_labels(part, engine))
        for part, engine in self.present.crew.parts():
            self._metrics.gauge("model_info", **_labels(part, engine)).set(1)


def _labels(part: str, engine: Engine) -> dict[str, str]:
    return {"model": engine.model.name, "version": engine.model.version, "outcome": part}


class Live:
    """Says which models score a batch: those of the present, noted where they begin."""

    def __init__(self, fleet: Fleet, catch_up: Callable[[], None]) -> None:
        """Begin.

        Args:
            fleet: of the process.
            catch_up: reads changes.v1 to its end; may block for seconds, and raise Retry.
        """
        self._fleet, self._catch_up = fleet, catch_up

    def crew_for(self, course: Course, first: int) -> Crew:
        """Give the models for a batch that begins at an offset, and turn the course to them."""
        last = course.at(first)
        if last is not None and last.position > self._fleet.present.position:
            # The partition comes from an instance that had heard more: time does not go back.
            self._catch_up()
        present = self._fleet.present
        course.turn(first, present.position, present.crew.line_up)
        return present.crew


class Recorded:
    """Repeats a course: the models that scored a batch once score it again."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._crews: dict[int, Crew] = {}

    def crew_for(self, course: Course, first: int) -> Crew:
        """Give the models under which an offset was scored.

        Raises:
            Stop: the course does not say.
            BundleRefused: one of them is no longer here.
        """
        turn = course.at(first)
        if turn is None:
            raise Stop("the changelog does not say which models scored these records")
        if turn.first not in self._crews:
            self._crews[turn.first] = self._fleet.crew_of(turn.line_up)
        return self._crews[turn.first]


class Watch:
    """Follows changes.v1 in a thread of its own."""

    def __init__(self, options: Options, fleet: Fleet) -> None:
        """Read all there is.

        Raises:
            Retry: the cluster does not answer, or lacks the topic.
        """
        self._fleet, self._turn = fleet, threading.Lock()
        self._follower = Follower(options, CHANGES, fleet.take)
        self.look()

    def look(self) -> None:
        """Read to the present end and load what it asks for; may block for seconds, or Retry."""
        with self._turn:
            self._follower.look()
            self._fleet.settle()

    def watch(self) -> None:
        """Do so again and again beside the work; an outage is the work's to deal with."""
        threading.Thread(target=self._watch, name="changes", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_S)
            self.heed()

    def heed(self) -> None:
        """Take what has come, and go on with what holds if that cannot be done."""
        try:
            with self._turn:
                self._follower.heed(0)
                self._fleet.settle()
        except Retry as error:
            log.warning("changes could not be read", exc_info=error)
        except Exception as error:
            # A thread that ended here would leave every later change unheard, in silence.
            self._fleet.failed()
            log.error("changes could not be followed", exc_info=error)  # noqa: TRY400 - our logs tell no values
