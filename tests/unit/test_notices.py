"""Notices of a source become signals: opened once, closed by rule, always the same ones."""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise

import msgspec
import pytest
import wards
from allowed import strangers
from builders import bundle, codec, ingest, observation, patient, record, tick
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from wards import MINUTE, START, measured, replay

from dashboards import words
from services.core.errors import Refusal, Retry
from services.core.events import DeadLetter, Notice, Signal, SignalStep, State
from services.core.measures import MEASURES
from services.core.notices import MATTERS, QUIET, TICK, Standing, follow
from services.gateway import noticing
from services.gateway.noticing import Noticing, Stands
from services.runtime.ports import Output, Record

LASTING = sorted(name for name, matter in MATTERS.items() if matter.lasts)
ONCE = sorted(MATTERS.keys() - LASTING)
HOUR = 60 * MINUTE
OPENED, CLOSED = SignalStep.OPENED, SignalStep.CLOSED

notices = st.builds(
    Notice,
    kind=st.sampled_from([TICK, *MATTERS]),
    source=st.sampled_from(["west", "east"]),
    at=st.integers(0, 200).map(lambda hours: START + hours * HOUR),
    count=st.integers(0, 3),
)


def followed(told: Iterable[Notice]) -> list[Signal]:
    standing: dict[str, dict[str, Standing]] = {}
    steps = list[Signal]()
    for notice in told:
        found = follow(notice, standing.get(notice.source, {}))
        standing[notice.source] = dict(found.standing)
        steps += found.steps
    return steps


def steps_of(told: Iterable[Notice]) -> list[tuple[str, SignalStep]]:
    return [(step.metric, step.step) for step in followed(told)]


def of(kind: str, hours: float, count: int = 1) -> Notice:
    return Notice(kind=kind, source="west", at=START + round(hours * HOUR), count=count)


@given(st.lists(notices, max_size=60))
def test_of_a_source_and_matter_one_signal_is_open_at_a_time_under_a_name_of_its_own(
    told: list[Notice],
) -> None:
    steps = followed(told)
    subjects = sorted(steps, key=lambda step: (step.cohort, step.metric))  # stable: order stays
    for _, its in groupby(subjects, key=lambda step: (step.cohort, step.metric)):
        these = list(its)
        assert [step.step for step in these[::2]] == [OPENED] * len(these[::2])
        assert [step.step for step in these[1::2]] == [CLOSED] * len(these[1::2])
        for one, other in pairwise(these):
            assert (one.signal_id == other.signal_id) == (one.step is OPENED)
    opened = [step.signal_id for step in steps if step.step is OPENED]
    assert len(set(opened)) == len(opened)


@given(st.lists(notices, max_size=30))
def test_a_signal_names_a_source_and_counts_and_nothing_else(told: list[Notice]) -> None:
    for step in followed(told):
        assert strangers("signals.v1", step) == []
        assert [evidence.name for evidence in step.evidence] == ["count"]


@pytest.mark.parametrize("kind", ONCE)
def test_what_happens_is_open_until_a_day_of_its_source_passes_without_another(kind: str) -> None:
    before = [of(kind, 0), of(kind, 5), of(TICK, 24), of(TICK, 28.9)]
    assert steps_of(before) == [(kind, OPENED)]
    steps = followed([*before, of(TICK, 29), of(TICK, 60)])
    assert [(step.step, step.evidence[0].value) for step in steps] == [
        (OPENED, "1"),
        (CLOSED, "2"),
    ]
    assert steps[1].start - START - 5 * HOUR == QUIET


@pytest.mark.parametrize("kind", LASTING)
def test_what_lasts_is_open_until_it_is_told_to_stand_no_more(kind: str) -> None:
    told = [of(kind, 0, 0), of(kind, 1), of(kind, 2, 3), of(TICK, 90), of(kind, 91, 1)]
    assert steps_of(told) == [(kind, OPENED)]
    steps = followed([*told, of(kind, 92, 0), of(kind, 93, 0)])
    assert [(step.step, step.evidence[0].value) for step in steps] == [
        (OPENED, "1"),
        (CLOSED, "3"),
    ]


def test_the_time_of_another_source_closes_nothing() -> None:
    east = Notice(kind=TICK, source="east", at=START + 90 * HOUR)
    assert steps_of([of("patient_merge", 0), east]) == [("patient_merge", OPENED)]


def test_a_kind_that_nobody_knows_is_refused() -> None:
    with pytest.raises(Refusal, match="AVRO_SYNTAX"):
        follow(of("weather", 0), {})


def test_every_matter_has_words_and_is_no_measure() -> None:
    assert words.MATTERS.keys() == MATTERS.keys()
    assert not MATTERS.keys() & MEASURES.keys()
    assert {matter.severity for matter in MATTERS.values()} <= {State.WATCH, State.ALARM}


MERGE = patient(link=[{"type": "replaced-by", "other": {"reference": "Patient/p-2"}}])


def noticed(outputs: Iterable[Output]) -> list[Notice]:
    return [
        codec().decode(output.value or b"", Notice)
        for output in outputs
        if output.topic == "notices.v1"
    ]


def test_ingest_notices_each_merge_and_the_time_of_each_tick() -> None:
    outputs = list(ingest().handle([record(bundle(MERGE, patient(id="p-3"), MERGE))]))
    [notice] = noticed(outputs)
    assert (notice.kind, notice.source, notice.count) == ("patient_merge", "west", 2)
    [time] = noticed(ingest().handle([tick("2026-01-05T08:00:00Z")]))
    assert (time.kind, time.source) == (TICK, "west")
    assert not noticed(ingest().handle([record(observation())]))


