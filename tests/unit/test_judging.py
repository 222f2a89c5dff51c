"""Judging: windows wait for all partitions, are restated, and survive a crash."""

import json
from collections.abc import Iterable, Sequence

import msgspec
import pytest
from builders import codec
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from services.core.errors import Reason, Refusal
from services.core.events import (
    DeadLetter,
    Measurement,
    Signal,
    SignalStep,
    State,
    Tally,
)
from services.core.judge.verdict import Earlier, Verdict
from services.core.windows import Window
from services.monitoring.docket import Docket, Stated
from services.monitoring.judging import JudgeTask
from services.monitoring.outputs import DEAD_LETTERS, METRICS
from services.runtime.envelope import SIGNALS
from services.runtime.ports import Output, Record

HOUR = 3_600_000_000
DAY = 24 * HOUR
ALARMING = 10.0


class SumJudge:
    """States the sum of the partitions' numbers; alarm from ALARMING on, or twice its half."""

    family = "sums/24h"
    layout = "sums/1"
    reach = DAY
    remembers = 2

    def check(self, body: bytes) -> None:
        try:
            msgspec.json.decode(body, type=float)
        except msgspec.MsgspecError:
            raise Refusal(Reason.AVRO_SYNTAX, "body") from None

    def judge(
        self, window: Window, tallies: Sequence[Tally], earlier: Sequence[Earlier]
    ) -> Verdict:
        total = sum(float(json.loads(tally.body)) for tally in tallies)
        before = [float(each.memory) for each in earlier if each.end == window.start]
        twice = total >= ALARMING / 2 and any(each >= ALARMING / 2 for each in before)
        measurement = Measurement(
            metric="drift",
            cohort="all",
            unit_of_analysis="patient_hour",
            start=window.start,
            end=window.end,
            revision=0,
            value=total,
            denominator=len(earlier),
            patients=len(tallies),
            state=State.ALARM if total >= ALARMING or twice else State.OK,
        )
        return Verdict(measurements=[measurement], memory=str(total).encode())


def tally(
    day: int, partition: int, value: float, *, through: int = 0, layout: str = "sums/1"
) -> Tally:
    return Tally(
        family="sums/24h",
        layout=layout,
        start=day * DAY,
        end=(day + 1) * DAY,
        topic="predictions.v1",
        partition=partition,
        through_offset=through,
        baseline="",
        body=json.dumps(value).encode(),
    )


def docket(partitions: int = 2) -> Docket:
    return Docket(SumJudge(), partitions)


