"""Whatever changes and whatever dies, each event has exactly one model that is shown."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typing_extensions import override
from wards import (
    CODEC,
    HOUR,
    MINUTE,
    MODEL,
    POLICY,
    START,
    HeartRate,
    Kept,
    Run,
    admitted,
    deployment,
    engine,
    entries_of,
    first_difference,
    log,
    measured,
    person,
    tick,
)

from services.core.errors import Stop
from services.core.events import PredictionBatch, Role, Vitals
from services.core.lineup import History, LineUp, Part, Proposal, Seat, in_canary
from services.runtime.bundle import BundleRefused, Unfit
from services.runtime.ports import Output, Record
from services.runtime.telemetry.build import Build
from services.runtime.telemetry.metrics import Metrics
from services.scoring.course import Course, CutOver
from services.scoring.crew import Engine
from services.scoring.fleet import Fleet, Live, Recorded, Watch
from services.scoring.pipeline import Scorer

PATIENTS = [f"p{number}" for number in range(12)]


class Scaled(HeartRate):
    """Another model for every version: its scores are higher."""

    def __init__(self, version: int) -> None:
        self._factor = np.float32(1 + version / 10)

    @override
    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = np.clip(super().score(features) * self._factor, 0, 1)
        return scores


class Broken(HeartRate):
    @override
    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        raise Stop(f"no probability of {len(features)} rows")


def digest(version: int) -> str:
    return hashlib.sha256(str(version).encode()).hexdigest()


def seat(version: int) -> Seat:
    return Seat(name="test", version=str(version), digest=digest(version))


def opened(seat: Seat) -> Engine:
    """Load a model, of which versions 8 and 9 are broken and those above are not here."""
    version = int(seat.version)
    if version > 9:
        raise BundleRefused(seat.name, "is not among the models", Unfit.MISSING)
    model = msgspec.structs.replace(MODEL, version=seat.version, digest=seat.digest)
    return engine(model=model, onnx=Broken() if version > 7 else Scaled(version))


class Site:
    """A log of changes, and processes that follow it."""

    def __init__(self) -> None:
        self.history = History()
        self.changes: list[Record] = []
        self._heard: dict[int, int] = {}
        self._fleets: list[Fleet] = []
        self.metrics = Metrics(Build(service="scoring", version="1", revision="a", python="3"))

    def change(self, proposal: Proposal) -> None:
        number = len(self.changes)
        change = deployment(proposal, number)
        self.history.take(change, number)
        self.changes.append(Record("changes.v1", 0, number, 0, None, CODEC.encode(change)))

    def deploy(self, line_up: LineUp) -> None:
        self.change(self.history.propose(line_up))

    def rollback(self) -> None:
        proposal = self.history.undo()
        if proposal is not None:
            self.change(proposal)

    def fleet(self, heard: int | None = None) -> Fleet:
        fleet = Fleet(engine(), opened, CODEC, self.metrics)
        self.hear(fleet, heard)
        return fleet

    def hear(self, fleet: Fleet, heard: int | None = None) -> None:
        """Let a fleet hear all changes of which it has not heard, or the first so many."""
        for record in self.changes[self._heard.get(id(fleet), 0) : heard]:
            fleet.take(record)
        self._heard[id(fleet)] = len(self.changes) if heard is None else heard
        self._fleets.append(fleet)  # else its id could become another's
        fleet.settle()

    def live(self, fleet: Fleet, rows: dict[bytes, bytes], told: Kept | None = None) -> Run:
        helm = Live(fleet, lambda: self.hear(fleet))
        return Run(Scorer(CODEC, helm, told or Kept()), rows)


def ward_events(seed: int, many: int) -> list[Vitals | bytes | None]:
    """Patients who come and are measured, ticks, and a record that nobody can read."""
    rng = np.random.default_rng(seed)
    events: list[Vitals | bytes | None] = [
        admitted(p, START, f"stay of {p}", unit="MICU") for p in PATIENTS
    ]
    for number in range(many):
        at = START + number * 7 * MINUTE
        if number % 9 == 8:
            events.append(tick(at))
        elif number % 31 == 30:
            events.append(b"nothing")
        else:
            events.append(
                measured(str(rng.choice(PATIENTS)), at, {"HR": float(rng.integers(60, 180))})
            )
    return events


def shown(batches: Iterable[PredictionBatch], role: Role = Role.SHOWN) -> Counter[tuple[int, str]]:
    """Count offsets with the digest of the model that scored them."""
    return Counter(
        (entry["offset"], batch.model_digest)
        for batch in batches
        if batch.role is role
        for entry in entries_of(batch)
    )


def told(run: Run) -> list[Any]:
    """Everything that was said, whatever batches it was cut into."""
    lines = [
        (b.model_digest, b.role, b.policy_version, sorted(e.items(), key=lambda item: item[0]))
        for b in run.batches
        for e in entries_of(b)
    ]
    alerts = [msgspec.structs.astuple(alert) for alert in run.alerts]
    return sorted(map(repr, lines)) + list(map(repr, alerts))


class Lives:
    """Lives of scoring, one after another, and what happens to them."""

    def __init__(self, site: Site, records: Sequence[Record]) -> None:
        self._site, self._records, self._done = site, records, 0
        self._fleet = site.fleet()
        self._run = site.live(self._fleet, {})
        self._outputs: list[Output] = []

    def records(self, many: int) -> None:
        self._run.hand(self._records[self._done : self._done + many])
        self._done = min(self._done + many, len(self._records))

    def deploy(self, of: tuple[LineUp, bool]) -> None:
        line_up, at_once = of
        self._site.deploy(line_up)
        if at_once:
            self._site.hear(self._fleet)

    def rollback(self, _: None) -> None:
        self._site.rollback()

    def hear(self, _: None) -> None:
        self._site.hear(self._fleet)

    def restart(self, heard: int | None) -> None:
        self._outputs += self._run.outputs
        self._fleet = self._site.fleet(heard)
        self._run = self._site.live(self._fleet, self._run.rows)

    def crash(self, _: None) -> None:
        """End in a transaction: what it did was never committed."""
        list(self._run.task.handle(self._records[self._done : self._done + 5]))
        self.restart(None)

    def stale(self, _: None) -> None:
        """Give the partition to an instance that has not heard of the latest changes."""
        self.restart(len(self._site.changes) // 2)

    def end(self) -> Run:
        self._run.outputs = self._outputs + self._run.outputs
        return self._run


line_ups = st.sampled_from(
    [
        LineUp(champion=seat(1)),
        LineUp(champion=seat(2), shadows=(seat(1), seat(3))),
        LineUp(canary=seat(3), share=40),
        LineUp(champion=seat(1), canary=seat(4), share=70, shadows=(seat(2), seat(9))),
        LineUp(champion=seat(77)),  # it is not here
        LineUp(champion=seat(2), canary=seat(78), share=10),  # nor is this
    ]
)
steps = st.lists(
    st.tuples(st.just("records"), st.integers(1, 30))
    | st.tuples(st.just("deploy"), st.tuples(line_ups, st.booleans()))
    | st.tuples(st.sampled_from(["rollback", "hear", "restart", "crash", "stale"]), st.none()),
    min_size=4,
    max_size=25,
)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(steps, st.integers(0, 1000))
def test_every_event_has_one_shown_model_whatever_changes_and_dies(
    plan: Sequence[tuple[str, Any]], seed: int
) -> None:
    site, records = Site(), log(ward_events(seed, 220))
    lives = Lives(site, records)
    for step, of in [*plan, ("records", len(records))]:
        getattr(lives, step)(of)
    run = lives.end()

    offsets = [record.offset for record in records]
    seen = shown(run.batches)
    assert [offset for offset, _ in sorted(seen)] == offsets
    assert set(seen.values()) == {1}
    course = Course()
    course.load(run.rows[b"models"])
    turns = msgspec.msgpack.decode(run.rows[b"models"], type=list[CutOver])
    for known in ([turn.first for turn in turns], [turn.position for turn in turns]):
        assert known == sorted(known), "time does not go back"
    expected = {offset: course.at(offset) for offset in offsets}
    who = {e["offset"]: e["pseudonym"] for b in run.batches for e in entries_of(b)}
    for offset, by in seen:
        turn = expected[offset]
        assert turn is not None
        chosen = in_canary(who[offset], turn.line_up.share) and who[offset] != bytes(16)
        part = turn.line_up.canary if chosen else turn.line_up.champion
        assert part is not None
        assert by == part.digest
    beside = shown(run.batches, Role.SHADOW)
    assert set(beside) == {
        (offset, shadow.digest)
        for offset, turn in expected.items()
        for shadow in (turn.line_up.shadows if turn else ())
    }
    assert set(beside.values()) <= {1}
    names = {f"00c7-3-{offset}@{by[:12]}" for offset, by in seen}
    assert {alert.prediction_id for alert in run.alerts} <= names
    again = Run(Scorer(CODEC, Recorded(site.fleet()), Kept()), {b"models": run.rows[b"models"]})
    again.hand(records)
    assert first_difference(told(again), told(run)) is None, "the row repeats it all"


def test_an_instance_that_has_heard_less_catches_up_before_it_scores() -> None:
    site, records = Site(), log(ward_events(5, 60))
    site.deploy(LineUp(champion=seat(1)))
    site.deploy(LineUp(champion=seat(2)))
    run = site.live(site.fleet(), {}).hand(records[:30])
    late = site.live(site.fleet(heard=1), run.rows).hand(records[30:])
    assert {batch.model_version for batch in run.batches + late.batches} == {"2"}
    fresh = site.live(site.fleet(heard=1), {}).hand(records)
    assert {batch.model_version for batch in fresh.batches} == {"1"}, "nobody told it more"


def scored_by(line_up: LineUp, events: Sequence[Vitals | bytes | None]) -> Run:
    site = Site()
    site.deploy(line_up)
    return site.live(site.fleet(), {}).hand(log(events))


def test_a_shadow_is_stored_beside_and_raises_no_alert() -> None:
    events = ward_events(3, 150)
    alone, beside = (
        scored_by(LineUp(), events),
        scored_by(LineUp(shadows=(seat(9), seat(5))), events),
    )
    of = {Role.SHOWN: [], Role.SHADOW: []}  # type: dict[Role, list[PredictionBatch]]
    for batch in beside.batches:
        of[batch.role].append(batch)
    assert of[Role.SHOWN] == alone.batches
    assert beside.alerts == alone.alerts
    assert beside.alerts, "there was something to tell"
    assert shown(of[Role.SHADOW], Role.SHADOW).total() == 2 * shown(alone.batches).total()
    scores = {e["score"] for b in of[Role.SHADOW] for e in entries_of(b) if b.model_version == "5"}
    assert len(scores) > 10
    for batch in of[Role.SHADOW]:
        for entry in entries_of(batch):
            assert (entry["threshold"] is None) == (entry["score"] is None)


def test_a_model_that_fails_ends_nobody_but_itself_unless_it_is_the_champion() -> None:
    events = ward_events(4, 60)
    run = scored_by(LineUp(canary=seat(9), share=50, shadows=(seat(8),)), events)
    dispositions = {
        (batch.model_version, entry["disposition"])
        for batch in run.batches
        for entry in entries_of(batch)
    }
    assert {("8", "ABSTAINED"), ("9", "ABSTAINED")} <= dispositions
    assert not {("8", "SCORED"), ("9", "SCORED")} & dispositions
    assert (MODEL.version, "SCORED") in dispositions
    with pytest.raises(Stop):
        scored_by(LineUp(champion=seat(9)), events)


def test_time_is_told_last() -> None:
    """A reader that hears of an hour's end meets no entry of the batch behind it."""
    events = [measured(p, START, {"HR": 80}) for p in PATIENTS] + [tick(START + HOUR)]
    run = scored_by(LineUp(canary=seat(1), share=50, shadows=(seat(2),)), events)
    marks = [batch.watermark for batch in run.batches]
    assert marks == [None, None, START + HOUR]
    assert run.batches[-1].model_digest == MODEL.digest