def on_topic(told: Sequence[Notice | bytes]) -> list[Record]:
    values = [note if isinstance(note, bytes) else codec().encode(note) for note in told]
    return [Record("notices.v1", 2, n, 0, b"west", value) for n, value in enumerate(values)]


def signals(outputs: Iterable[Output]) -> list[Signal]:
    written = [output for output in outputs if output.topic == "signals.v1"]
    found = [codec().decode(output.value or b"", Signal) for output in written]
    assert [output.key for output in written] == [each.signal_id.encode() for each in found]
    return found


@given(st.lists(notices, max_size=30), st.integers(0, 30))
def test_a_restart_of_ingest_at_any_notice_changes_no_signal(
    told: list[Notice], place: int
) -> None:
    records, first, second = on_topic(told), ingest(), ingest()
    found = signals(first.handle(records[:place]))
    for key, value in first.changes():
        second.load(key, value)
    found += signals(second.handle(records[place:]))
    assert found == followed(told)


def test_a_state_that_did_not_change_is_not_written() -> None:
    task = ingest()
    list(task.handle(on_topic([of(TICK, 0), of("subscription_gap", 0, 0)])))
    assert list(task.changes()) == []


def test_a_notice_that_nobody_can_read_is_a_dead_letter_and_the_next_is_heard() -> None:
    outputs = list(ingest().handle(on_topic([b"\x00", of("weather", 0), of("patient_merge", 0)])))
    letters = [codec().decode(o.value or b"", DeadLetter) for o in outputs if o.topic == "dlq.v1"]
    assert [(letter.topic, letter.offset) for letter in letters] == [
        ("notices.v1", 0),
        ("notices.v1", 1),
    ]
    assert len(signals(outputs)) == 1


HR = measured("p", START, {"HR": 80})


@pytest.mark.parametrize(
    "second",
    [
        measured("p", START, {"HR": 81}),
        measured("p", START, {"HR": 81, "SBP": 120}),
        measured("p", START + 1, {"HR": 80}, ids={"HR": f"p/{START}/HR"}),
    ],
    ids=["another value", "another value beside a new one", "another time"],
)
def test_scoring_notices_each_message_with_a_version_that_came_with_another_value(
    second: object,
) -> None:
    run = replay([HR, second, HR])  # type: ignore[list-item]  # of parametrize
    found = noticed(run.outputs)
    assert [(each.kind, each.source, each.count) for each in found] == [
        ("version_conflict", "west", 1)
    ]


def test_scoring_notices_nothing_where_nothing_contradicts() -> None:
    fixed = measured("p", START, {"HR": 90}, version=2)
    assert not noticed(replay([HR, HR, fixed, wards.doubled(fixed)]).outputs)


class Way:
    """To Kafka, which may be away."""

    def __init__(self) -> None:
        self.away, self.log = False, list[Output]()
        self.partitions: dict[str, int] = {"notices.v1": 4}
        self.noticing = Noticing(self.deliver, codec().encode, lambda: START, self.partitions)

    async def deliver(self, output: Output) -> None:
        if self.away:
            raise Retry("Kafka: away")
        self.log.append(output)

    def tell(self, **stands: int) -> list[tuple[str, int]]:
        asyncio.run(self.noticing.tell({(kind, "west"): n for kind, n in stands.items()}))
        told, self.log = noticed(self.log), []
        return [(each.kind, each.count) for each in told]


def test_the_gateway_tells_what_stands_when_it_changes_and_what_could_not_be_told_later() -> None:
    way = Way()
    assert way.tell(subscription_gap=0) == [("subscription_gap", 0)]
    assert way.tell(subscription_gap=0) == []
    way.away = True
    assert way.tell(subscription_gap=1) == []
    way.away = False
    assert way.tell(subscription_gap=1) == [("subscription_gap", 1)]


def test_nothing_is_written_to_a_topic_that_may_not_exist() -> None:
    way = Way()
    way.partitions.clear()
    assert way.tell(subscription_gap=1) == []
    with pytest.raises(Retry):
        asyncio.run(way.noticing.happened("patient_merge", "west", START))
    way.partitions["notices.v1"] = 4
    assert way.tell(subscription_gap=1) == [("subscription_gap", 1)]


def test_what_happened_is_told_or_the_caller_hears_that_it_was_not() -> None:
    way = Way()
    way.away = True
    with pytest.raises(Retry):
        asyncio.run(way.noticing.happened("patient_merge", "west", START))
    assert msgspec.json.encode(way.log) == b"[]"


def test_a_watch_that_fails_says_so_once_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noticing, "LOOK_EVERY_S", 0)
    way = Way()
    gone, away, well = LookupError("west"), ArithmeticError("west"), {("feed", "west"): 0}
    days: list[Stands | Exception] = [gone, gone, gone, well, well, gone, away, away, well]
    seen = iter(days)

    def look() -> Stands:
        found = next(seen, None)
        if found is None:
            raise asyncio.CancelledError
        if isinstance(found, Exception):
            raise found
        return found

    with capture_logs() as told, contextlib.suppress(asyncio.CancelledError):
        asyncio.run(way.noticing.watch(look))
    assert [(line["event"], line.get("because")) for line in told] == [
        ("not told", "LookupError"),
        ("told again", None),
        ("not told", "LookupError"),
        ("not told", "ArithmeticError"),
        ("told again", None),
    ]