def said(docket: Docket, tallies: Iterable[Tally]) -> list[tuple[int, int, float | None]]:
    """Day, revision and value of everything that is stated."""
    found = [each for tally in tallies for each in docket.take(tally).measurements]
    return [(m.start // DAY, m.revision, m.value) for m in found]


def test_a_window_waits_for_every_source_partition() -> None:
    books = docket(partitions=3)
    assert said(books, [tally(0, 0, 1), tally(0, 2, 2), tally(1, 2, 9)]) == []
    assert said(books, [tally(0, 1, 4)]) == [(0, 0, 7.0)]


def test_a_partition_that_began_later_has_told_of_the_windows_before_it_began() -> None:
    books = docket()
    assert said(books, [tally(0, 0, 1), tally(1, 0, 2)]) == []
    assert said(books, [tally(1, 1, 5)]) == [(0, 0, 1.0), (1, 0, 7.0)]


def test_a_tally_that_says_the_same_or_comes_again_states_nothing_new() -> None:
    books = docket(partitions=1)
    assert said(books, [tally(0, 0, 3, through=5)]) == [(0, 0, 3.0)]
    assert said(books, [tally(0, 0, 3, through=6), tally(0, 0, 9, through=6)]) == []
    assert said(books, [tally(0, 0, 9, through=4)]) == []


def test_a_restated_window_has_a_higher_revision_and_takes_the_next_one_with_it() -> None:
    books = docket(partitions=1)
    assert said(books, [tally(0, 0, 1), tally(1, 0, 6), tally(2, 0, 1)])[-1] == (2, 0, 1.0)
    changed = books.take(tally(0, 0, 6, through=1))
    assert [(m.start // DAY, m.revision, m.state) for m in changed.measurements] == [
        (0, 1, State.OK),
        (1, 1, State.ALARM),
    ]
    assert [(s.start // DAY, s.step) for s in changed.signals] == [
        (1, SignalStep.OPENED),
        (2, SignalStep.CLOSED),
    ]


def test_a_judge_that_remembers_nothing_sees_one_window_at_a_time() -> None:
    class Forgetful(SumJudge):
        remembers = 0

    books = Docket(Forgetful(), 1)
    for day in range(3):
        [stated] = books.take(tally(day, 0, 6)).measurements
        assert (stated.denominator, stated.state) == (0, State.OK)
    assert len(books.take(tally(1, 0, 7, through=1)).measurements) == 1


def test_a_measurement_whose_cohort_is_gone_is_restated_without_a_value() -> None:
    class Fickle(SumJudge):
        @override
        def judge(
            self, window: Window, tallies: Sequence[Tally], earlier: Sequence[Earlier]
        ) -> Verdict:
            made = super().judge(window, tallies, earlier)
            return made if made.measurements[0].value != 2 else Verdict(measurements=[])

    books = Docket(Fickle(), 1)
    books.take(tally(0, 0, 1))
    [gone] = books.take(tally(0, 0, 2, through=1)).measurements
    assert (gone.revision, gone.value, gone.state, gone.why) == (
        1,
        None,
        State.INSUFFICIENT,
        "gone",
    )
    [back] = books.take(tally(0, 0, 1, through=2)).measurements
    assert (back.revision, back.value) == (2, 1.0)


def test_a_partition_that_is_days_ahead_makes_nobody_forget() -> None:
    """As when one partition is read again from afar: its windows wait, and are not remembered."""
    books = docket()
    for day in range(40):
        books.take(tally(day, 0, 6))
    for day in range(40):
        [stated] = books.take(tally(day, 1, 0)).measurements
        assert stated.denominator == min(day, 2)
        assert stated.state is (State.ALARM if day else State.OK)


def test_windows_that_are_settled_are_forgotten_but_their_signals_stand() -> None:
    books = docket(partitions=1)
    days = [12.0, 12.0] + [12.0] * 20
    opened = [
        s for day, value in enumerate(days) for s in books.take(tally(day, 0, value)).signals
    ]
    assert [signal.step for signal in opened] == [SignalStep.OPENED]
    rows = dict(books.rows())
    assert sum(row is not None for row in rows.values()) < 10
    assert said(books, [tally(0, 0, 1, through=9)]) == [], "long settled"
    [closed] = books.take(tally(22, 0, 0)).signals
    assert (closed.step, closed.signal_id) == (SignalStep.CLOSED, opened[0].signal_id)


STREAM = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.0, 3.0, 6.0]), st.booleans()),
    min_size=1,
    max_size=40,
)


def stream(moves: Sequence[tuple[int, float, bool]]) -> list[Tally]:
    """Each partition closes its windows in order, and restates its last one now and then."""
    day, made = [0, 0], []
    for offset, (partition, value, again) in enumerate(moves):
        at = max(0, day[partition] - 1) if again else day[partition]
        made.append(tally(at, partition, value, through=offset))
        day[partition] = max(day[partition], at + 1)
    return made


def latest(found: Iterable[Measurement]) -> dict[int, Measurement]:
    return {m.start: m for m in found}


@settings(max_examples=100, deadline=None)
@given(STREAM, st.lists(st.tuples(*[st.integers(0, 40)] * 3), min_size=1, max_size=3))
def test_after_any_crashes_the_same_is_stated_as_without(
    moves: list[tuple[int, float, bool]], crashes: list[tuple[int, int, int]]
) -> None:
    """Each life keeps its rows once, dies later, and the last rows are kept in part at most."""
    tallies = stream(moves)
    whole = docket()
    wanted = [whole.take(each) for each in tallies]
    rows: dict[bytes, bytes | None] = {}
    said: list[Stated] = []
    begin = 0
    for alive, longer, part in crashes:
        kept = min(begin + alive, len(tallies))
        life = resumed(rows)
        said += [life.take(each) for each in tallies[begin:kept]]
        rows |= dict(life.rows())
        said += [life.take(each) for each in tallies[kept : kept + longer]]
        rows |= dict(list(life.rows())[:part])
        begin = kept
    last = resumed(rows)
    said += [last.take(each) for each in tallies[begin:]]
    assert everything(said) == everything(wanted)


def everything(stated: Iterable[Stated]) -> set[tuple[object, ...]]:
    found: set[tuple[object, ...]] = set()
    for each in stated:
        found |= {(m.start, m.revision, m.value, m.state) for m in each.measurements}
        found |= {(s.signal_id, s.step, s.start, s.severity) for s in each.signals}
    return found