def test_a_canary_patient_is_held_to_the_policy_of_the_canary() -> None:
    lax = msgspec.structs.replace(POLICY, version="lax", threshold=0.95, clear_below=0.1)
    canary = msgspec.structs.replace(seat(1), policy=lax)
    run = scored_by(
        LineUp(canary=canary, share=50),
        [measured(p, START, {"HR": 150}) for p in PATIENTS],
    )
    rest = {person(p) for p in PATIENTS if not in_canary(person(p), 50)}
    assert {alert.pseudonym for alert in run.alerts} == rest
    versions = {b.policy_version: shown([b]).total() for b in run.batches}
    assert versions == {"1": len(rest), "lax": len(PATIENTS) - len(rest)}


@pytest.mark.parametrize("value", [None, b"", b"\xc3\x01" + bytes(20), b"nothing"])
def test_a_change_that_cannot_be_read_leaves_the_models_as_they_were(value: bytes | None) -> None:
    site = Site()
    site.deploy(LineUp(champion=seat(1)))
    fleet = site.fleet()
    fleet.take(Record("changes.v1", 0, 7, 0, None, value))
    fleet.settle()
    assert fleet.present.crew.champion.model.version == "1"
    assert 'model_changes_total{outcome="refused"' in site.metrics.exposition().decode()


