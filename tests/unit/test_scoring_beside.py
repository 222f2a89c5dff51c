"""Models score beside the work: what comes next is applied meanwhile, and nothing else changes."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typing_extensions import override
from wards import (
    CODEC,
    MINUTE,
    MODEL,
    POLICY,
    START,
    HeartRate,
    Kept,
    Run,
    engine,
    entries_of,
    first_difference,
    log,
    measured,
    scorer,
    ward_log,
)

from services.core.errors import Stop
from services.core.events import Kind, Vitals
from services.core.lineup import LineUp, Seat
from services.scoring import pipeline
from services.scoring.course import Course
from services.scoring.crew import Crew
from services.scoring.outputs import PREDICTIONS
from services.scoring.pipeline import BATCH, MANY, Scorer

DEADLINE_S: Final = 120.0
T = TypeVar("T")


def digest(model: int) -> str:
    return f"{model:064x}"


CHAMPIONS: Final = {digest(0), digest(1)}


class Changing:
    """A helm that changes its crew every so many offsets: champions, a canary, a shadow."""

    def __init__(self, every: int) -> None:
        self._every = every
        one, two, three = (
            engine(
                msgspec.structs.replace(POLICY, version=f"{n}", threshold=0.5 + n / 20),
                model=msgspec.structs.replace(MODEL, version=f"{n}", digest=digest(n)),
            )
            for n in range(3)
        )
        first, second, third = (
            Seat(name="test", version=e.model.version, digest=e.model.digest)
            for e in (one, two, three)
        )
        self._crews = [
            Crew(LineUp(champion=first), one),
            Crew(LineUp(champion=second, shadows=(third,)), two, None, (three.unseen(),)),
            Crew(LineUp(champion=first, canary=third, share=50), one, three),
        ]
        self.seen = Course()

    def crew_for(self, course: Course, first: int) -> Crew:
        crew = self._crews[first // self._every % len(self._crews)]
        for each in (course, self.seen):
            each.turn(first, first, crew.line_up)
        return crew

    def again(self, course: Course, first: int) -> Crew:
        """Give the crew that an offset had."""
        seen = self.seen.at(first)
        assert seen is not None
        course.turn(first, first, seen.line_up)
        return next(crew for crew in self._crews if crew.line_up == seen.line_up)


class Again:
    """A helm that repeats what another did."""

    def __init__(self, helm: Changing) -> None:
        self.crew_for = helm.again


class AtLast(Executor):
    """Does what it is given when somebody asks for the result, and not before."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.most = 0

    @override
    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        waiting = self.waiting

        class Asked(Future[T]):
            @override
            def result(self, timeout: float | None = None) -> T:
                waiting.remove(self)
                return fn(*args, **kwargs)

        asked = Asked()
        waiting.append(asked)
        self.most = max(self.most, len(waiting))
        return asked


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 1 << 16), st.integers(2, 8), st.integers(20, 200))
def test_scores_that_come_after_later_events_were_applied_change_no_byte(
    seed: int, batch: int, turns: int
) -> None:
    """Who decides on many batches at last, and who on each event before the next, say the same."""
    records = log(disturbed(ward_log(seed, hours=20, patients=9)))
    beside, helm = AtLast(), Changing(turns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "BATCH", batch)
        patch.setattr(pipeline, "MANY", 1)
        late = Run(Scorer(CODEC, helm, Kept(), beside=beside)).hand(records)
    one_by_one = Run(Scorer(CODEC, Again(helm), Kept()))
    for record in records:
        one_by_one.hand([record])
    assert beside.most > 1, "something had to wait"
    assert not beside.waiting
    assert first_difference(told(late), told(one_by_one)) is None
    assert times(late).items() <= times(one_by_one).items()
    assert late.patients == one_by_one.patients
    assert late.rows[b"models"] == one_by_one.rows[b"models"]
    assert len(late.alerts) > 5


def disturbed(events: Sequence[Vitals]) -> Iterator[Vitals | bytes]:
    """Put among events what nobody can read, and what contradicts one that came before."""
    for number, each in enumerate(events):
        yield each
        if number % 31 == 30:
            yield b"nothing"
        if each.kind is Kind.OBSERVATION and number % 11 == 0:
            values = np.frombuffer(each.values, "<f8") + 1
            yield msgspec.structs.replace(each, values=values.tobytes())


def told(run: Run) -> list[str]:
    """Everything that was said, whatever batches it was cut into."""
    entries = [(b.model_digest, b.role, each) for b in run.batches for each in entries_of(b)]
    others = [output for output in run.outputs if output.topic != PREDICTIONS]
    assert len({output.topic for output in others}) == len(["alerts", "dead letters", "notices"])
    return sorted(map(repr, entries)) + [
        repr(output) for output in sorted(others, key=lambda output: output.topic)
    ]


def times(run: Run) -> dict[int, int | None]:
    """How late it is after the last offset of each batch of a champion, which tells it."""
    return {
        int(np.frombuffer(batch.offsets, "<i8")[-1]): batch.watermark
        for batch in run.batches
        if batch.model_digest in CHAMPIONS
    }


def minutes(many: int) -> list[Vitals | bytes | None]:
    """Measure patients who are well and who are not, so many times, and tell no time."""
    return [
        measured(f"p{n % 40}", START + n * MINUTE // 40, {"HR": 60.0 + n % 7 * 20})
        for n in range(many)
    ]


class Patient(HeartRate):
    """A model that is at its first batch until it is let go."""

    def __init__(self) -> None:
        self.let_go, self.scored = threading.Event(), 0

    @override
    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self.let_go.wait(DEADLINE_S)
        self.scored += len(features)
        return super().score(features)


def test_the_next_batch_is_applied_while_a_model_is_at_work() -> None:
    model = Patient()
    run = Run(scorer(onnx=model))
    records = log(minutes(2 * BATCH))
    outputs = run.task.handle(records)
    assert model.scored == 0
    model.let_go.set()
    run.outputs += outputs
    assert model.scored == len(run.entries) == len(records)
    assert run.patients == Run().hand(records).patients


def test_what_a_champion_cannot_score_beside_the_work_ends_the_life() -> None:
    class Broken(HeartRate):
        @override
        def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
            raise Stop("no probability")

    outputs = Run(scorer(onnx=Broken())).task.handle(log(minutes(MANY)))
    with pytest.raises(Stop, match="no probability"):
        list(outputs)