def resumed(rows: dict[bytes, bytes | None]) -> Docket:
    books = docket()
    for key, row in rows.items():
        books.load(key, row)
    return books


@settings(max_examples=100, deadline=None)
@given(STREAM, st.randoms(use_true_random=False))
def test_the_last_statement_of_a_window_does_not_depend_on_how_partitions_interleave(
    moves: list[tuple[int, float, bool]], chance: object
) -> None:
    tallies = stream(moves)
    queues = [[t for t in tallies if t.partition == p] for p in (0, 1)]
    mixed: list[Tally] = []
    while any(queues):
        queue = chance.choice([q for q in queues if q])  # type: ignore[attr-defined]  # a Random
        mixed.append(queue.pop(0))
    ours, theirs = docket(), docket()
    one = latest(m for each in tallies for m in ours.take(each).measurements)
    two = latest(m for each in mixed for m in theirs.take(each).measurements)
    reach = min(max((t.end for t in tallies if t.partition == p), default=0) for p in (0, 1))
    for start in (s for s in one if s + 2 * DAY >= reach):
        assert one[start].value == two[start].value
    assert set(one) == set(two)


def record(value: bytes | None, offset: int = 0) -> Record:
    return Record("tallies.v1", 3, offset, 1_767_600_000_000, b"sums/24h", value)


def task() -> JudgeTask:
    return JudgeTask([SumJudge()], 1, codec())


def test_the_task_writes_measurements_then_signals_each_under_its_own_key() -> None:
    made = list(task().handle([record(codec().encode(tally(0, 0, 12)))]))
    assert [output.topic for output in made] == [METRICS, SIGNALS]
    assert made[0].key == f"drift//all/patient_hour/0/{DAY}".encode()
    measurement = codec().decode(made[0].value or b"", Measurement)
    signal = codec().decode(made[1].value or b"", Signal)
    assert (measurement.value, signal.severity, made[1].key) == (
        12.0,
        State.ALARM,
        b"drift--all-0",
    )


def dead(outputs: Iterable[Output]) -> list[tuple[str, str]]:
    letters = [
        codec().decode(o.value or b"", DeadLetter) for o in outputs if o.topic == DEAD_LETTERS
    ]
    return [(letter.reason, letter.place) for letter in letters]


@pytest.mark.parametrize(
    ("value", "letter"),
    [
        (None, ("SCHEMA_UNKNOWN", "header")),
        (b"\xc3\x01short", ("SCHEMA_UNKNOWN", "header")),
        (codec().encode(tally(0, 0, 1))[:20], ("AVRO_SYNTAX", "body")),
        (codec().encode(tally(0, 0, 1, layout="sums/2")), ("SCHEMA_UNKNOWN", "layout")),
        (codec().encode(tally(0, 7, 1)), ("NUM_RANGE", "partition")),
        (
            codec().encode(msgspec.structs.replace(tally(0, 0, 1), body=b"{")),
            ("AVRO_SYNTAX", "body"),
        ),
        (
            codec().encode(msgspec.structs.replace(tally(0, 0, 1), family="other")),
            ("SCHEMA_UNKNOWN", "family"),
        ),
        (
            codec().encode(msgspec.structs.replace(tally(0, 0, 1), end=0)),
            ("NUM_RANGE", "end"),
        ),
    ],
)
def test_a_tally_that_is_none_is_a_dead_letter_and_nothing_else_stops(
    value: bytes | None, letter: tuple[str, str]
) -> None:
    judging = task()
    made = list(judging.handle([record(value), record(codec().encode(tally(0, 0, 3)), 1)]))
    assert dead(made) == [letter]
    assert [o.topic for o in made] == [DEAD_LETTERS, METRICS]


def test_a_task_that_is_loaded_with_its_rows_goes_on_where_it_was() -> None:
    first, second = task(), task()
    list(first.handle([record(codec().encode(tally(0, 0, 3)))]))
    for key, row in first.changes():
        second.load(key, row)
    second.load(b"labels/24h/head", b"of another family")
    assert list(first.changes()) == []
    [restated] = second.handle([record(codec().encode(tally(0, 0, 4, through=1)), 1)])
    assert codec().decode(restated.value or b"", Measurement).revision == 1
    assert list(second.flush()) == []