def test_what_cannot_be_loaded_leaves_what_held_before_and_says_why() -> None:
    site = Site()
    for line_up in (LineUp(champion=seat(1)), LineUp(champion=seat(77))):
        site.deploy(line_up)
    for fleet in (site.fleet(), site.fleet(1)):
        site.hear(fleet)
        assert fleet.present.crew.champion.model.version == "1"
        assert fleet.present.position == 1, "it has been heard, and is not tried again"
    text = site.metrics.exposition().decode()
    assert (
        'vigil_model_changes_total{outcome="refused",reason="missing",service="scoring"}' in text
    )


def test_what_nobody_foresaw_is_counted_and_the_next_change_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Site()
    fleet = site.fleet()
    site.deploy(LineUp(champion=seat(1)))
    told: list[Exception | Record] = [ValueError("a bug"), site.changes[-1]]

    class Followed:
        def __init__(self, _: object, __: str, take: Callable[[Record], None]) -> None:
            self._take = take

        def look(self) -> None: ...

        def heed(self, _: float) -> None:
            news = told.pop(0)
            if isinstance(news, Exception):
                raise news
            self._take(news)

    monkeypatch.setattr("services.scoring.fleet.Follower", Followed)
    watch = Watch({}, fleet)
    watch.heed()
    assert fleet.present.crew.line_up.champion != seat(1)
    assert 'model_changes_total{outcome="failed"' in site.metrics.exposition().decode()
    watch.heed()
    assert fleet.present.crew.line_up.champion == seat(1)


def test_metrics_show_the_models_at_work_and_no_others() -> None:
    site = Site()
    fleet = site.fleet()
    for line_up in (
        LineUp(champion=seat(1)),
        LineUp(canary=seat(2), share=10, shadows=(seat(3),)),
    ):
        site.deploy(line_up)
        site.hear(fleet)
    lines = [
        line for line in site.metrics.exposition().decode().splitlines() if "model_info{" in line
    ]
    assert sorted(lines) == [
        f'vigil_model_info{{model="test",outcome="{part}",version="{version}"}} 1.0'
        for part, version in [(Part.CANARY, 2), (Part.CHAMPION, MODEL.version), (Part.SHADOW, 3)]
    ]


def test_a_model_that_held_a_moment_ago_is_not_loaded_again() -> None:
    site, loads = Site(), Counter[str]()

    def counted(seat: Seat) -> Engine:
        loads[seat.version] += 1
        return opened(seat)

    fleet = Fleet(engine(), counted, CODEC, site.metrics)
    for version in (1, 2, 3):
        site.deploy(LineUp(champion=seat(version)))
        site.hear(fleet)
    site.rollback()
    site.hear(fleet)
    assert fleet.present.crew.champion.model.version == "2"
    assert loads == {"1": 1, "2": 1, "3": 1}
